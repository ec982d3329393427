"""Captions and classes that a model is conditioned on, checked before they are encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mia_hub.errors import ModelError
from mia_hub.models.protocol import DiffusionModel

# The source of a query's condition, as results record it.
GIVEN, EMPTY, UNCONDITIONAL = "given", "empty", "none"


def resolved_conditions(model: DiffusionModel, captions: str | int | Sequence[Any] | None, n: int) -> tuple[Sequence[Any] | None, str]:
    """The captions (or classes) of ``n`` images, checked, and their source.

    Args:
        model: its conditioning decides what is accepted.
        captions: one per image; a single one stands for all of them; None for empty ones, if the model was trained with those.
        n: number of images.

    Returns:
        ``(captions, source)``: n entries, unchanged, and `GIVEN` or `EMPTY`; or None and `UNCONDITIONAL`.

    Raises:
        ModelError: if they are not what the model is conditioned on.
    """
    info, null_class = model.info, getattr(model, "null_class", None)
    if info.conditioning == "none":
        no_condition(captions, info.id)
        return None, UNCONDITIONAL
    if captions is None and (info.conditioning == "text" or null_class is not None):
        return [""] * n, EMPTY
    each = [captions] * n if isinstance(captions, (str, int)) else captions
    if info.conditioning == "text":
        texts(each, info.id)
    else:
        class_indices(each, info.num_classes or 0, null_class, info.id)
    return each, GIVEN if any(caption not in ("", None) for caption in each or ()) else EMPTY


def no_condition(captions: object, id: str) -> None:
    """Refuse captions of an unconditional model, whose condition is None.

    Raises:
        ModelError: if there are captions.
    """
    if captions is not None:
        raise ModelError(f"{id} is an unconditional model and takes no captions; leave them out.")


def texts(captions: Sequence[Any] | None, id: str) -> list[str]:
    """The captions of a model conditioned on text.

    Raises:
        ModelError: if there are none, or one is no text.
    """
    if captions is None or not all(isinstance(caption, str) for caption in captions):
        raise ModelError(f"{id} is conditioned on text; give captions=[…], one per image (empty ones are allowed).")
    return list(captions)


def class_indices(classes: Sequence[Any] | None, count: int, null_class: int | None, id: str) -> list[int]:
    """The class indices of a class-conditional model.

    Args:
        classes: one per image, as a number or in digits; "" or None for no class.
        count: number of classes; indices run from 0 to count - 1.
        null_class: the index that means "no class", or None if the model was never trained without one.
        id: of the model, for messages.

    Raises:
        ModelError: for anything that is no class of the model.
    """
    advice = f"give captions=[…], one class index from 0 to {count - 1} per image"
    if classes is None:
        raise ModelError(f"{id} is conditioned on classes; {advice}.")
    return [_class_index(each, count, null_class, id, advice) for each in classes]


def _class_index(value: Any, count: int, null_class: int | None, id: str, advice: str) -> int:
    if value is None or value == "":
        if null_class is None:
            raise ModelError(f"{id} always needs a class, so give one for each image; {advice}.")
        return null_class
    try:
        index = int(value)
    except (TypeError, ValueError):
        index = -1
    if str(index) != str(value).strip() or not 0 <= index < count:
        raise ModelError(f"{id} takes classes 0 to {count - 1}; got {value!r}; {advice}.")
    return index
