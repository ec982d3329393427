"""Is a reference genuine? Some of its images are scored again, and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.errors import ImageError, SplitError
from mia_hub.images.features import blind_features_of
from mia_hub.images.image import InputImage
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.reference import Reference
from mia_hub.references.source import Side, open_known_images
from mia_hub.references.verdict_attack import profile_attack, verdict_attack, verdict_observations

CHECKED_IMAGES = 20
# Relative to the spread of a column; the last digits differ between devices and versions of libraries.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verification:
    """The outcome of scoring images of a reference again.

    Attributes:
        nonmembers, members: numbers of images that were scored again.
        largest: largest difference of a number, in standard deviations of the new ones.
        genuine: whether it lies within the tolerance.
        unverified: what could not be verified, in words.
    """

    nonmembers: int
    members: int
    largest: float
    genuine: bool
    unverified: str

    def text(self) -> str:
        """Return the outcome in sentences."""
        which = f"{self.nonmembers} non-members" + (f" and {self.members} members" if self.members else "")
        if self.genuine:
            return f"{which} of the reference were scored again, and agree (largest difference: {self.largest:.1e} σ). {self.unverified}"
        return (
            f"The reference is not genuine, or of another model: of {which} that were scored again, a number differs by {self.largest:.3g} "
            "σ. Do not use it; build one of your own."
        )


def verify_reference(
    reference: Reference,
    model: DiffusionModel,
    source: Any = None,
    *,
    n: int = CHECKED_IMAGES,
    seed: int | None = None,
    progress: bool = True,
) -> Verification:
    """Score a random part of a reference's images again: their observations, their profiles, and how the non-members look.

    Args:
        reference: the reference.
        model: that it is of.
        source: where its non-members are; by default the source that the reference states. Members are verified by their stated source.
        n: number of images of each side.
        seed: of the draw; None for one that nobody can foresee.
        progress: shows progress bars.

    Raises:
        SplitError: if the reference is of another model, or its images can't be had.
    """
    reference.check_fits(model)
    if reference.has_captions and reference.caption is None:
        raise SplitError(
            "The images of this reference were scored with captions of their own, which it does not hold, so that it can't be verified. "
            "Build one with --caption, or without captions."
        )
    spelling = source if source is not None else reference.origin.spelling
    if not spelling:
        raise SplitError("The reference does not say where its images are; give them with --nonmembers.")
    rng = np.random.default_rng(seed)
    nonmembers = _drawn(reference, 0, spelling, None if source is not None else reference.origin.revision, n, rng, progress)
    members: list[InputImage] = []
    unverified = "How far members can be told is not verified: no source of them is stated." if len(reference.members) else ""
    if len(reference.members) and reference.members_origin is not None and reference.members_origin.spelling:
        members = _drawn(reference, 1, reference.members_origin.spelling, None, n, rng, progress)
        unverified = ""
    differences = [_difference(reference, model, images, progress) for images in (nonmembers, members) if images]
    differences.append(_look_difference(reference, nonmembers))
    largest = max(differences)
    return Verification(len(nonmembers), len(members), largest, largest <= TOLERANCE, unverified)


def _drawn(
    reference: Reference, label: int, spelling: Any, revision: str | None, n: int, rng: np.random.Generator, progress: bool
) -> list[InputImage]:
    """Return images of one side of a reference, drawn at random from their source."""
    side: Side = "members" if label else "nonmembers"
    images = open_known_images(spelling, side, revision=revision, progress=progress).images
    table = reference.profiles
    known = {sample for sample, own in zip(table.ids, table.is_member) if own == label}
    chosen: list[InputImage] = []
    for place in rng.permutation(len(images)).tolist():
        try:
            image = images[place]
        except ImageError:
            continue
        if image.id in known:
            chosen.append(image)
        if len(chosen) == n:
            break
    needed = min(n, len(known))
    if len(chosen) < needed:
        raise SplitError(
            f"Of the {len(known):,} {'members' if label else 'non-members'} of the reference, only {len(chosen)} are in {spelling!r}; at "
            f"least {needed} are needed to verify it. Give the folder or data set that it was built of with --nonmembers."
        )
    return chosen


def _difference(reference: Reference, model: DiffusionModel, images: list[InputImage], progress: bool) -> float:
    """Return the largest difference of the scores of images from the stored ones, in standard deviations of the new ones."""
    rows = {sample: row for row, sample in enumerate(reference.profiles.ids)}
    scoring: dict[str, Any] = {"captions": reference.caption, "seed": reference.profiles.seed, "progress": progress}
    attack = verdict_attack(reference.configured, reference.chosen, reference.timestep)
    observed = attack.observe(model, images, **scoring)
    profiles = profile_attack(reference.configured, model.info.num_train_timesteps).score(model, images, **scoring)
    places = [rows[image.id] for image in images]
    pairs = [
        (verdict_observations(attack, observed), reference.observations[places]),
        (profiles.scores, reference.profiles.scores[places]),
    ]
    return max(_in_deviations(new, old) for new, old in pairs)


def _look_difference(reference: Reference, images: list[InputImage]) -> float:
    """Return the largest difference of what a blind classifier sees of images from what is stored."""
    ids, features = reference.appearance.features
    rows = {sample: row for row, sample in enumerate(ids)}
    return _in_deviations(blind_features_of(images), features[[rows[image.id] for image in images]])


def _in_deviations(new: npt.NDArray[np.float64], old: npt.NDArray[np.float64]) -> float:
    return float(np.max(np.abs(new - old) / (np.std(new, axis=0) + 1e-9 * (1 + np.abs(new)))))
