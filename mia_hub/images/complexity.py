"""How busy a image is: edges and compressed size, as both the shift check and conditional attacks describe it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

# Keeps the logarithm of an empty image finite; a quarter of one grey level.
FLOOR = 1e-3


def edges(grey: np.ndarray) -> tuple[float, float, float]:
    """Mean absolute horizontal and vertical difference, and mean absolute Laplacian, of ``[H, W]``; 0 where there is none to take."""
    laplacian = grey[1:-1, 1:-1] * 4 - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return tuple(float(np.abs(d).mean()) if d.size else 0.0 for d in (np.diff(grey, axis=1), np.diff(grey, axis=0), laplacian))


def png_bytes(pixels: np.ndarray, compress_level: int = 6) -> int:
    """Size as PNG of uint8 ``[H, W]`` or ``[H, W, 3]``."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=compress_level)
    return buffer.tell()


def complexity(pixels: np.ndarray) -> np.ndarray:
    """How hard a image is to denoise, as far as it can be seen without a model.

    Args:
        pixels: float ``[C, H, W]`` in [0, 1], C = 1 or 3, at the model's image size.

    Returns:
        float64 ``[5]``: log of the PNG's size in bytes, logs of the mean absolute gradient and Laplacian, mean, standard deviation.
    """
    grey = pixels.astype(np.float64).mean(axis=0)
    bytes_ = np.rint(pixels * 255).clip(0, 255).astype(np.uint8)
    dx, dy, laplacian = edges(grey)
    size = png_bytes(bytes_[0] if len(bytes_) == 1 else np.ascontiguousarray(bytes_.transpose(1, 2, 0)))
    return np.array([np.log(size), np.log((dx + dy) / 2 + FLOOR), np.log(laplacian + FLOOR), grey.mean(), grey.std()])
