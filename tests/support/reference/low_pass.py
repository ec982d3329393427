"""The low-pass norm and the family of copies, image by image and candidate by candidate, with scipy's Gaussian filter."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from mia_hub.images.complexity import complexity

# Rows and columns by which an image is moved.
MOVES = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


def moved(pixels: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """An image ``[C, H, W]`` moved, its edge repeated."""
    _, height, width = pixels.shape
    moved = np.empty_like(pixels)
    for y in range(height):
        for x in range(width):
            moved[:, y, x] = pixels[:, min(max(y - dy, 0), height - 1), min(max(x - dx, 0), width - 1)]
    return moved


def log_norms(model, pixels: np.ndarray, t: int) -> list[float]:
    """Logs of ‖ε‖₁, ‖ε‖₂, ‖ε‖₄ and ‖G ∗ ε‖₂ of one image ``[C, H, W]`` in [0, 1]."""
    x = torch.from_numpy(pixels.astype(np.float64))[None] * 2 - 1
    epsilon = model.predict_noise(x, torch.tensor([t]))[0].numpy()
    smooth = [gaussian_filter(channel, 0.8) for channel in epsilon]
    orders = [np.log((np.abs(epsilon) ** p).sum()) / p for p in (1, 2, 4)]
    return [*orders, np.log(np.sqrt(sum((channel**2).sum() for channel in smooth)))]


def observed(model, pixels: np.ndarray, neighbours: list[np.ndarray], t: int) -> np.ndarray:
    """q of one image, and its difficulty."""
    own = log_norms(model, pixels, t)
    around = np.mean([log_norms(model, other, t) for other in neighbours], axis=0)
    return np.array([own[1] / 2 + own[3] / 2, *complexity(pixels.astype(np.float32)), *around])


def lean(model, pixels: np.ndarray, t: int) -> np.ndarray:
    """What is observed of the seven candidates: the image, its four shifts, its mirror image, full contrast."""

    def cross(centre: np.ndarray) -> list[np.ndarray]:
        return [centre, *(moved(centre, *move) for move in MOVES.values())]

    rows, own = [], cross(pixels)
    for k, candidate in enumerate(own):
        rows.append(observed(model, candidate, own[:k] + own[k + 1 :], t))
    stretched = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    for centre in (pixels[..., ::-1].copy(), stretched):
        rows.append(observed(model, centre, cross(centre)[1:], t))
    return np.array(rows)
