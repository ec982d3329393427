"""A comparison on small denoisers that record every forward pass, run in processes that `tests/attacks/test_resuming.py` kills."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from mia_hub.attacks import get_attack
from mia_hub.auditing.compare import compare
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.splits.member_split import make_split
from mia_hub.system.processes import joined_processes

IMAGES, BATCH, SIDE = 96, 16, 8
ATTACKS = {
    "sima": {"timesteps": (50, 100)},
    "sima-cn": {"timesteps": (60, 100)},  # chooses its neighbours by observing the calibration part
    "pfami": {"timesteps": (50, 100), "crops": 2},  # draws noise
    "nearest-generated": {"samples": 24, "steps": 4},  # asks before its first image
    "gsa1": {"timesteps": (100, 300)},  # learns, from gradients
}
SECONDS = 0.004


class Telling(torch.nn.Module):
    """A small network that writes the rows of each pass to a file, before it makes the pass; it may kill its process at one of them."""

    def __init__(self, told: Path, last: int | None = None):
        super().__init__()
        self.left = last
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 1, 3, padding=1))
        self.told = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def forward(self, x, t):
        os.write(self.told, f"{len(x)}\n".encode())
        if self.left is not None:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
        elif "PAUSES" in os.environ:
            time.sleep(SECONDS)
        return self.layers(x) + x * t.reshape(-1, 1, 1, 1).to(x.dtype) / 1000


def model_of(told: Path, last: int | None = None):
    model = wrap_denoiser(Telling(told, last), ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE))
    # A wrapped network has no revision, and nothing is kept of it; this one is the same in every process.
    model.info = replace(model.info, revision="sha256:0")
    return model


def split():
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE), dtype=np.uint8)
    return make_split(pixels[: IMAGES // 2], pixels[IMAGES // 2 :])


def attack(name: str):
    return get_attack(name, **ATTACKS[name])


def run(folder: Path, told: Path, last: int | None = None, **launch: str) -> None:
    """The whole comparison.

    Args:
        folder: of the comparison.
        told: the file of passes.
        last: the pass at which the process is killed; of several processes, the last one is.
        launch: environment variables: those of ``accelerate launch`` for one of several processes; PAUSES slows all passes down.
    """
    os.environ |= launch
    if int(launch.get("RANK", 0)) + 1 < int(launch.get("WORLD_SIZE", 1)):
        last = None
    torch.set_num_threads(1)
    attacks = [attack(name) for name in ATTACKS]
    with threadpool_limits(1), joined_processes():
        compare(model_of(told, last), split(), attacks, folder=folder, batch_size=BATCH, shift_check=False, progress=False)


def started(context, count: int, *, target, args: tuple, **environment: str) -> list:
    """That many processes, which run a function together, as ``accelerate launch`` starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = []
    for rank in map(str, range(count)):
        launch = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        launch |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
        found.append(context.Process(target=target, args=args, kwargs=environment | (launch if count > 1 else {})))
        found[-1].start()
    return found
