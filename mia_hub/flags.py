"""Flags: what the reader of a result must know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """Something the reader of a result must know.

    Attributes:
        name: short, stable, such as "distribution-shift"; `FLAGS` documents each.
        raised_by: the measurement that raised it.
        meaning: its meaning for the reader.
    """

    name: str
    raised_by: str
    meaning: str


# name: (raised if, what it means and what to do)
FLAGS = {
    "distribution-shift": (
        "a blind classifier, which sees the images and never the model, tells members from non-members better than chance",
        "An attack's AUC on this split is not evidence of memorisation: it may only see that the two kinds of images differ. "
        "Compare it with the blind AUC, and use members and non-members drawn from one source.",
    ),
    "oracle-selection": (
        "the timestep and the threshold were chosen on the same images that the figures are reported on",
        "The figures are optimistic. Use them only to compare with papers that select in this way.",
    ),
    "few-nonmembers": (
        "there are fewer non-members than a false-positive rate needs to be resolved",
        "Figures at such rates are left out: they can't be measured with so few, and are not extrapolated.",
    ),
    "duplicates": (
        "the same image occurs more than once among the members or among the non-members",
        "Repeated images count repeatedly, so the intervals are too narrow. Remove the copies.",
    ),
    "empty-captions": (
        "a model conditioned on text (or on classes) was queried without captions (or without a class)",
        "An attacker who knows the training captions may see more than these figures show.",
    ),
    "captions-truncated": (
        "captions are longer than the model's text encoder takes",
        "Their ends were cut off, as in training and sampling with the same encoder; where the model was trained with a longer limit, "
        "the figures are too low.",
    ),
    "untrained-timesteps": (
        "a distilled model was queried at timesteps that it was not distilled at",
        "What it predicts there was never trained, and says little about its training images. Choose timesteps of its own.",
    ),
    "precision-fallback": (
        "parts of the model gave infinity or NaN in half precision",
        "They were moved to a wider precision and everything was scored again; the figures are those of the precisions named.",
    ),
    "base-saw-nonmembers": (
        "the attack compares the model with its base, and the base was trained on some of the non-members",
        "Such non-members are easier for the base than new images are, so the figures are too high. Use non-members that are in the "
        "training set of neither.",
    ),
    "base-training-data": (
        "the attack compares the model with its base, the base was trained on a known data set, and where the non-members come from "
        "doesn't say that they are none of it",
        "Non-members that the base was trained on are easier for it than new images are, and make the figures too high. Make sure that "
        "none of them is of that data set.",
    ),
    "base-saw-members": (
        "the attack compares the model with its base, and the base was trained on some of the members",
        "Such members are easy for both models, so the attack can miss them, and the figures are too low.",
    ),
    "no-shift-check": (
        "the split is too small for the blind classifier, or the check was switched off",
        "It is not known whether members and non-members have one distribution.",
    ),
}


def flag(name: str, raised_by: str) -> Flag:
    """Return the documented flag of that name.

    Args:
        name: a key of `FLAGS`.
        raised_by: the measurement that raised it.
    """
    return Flag(name, raised_by, FLAGS[name][1])
