"""Combinations of the metric's options. An option that would be ignored silently is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mia_hub.errors import MetricError
from mia_hub.rendering.suggestions import did_you_mean

FOR_LABELLED_IMAGES = ("selection", "timestep", "shift_check")
FOR_UNLABELLED_IMAGES = ("nonmembers", "nonmember_captions", "reference")
FOR_A_DATASET = ("dataset_config", "dataset_revision", "image_column", "caption_column", "class_column", "limit")


def check_known(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse options that the metric doesn't have.

    Args:
        defaults: all options that it has.

    Raises:
        MetricError: with the most similar option.
    """
    for name in options:
        if name not in defaults:
            raise MetricError(f"This metric has no option {name!r}.{did_you_mean(name, defaults)} It takes: {', '.join(defaults)}.")


def check_useful(options: Mapping[str, Any], defaults: Mapping[str, Any], *, labelled: bool) -> None:
    """Refuse options that have no effect on these images.

    Args:
        defaults: all options; one that has its default is never refused.
        labelled: whether references are given.

    Raises:
        MetricError: with the reason.
    """
    from_dataset = options.get("dataset_id") is not None
    reasons: dict[str, str] = {}
    if labelled or from_dataset:
        reasons |= dict.fromkeys(FOR_UNLABELLED_IMAGES, "where labels are known, such images are among the others, with reference 0")
    else:
        reasons |= dict.fromkeys(
            FOR_LABELLED_IMAGES, "without references or dataset_id nothing is measured, and timestep and selection are fixed"
        )
    if not from_dataset:
        reasons |= dict.fromkeys(FOR_A_DATASET, "it belongs to dataset_id, which is not given; choose among predictions yourself")
    for name, reason in reasons.items():
        value, default = options.get(name, defaults[name]), defaults[name]
        # By type first: comparing arrays gives an array.
        if value is not default and (type(value) is not type(default) or value != default):
            raise MetricError(f"{name} has no use here: {reason}. Leave it out.")


def check_source(predictions: Any, references: Any, dataset_id: Any) -> None:
    """Refuse calls that give no images, or give them twice.

    Raises:
        MetricError: with what was given.
    """
    if (predictions is None) == (dataset_id is None):
        which = "neither was given" if predictions is None else "both were given"
        raise MetricError(f"Give either predictions=[…], the images, or dataset_id=…, a split of members and non-members; {which}.")
    if dataset_id is not None and references is not None:
        raise MetricError("references belong to predictions; a data set says itself which images are members. Leave one of them out.")
