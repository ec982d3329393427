"""Score generated images in a process of its own and print its peak memory as one line of JSON; started by `throughput`."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

import mia_hub
from mia_hub.system.memory import peak_memory_mb
from mia_hub.system.streams import any_terminal

# Larger than the model's input, so that decoded images held by mistake are visible: 27 KiB each.
SHAPE = (96, 96, 3)


class PngImages(Sequence):
    """Bytes of PNG files, each made from (seed, index) on access; none is stored.

    Args:
        count: number of files.
        shape: ``(height, width, channels)``, channels 1 or 3.
        seed: seed of the pixels.
    """

    def __init__(self, count: int, shape: tuple[int, int, int], seed: int = 0):
        self.count, self.shape, self.seed = count, shape, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < self.count:
            raise IndexError(index)
        pixels = np.random.default_rng((self.seed, index)).integers(0, 256, self.shape, dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels.squeeze(-1) if self.shape[2] == 1 else pixels).save(file, "PNG", compress_level=1)
        return file.getvalue()


@any_terminal()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    args = parser.parse_args()

    model = mia_hub.load_model(args.model, device=args.device, dtype=args.dtype)
    # One timestep: the memory per image doesn't depend on the number of queries.
    attack = mia_hub.get_attack("sima", timesteps=(min(100, model.info.num_train_timesteps - 1),))
    table = attack.score(model, PngImages(args.images, SHAPE), batch_size=args.batch_size, progress=False)
    device = peak_memory_mb(model.device) if model.device.type == "cuda" else None
    print(json.dumps({"images": len(table), "peak_mb": peak_memory_mb(torch.device("cpu")), "device_peak_mb": device}))


if __name__ == "__main__":
    main()
