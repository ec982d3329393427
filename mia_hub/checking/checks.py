"""The public functions that check images and sets of images, and the checkers that they reuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from tqdm.auto import tqdm

from mia_hub.attacks import Attack, get_attack
from mia_hub.checking.checker import Checker
from mia_hub.checking.image_answers import ImageCheck
from mia_hub.checking.options import CheckerOptions
from mia_hub.checking.reuse import reused_checker
from mia_hub.checking.set_answers import CDI, PERMUTATION, Method, SetCheck
from mia_hub.errors import AttackError, ImageError
from mia_hub.images.sources import open_image
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.options import CaptionsOrClasses
from mia_hub.references.verdict_attack import DefaultAttack
from mia_hub.system.signatures import with_options


@with_options
def check_images(
    images: Any,
    model: str | DiffusionModel = "demo",
    attack: str | Attack | None = None,
    *,
    captions: CaptionsOrClasses = None,
    **options: Unpack[CheckerOptions],
) -> list[ImageCheck]:
    """Check whether images were in a model's training set: one answer each, judged together at a false-discovery rate of 5 %.

    Args:
        images: paths, a folder, PIL images, uint8 arrays, float tensors in [0, 1] as NCHW, or a `datasets` column; anything that
            `mia_hub.images.sources.as_images` takes.
        model: "demo", a folder, a Hub id, or a DiffusionModel.
        attack: a name of `mia_hub.list_attacks`, or an Attack; by default that of the reference, or else the one that
            docs/verdicts.md names for the kind of model.
        captions: of a model conditioned on text, one per image or one for all; of one conditioned on classes, class indices. Empty ones
            by default.
        nonmembers: for any model but the demo: images that are certainly not in its training set, 99 or more, of the same kind, in any of
            the forms of ``images``, or a source that `mia_hub.Reference.build` takes. A reference that was built or fetched for the model
            answers without them.
        nonmember_captions: theirs, where the images have captions.
        reference: a `mia_hub.Reference`, its folder, its id on this machine, or its name on the Hub, in place of ``nonmembers``.
        keep: whether the scores of ``nonmembers`` are kept on this machine, so that the next check of the same ones need not repeat them.
        copies: whether the images may be altered copies of training images: re-encoded, mirrored, or of lower contrast. It takes 500 known
            non-members; with fewer the answer says that copies were not searched.
        calibration: "conditional" or "marginal", see `mia_hub.Checker`.
        batch_size, seed: as for `mia_hub.Attack.score`.
        device, dtype, revision, base, reference_models: as for `mia_hub.load_model`; with a base, and for a LoRA, the non-members must be
            in the training set of neither model, and with reference models neither these nor the images in that of any.
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
    attack: str | Attack | None = None,
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
    attack: str | Attack | None = None,
    *,
    method: Method = PERMUTATION,
    captions: CaptionsOrClasses = None,
    **options: Unpack[CheckerOptions],
) -> SetCheck:
    """Check whether images, *as a set*, were in a model's training data. Many weak scores make one strong answer (arXiv 2411.12858).

    Args:
        images: 5 different images or more; the arguments are those of `check_images`.
        method: "permutation" (default): the verdict's scores of the set against those of the known non-members, in a direction that is
            fixed beforehand. Or "cdi", the test of that paper: 26 features of 25 images or more and of as many known non-members, a
            classifier that is fitted on half of both, and a t-test on the other half. It takes no attack.
        nonmembers: for any model but the demo: images that are certainly not in its training set, from the same source as ``images``.

    Returns:
        A SetCheck: ``.p_value``, ``.verdict``, ``.sentence``, ``.fraction``, ``.more_needed``.

    Raises:
        MiaHubError: with a message for the user.
    """
    if method == CDI and attack is not None:
        raise AttackError("method='cdi' combines attacks of its own; leave the attack out.")
    return get_checker(model, attack, **options).check_set(images, method=method, captions=captions, progress=options["progress"])


@with_options
def get_checker(
    model: str | DiffusionModel = "demo", attack: str | Attack | DefaultAttack | None = None, **options: Unpack[CheckerOptions]
) -> Checker:
    """Return a `Checker`. One for the same model and options is reused, so that the next image need not wait for it."""
    return reused_checker(model, get_attack(attack) if isinstance(attack, (str, Attack)) else attack, dict(options))


def readable_images(sources: Sequence[Any], *, progress: bool = False) -> tuple[list[Any], list[str]]:
    """Return the images that can be read, and what is wrong with each of the others: one bad file must not cost the rest their answers.

    Args:
        sources: images, in any form that `mia_hub.images.sources.open_image` takes.
        progress: shows a progress bar for anything over a second.
    """
    good, problems = [], []
    for source in tqdm(sources, desc="reading images", unit="image", delay=1.0, disable=not progress):
        try:
            open_image(source)
        except ImageError as error:
            problems.append(str(error))
        else:
            good.append(source)
    return good, problems
