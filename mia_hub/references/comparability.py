"""Is the comparison fair? Checks that look at the images alone, never at the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
# Pixels along each side of the thumbnails whose principal components are compared.
THUMBNAIL_SIDE = 16

Features = npt.NDArray[np.float64]
# The features of an image at the model's size, and its thumbnail.
Look = tuple[Features, Features]


@dataclass(frozen=True, eq=False)
class Comparability:
    """Whether an image is of the same kind as the reference images, so that their scores say anything about its own.

    A one-class check: features of the image as the model gets it (at the model's size, colour kept), and the coefficients and
    the residual of its thumbnail in the reference images' principal components; Mahalanobis distance to the references. One half of
    the references fits it, the other half calibrates it.

    Attributes:
        size: height and width of the model's images, int64 ``[2]``.
        thumbnail_mean, components, spread: the principal components of thumbnails, ``[P]``, ``[k, P]`` and ``[k]``.
        mean, scale: of each feature among the references, ``[F]``.
        location, precision: of the standardised features, ``[F]`` and ``[F, F]``.
        limit: largest squared Mahalanobis distance of a comparable image, ``[1]``.
    """

    size: npt.NDArray[np.int64]
    thumbnail_mean: Features
    components: Features
    spread: Features
    mean: Features
    scale: Features
    location: Features
    precision: Features
    limit: Features

    @classmethod
    def fitted(cls, references: Sequence[InputImage], sample_shape: tuple[int, int, int], *, progress: bool = False) -> Comparability:
        """Return the check that reference images give.

        Args:
            references: non-members of the model, at least 20.
            sample_shape: the model's ``(C, H, W)``.
            progress: shows a progress bar for anything over a second.

        Raises:
            SplitError: with too few references.
        """
        _check_enough(len(references))
        rows = tqdm(range(len(references)), desc="reading reference images", unit="image", delay=1.0, disable=not progress)
        return cls.of_looks([look(references[row], sample_shape) for row in rows], sample_shape)

    @classmethod
    def of_looks(cls, seen: Sequence[Look], sample_shape: tuple[int, int, int]) -> Comparability:
        """Return the check that reference images give, from what `look` saw of them; see `fitted`."""
        _check_enough(len(seen))
        from sklearn.covariance import LedoitWolf
        from sklearn.decomposition import PCA

        looks, thumbnails = (np.array(part) for part in zip(*seen))
        fit = np.arange(len(looks)) % 2 == 0
        # Not the randomised solver: every process must answer alike.
        pca = PCA(n_components=max(1, min(32, fit.sum() // 8)), svd_solver="full").fit(thumbnails[fit])
        spread = np.sqrt(pca.explained_variance_) + 1e-3
        raw = _features(looks, thumbnails, pca.mean_, pca.components_, spread)
        # The floor keeps a feature that never varies among the references, such as colour, finite and telling.
        mean, scale = raw[fit].mean(0), raw[fit].std(0) + 0.01
        shape = LedoitWolf().fit((raw[fit] - mean) / scale)
        distances = np.sort(shape.mahalanobis((raw[~fit] - mean) / scale))
        allowed = int(np.floor(UNLIKE_BY_CHANCE * (len(distances) + 1)))
        # With few references the quantile can't be resolved; then only what is far outside is refused.
        limit = distances[-allowed] if allowed else 2 * distances[-1]
        size = np.array(sample_shape[1:], np.int64)
        return cls(size, pca.mean_, pca.components_, spread, mean, scale, shape.location_, shape.get_precision(), np.array([limit]))

    def distance(self, image: InputImage) -> float:
        """Return the squared Mahalanobis distance to the references, in units of the limit: above 1 is not comparable."""
        height, width = map(int, self.size)
        features, grey = look(image, (3, height, width))
        raw = _features(features[None], grey[None], self.thumbnail_mean, self.components, self.spread)
        offset = ((raw - self.mean) / self.scale - self.location)[0]
        return float(offset @ self.precision @ offset / self.limit[0])

    def __call__(self, image: InputImage) -> bool:
        """Return whether the image is of the references' kind."""
        return self.distance(image) <= 1


def _check_enough(n: int) -> None:
    if n < FEWEST_REFERENCES:
        raise SplitError(f"{n} reference images are too few to tell what is comparable; at least {FEWEST_REFERENCES} are needed.")


def look(source: InputImage, sample_shape: tuple[int, int, int]) -> Look:
    """Return what the check compares of an image at the model's size ``(C, H, W)``."""
    _, height, width = sample_shape
    rgb = source.resized(height, width, 3).astype(np.float64)
    image = Image.fromarray((rgb * 255).round().astype(np.uint8))
    # The thumbnail among the features is coarser than the one beside them.
    return appearance_features(rgb[None])[0, : -(THUMBNAIL**2)], thumbnail(image, THUMBNAIL_SIDE)


def _features(looks: Features, thumbnails: Features, mean: Features, components: Features, spread: Features) -> Features:
    coefficients = (thumbnails - mean) @ components.T
    residual = np.linalg.norm(thumbnails - mean - coefficients @ components, axis=1, keepdims=True)
    return np.hstack([looks, coefficients / spread, np.log(residual + 1e-3)])
