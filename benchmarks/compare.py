"""Cost of `mia_hub.compare` beside the bare forward passes that its attacks declare.

    python -m benchmarks.compare

Both sides run in turns, A B B A …, in one process; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

import mia_hub
from benchmarks.gray_box import gray_box
from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive, with_model, with_split
from mia_hub.attacks import Attack, get_attack
from mia_hub.attacks.spelling import spell
from mia_hub.auditing.compare import compare
from mia_hub.auditing.comparison import Comparison
from mia_hub.errors import MiaHubError
from mia_hub.models.loading import pick_device
from mia_hub.models.rows import default_rows
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit
from mia_hub.system.timing import measured_seconds

MOST_RATIO = 1.1


def bare_passes(model, split: MemberSplit, batch_size: int):
    """Return a function that runs a number of forward passes of ``batch_size`` rows, and nothing else."""
    x0 = model.encode([split.images[i % len(split.images)] for i in range(batch_size)])
    t = torch.full((batch_size,), model.info.num_train_timesteps // 10, device=x0.device)
    x = model.schedule.add_noise(x0, torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(x0), t)
    cond = model.condition(None if split.captions is None else [split.captions[i % len(split.captions)] for i in range(batch_size)])

    def run(passes: int) -> None:
        with torch.no_grad():
            for _ in range(passes):
                model.predict_noise(x, t, cond)

    return run


def measure(model, split: MemberSplit, attacks: list[Attack], batch_size: int, rounds: int) -> list[Row]:
    """Measure `compare`, from encoded images to all figures, beside the declared queries of its attacks as bare forward passes.

    Args:
        model: a DiffusionModel.
        split: its number of images is a multiple of ``batch_size``.
        attacks: each is compared with as many passes as it declares.
        batch_size: rows per forward pass, on both sides.
        rounds: number of measurements of each side, after one short warm-up round.
    """
    bare, images = bare_passes(model, split, batch_size), len(split.images)
    rows = [attack.queries_per_image * images + attack.setup_queries for attack in attacks]
    alone, compared, whole = np.empty((rounds, len(attacks))), np.empty((rounds, len(attacks))), np.empty(rounds)
    processor = np.empty((rounds, 2))

    def bare_side(i: int) -> None:
        started = time.process_time()
        for j, passes in enumerate(rows):
            alone[i, j] = measured_seconds(lambda passes=passes: bare(-(-passes // batch_size)), model.device)
        processor[i, 0] = time.process_time() - started

    def compare_side(i: int) -> None:
        comparisons: list[Comparison] = []
        started = time.process_time()
        whole[i] = measured_seconds(
            lambda: comparisons.append(compare(model, split, attacks, batch_size=batch_size, progress=False)), model.device
        )
        processor[i, 1] = time.process_time() - started
        compared[i] = [report.cost.seconds for report in comparisons[0].reports]

    # One-time imports and set-up, such as the blind classifier's library, belong to neither side.
    bare(3)
    warming = get_attack("sima", timesteps=(model.info.num_train_timesteps // 10,))
    compare(model, split, [warming], batch_size=batch_size, progress=False)
    for i in range(rounds):
        for side in (bare_side, compare_side)[:: -1 if i % 2 else 1]:
            side(i)
    report_rows = [
        _row(f"{spell(attack)}, {attack.queries_per_image} queries per image", taken, least, "", passes)
        for attack, passes, taken, least in zip(attacks, rows, compared.T, alone.T)
    ]
    rest = whole - compared.sum(axis=1)
    report_rows.append(
        Row(
            "  reading, choosing, fitting, measuring, blind classifier",
            f"{np.median(rest):.1f} s ({rest.min():.1f} … {rest.max():.1f}), {np.median(rest / alone.sum(axis=1)):.1%} of the bare passes",
            values={"seconds": rest},
        )
    )
    name = f"compare, {len(attacks)} attacks, {images} images"
    report_rows.append(_row(name, whole, alone.sum(axis=1), f"≤ {MOST_RATIO:g}", sum(rows)))
    if model.device.type == "cpu":
        # Other users of the machine change the wall-clock time of both sides at random, but hardly the processor time.
        report_rows.append(_row("  the same in processor time", processor[:, 1], processor[:, 0], "", sum(rows)))
    return report_rows


def _row(what: str, taken: np.ndarray, bare: np.ndarray, requirement: str, rows: int) -> Row:
    ratios = taken / bare
    return Row(
        what,
        f"{np.median(ratios):.3f} ({ratios.min():.3f} … {ratios.max():.3f}) of {np.median(bare):.1f} s bare, {rows:,} rows",
        requirement,
        bool(np.median(ratios) <= MOST_RATIO) if requirement else None,
        {"rows": rows, "seconds": taken, "bare_seconds": bare},
    )


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("compare", __doc__)
    with_model(parser)
    with_split(parser, limit=64)
    parser.add_argument("--batch-size", type=positive, help="rows per forward pass, a divisor of 2N (default: mia_hub's own, or 2N)")
    parser.add_argument("--attacks", nargs="+", metavar="NAME", help="default: all gray-box attacks that can run on the model")
    parser.add_argument("--rounds", type=positive, default=3, help="(default: 3)")
    return parser


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    device = pick_device(args.device)
    split = load_split(args.split, limit=args.limit)
    images = len(split.images)
    model = mia_hub.load_model(args.model, device=device, dtype=args.dtype)
    batch_size = args.batch_size or min(default_rows(model), images)
    if images % batch_size:
        raise MiaHubError(f"{images} images don't fill whole batches of {batch_size}; give a --batch-size that divides {images}.")
    conditions = facts(device, args.dtype, batch_size)
    attacks = [get_attack(name) for name in args.attacks] if args.attacks else gray_box(model, split)
    return measure(model, split, attacks, batch_size, args.rounds), conditions


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
