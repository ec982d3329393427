"""Features of an image that no model is needed for: the input of the blind classifier, and of the check that images are comparable."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mia_hub.images.complexity import edge_strengths, png_bytes
from mia_hub.images.image import InputImage

LONGEST_SIDE = 512
THUMBNAIL = 8
BANDS = 8
# Of `blind_features`: its first values, which say how large an image is, and the number of all.
SIZE_FEATURES, FEATURES = ("log of the area", "log of the aspect ratio"), 96


def blind_features(image: InputImage) -> npt.NDArray[np.float64]:
    """Return what a blind classifier sees of an image: size, brightness, colour, edges, frequencies, compressed size, a thumbnail.

    Returns:
        float64 ``[F]``; the same F for every image.
    """
    size = [np.log(image.height * image.width), np.log(image.width / image.height)]
    return np.concatenate([size, appearance_features(_working_copy(image))])


def _working_copy(source: InputImage) -> npt.NDArray[np.float64]:
    """RGB float64 ``[H, W, 3]`` in [0, 1], at most `LONGEST_SIDE` long, so that a huge photograph costs no more than a small one."""
    image = source.to_pil().convert("RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float64) / 255


def appearance_features(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return brightness, colour, edges, frequencies, compressed size and a thumbnail of ``[H, W, 3]`` in [0, 1].

    Returns:
        float64 ``[F]``, of which the last `THUMBNAIL` ** 2 are the thumbnail.
    """
    grey = rgb @ np.array([0.299, 0.587, 0.114])
    spectrum = np.abs(np.fft.rfft2(grey - grey.mean()))
    radius = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.rfftfreq(grey.shape[1])[None])
    bands = [spectrum[(radius > low / BANDS / 2) & (radius <= (low + 1) / BANDS / 2)] for low in range(BANDS)]
    levels = (rgb * 255).round().astype(np.uint8)
    colour = [np.abs(rgb[..., 0] - rgb[..., 1]).mean(), np.abs(rgb[..., 1] - rgb[..., 2]).mean(), (rgb.max(-1) - rgb.min(-1)).mean()]
    return np.concatenate(
        [
            [grey.mean(), grey.std(), (grey == 0).mean(), (grey == 1).mean()],
            np.quantile(grey, (0.05, 0.25, 0.5, 0.75, 0.95)),
            rgb.mean((0, 1)),
            rgb.std((0, 1)),
            colour,
            edge_strengths(grey),
            [np.log1p(_mean(band)) for band in bands],
            [np.log(png_bytes(levels, compress_level=1) / grey.size)],
            thumbnail(Image.fromarray(levels), THUMBNAIL),
        ]
    )


def thumbnail(image: Image.Image, side: int) -> npt.NDArray[np.float64]:
    """Return the grey levels in [0, 1] of an image scaled to ``side`` × ``side``, flattened."""
    return np.asarray(image.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.float64).ravel() / 255


def _mean(values: npt.NDArray[Any]) -> float:
    """Return the mean; 0 of nothing, as in an image two pixels high, which has no second differences."""
    return float(values.mean()) if values.size else 0.0
