"""The words of a report about its lower bound on ε, which Markdown and HTML share."""

from __future__ import annotations

from mia_hub.auditing.epsilon import EpsilonFinding
from mia_hub.metrics.epsilon import ONE_RUN
from mia_hub.rendering.text import MISSING, Rows

EPSILON_TITLE = "A lower bound on ε, of differential privacy"

ONE_RUN_TEXTS = (
    "Of the images that took no part in any choice, the attack guesses those with the highest scores to be members and those with "
    "the lowest not to be; it abstains from the others. Each image was in or out by its own fair coin, so that at a small ε hardly "
    "more than half of the guesses would be right (one-run method: Steinke, Nasr and Jagielski 2023).",
    "What it supports: with the stated confidence, the training of this model is not (ε, δ)-differentially private for any ε below "
    "the bound.",
    "What it doesn't support: that the training is private. A bound of 0 or a low one may come from a weak attack or from few "
    "images, and a stronger attack may find more. Each row holds by itself, not both rows together.",
)
RATES_TEXTS = (
    "From the Clopper–Pearson limits of the shares of members and of non-members above one threshold, which other images chose: the "
    "logarithm of their ratio.",
    "What it supports: a statement about this one model and such images, namely how much more often the attack recognises a member "
    "than it mistakes a non-member, with the uncertainty of the draw of the images.",
    "What it doesn't support: a bound on the ε of the training with this confidence. All members went into the same training run, "
    "and so are no independent draws of it; for that, the split must be drawn by coins before training (mia-hub make-split "
    "--coin-flip). Where members and non-members differ by themselves, it may show that difference. Nor does a low value show that "
    "the model is private.",
)


def epsilon_texts(finding: EpsilonFinding) -> list[str]:
    """Return what the bound is, and one sentence each on what it supports and what not; first of all its value in words."""
    first = finding.bounds[0]
    method = "one-run method" if finding.method == ONE_RUN else "Clopper–Pearson, of one model"
    if first.bound > 0:
        texts = [f"At t = {finding.timestep} and δ = {delta_text(first.delta)}, ε is at least {first.bound:.2f} ({method})."]
    else:
        texts = [f"At t = {finding.timestep} and δ = {delta_text(first.delta)}, no ε is refuted: the bound is 0 ({method})."]
    if finding.reason:
        texts.append(f"Coins drew this split, and still there is no one-run bound. {finding.reason}")
    return texts + list(ONE_RUN_TEXTS if finding.method == ONE_RUN else RATES_TEXTS)


def epsilon_table(finding: EpsilonFinding) -> tuple[list[str], Rows]:
    """Return headers and rows: a row for each δ."""
    one_run = finding.method == ONE_RUN
    judged = "Guessed to be members" if one_run else "Above the threshold"
    headers = ["δ", "ε is at least", "Confidence", "Images", "Guesses" if one_run else "Judged", judged, "Right"]
    rows = []
    for bound in finding.bounds:
        members = MISSING if bound.guessed_members is None else f"{bound.guessed_members:,}"
        counts = [f"{bound.m:,}", f"{bound.guesses:,}", members, f"{bound.correct:,}"]
        rows.append([delta_text(bound.delta), f"{bound.bound:.2f}", f"{bound.confidence * 100:g} %", *counts])
    return headers, rows


def delta_text(delta: float) -> str:
    """Return a δ in figures, such as "1e-5"."""
    return f"{delta:g}".replace("e-0", "e-")
