"""What is given in place of captions, checked: classes, texts, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from mia_hub.errors import ModelError
from mia_hub.models.protocol import DiffusionModel

# Where the condition of a query came from, as results record it.
GIVEN, EMPTY, UNCONDITIONAL = "given", "empty", "none"


def settled(model: DiffusionModel, captions: str | Sequence | None, n: int) -> tuple[Sequence | None, str]:
    """The captions (or classes) of ``n`` images, checked, and where they came from.

    Args:
        model: whose conditioning decides what is wanted.
        captions: one per image; a single text stands for all of them; None for empty ones, where the model knows what that is.
        n: number of images.

    Returns:
        ``(captions, source)``: n entries, as they were given, and `GIVEN` or `EMPTY`; or None and `UNCONDITIONAL`.

    Raises:
        ModelError: if they are not what the model is conditioned on.
    """
    info, null_class = model.info, getattr(model, "null_class", None)
    if info.conditioning == "none":
        return no_condition(captions, info.id), UNCONDITIONAL
    if captions is None and (info.conditioning == "text" or null_class is not None):
        return [""] * n, EMPTY
    if isinstance(captions, (str, int)):
        captions = [captions] * n
    if info.conditioning == "text":
        texts(captions, info.id)
    else:
        class_indices(captions, info.num_classes, null_class, info.id)
    return captions, GIVEN if any(caption not in ("", None) for caption in captions) else EMPTY


def no_condition(captions: Sequence | None, id: str) -> None:
    """For an unconditional model.

    Raises:
        ModelError: if there are captions.
    """
    if captions is not None:
        raise ModelError(f"{id} is an unconditional model and takes no captions; leave them out.")


def texts(captions: Sequence | None, id: str) -> list[str]:
    """For a model conditioned on text.

    Raises:
        ModelError: if there are none, or something else.
    """
    if captions is None or not all(isinstance(caption, str) for caption in captions):
        raise ModelError(f"{id} is conditioned on text; give captions=[…], one per image (empty ones are allowed).")
    return list(captions)


def class_indices(given: Sequence | None, count: int, null_class: int | None, id: str) -> list[int]:
    """Class indices of a class-conditional model, from what was given in place of captions.

    Args:
        given: an index per image, as a number or in digits; "" or None for no class.
        count: indices run from 0 to count - 1.
        null_class: the index that means "no class", or None if the model was never trained without one.
        id: the model's, for messages.

    Raises:
        ModelError: for anything that is no class of the model.
    """
    wanted = f"give captions=[…], one class index from 0 to {count - 1} per image"
    if given is None:
        raise ModelError(f"{id} is conditioned on classes; {wanted}.")
    return [_class_index(each, count, null_class, id, wanted) for each in given]


def _class_index(given, count: int, null_class: int | None, id: str, wanted: str) -> int:
    if given is None or given == "":
        if null_class is None:
            raise ModelError(f"{id} was not trained without classes, so each image needs one; {wanted}.")
        return null_class
    try:
        index = int(given)
    except (TypeError, ValueError):
        index = None
    if index is None or str(index) != str(given).strip() or not 0 <= index < count:
        raise ModelError(f"{id} is conditioned on classes 0 to {count - 1}, and {given!r} is none of them; {wanted}.")
    return index
