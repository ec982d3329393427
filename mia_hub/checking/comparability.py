"""Is the comparison fair? Checks that look at the images alone, never at the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm.auto import tqdm

from mia_hub.errors import SplitError
from mia_hub.images.features import THUMBNAIL, appearance_features, thumbnail
from mia_hub.images.image import InputImage

FEWEST_REFERENCES = 20
# An image as unusual as the most unusual 1 in 200 of the reference images is called not comparable.
UNLIKE_BY_CHANCE = 0.005

Features = npt.NDArray[np.float64]


class Comparability:
    """Whether an image is of the same kind as the reference images, so that their scores say anything about its own.

    A one-class check: features of the image as the model gets it (at the model's size, colour kept), and the coefficients and
    the residual of its thumbnail in the reference images' principal components; Mahalanobis distance to the references. One half of
    the references fits it, the other half calibrates it.

    Args:
        references: non-members of the model, at least 20.
        sample_shape: the model's ``(C, H, W)``.
        progress: shows a progress bar for anything over a second.

    Raises:
        SplitError: with too few references.
    """

    SIDE = 16

    def __init__(self, references: Sequence[InputImage], sample_shape: tuple[int, int, int], *, progress: bool = False):
        if len(references) < FEWEST_REFERENCES:
            raise SplitError(
                f"{len(references)} reference images are too few to tell what is comparable; at least {FEWEST_REFERENCES} are needed."
            )
        from sklearn.covariance import LedoitWolf
        from sklearn.decomposition import PCA

        _, *self._size = sample_shape
        rows = tqdm(range(len(references)), desc="reading reference images", unit="image", delay=1.0, disable=not progress)
        looks, thumbnails = (np.array(part) for part in zip(*(self._description(references[row]) for row in rows)))
        fit = np.arange(len(looks)) % 2 == 0
        self._pca = PCA(n_components=max(1, min(32, fit.sum() // 8))).fit(thumbnails[fit])
        raw = self._features(looks, thumbnails)
        # The floor keeps a feature that never varies among the references, such as colour, finite and telling.
        self._mean, self._scale = raw[fit].mean(0), raw[fit].std(0) + 0.01
        self._shape = LedoitWolf().fit((raw[fit] - self._mean) / self._scale)
        distances = np.sort(self._shape.mahalanobis((raw[~fit] - self._mean) / self._scale))
        allowed = int(np.floor(UNLIKE_BY_CHANCE * (len(distances) + 1)))
        # With few references the quantile can't be resolved; then only what is far outside is refused.
        self._limit = distances[-allowed] if allowed else 2 * distances[-1]

    def _description(self, source: InputImage) -> tuple[Features, Features]:
        """Return the features of an image at the model's size, and its thumbnail."""
        height, width = self._size
        rgb = source.resized(height, width, 3).astype(np.float64)
        image = Image.fromarray((rgb * 255).round().astype(np.uint8))
        # The thumbnail among the features is coarser than the one beside them.
        return appearance_features(rgb)[: -(THUMBNAIL**2)], thumbnail(image, self.SIDE)

    def _features(self, looks: Features, thumbnails: Features) -> Features:
        coefficients = self._pca.transform(thumbnails)
        residual = np.linalg.norm(thumbnails - self._pca.inverse_transform(coefficients), axis=1, keepdims=True)
        spread = np.sqrt(self._pca.explained_variance_) + 1e-3
        return np.hstack([looks, coefficients / spread, np.log(residual + 1e-3)])

    def distance(self, image: InputImage) -> float:
        """Return the squared Mahalanobis distance to the references, in units of the limit: above 1 is not comparable."""
        look, thumbnail = self._description(image)
        raw = self._features(look[None], thumbnail[None])
        return float(self._shape.mahalanobis((raw - self._mean) / self._scale)[0] / self._limit)

    def __call__(self, image: InputImage) -> bool:
        """Return whether the image is of the references' kind."""
        return self.distance(image) <= 1
