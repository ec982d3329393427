"""Is the comparison fair? Checks that look at the images alone, never at the model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm.auto import tqdm

from mia_hub.checking.verdict_texts import blind_classifier_text, unlike_images_text
from mia_hub.errors import SplitError
from mia_hub.images.features import THUMBNAIL, appearance_features, blind_features, thumbnail
from mia_hub.images.image import InputImage
from mia_hub.metrics.p_values import ALPHA
from mia_hub.splits.shift import blind_auc

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


class SetComparability:
    """Whether a set of images is of the same kind as the reference images.

    Args:
        references: known non-members.
        comparability: of single images with them.
        seed: of the blind classifier's folds.
    """

    def __init__(self, references: Sequence[InputImage], comparability: Comparability, *, seed: int):
        self._references, self._comparability, self._seed = references, comparability, seed

    def difference(self, images: Sequence[InputImage], ids: Collection[str]) -> str:
        """Return how a set differs from the reference images in kind, as `mia_hub.SetCheck` says it; "" where it does not.

        Args:
            images: the set.
            ids: their content ids; references among them are left out.
        """
        from scipy.stats import binomtest

        unlike = sum(not self._comparability(image) for image in images)
        if binomtest(unlike, len(images), UNLIKE_BY_CHANCE, alternative="greater").pvalue <= ALPHA:
            return unlike_images_text(unlike, len(images))
        reference_ids, reference_features = self._reference_features
        rows = [row for row, sample in enumerate(reference_ids) if sample not in ids]
        features = np.vstack([[blind_features(image) for image in images], reference_features[rows]])
        blind = blind_auc(features, np.repeat([1, 0], [len(images), len(rows)]), seed=self._seed)
        return blind_classifier_text(blind) if blind is not None and blind.low > 0.5 else ""

    @cached_property
    def _reference_features(self) -> tuple[list[str], Features]:
        """Content ids of the references, and what a blind classifier sees of them."""
        # One image at a time: decoded photographs would fill the memory.
        described = [(image.id, blind_features(image)) for image in self._references]
        return [sample for sample, _ in described], np.array([features for _, features in described])
