"""Measure what a stored reference costs: a check beside its own queries, and reading one of 10,000 images.

python -m benchmarks.references
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.reporting import Row, benchmark_parser, facts, finish
from benchmarks.throughput import Recorder, at_most_threads, in_turns
from mia_hub.checking.checks import check_image
from mia_hub.models.loading import load_model
from mia_hub.references.appearance import StoredAppearance
from mia_hub.references.demo_reference import demo_reference
from mia_hub.references.reference import Reference
from mia_hub.splits.loading import load_split

MOST_OVER_QUERIES, MOST_READING_SECONDS = 1.1, 0.5
LARGE = 10_000
ROUNDS, CHECK_ROUNDS = 9, 31


def measure_check(*, wall: bool) -> list[Row]:
    """Measure a check of an image with a stored reference beside the forward passes that it takes.

    The requirement is on processor time in one thread, which other work on the machine changes little; with several threads the passes take
    less of a person's time, and what comes beside them as much.

    Args:
        wall: also measures wall-clock time with all threads, which says something on a quiet machine alone.
    """
    model = Recorder(load_model("demo", dtype="float32"))
    image, reference = load_split("demo").nonmembers[0], demo_reference()

    def check() -> None:
        check_image(image, model, reference=reference, progress=False)

    check()  # fits the comparability check
    model.passes.clear()
    check()
    queries = list(model.passes)

    def bare() -> None:
        with torch.no_grad():
            for x, t, cond in queries:
                model.model.predict_noise(x, t, cond)

    what = f"check of one image with a stored reference, {sum(len(x) for x, _, _ in queries)} queries"
    # NumPy's threads wait for each other in processor time, too.
    with at_most_threads(1), threadpool_limits(1):
        processor = in_turns(CHECK_ROUNDS, [check, bare], model.model.device, time.process_time)
    rows = [_beside_queries(f"{what}: processor time, one thread", processor, MOST_OVER_QUERIES)]
    if wall:
        seconds = in_turns(ROUNDS, [check, bare], model.model.device)
        rows.append(_beside_queries(f"{what}: wall-clock time, all threads", seconds))
    return rows


def _beside_queries(what: str, seconds: np.ndarray, most: float | None = None) -> Row:
    """Return the ratio of a check to its bare forward passes, from seconds ``[rounds, 2]``."""
    ratios = seconds[:, 0] / seconds[:, 1]
    ratio = float(np.median(ratios))
    measured = f"{ratio:.3f} ({ratios.min():.3f} … {ratios.max():.3f}) times its bare forward passes"
    requirement, passed = ("", None) if most is None else (f"≤ {most}", ratio <= most)
    return Row(what, measured, requirement, passed, {"seconds": seconds})


def large_reference(folder: Path) -> Path:
    """Write a reference of 10,000 non-members, with numbers drawn from the demo's."""
    demo = demo_reference()
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(demo.profiles), LARGE)
    ids = [rng.bytes(16).hex() for _ in range(LARGE)]
    labels = np.zeros(LARGE, np.int8)
    profiles = replace(demo.profiles, ids=ids, is_member=labels, scores=demo.profiles.scores[rows])
    features = rng.normal(size=(LARGE, demo.appearance.features[1].shape[1]))
    appearance = StoredAppearance(demo.comparability, (ids, features))
    return replace(demo, profiles=profiles, observations=demo.observations[rows], appearance=appearance).save(folder)


def measure_reading() -> list[Row]:
    """Measure reading a reference of 10,000 images, and judging one score with it."""
    with tempfile.TemporaryDirectory() as folder:
        stored = large_reference(Path(folder) / "reference")
        size = sum(path.stat().st_size for path in stored.iterdir())
        seconds = in_turns(ROUNDS, [lambda: Reference.read(stored)])[:, 0]
    worst = float(np.median(seconds))
    return [
        Row(
            f"reading and checking a reference of {LARGE:,} images, {size / 2**20:.1f} MiB",
            f"{worst:.3f} s ({seconds.min():.3f} … {seconds.max():.3f})",
            f"< {MOST_READING_SECONDS} s",
            worst < MOST_READING_SECONDS,
            {"seconds": seconds},
        )
    ]


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    conditions = facts(torch.device("cpu"), "float32", 1)
    return measure_check(wall=args.wall) + measure_reading(), conditions


if __name__ == "__main__":
    parser = benchmark_parser("references", __doc__ or "")
    parser.add_argument("--wall", action="store_true", help="also wall-clock time with all threads, on a quiet machine")
    raise SystemExit(finish(parser, run))
