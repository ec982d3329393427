"""Memory and speed of an audit of a very large split with a denoiser that costs nothing, beside decoding alone.

    python -m benchmarks.million
    python -m benchmarks.million --images 100000     # in minutes

Each image is a PNG file made on access, and none is stored. The time that remains is the audit's own: reading, hashing, the shift check,
resizing, statistics and figures.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

import mia_hub
from benchmarks.probe import PngImages
from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive
from benchmarks.resident import resident_mb
from mia_hub.images.sources import as_images
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.splits.member_split import MemberSplit

SHAPE, SIDE = (32, 32, 1), 16
# An audit holds of each image its id, its label and a score, in lists and arrays of ids, scores and figures.
BYTES_PER_IMAGE = 700
SLACK_MB = 40


def measure(images: int, batch_size: int) -> list[Row]:
    half = images // 2
    split = MemberSplit("made up", as_images(PngImages(half, SHAPE)), as_images(PngImages(half, SHAPE, seed=1)))
    memory: list[tuple[int, float]] = []
    rows = 0

    def free(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        nonlocal rows
        if rows * 20 // images != (rows + len(x)) * 20 // images:
            memory.append((rows + len(x), resident_mb()))
        rows += len(x)
        return x

    model = mia_hub.wrap_denoiser(free, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE))
    attack = mia_hub.get_attack("sima", timesteps=(100,))
    sample = min(images, 5000)
    started = time.perf_counter()
    for i in range(sample):
        _ = split.images[i].pixels
    decoding = (time.perf_counter() - started) / sample

    mia_hub.audit(model, attack, split.limited(200), progress=False)  # what is imported and set up once
    rows = 0
    memory.clear()
    started = time.perf_counter()
    report = mia_hub.audit(model, attack, split, batch_size=batch_size, progress=False, fprs=(0.01,))
    whole = time.perf_counter() - started
    scoring = report.cost.seconds
    at, peak = np.array(memory).T
    growth, allowed = peak[-1] - peak[0], SLACK_MB + BYTES_PER_IMAGE * (at[-1] - at[0]) / 2**20
    return [
        Row("images", f"{len(report.scores):,}, described, and scored"),
        Row("decoding alone", f"{1 / decoding:,.0f} images/s", values={"seconds": decoding}),
        Row("scoring", f"{images / scoring:,.0f} images/s, {decoding * images / scoring:.0%} of the rate of decoding alone"),
        Row("the whole audit", f"{whole:,.0f} s; {decoding * images / whole:.0%} of it is decoding, once", values={"seconds": whole}),
        Row(
            "memory while scoring, from 5 % to the end",
            f"{peak[0]:,.0f} to {peak[-1]:,.0f} MiB: {growth:+.1f} MiB",
            f"< {SLACK_MB} MiB + {BYTES_PER_IMAGE} bytes per image = {allowed:.0f} MiB",
            bool(growth < allowed),
            {"at": at, "resident_mb": peak},
        ),
        Row("AUC, of two halves of one kind", f"{report.auc}"),
    ]


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    return measure(args.images, args.batch_size), facts(torch.device("cpu"), "float32", args.batch_size)


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("million", __doc__)
    parser.add_argument("--images", type=positive, default=1_000_000, help="(default: 1,000,000)")
    parser.add_argument("--batch-size", type=positive, default=256, help="(default: 256)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
