"""Is the comparison fair? Checks that look at the images alone, never at the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from mia_hub.complexity import edges, png_bytes
from mia_hub.errors import SplitError
from mia_hub.images import Picture
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.processes import current
from mia_hub.report import Estimate, Flag, flag

LONGEST_SIDE = 512
THUMBNAIL = 8
BANDS = 8
FOLDS = 5
FEWEST_FOR_BLIND = 25
MOST_FOR_BLIND = 10_000
# DeLong's interval takes held-out scores for independent, but folds share training data. Over random halves of one population, from 30 to
# 1,500 pictures of either kind, the AUC spread 1.2 to 1.6 times as far as DeLong says (`python -m benchmarks.shift_check`).
OVERDISPERSION = 1.6
FEWEST_REFERENCES = 20
# A picture as unusual as the most unusual 1 in 200 of the reference images is called not comparable.
NOT_COMPARABLE = 0.005


def describe(picture: Picture) -> np.ndarray:
    """What a blind classifier sees of a picture: size, brightness, colour, edges, frequencies, compressed size, a thumbnail.

    Returns:
        float64 ``[F]``; the same F for every picture.
    """
    return np.concatenate([[np.log(picture.height * picture.width), np.log(picture.width / picture.height)], _look(_working_copy(picture))])


def _working_copy(picture: Picture) -> np.ndarray:
    """RGB float64 ``[H, W, 3]`` in [0, 1], at most `LONGEST_SIDE` long, so that a huge photograph costs no more than a small one."""
    image = picture.to_pil().convert("RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float64) / 255


def _look(rgb: np.ndarray) -> np.ndarray:
    grey = rgb @ (0.299, 0.587, 0.114)
    spectrum = np.abs(np.fft.rfft2(grey - grey.mean()))
    radius = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.rfftfreq(grey.shape[1])[None])
    bands = [spectrum[(radius > low / BANDS / 2) & (radius <= (low + 1) / BANDS / 2)] for low in range(BANDS)]
    bytes_ = (rgb * 255).round().astype(np.uint8)
    colour = [np.abs(rgb[..., 0] - rgb[..., 1]).mean(), np.abs(rgb[..., 1] - rgb[..., 2]).mean(), (rgb.max(-1) - rgb.min(-1)).mean()]
    return np.concatenate(
        [
            [grey.mean(), grey.std(), (grey == 0).mean(), (grey == 1).mean()],
            np.quantile(grey, (0.05, 0.25, 0.5, 0.75, 0.95)),
            rgb.mean((0, 1)),
            rgb.std((0, 1)),
            colour,
            edges(grey),
            [np.log1p(_mean(band)) for band in bands],
            [np.log(png_bytes(bytes_, compress_level=1) / grey.size)],
            _thumbnail(Image.fromarray(bytes_), THUMBNAIL),
        ]
    )


def _mean(values: np.ndarray) -> float:
    """The mean; 0 of nothing, as in a picture two pixels high, which has no second differences."""
    return float(values.mean()) if values.size else 0.0


def _thumbnail(image: Image.Image, side: int) -> np.ndarray:
    return np.asarray(image.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.float64).ravel() / 255


@dataclass(frozen=True, eq=False)
class Survey:
    """One pass over the pictures of a split, before any is given to the model.

    Attributes:
        ids: content ids, N of them.
        blind: `blind_auc` of the pictures; None where it was not asked for, or with too few of them.
    """

    ids: list[str]
    blind: Estimate | None


def survey(pictures: Sequence[Picture], is_member: np.ndarray, *, blind: bool = True, progress: bool = True) -> Survey:
    """Reads every picture once, and refuses a split whose members and non-members overlap.

    Raises:
        SplitError: if a picture is on both sides.
        ImageError: for a picture that can't be read.
    """
    return current().first(lambda: _surveyed(pictures, np.asarray(is_member), blind, progress))


def _surveyed(pictures: Sequence[Picture], is_member: np.ndarray, blind: bool, progress: bool) -> Survey:
    ids: list[str] = []
    # What is described is only what the classifier sees, so that a large split needs no more memory.
    place = {row: i for i, row in enumerate(_blind_rows(is_member, 0))} if blind else {}
    features: list[np.ndarray | None] = [None] * len(place)
    for i in tqdm(range(len(pictures)), desc="reading images", unit="image", delay=1.0, disable=not progress):
        picture = pictures[i]
        ids.append(picture.id)
        if i in place:
            features[place[i]] = describe(picture)
    members = {i for i, label in zip(ids, is_member) if label == 1}
    both = members & {i for i, label in zip(ids, is_member) if label == 0}
    if both:
        row = next(row for row, sample in enumerate(ids) if sample in both)
        raise SplitError(
            f"{len(both)} pictures are both members and non-members (one is {pictures[row].name!r}); each must be on one side only. "
            "Remove them from the non-members, or check how the split was made."
        )
    return Survey(ids, _cross_validated(np.array(features), is_member[list(place)], 0) if place else None)


def blind_auc(features: np.ndarray, is_member: np.ndarray, *, seed: int = 0) -> Estimate | None:
    """AUC of a classifier that sees `describe`'s features and never the model, cross-validated over 5 folds.

    Scores of held-out folds are pooled; the classifier is a mean of logistic regression and gradient boosting, in ranks. The interval is
    DeLong's, widened by `OVERDISPERSION`, so that about 2.5 % of splits drawn at random are called shifted.

    Args:
        features: float64 ``[N, F]``.
        is_member: ``[N]``, 1 or 0.
        seed: of the folds. Audits leave it as it is, so that nobody can try seeds until a split passes.

    Returns:
        None with fewer than 25 images of either kind: too few to train a classifier.
    """
    labels = np.asarray(is_member)
    rows = _blind_rows(labels, seed)
    return _cross_validated(features[rows], labels[rows], seed) if len(rows) else None


def _blind_rows(is_member: np.ndarray, seed: int) -> np.ndarray:
    """Which rows the blind classifier sees, in the order in which it sees them; none where there are too few of either kind."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(is_member == label))[:MOST_FOR_BLIND] for label in (1, 0)]
    return np.concatenate(rows) if min(map(len, rows)) >= FEWEST_FOR_BLIND else np.empty(0, int)


def _cross_validated(features: np.ndarray, labels: np.ndarray, seed: int) -> Estimate:
    from scipy.stats import rankdata
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.zeros(len(labels))
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, labels):
        for classifier in (
            make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)),
            HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, random_state=seed),
        ):
            classifier.fit(features[train], labels[train])
            # Ranks within the fold: folds are calibrated differently, and pooling raw scores would bias the AUC downwards.
            scores[test] += rankdata(classifier.decision_function(features[test])) / len(test)
    value, (low, high) = float(auc(scores, labels)), (float(end) for end in delong(scores, labels))
    low, high = max(0.0, value - OVERDISPERSION * (value - low)), min(1.0, value + OVERDISPERSION * (high - value))
    return Estimate(value, low, high, int((labels == 1).sum()), int((labels == 0).sum()))


def shift_flags(blind: Estimate | None) -> tuple[Flag, ...]:
    """The flag that the shift check raises, if any."""
    if blind is None:
        return (flag("no-shift-check", f"fewer than {FEWEST_FOR_BLIND} images of either kind, or switched off"),)
    if blind.low > 0.5:
        return (flag("distribution-shift", f"a blind classifier reaches AUC {blind}; chance is 0.5"),)
    return ()


class Comparability:
    """Whether a picture is of the kind that the reference images are, so that their scores say anything about its own.

    A one-class check: features of the picture as the model gets it (at the model's size, colour kept), and the coefficients and
    the residual of its thumbnail in the reference images' principal components; Mahalanobis distance to the references. Half of
    the references fit it, the other half calibrate it.

    Args:
        references: non-members of the model, at least 20.
        sample_shape: the model's ``(C, H, W)``.

    Raises:
        SplitError: with too few references.
    """

    SIDE = 16

    def __init__(self, references: Sequence[Picture], sample_shape: tuple[int, int, int], *, progress: bool = False):
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

    def _see(self, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
        rgb = picture.resized(*self._size, 3).astype(np.float64)
        image = Image.fromarray((rgb * 255).round().astype(np.uint8))
        # The thumbnail has its own, finer description below.
        return _look(rgb)[: -(THUMBNAIL**2)], _thumbnail(image, self.SIDE)

    def _features(self, looks: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
        coefficients = self._pca.transform(thumbnails)
        residual = np.linalg.norm(thumbnails - self._pca.inverse_transform(coefficients), axis=1, keepdims=True)
        spread = np.sqrt(self._pca.explained_variance_) + 1e-3
        return np.hstack([looks, coefficients / spread, np.log(residual + 1e-3)])

    def distance(self, picture: Picture) -> float:
        """Squared Mahalanobis distance to the references, in units of the limit: above 1 is not comparable."""
        raw = self._features(*(part[None] for part in self._see(picture)))
        return float(self._shape.mahalanobis((raw - self._mean) / self._scale)[0] / self._limit)

    def __call__(self, picture: Picture) -> bool:
        """True if the picture is of the references' kind."""
        return self.distance(picture) <= 1
