"""How good generated pictures are: a Fréchet distance, as FID is, in a feature space that needs no network of others.

FID (arXiv 1706.08500) compares means and covariances of Inception's features, of a network that was trained on photographs of 299 pixels
and that isn't at hand everywhere. Here the features are those of `features`: the picture's own pixels at half resolution and its gradients'
magnitudes, in the leading principal components of *reference* pictures that no model was trained on. Figures compare models on the same
references; they can't be compared with FID.

Like FID it is biased upwards by few pictures, and much: of real emoji 64 stand 7.1 from 447 others, 256 of them 3.0, and 446 of them 2.3,
where 0 is the truth. So a figure means little by itself: it is read beside what as many real pictures reach on the same references.
"""

from __future__ import annotations

import numpy as np

from training.data import TrainingSet

COMPONENTS = 48


def features(images: np.ndarray) -> np.ndarray:
    """uint8 ``[N, H, W]`` or ``[N, H, W, 3]`` to float64 ``[N, F]``."""
    pixels = images.reshape(*images.shape[:3], -1).astype(np.float64) / 255
    grey = pixels.mean(-1)
    gradient = np.hypot(*np.gradient(grey, axis=(1, 2)))
    # Fine detail is a small part of all variance, and what blur takes away: gradients are weighted up.
    return np.concatenate(
        [_blocks(pixels, 2).reshape(len(images), -1), 4 * _blocks(gradient[..., None], 2).reshape(len(images), -1)], axis=1
    )


def _blocks(values: np.ndarray, size: int) -> np.ndarray:
    """Means of blocks of ``size`` × ``size``."""
    n, h, w, c = values.shape
    h, w = h - h % size, w - w % size
    return values[:, :h, :w].reshape(n, h // size, size, w // size, size, c).mean((2, 4))


def frechet_distance(generated: np.ndarray, reference: np.ndarray) -> float:
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2·(Σ₁Σ₂)^½) of the features; 0 is perfect, and lower is better.

    Args:
        generated, reference: uint8 pictures ``[N, H, W(, 3)]``; a few hundred or more of each. The distance is biased upwards for small N,
            so compare it at equal N; `floor` says what real pictures reach. With fewer than 192 of either fewer than `COMPONENTS` are
            compared, a quarter of their number, so that covariances can be told; such figures stand on a scale of their own.

    Raises:
        ValueError: for fewer than 8 pictures.
    """
    from scipy.linalg import sqrtm
    from sklearn.decomposition import PCA

    fewest = min(len(generated), len(reference))
    if fewest < 8:
        raise ValueError(f"A Fréchet distance needs 8 or more pictures on each side, not {fewest}.")
    seen = features(reference)
    components = PCA(min(COMPONENTS, fewest // 4)).fit(seen)
    a, b = (components.transform(part) for part in (features(generated), seen))
    roots = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * roots))


def floor(reference: np.ndarray, n: int, *, seed: int = 0) -> float:
    """What ``n`` real pictures reach against the others: no generator of new pictures can be expected to do better."""
    order = np.random.default_rng(seed).permutation(len(reference))
    return frechet_distance(reference[order[:n]], reference[order[n:]])


def quality_of(generated: np.ndarray, data: TrainingSet) -> dict[str, float]:
    """The distance of generated pictures to the non-members, and that of as many real ones, by what they are.

    The real ones are non-members, held against the rest of them; where there are not twice as many as needed, members, which are of the
    same population and not among the references. Where members don't suffice either, fewer generated pictures are compared.
    """
    n = min(len(generated), max(len(data.members), len(data.nonmembers) // 2))
    name = f"Fréchet distance of {n} samples to {len(data.nonmembers):,} non-members (training/quality.py; few pictures make it larger)"
    figures = {name: frechet_distance(generated[:n], data.nonmembers)}
    if n <= len(data.nonmembers) // 2:
        return figures | {f"the same of {n} real pictures (non-members, to the others)": floor(data.nonmembers, n)}
    return figures | {f"the same of {n} real pictures (members)": frechet_distance(data.members[:n], data.nonmembers)}
