"""Is the comparison fair? Checks that look at the images alone, never at the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from mia_hub.errors import SplitError
from mia_hub.images.features import THUMBNAIL, _look, _thumbnail
from mia_hub.images.image import InputImage

FEWEST_REFERENCES = 20
# A image as unusual as the most unusual 1 in 200 of the reference images is called not comparable.
NOT_COMPARABLE = 0.005


class Comparability:
    """Whether a image is of the kind that the reference images are, so that their scores say anything about its own.

    A one-class check: features of the image as the model gets it (at the model's size, colour kept), and the coefficients and
    the residual of its thumbnail in the reference images' principal components; Mahalanobis distance to the references. Half of
    the references fit it, the other half calibrate it.

    Args:
        references: non-members of the model, at least 20.
        sample_shape: the model's ``(C, H, W)``.

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

        self._size = sample_shape[1:]
        looks, thumbnails = [], []
        for i in tqdm(range(len(references)), desc="reading reference images", unit="image", delay=1.0, disable=not progress):
            look, thumbnail = self._see(references[i])
            looks.append(look)
            thumbnails.append(thumbnail)
        looks, thumbnails = np.array(looks), np.array(thumbnails)
        fit = np.arange(len(looks)) % 2 == 0
        self._pca = PCA(n_components=max(1, min(32, fit.sum() // 8))).fit(thumbnails[fit])
        raw = self._features(looks, thumbnails)
        # The floor keeps a feature that never varies among the references, such as colour, finite and telling.
        self._mean, self._scale = raw[fit].mean(0), raw[fit].std(0) + 0.01
        self._shape = LedoitWolf().fit((raw[fit] - self._mean) / self._scale)
        distances = np.sort(self._shape.mahalanobis((raw[~fit] - self._mean) / self._scale))
        allowed = int(np.floor(NOT_COMPARABLE * (len(distances) + 1)))
        # With few references the quantile can't be resolved; then only what is far outside is refused.
        self._limit = distances[-allowed] if allowed else 2 * distances[-1]

    def _see(self, source: InputImage) -> tuple[np.ndarray, np.ndarray]:
        rgb = source.resized(*self._size, 3).astype(np.float64)
        image = Image.fromarray((rgb * 255).round().astype(np.uint8))
        # The thumbnail has its own, finer description below.
        return _look(rgb)[: -(THUMBNAIL**2)], _thumbnail(image, self.SIDE)

    def _features(self, looks: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
        coefficients = self._pca.transform(thumbnails)
        residual = np.linalg.norm(thumbnails - self._pca.inverse_transform(coefficients), axis=1, keepdims=True)
        spread = np.sqrt(self._pca.explained_variance_) + 1e-3
        return np.hstack([looks, coefficients / spread, np.log(residual + 1e-3)])

    def distance(self, image: InputImage) -> float:
        """Squared Mahalanobis distance to the references, in units of the limit: above 1 is not comparable."""
        raw = self._features(*(part[None] for part in self._see(image)))
        return float(self._shape.mahalanobis((raw - self._mean) / self._scale)[0] / self._limit)

    def __call__(self, image: InputImage) -> bool:
        """True if the image is of the references' kind."""
        return self.distance(image) <= 1
