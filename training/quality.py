"""Quality of generated images: a Fréchet distance, like FID, in a feature space that needs no pretrained network.

FID (arXiv 1706.08500) compares means and covariances of the features of Inception, a network trained on photographs of 299 pixels that is
not available everywhere. Here the features are those of `image_features`: the image's own pixels at half resolution and its gradients'
magnitudes, in the leading principal components of *reference* images that no model was trained on. Figures compare models on the same
references; they can't be compared with FID.

Like FID, the distance is biased upwards for few images, and strongly so: 64 real emoji have a distance of 7.1 from 447 others, 256 of them
3.0, and 446 of them 2.3, where 0 is the truth. A figure means little by itself: read it beside that of as many real images on the same
references.
"""

from __future__ import annotations

import numpy as np

from training.data import TrainingSet

COMPONENTS = 48


def image_features(images: np.ndarray) -> np.ndarray:
    """Return float64 features ``[N, F]`` of uint8 images ``[N, H, W]`` or ``[N, H, W, 3]``."""
    pixels = images.reshape(*images.shape[:3], -1).astype(np.float64) / 255
    grey = pixels.mean(-1)
    gradient = np.hypot(*np.gradient(grey, axis=(1, 2)))
    # Blur removes fine detail, which is a small part of the variance: gradients get a larger weight.
    return np.concatenate(
        [_blocks(pixels, 2).reshape(len(images), -1), 4 * _blocks(gradient[..., None], 2).reshape(len(images), -1)], axis=1
    )


def _blocks(values: np.ndarray, size: int) -> np.ndarray:
    """Return means of blocks of ``size`` × ``size``."""
    n, h, w, c = values.shape
    h, w = h - h % size, w - w % size
    return values[:, :h, :w].reshape(n, h // size, size, w // size, size, c).mean((2, 4))


def frechet_distance(generated: np.ndarray, reference: np.ndarray) -> float:
    """Return ‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2·(Σ₁Σ₂)^½) of the features; 0 is perfect, and lower is better.

    Args:
        generated, reference: uint8 images ``[N, H, W(, 3)]``, a few hundred or more of each. The distance is biased upwards for small N,
            so compare it at equal N; `floor` is the distance of real images. With fewer than 192 of either, a quarter of their number of
            components is compared instead of `COMPONENTS`, so that covariances can be estimated; such figures have a scale of their own.

    Raises:
        ValueError: for fewer than 8 images.
    """
    from scipy.linalg import sqrtm
    from sklearn.decomposition import PCA

    fewest = min(len(generated), len(reference))
    if fewest < 8:
        raise ValueError(f"A Fréchet distance needs 8 or more images on each side, not {fewest}.")
    reference_features = image_features(reference)
    components = PCA(min(COMPONENTS, fewest // 4)).fit(reference_features)
    a, b = (components.transform(part) for part in (image_features(generated), reference_features))
    roots = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * roots))


def floor(reference: np.ndarray, n: int, *, seed: int = 0) -> float:
    """Return the distance of n real images to the others: no generator of new images can be expected to do better."""
    order = np.random.default_rng(seed).permutation(len(reference))
    return frechet_distance(reference[order[:n]], reference[order[n:]])


def quality_of(generated: np.ndarray, data: TrainingSet) -> dict[str, float]:
    """Return the distance of generated images to the non-members, and that of as many real images, by name of the figure.

    The real images are non-members, compared with the other non-members; if there are fewer than twice as many as needed, they are
    members, which are of the same population and not among the references. If members are too few as well, fewer generated images are
    compared.
    """
    n = min(len(generated), max(len(data.members), len(data.nonmembers) // 2))
    name = f"Fréchet distance of {n} samples to {len(data.nonmembers):,} non-members (training/quality.py; few images make it larger)"
    figures = {name: frechet_distance(generated[:n], data.nonmembers)}
    if n <= len(data.nonmembers) // 2:
        return figures | {f"the same of {n} real images (non-members, to the others)": floor(data.nonmembers, n)}
    return figures | {f"the same of {n} real images (members)": frechet_distance(data.members[:n], data.nonmembers)}
