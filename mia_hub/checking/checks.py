"""The public functions that check images and sets of images, and the checkers that they reuse."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Unpack

from mia_hub.attacks import Attack, get_attack
from mia_hub.checking.checker import Checker
from mia_hub.checking.image_answers import ImageCheck
from mia_hub.checking.options import CaptionsOrClasses, CheckerOptions
from mia_hub.checking.set_answers import SetCheck
from mia_hub.defaults import VERDICT_ATTACK
from mia_hub.errors import ImageError
from mia_hub.images.sources import open_image
from mia_hub.models.protocol import DiffusionModel
from mia_hub.system.signatures import with_options

# Options that make a checker one of its own, not to be reused for the next image.
NULL_OPTIONS = ("nonmembers", "nonmember_captions")


@with_options
def check_images(
    images: Any,
    model: str | DiffusionModel = "demo",
    attack: str | Attack = VERDICT_ATTACK,
    *,
    captions: CaptionsOrClasses = None,
    **options: Unpack[CheckerOptions],
) -> list[ImageCheck]:
    """Check whether images were in a model's training set: one answer each, judged together at a false-discovery rate of 5 %.

    Args:
        images: paths, a folder, PIL images, uint8 arrays, float tensors in [0, 1] as NCHW, or a `datasets` column; anything that
            `mia_hub.images.sources.as_images` takes.
        model: "demo", a folder, a Hub id, or a DiffusionModel.
        attack: a name of `mia_hub.list_attacks`, or an Attack.
        captions: of a model conditioned on text, one per image or one for all; of one conditioned on classes, class indices. Empty ones
            by default.
        nonmembers: for any model but the demo: images that are certainly not in its training set, 99 or more, of the same kind, in any of
            the forms of ``images``.
        nonmember_captions: theirs, where the images have captions.
        batch_size, seed: as for `mia_hub.Attack.score`.
        device, dtype, revision: as for `mia_hub.load_model`.
        progress: shows progress bars for anything over a second.

    Returns:
        An ImageCheck per image, in their order.

    Raises:
        MiaHubError: with a message for the user.
    """
    return get_checker(model, attack, **options).check(images, captions=captions, progress=options["progress"])


@with_options
def check_image(
    image: Any,
    model: str | DiffusionModel = "demo",
    attack: str | Attack = VERDICT_ATTACK,
    *,
    captions: CaptionsOrClasses = None,
    **options: Unpack[CheckerOptions],
) -> ImageCheck:
    """Check whether an image was in a model's training set.

    Args:
        image: one of the things that `check_images` takes; the other arguments are the same.

    Returns:
        An ImageCheck: ``.p_value``, ``.verdict``, ``.sentence``, ``.comparable``, ``.profile``.
    """
    return check_images([image], model, attack, captions=captions, **options)[0]


@with_options
def check_set(
    images: Any,
    model: str | DiffusionModel = "demo",
    attack: str | Attack = VERDICT_ATTACK,
    *,
    captions: CaptionsOrClasses = None,
    **options: Unpack[CheckerOptions],
) -> SetCheck:
    """Check whether images, *as a set*, were in a model's training data. Many weak scores make one strong answer (arXiv 2411.12858).

    Args:
        images: 5 different images or more; the arguments are those of `check_images`.
        nonmembers: for any model but the demo: images that are certainly not in its training set, from the same source as ``images``.

    Returns:
        A SetCheck: ``.p_value``, ``.verdict``, ``.sentence``, ``.fraction``, ``.more_needed``.

    Raises:
        MiaHubError: with a message for the user.
    """
    return get_checker(model, attack, **options).check_set(images, captions=captions, progress=options["progress"])


@with_options
def get_checker(model: str | DiffusionModel = "demo", attack: str | Attack = VERDICT_ATTACK, **options: Unpack[CheckerOptions]) -> Checker:
    """Return a `Checker`; one for a model's name alone is reused, so that the next image need not wait for it."""
    if not isinstance(model, str) or any(options.get(name) is not None for name in NULL_OPTIONS):
        return Checker(model, attack, **options)
    reused = {name: value for name, value in options.items() if name not in (*NULL_OPTIONS, "progress")}
    return _reused_checker(model, get_attack(attack), frozenset(reused.items()))


@lru_cache(maxsize=2)
def _reused_checker(model: str, attack: Attack, options: frozenset[tuple[str, Any]]) -> Checker:
    return Checker(model, attack, **dict(options))


def readable_images(sources: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Return the images that can be read, and what is wrong with each of the others: one bad file must not cost the rest their answers."""
    good, problems = [], []
    for source in sources:
        try:
            open_image(source)
        except ImageError as error:
            problems.append(str(error))
        else:
            good.append(source)
    return good, problems
