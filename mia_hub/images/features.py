"""Is the comparison fair? Checks that look at the images alone, never at the model."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mia_hub.images.complexity import edges, png_bytes
from mia_hub.images.image import InputImage

LONGEST_SIDE = 512
THUMBNAIL = 8
BANDS = 8


def blind_features(image: InputImage) -> np.ndarray:
    """What a blind classifier sees of a image: size, brightness, colour, edges, frequencies, compressed size, a thumbnail.

    Returns:
        float64 ``[F]``; the same F for every image.
    """
    return np.concatenate(
        [[np.log(image.height * image.width), np.log(image.width / image.height)], appearance_features(_working_copy(image))]
    )


def _working_copy(source: InputImage) -> np.ndarray:
    """RGB float64 ``[H, W, 3]`` in [0, 1], at most `LONGEST_SIDE` long, so that a huge photograph costs no more than a small one."""
    image = source.to_pil().convert("RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float64) / 255


def appearance_features(rgb: np.ndarray) -> np.ndarray:
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
            thumbnail(Image.fromarray(bytes_), THUMBNAIL),
        ]
    )


def _mean(values: np.ndarray) -> float:
    """The mean; 0 of nothing, as in a image two pixels high, which has no second differences."""
    return float(values.mean()) if values.size else 0.0


def thumbnail(image: Image.Image, side: int) -> np.ndarray:
    return np.asarray(image.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.float64).ravel() / 255
