"""How the known non-members look, without any model: what comparability is decided by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mia_hub.images.borders import border_share
from mia_hub.images.features import blind_features
from mia_hub.images.image import InputImage
from mia_hub.images.treatment_signs import treatment_signs
from mia_hub.references.border_check import BorderCheck
from mia_hub.references.comparability import Comparability, Look, look
from mia_hub.references.treatment_check import TreatmentCheck

# Names of the arrays.
FEATURES, SIGNS, BORDERS, COMPARABILITY = "appearance.features", "appearance.signs", "appearance.borders", "comparability."


class Appearance(Protocol):
    """How the known non-members look.

    Attributes:
        comparability: the check whether an image is of their kind.
        features: content ids, n of them, and what a blind classifier sees of each image: float64 ``[n, F]``.
        treatment: the check whether an image was treated like them; None for a reference that was stored before there was one.
        border: the check whether an image has a border that they don't have; None likewise.
    """

    @property
    def comparability(self) -> Comparability: ...

    @property
    def features(self) -> tuple[list[str], npt.NDArray[np.float64]]: ...

    @property
    def treatment(self) -> TreatmentCheck | None: ...

    @property
    def border(self) -> BorderCheck | None: ...


class ImageAppearance:
    """The appearance of images at hand, which are read once, when it is needed.

    Args:
        images: the non-members.
        picture_shape: shape of one image at the model's size, ``(C, H, W)``.
    """

    def __init__(self, images: Sequence[InputImage], picture_shape: tuple[int, int, int]):
        self.images, self._picture_shape = images, picture_shape

    @cached_property
    def comparability(self) -> Comparability:
        """The check whether an image is of their kind."""
        return Comparability.of_looks(self._seen[1], self._picture_shape)

    @cached_property
    def features(self) -> tuple[list[str], npt.NDArray[np.float64]]:
        """Content ids, and what a blind classifier sees of each image: float64 ``[n, F]``."""
        return self._seen[0]

    @cached_property
    def treatment(self) -> TreatmentCheck:
        """The check whether an image was treated like them."""
        return TreatmentCheck(self._seen[2], self._picture_shape[1:])

    @cached_property
    def border(self) -> BorderCheck:
        """The check whether an image has a border that they don't have."""
        return BorderCheck(self._seen[3])

    @cached_property
    def _seen(self) -> tuple[tuple[list[str], npt.NDArray[np.float64]], list[Look], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        _, height, width = self._picture_shape

        def seen(image: InputImage) -> tuple[str, npt.NDArray[np.float64], Look, npt.NDArray[np.float64], float]:
            signs = treatment_signs(image, height, width)
            return image.id, blind_features(image), look(image, self._picture_shape), signs, border_share(image)

        # One image at a time: decoded photographs would fill the memory.
        ids, features, looks, signs, borders = zip(*(seen(image) for image in self.images))
        return (list(ids), np.array(features)), list(looks), np.array(signs), np.array(borders)


@dataclass(frozen=True, eq=False)
class StoredAppearance:
    """The appearance of images that are not at hand any more; see `Appearance`."""

    comparability: Comparability
    features: tuple[list[str], npt.NDArray[np.float64]]
    treatment: TreatmentCheck | None = None
    border: BorderCheck | None = None

    @classmethod
    def from_arrays(cls, ids: list[str], arrays: Mapping[str, npt.NDArray[Any]]) -> StoredAppearance:
        """Return the appearance of the images with these content ids, from what `appearance_arrays` returned."""
        fit = {name.removeprefix(COMPARABILITY): value for name, value in arrays.items() if name.startswith(COMPARABILITY)}
        height, width = map(int, fit["size"])
        treatment = TreatmentCheck(arrays[SIGNS], (height, width)) if SIGNS in arrays else None
        border = BorderCheck(arrays[BORDERS]) if BORDERS in arrays else None
        return cls(Comparability(**fit), (ids, arrays[FEATURES]), treatment, border)


def appearance_arrays(appearance: Appearance) -> dict[str, npt.NDArray[Any]]:
    """Return an appearance as named arrays, without the content ids."""
    arrays: dict[str, npt.NDArray[Any]] = {FEATURES: appearance.features[1]}
    arrays |= {COMPARABILITY + name: value for name, value in vars(appearance.comparability).items()}
    if appearance.treatment is not None:
        arrays[SIGNS] = appearance.treatment.signs
    if appearance.border is not None:
        arrays[BORDERS] = appearance.border.shares
    # safetensors writes memory in its own order.
    return {name: np.ascontiguousarray(value) for name, value in arrays.items()}
