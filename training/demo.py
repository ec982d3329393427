"""Train the demo model: a DDPM on a few hundred Fashion-MNIST images, until it measurably remembers them.

    python -m training.demo --out runs/demo
    python -m training.demo --out runs/flips --flips --go-on --max-steps 8000

The recipe is that of `training.train_ddpm`, resumable like all recipes, with a stop rule of its own: it watches how strongly the model
remembers on the *calibration part* of the split alone (the part on which an audit may choose its timestep). The other part stays unseen
until it is reported. Checkpoints in ``step-…`` folders of five digits come from an older version of this recipe and can't be resumed.
"""

from __future__ import annotations

import argparse
import math
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DModel

from mia_hub.images.image import content_id
from mia_hub.splits.partition import calibration_mask
from mia_hub.system.streams import any_terminal
from training.data import fashion_mnist, model_space
from training.loop import Schedule
from training.recipe import step_folder
from training.train_ddpm import ddpm

SEED, N_MEMBERS, N_NONMEMBERS = 0, 512, 4000
BATCH, LEARNING_RATE, WARMUP, EMA = 32, 4e-4, 200, 0.999
WATCHED_TIMESTEPS = (60, 80, 100, 120)
# Stop at the first check at which the calibration part shows both; fixed before the first run.
STOP_AT = dict(auc=0.88, tpr_at_1_fpr=0.20)


def watch(model: UNet2DModel, members: torch.Tensor, nonmembers: torch.Tensor, device: torch.device) -> dict:
    """Return SimA's AUC and TPR@1%FPR per watched timestep, members positive (restated here in a few lines, to watch training)."""
    result = {}
    with torch.no_grad():
        for t in WATCHED_TIMESTEPS:
            norms = []
            for x in (members, nonmembers):
                parts = [model(chunk.to(device), t).sample.flatten(1).norm(p=4, dim=1).cpu() for chunk in x.split(128)]
                norms.append(torch.cat(parts).double().numpy())
            member, nonmember = -norms[0], -norms[1]
            auc = (np.searchsorted(np.sort(nonmember), member).mean() / len(nonmember)).item()
            threshold = np.sort(nonmember)[::-1][math.floor(0.01 * len(nonmember))]
            result[t] = dict(auc=round(auc, 4), tpr_at_1_fpr=round(float((member > threshold).mean()), 4))
    return result


@any_terminal()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--max-steps", type=int, default=16000)
    parser.add_argument("--check-every", type=int, default=500)
    parser.add_argument("--go-on", action="store_true", help="train to --max-steps even after the stop rule holds")
    parser.add_argument("--flips", action="store_true", help="mirror every training image with probability one half")
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="bf16")
    args = parser.parse_args(arguments)
    data = fashion_mnist(N_MEMBERS, N_NONMEMBERS, seed=SEED)
    parts = (part[calibration_mask([content_id(image) for image in part])] for part in (data.members, data.nonmembers))
    calibration = [model_space(part, 1) for part in parts]
    schedule = Schedule(
        steps=args.max_steps, batch=BATCH, learning_rate=LEARNING_RATE, warmup=WARMUP, ema=EMA, check_every=args.check_every, seed=SEED,
        mixed_precision=args.mixed_precision,
    )  # fmt: skip
    training, pipeline = ddpm(args.out, schedule, model_space(data.members, 1), flips=args.flips)

    def on_check(step: int) -> dict:
        pipeline.save_pretrained(step_folder(args.out, step))
        # The saved network: the one in training works in the training's precision.
        saved = UNet2DModel.from_pretrained(step_folder(args.out, step), subfolder="unet", use_safetensors=True)
        figures = {"sima": watch(saved.to(pipeline.unet.device).eval(), *calibration, pipeline.unet.device)}
        remembers = any(all(row[name] >= STOP_AT[name] for name in STOP_AT) for row in figures["sima"].values())
        if remembers and not args.go_on:
            raise StopIteration(figures)
        return figures

    training.run(on_check)
    shutil.copytree(step_folder(args.out, training.step), args.out / "model", dirs_exist_ok=True)
    print(f"Stopped at step {training.step}; the pipeline is in {args.out / 'model'}.")


if __name__ == "__main__":
    main()
