"""What each way of running the denoiser gains here over the plain one in float32, and what becomes of the AUC of SimA.

python -m benchmarks.settings
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import mia_hub
from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive, with_batch_size, with_model, with_split
from mia_hub.metrics.roc import auc
from mia_hub.models.loading import pick_device
from mia_hub.models.rows import default_rows
from mia_hub.models.tuning import candidates, fastest, trial
from mia_hub.splits.loading import load_split

LEAST_ON_ACCELERATOR, LARGEST_DIFFERENCE = 3.0, 0.002


def measure(model, split, rows: int, timestep: int) -> list[Row]:
    trials = trial(model, rows, candidates(model.device.type))
    chosen, attack, found, plain = fastest(trials), mia_hub.get_attack("sima", timesteps=(timestep,)), [], np.nan
    for one in trials:
        name = str(one.arrangement) or "as loaded"
        if one.failed:
            found.append(Row(name, f"can't run: {one.failed}"))
            continue
        model.arrange(one.arrangement)
        table = attack.score(model, split.images, captions=split.captions, is_member=split.is_member, batch_size=rows)
        value = float(auc(table.scores[:, 0], table.is_member))
        plain = value if not found else plain
        gain = trials[0].seconds / one.seconds
        picked = one.arrangement == chosen
        needed, passed = "", None
        if picked:
            least = LEAST_ON_ACCELERATOR if model.device.type == "cuda" else 1.0
            needed = f"≥ {least:g} times, AUC within {LARGEST_DIFFERENCE:g}"
            passed = bool(gain >= least and abs(value - plain) <= LARGEST_DIFFERENCE)
        said = f"{gain:.2f} times the speed; norms differ by {one.deviation:.2%} at most; AUC {value:.4f} ({value - plain:+.4f})"
        found.append(Row(name + (": chosen by dtype='auto'" if picked else ""), said, needed, passed))
    model.arrange(trials[0].arrangement)
    return found


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measures; returns the rows, and what they depend on."""
    device = pick_device(args.device)
    model = mia_hub.load_model(args.model, device=device, dtype=args.dtype)
    split = load_split(args.split, limit=args.limit).told(model.info.conditioning)
    rows = args.batch_size or default_rows(model)
    known = facts(device, args.dtype, rows)
    return measure(model, split, rows, args.timestep), known


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("settings", __doc__)
    with_model(parser)
    with_split(parser, limit=512)
    with_batch_size(parser)
    parser.add_argument("--timestep", type=positive, default=100, help="(default: 100)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
