"""Is a reference genuine? Some of its images are scored again, and compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mia_hub.attacks.conditional import ConditionalAttack
from mia_hub.errors import ImageError, SplitError
from mia_hub.images.image import InputImage
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.reference import Reference
from mia_hub.references.source import open_known_images
from mia_hub.references.verdict_attack import verdict_attack, verdict_observations

CHECKED_IMAGES = 20
# Relative to the spread of a column; the last digits differ between devices and versions of libraries.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verification:
    """The outcome of scoring images of a reference again.

    Attributes:
        checked: number of images.
        largest: largest difference of an observation, in standard deviations of the reference's own.
        genuine: whether it lies within the tolerance.
    """

    checked: int
    largest: float
    genuine: bool

    def text(self) -> str:
        """Return the outcome as a sentence."""
        if self.genuine:
            return f"{self.checked} images of the reference were scored again, and agree (largest difference: {self.largest:.1e} σ)."
        return (
            f"The reference is not genuine, or of another model: of {self.checked} images that were scored again, one differs by "
            f"{self.largest:.3g} σ. Do not use it; build one of your own."
        )


def verify_reference(
    reference: Reference, model: DiffusionModel, source: Any = None, *, n: int = CHECKED_IMAGES, seed: int = 0, progress: bool = True
) -> Verification:
    """Score a random part of a reference's non-members again.

    Args:
        reference: the reference.
        model: that it is of.
        source: where its images are; by default the source that the reference states.
        n: number of images.
        seed: of the draw.
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
    images = open_known_images(spelling, revision=reference.origin.revision if source is None else None, progress=progress).images
    rows = {sample: row for row, sample in enumerate(reference.profiles.ids) if reference.profiles.is_member[row] == 0}
    chosen: list[InputImage] = []
    for place in np.random.default_rng(seed).permutation(len(images)).tolist():
        try:
            image = images[place]
        except ImageError:
            continue
        if image.id in rows:
            chosen.append(image)
        if len(chosen) == n:
            break
    if len(chosen) < min(n, len(rows)):
        raise SplitError(
            f"Of the {len(rows):,} non-members of the reference, only {len(chosen)} are in {spelling!r}; at least {min(n, len(rows))} are "
            "needed to verify it. Give the folder or data set that it was built of with --nonmembers."
        )
    attack = verdict_attack(reference.configured, reference.chosen, reference.timestep)
    observed = attack.observe(model, chosen, captions=reference.caption, seed=reference.profiles.seed, progress=progress)
    new = verdict_observations(attack, observed)
    old = reference.observations[[rows[sample] for sample in observed.ids]]
    spread = np.std(reference.observations, axis=0) + 1e-12
    largest = float(np.max(np.abs(new - old) / spread))
    assert isinstance(attack, ConditionalAttack) == (new.ndim == 2)
    return Verification(len(chosen), largest, largest <= TOLERANCE)
