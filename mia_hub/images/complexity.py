"""The complexity of an image: edges and compressed size, for the shift check and for conditional attacks."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# Keeps the logarithm of an empty image finite; a quarter of one grey level.
FLOOR = 1e-3


def edge_strengths(grey: npt.NDArray[np.float64]) -> tuple[Any, Any, Any]:
    """Return mean absolute horizontal and vertical difference, and mean absolute Laplacian, of images ``[…, H, W]``; 0 for no pixels.

    Returns:
        Three values ``[…]``.
    """
    laplacian = grey[..., 1:-1, 1:-1] * 4 - grey[..., :-2, 1:-1] - grey[..., 2:, 1:-1] - grey[..., 1:-1, :-2] - grey[..., 1:-1, 2:]
    dx, dy, curvature = (_mean_size(d) for d in (np.diff(grey, axis=-1), np.diff(grey, axis=-2), laplacian))
    return dx, dy, curvature


def _mean_size(values: npt.NDArray[np.float64]) -> Any:
    """Return the mean absolute value over the last two axes; 0 of nothing."""
    sizes = np.abs(values).reshape(*values.shape[:-2], -1)
    return sizes.mean(-1) if sizes.shape[-1] else np.zeros(sizes.shape[:-1])


def png_bytes(pixels: npt.NDArray[np.uint8], compress_level: int = 6) -> int:
    """Return the size in bytes of uint8 ``[H, W]`` or ``[H, W, 3]`` as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=compress_level)
    return buffer.tell()


def complexity(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return how hard an image is to denoise, as far as it can be told without a model.

    Args:
        pixels: float ``[C, H, W]`` in [0, 1], C = 1 or 3, at the model's image size.

    Returns:
        float64 ``[5]``: log of the PNG's size in bytes, logs of the mean absolute gradient and Laplacian, mean, standard deviation.
    """
    grey = pixels.astype(np.float64).mean(axis=0)
    levels = np.rint(pixels * 255).clip(0, 255).astype(np.uint8)
    dx, dy, laplacian = edge_strengths(grey)
    size = png_bytes(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
    return np.array([np.log(size), np.log((dx + dy) / 2 + FLOOR), np.log(laplacian + FLOOR), grey.mean(), grey.std()])
