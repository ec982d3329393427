"""From a ScoreTable to its figures: timesteps and thresholds are chosen on the calibration part, and reported on the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from mia_hub.errors import MetricError
from mia_hub.flags import Flag, flag
from mia_hub.metrics.estimates import Estimate, TimestepRow
from mia_hub.metrics.intervals import asr_interval, balanced_accuracy_interval, delong, tpr_at_fpr_interval
from mia_hub.metrics.roc import allowed_false_positives, asr, auc, best_threshold, roc_curve, scores_by_class, tpr_at_fpr
from mia_hub.scores import UNKNOWN, ScoreTable
from mia_hub.splits.partition import calibration_part

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]
Selection = Literal["calibration", "oracle"]
DEFAULT_FPRS = (0.01, 0.001)
# Below this a part can neither choose a timestep nor carry a figure.
SMALLEST_PART = 2
ROC_POINTS = 2000


@dataclass(frozen=True)
class Measurement:
    """The figures of one ScoreTable, as in `mia_hub.auditing.report.AuditReport`, and the rows that they were measured on.

    Attributes:
        reported: bool ``[N]``, the rows that the figures come from.
    """

    selection: dict[str, Any]
    rows: tuple[TimestepRow, ...]
    roc: dict[str, list[float]]
    flags: tuple[Flag, ...]
    reported: Mask

    @property
    def timestep(self) -> int:
        """The selected timestep."""
        return int(self.selection["timestep"])

    @property
    def at_selected(self) -> TimestepRow:
        """The figures at the selected timestep."""
        return next(row for row in self.rows if row.timestep == self.timestep)


def check_plan(
    n_members: int,
    n_nonmembers: int,
    timesteps: Sequence[int],
    *,
    selection: str = "calibration",
    timestep: int | None = None,
    fprs: Sequence[float] | None = None,
    calibration_fraction: float = 0.5,
    fitted: bool = False,
) -> list[float]:
    """Refuse what `measure` would refuse for the numbers of images alone, before any compute is spent.

    Returns:
        The false-positive rates that can be measured.

    Raises:
        MetricError: as `measure`.
    """
    if selection not in get_args(Selection):
        raise MetricError(f"selection must be 'calibration' or 'oracle'; got {selection!r}.")
    if selection == "oracle" and timestep is not None:
        raise MetricError(f"timestep={timestep} is fixed, so selection='oracle' has nothing left to choose; leave one of them out.")
    if not 0 < calibration_fraction < 1:
        raise MetricError(f"calibration_fraction must lie between 0 and 1; got {calibration_fraction}.")
    if timestep is not None and timestep not in timesteps:
        raise MetricError(f"Timestep {timestep} is not among the scored ones: {', '.join(map(str, timesteps))}. Choose one of these.")
    calibration = [round(calibration_fraction * n) for n in (n_members, n_nonmembers)]
    rest = [n - c for n, c in zip((n_members, n_nonmembers), calibration)]
    if selection == "calibration" and min(*calibration, *rest) < SMALLEST_PART:
        raise MetricError(
            f"{n_members} members and {n_nonmembers} non-members are too few to choose a timestep or threshold on one part and report on "
            f"the other: at least {_fewest(SMALLEST_PART, SMALLEST_PART, calibration_fraction)} of each are needed, and some hundreds to "
            "learn anything."
        )
    parted = selection == "calibration" and (timestep is None or fitted)
    reported = rest[1] if parted else n_nonmembers
    if fprs is None:
        return [rate for rate in DEFAULT_FPRS if rate * reported >= 1]
    for rate in fprs:
        allowed_false_positives(rate, reported, in_all=(lambda n: _fewest(0, n, calibration_fraction)) if parted else None)
    return list(fprs)


def _fewest(calibration: int, rest: int, fraction: float) -> int:
    """The fewest images of a class of which at least so many are in the calibration part, and so many in the rest."""
    enough = max(math.ceil((calibration + 1) / fraction), math.ceil((rest + 1) / (1 - fraction)))
    candidates = range(max(calibration + rest, enough - 10_000), enough)
    return next((n for n in candidates if round(fraction * n) >= calibration and n - round(fraction * n) >= rest), enough)


def measure(
    table: ScoreTable,
    *,
    selection: Selection = "calibration",
    timestep: int | None = None,
    fprs: Sequence[float] | None = None,
    calibration_fraction: float = 0.5,
    fitted: bool = False,
    seed: int = 0,
) -> Measurement:
    """Compute AUC, ASR and TPR at low FPR with 95 % intervals.

    Args:
        table: scores with a label, 1 or 0, for every row.
        selection: "calibration" chooses the timestep of highest AUC, and the threshold of ASR, on the calibration part and reports
            on the rest; "oracle" chooses on the reported images themselves, as many papers do: optimistic, and flagged so.
        timestep: a timestep fixed beforehand; then all rows are reported, and the threshold of ASR is cross-fitted between parts.
        fprs: false-positive rates; 1 % and 0.1 % by default, of which those that the reported non-members can't resolve are left
            out, with a flag. A rate that is given and can't be resolved is an error.
        calibration_fraction: share of the calibration part, in (0, 1).
        fitted: whether the attack was fitted, or chose anything, on the calibration part; then a fixed timestep, too, is reported on the
            rest.
        seed: of the parts and of bootstrap intervals.

    Raises:
        MetricError: for missing labels, one class only, NaN, too few images or non-members, or an unknown timestep or selection.
    """
    if (table.is_member == UNKNOWN).any():
        raise MetricError("Some images have no label; figures need is_member = 1 or 0 for every image.")
    for i in range(len(table.timesteps)):
        scores_by_class(table.scores[:, i], table.is_member)
    n_members, n_nonmembers = _counts(table.is_member)
    rates = check_plan(
        n_members,
        n_nonmembers,
        table.timesteps.tolist(),
        selection=selection,
        timestep=timestep,
        fprs=fprs,
        calibration_fraction=calibration_fraction,
        fitted=fitted,
    )
    calibration = calibration_part(table.ids, table.is_member, fraction=calibration_fraction, seed=seed)
    held_back = (timestep is None or fitted) and selection == "calibration"
    reported = ~calibration if held_back else np.ones(len(table), bool)
    members, nonmembers = _counts(table.is_member[reported])
    chosen = _selection(table, calibration if selection == "calibration" else reported, selection, timestep)
    chosen |= {"n_members": members, "n_nonmembers": nonmembers}
    if held_back:
        chosen |= {"n_calibration_members": n_members - members, "n_calibration_nonmembers": n_nonmembers - nonmembers}
        chosen |= {"seed": seed, "fraction": calibration_fraction}
    rows = tuple(
        TimestepRow(
            int(t),
            _estimate(auc, delong, table.scores[reported, i], table.is_member[reported]),
            _asr(table.scores[:, i], table.is_member, calibration, selection=selection, cross_fitted=not held_back),
            {rate: _tpr(table.scores[reported, i], table.is_member[reported], rate, seed) for rate in rates},
        )
        for i, t in enumerate(table.timesteps)
    )
    unresolved = [rate for rate in (DEFAULT_FPRS if fprs is None else fprs) if rate not in rates]
    flags = _flags(table, unresolved, nonmembers)
    if chosen["method"] == "oracle":
        flags.append(flag("oracle-selection", chosen["description"]))
    curve = roc_curve(table.at(chosen["timestep"])[reported], table.is_member[reported])
    return Measurement(chosen, rows, _thinned(curve.fpr, curve.tpr), tuple(flags), reported)


def _counts(is_member: Labels) -> tuple[int, int]:
    """Return the numbers of members and of non-members."""
    return int((is_member == 1).sum()), int((is_member == 0).sum())


def _selection(table: ScoreTable, chooser: Mask, selection: Selection, timestep: int | None) -> dict[str, Any]:
    """Return which timestep the figures are those of, and why.

    Args:
        table: the scores.
        chooser: bool ``[N]``, the rows that a timestep is chosen on.
        selection: as for `measure`.
        timestep: a timestep fixed beforehand.
    """
    if timestep is not None:
        return {"method": "fixed", "timestep": int(timestep), "description": f"t = {timestep} was fixed beforehand"}
    aucs = [auc(table.scores[chooser, i], table.is_member[chooser]) for i in range(len(table.timesteps))]
    best = int(table.timesteps[int(np.argmax(aucs))])
    where = "the calibration part, which is not reported" if selection == "calibration" else "the reported images themselves (optimistic)"
    why = f"t = {best} has the highest AUC on {where}"
    if len(table.timesteps) == 1:
        why = f"there is one score per image, and no timestep to choose; the threshold was chosen on {where}"
    return {"method": selection, "timestep": best, "criterion": "auc", "description": why}


def _flags(table: ScoreTable, unresolved: Sequence[float], nonmembers: int) -> list[Flag]:
    """Return flags about the images: ``nonmembers`` of them can't resolve some rates, or some images are copies."""
    flags = []
    if unresolved:
        rates = ", ".join(f"{rate * 100:g} %" for rate in unresolved)
        flags.append(flag("few-nonmembers", f"{nonmembers:,} non-members can't resolve a false-positive rate of {rates}"))
    copies = len(table) - len({(label, id) for label, id in zip(table.is_member.tolist(), table.ids)})
    if copies:
        flags.append(flag("duplicates", f"{copies} of {len(table)} images are copies of another one with the same label"))
    return flags


def _tpr(scores: Floats, is_member: Labels, rate: float, seed: int) -> Estimate:
    return _estimate(
        lambda scores, is_member: tpr_at_fpr(scores, is_member, rate),
        lambda scores, is_member: tpr_at_fpr_interval(scores, is_member, rate, seed=seed),
        scores,
        is_member,
    )


def _estimate(
    value: Callable[[Floats, Labels], float], interval: Callable[[Floats, Labels], tuple[float, float]], scores: Floats, is_member: Labels
) -> Estimate:
    low, high = interval(scores, is_member)
    return Estimate(float(value(scores, is_member)), float(low), float(high), *_counts(is_member))


def _asr(scores: Floats, is_member: Labels, calibration: Mask, *, selection: Selection, cross_fitted: bool) -> Estimate:
    """Return the balanced accuracy at a threshold that was not chosen on the images it judges ("oracle": at the best one on them)."""
    if selection == "oracle":
        return _estimate(asr, asr_interval, scores, is_member)
    folds = [(calibration, ~calibration)]
    if cross_fitted:
        folds.append((~calibration, calibration))
    correct, total = np.zeros(2, int), np.zeros(2, int)
    for chooser, judged in folds:
        threshold = best_threshold(scores[chooser], is_member[chooser])
        called, truth = scores[judged] >= threshold, is_member[judged] == 1
        correct += [int((called & truth).sum()), int((~called & ~truth).sum())]
        total += [int(truth.sum()), int((~truth).sum())]
    low, high = balanced_accuracy_interval(correct[0], total[0], correct[1], total[1])
    return Estimate(float((correct / total).mean()), float(low), float(high), int(total[0]), int(total[1]))


def _thinned(fpr: Floats, tpr: Floats) -> dict[str, list[float]]:
    """Return the corners of a curve, and of very many corners those spread evenly on both a log and a linear axis."""
    # A corner is where the direction changes: horizontal, vertical, or slanting (tied scores, each with a slope of its own).
    step = [np.sign(np.diff(fpr)), np.sign(np.diff(tpr))]
    slanting = (step[0] != 0) & (step[1] != 0)
    turns = np.ones(len(fpr), bool)
    turns[1:-1] = (np.diff(step[0]) != 0) | (np.diff(step[1]) != 0) | slanting[1:] | slanting[:-1]
    fpr, tpr = fpr[turns], tpr[turns]
    if len(fpr) > ROC_POINTS:
        logarithmic = np.searchsorted(fpr, np.geomspace(max(fpr[fpr > 0].min(), 1e-9), 1, ROC_POINTS // 2))
        keep = np.unique(
            np.clip(np.concatenate([[0], logarithmic, np.linspace(0, len(fpr) - 1, ROC_POINTS // 2).astype(int)]), 0, len(fpr) - 1)
        )
        fpr, tpr = fpr[keep], tpr[keep]
    return {"fpr": fpr.tolist(), "tpr": tpr.tolist()}
