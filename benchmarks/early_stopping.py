"""Draws of SimA-MC that early stopping saves on a model and split, and its effect on AUC and error rates.

    python -m benchmarks.early_stopping

One half of the non-members fits the rule, which judges members and the other half. Every image gets all draws, so that each verdict can be
compared with the verdict of all draws.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import mia_hub
from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive, with_model, with_split
from mia_hub.attacks.draw_by_draw import DrawByDraw
from mia_hub.attacks.sima import SimAMC
from mia_hub.checking.early_stopping import EarlyStopping, doubling
from mia_hub.checking.verdicts import EVIDENCE
from mia_hub.metrics.intervals import auc_difference, clopper_pearson
from mia_hub.metrics.roc import auc
from mia_hub.models.loading import pick_device
from mia_hub.models.rows import default_rows
from mia_hub.splits.loading import load_split
from mia_hub.splits.partition import calibration_mask

ALPHAS = (0.01, 0.05)


def measure(scores: np.ndarray, ids: list[str], is_member: np.ndarray, looks: tuple[int, ...], alpha: float) -> list[Row]:
    """Return the rows of one α.

    Args:
        scores: scores of all images after each look, ``[N, K]``.
        ids, is_member: ids and labels of the images.
        looks: K numbers of draws.
    """
    null = np.flatnonzero(is_member == 0)
    own = calibration_mask([ids[row] for row in null], seed=1)
    rule = EarlyStopping.fitted(scores[null[own]], [ids[row] for row in null[own]], looks, alpha=alpha)
    judged = np.setdiff1d(np.arange(len(ids)), null[own])
    paths, labels = scores[judged], is_member[judged]
    early, stopped = np.full(len(judged), "", object), np.full(len(judged), len(looks) - 1)
    for k in range(len(looks)):
        verdict = rule.verdicts(paths[:, : k + 1])
        new = (early == "") & (verdict != "")
        early[new], stopped[new] = verdict[new], k
    whole, draws = rule.verdicts(paths), np.array(looks)[stopped]
    at_stop = np.array([rule.standardised(path[k], k) for path, k in zip(paths, stopped)])
    values = {"draws": draws, "is_member": labels, "early": early.tolist(), "all draws": whole.tolist()}
    rows = [Row(f"at p ≤ {alpha:g}: draws saved, of {looks[-1]}", "", values=values)]
    for label, name in ((1, "members"), (0, "non-members")):
        of = labels == label
        saved = 1 - draws[of].mean() / looks[-1]
        rows.append(Row(f"  {name}", f"{saved:.1%}; {draws[of].mean():.1f} draws on average, median {np.median(draws[of]):.0f}"))
        for what, verdicts in (("stopped early", early), ("all draws", whole)):
            count = int((verdicts[of] == EVIDENCE).sum())
            low, high = clopper_pearson(count, int(of.sum()))
            requirement = f"interval reaches ≤ {alpha:g}" if label == 0 and what == "stopped early" else ""
            rate = f"{count / of.sum():.1%} [{low:.1%}, {high:.1%}] ({count} of {of.sum()})"
            rows.append(Row(f"    with evidence, {what}", rate, requirement, bool(low <= alpha) if requirement else None))
    sure = (labels == 1) & (whole == EVIDENCE)
    lost = int((early[sure] != EVIDENCE).sum())
    low, high = clopper_pearson(lost, int(sure.sum())) if sure.any() else (0.0, 1.0)
    rows.append(Row("  members with evidence after all draws, given up earlier", f"{lost} of {sure.sum()} [{low:.1%}, {high:.1%}]"))
    changed = int((early != whole).sum())
    rows.append(Row("  verdicts that all draws would have changed", f"{changed} of {len(judged)}"))
    value, low, high = auc_difference(at_stop, paths[:, -1], labels)
    rows.append(
        Row(
            "  AUC, score when stopped / after all draws",
            f"{auc(at_stop, labels):.4f} / {auc(paths[:, -1], labels):.4f}; difference {value:+.4f} [{low:+.4f}, {high:+.4f}]",
        )
    )
    return rows


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    device = pick_device(args.device)
    split = load_split(args.split, limit=args.limit)
    model = mia_hub.load_model(args.model, device=device, dtype=args.dtype)
    conditions = facts(device, args.dtype, default_rows(model))
    attack, looks = SimAMC(timesteps=(args.timestep,), draws=args.draws), doubling(args.draws)
    observations = DrawByDraw(timesteps=attack.timesteps, attack=attack, looks=looks).observe(
        model, split.images, is_member=split.is_member, resume=args.folder
    )
    rows = [row for alpha in ALPHAS for row in measure(observations.values[:, :-1], observations.ids, observations.is_member, looks, alpha)]
    return rows, conditions | {"attack": repr(attack), "looks": looks}


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("early_stopping", __doc__)
    with_model(parser)
    with_split(parser, limit=1000)
    parser.add_argument("--timestep", type=positive, default=70, help="(default: 70)")
    parser.add_argument("--draws", type=positive, default=32, help="largest number of draws of an image (default: 32)")
    parser.add_argument("--folder", metavar="FOLDER", help="folder of finished batches, from which an interrupted run resumes")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
