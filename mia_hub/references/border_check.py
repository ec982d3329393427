"""Has an image a border of one colour that hardly any reference image has? Its score then says little about what is inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mia_hub.images.borders import border_share
from mia_hub.images.image import InputImage

# Share of the outermost pixels that have one colour, where they are a border.
LEAST_SHARE = 0.95
# Where so many reference images have a border, images with one are of their kind.
COMMON = 0.05


@dataclass(frozen=True, eq=False)
class BorderCheck:
    """Whether an image has a border of one colour that fewer than 5 % of the reference images have.

    Attributes:
        shares: `mia_hub.images.borders.border_share` of the reference images, ``[n]``.
    """

    shares: npt.NDArray[np.float64]

    def __call__(self, image: InputImage) -> bool:
        """Return whether the image has a border that hardly any reference image has."""
        return bool((self.shares >= LEAST_SHARE).mean() < COMMON) and border_share(image) >= LEAST_SHARE
