"""Was an image treated like the reference images? What differs has a name: compressed, noisy, blurred, of reduced range, tinted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mia_hub.images.image import InputImage
from mia_hub.images.treatment_signs import COMPLEXITY, EQUAL, GHOST, RANGE, SHARPNESS, TINT, treatment_signs
from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.references.comparability import UNLIKE_BY_CHANCE

COMPRESSED, NOISY, BLURRED, SHARPENED, NARROW, TINTED = "compressed", "noisy", "blurred", "sharpened", "narrow-range", "tinted"

# A range smaller by less than this, five grey levels, needs no treatment: JPEG takes as much.
SMALLEST_LOSS_OF_RANGE = 0.02
# With fewer reference images no sign is rare enough to count.
FEWEST_FOR_SIGNS = round(1 / UNLIKE_BY_CHANCE) - 1

Signs = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TreatmentCheck:
    """Whether an image bears signs of a treatment that the reference images don't bear.

    A sign counts if at most 1 in 200 reference images bear it as strongly; with fewer than `FEWEST_FOR_SIGNS` of them none counts.

    Attributes:
        signs: of the reference images, ``[n, 10]``, as `mia_hub.images.treatment_signs.treatment_signs` returns them.
        size: height and width of the model's images.
    """

    signs: Signs
    size: tuple[int, int]

    @property
    def is_resolved(self) -> bool:
        """Whether there are enough reference images for any sign to count."""
        return 1 / (len(self.signs) + 1) <= UNLIKE_BY_CHANCE

    def differences(self, image: InputImage) -> tuple[str, ...]:
        """Return the names of what differs, those that explain others first; () for nothing.

        Compression, blur and rounding to fewer levels make neighbouring pixels differ as noise does, so noise is named only without them.
        """
        own = self._values(treatment_signs(image, *self.size)[None])
        low = {name: self._rare(-own[name], -values) for name, values in self._known.items()}
        high = {name: self._rare(own[name], values) for name, values in self._known.items()}
        explained = ((COMPRESSED, high[GHOST]), (BLURRED, low[SHARPNESS]), (SHARPENED, high[SHARPNESS]), (NARROW, low[RANGE]))
        found = [name for name, bears in explained if bears]
        if low[EQUAL] and not found:
            found.append(NOISY)
        return (*found, TINTED) if high[TINT] else tuple(found)

    @staticmethod
    def _rare(value: Signs, known: Signs) -> bool:
        return bool((1 + (known >= value).sum()) / (len(known) + 1) <= UNLIKE_BY_CHANCE)

    @cached_property
    def _equal(self) -> ExpectedStatistic:
        return ExpectedStatistic(self.signs[:, COMPLEXITY], self.signs[:, EQUAL])

    @cached_property
    def _known(self) -> dict[int, Signs]:
        return self._values(self.signs)

    def _values(self, signs: Signs) -> dict[int, Signs]:
        """Return each sign by its column; equal neighbours as their deviation from what the images' complexity lets expect."""
        values = {column: signs[:, column] for column in (GHOST, SHARPNESS, TINT)}
        values[RANGE] = np.round(signs[:, RANGE] / SMALLEST_LOSS_OF_RANGE)
        return values | {EQUAL: self._equal.deviation(signs[:, COMPLEXITY], signs[:, EQUAL])}
