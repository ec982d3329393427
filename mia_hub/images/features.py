"""Features of an image that no model is needed for: the input of the blind classifier, and of the check that images are comparable.

All of a batch of equal size are described at once. The results are those of each image alone, to the bit: every sum is taken in the same
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
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
# Pixels that are described at once; more are slower, since they leave the processor's cache.
MOST_PIXELS = 2**16
# Pillow scales an image of more than so many times its width in height in another order, which rounds otherwise.
TALL = 100
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Floats = npt.NDArray[np.float64]


def blind_features(image: InputImage) -> Floats:
    """Return what a blind classifier sees of an image: size, brightness, colour, edges, frequencies, compressed size, a thumbnail.

    Returns:
        float64 ``[F]``; the same F for every image.
    """
    features: Floats = blind_features_of([image])[0]
    return features


def blind_features_of(images: Sequence[InputImage]) -> Floats:
    """Return `blind_features` of several images, float64 ``[N, F]``; those of equal size that follow each other are described at once."""
    parts = [np.empty((0, FEATURES))]
    for (height, width), group in groupby(images, key=lambda image: (image.height, image.width)):
        alike, most = list(group), max(1, MOST_PIXELS // (height * width))
        size = [np.log(height * width), np.log(width / height)]
        for start in range(0, len(alike), most):
            appearance = appearance_features(np.stack([_working_copy(image) for image in alike[start : start + most]]) / 255)
            parts.append(np.concatenate([np.tile(size, (len(appearance), 1)), appearance], axis=1))
    return np.concatenate(parts)


def _working_copy(source: InputImage) -> npt.NDArray[np.uint8]:
    """RGB uint8 ``[H, W, 3]``, at most `LONGEST_SIDE` long, so that a huge photograph costs no more than a small one."""
    if source.pixels.dtype == np.uint8 and max(source.height, source.width) <= LONGEST_SIDE:
        return np.broadcast_to(source.pixels, (source.height, source.width, 3))
    image = source.to_pil()
    image = image if image.mode == "RGB" else image.convert("RGB")
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
    return np.asarray(image)


def appearance_features(rgb: Floats) -> Floats:
    """Return brightness, colour, edges, frequencies, compressed size and a thumbnail of images ``[N, H, W, 3]`` in [0, 1].

    Returns:
        float64 ``[N, F]``, of which the last `THUMBNAIL` ** 2 are the thumbnail.
    """
    grey = rgb @ np.array([0.299, 0.587, 0.114])
    flat = grey.reshape(len(grey), -1)
    levels = (rgb * 255).round().astype(np.uint8)
    return np.column_stack(
        [
            flat.mean(1),
            flat.std(1),
            (flat == 0).mean(1),
            (flat == 1).mean(1),
            np.quantile(flat, QUANTILES, axis=1).T,
            *_colours(rgb),
            *edge_strengths(grey),
            _frequencies(grey - flat.mean(1)[:, None, None]),
            np.log(np.array([png_bytes(each, compress_level=1) for each in levels]) / flat.shape[1]),
            thumbnails(levels, THUMBNAIL),
        ]
    )


def _colours(rgb: Floats) -> tuple[Floats, ...]:
    """Return means ``[N, 3]`` and standard deviations ``[N, 3]`` of the channels, and three mean distances of channels ``[N]``."""
    red, green, blue = (np.ascontiguousarray(rgb[..., channel]) for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        mean, deviation = _mean_and_deviation(rgb[..., :2])
        return mean[:, [0, 0, 0]], deviation[:, [0, 0, 0]], np.zeros((len(rgb), 3))
    largest, smallest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    distances = (np.abs(red - green), np.abs(green - blue), largest - smallest)
    return *_mean_and_deviation(rgb), np.column_stack([distance.reshape(len(rgb), -1).mean(1) for distance in distances])


def _mean_and_deviation(pixels: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation ``[N, C]`` of each channel of ``[N, H, W, C]``, C ≥ 2."""
    # Pixels first: NumPy then adds whole rows of images, in the order in which it adds the pixels of one image. It would add a single
    # column in pairs.
    rows = np.ascontiguousarray(np.moveaxis(pixels.reshape(len(pixels), -1, pixels.shape[3]), 1, 0))
    return rows.mean(0), rows.std(0)


def _frequencies(grey: Floats) -> Floats:
    """Return the logarithm of the mean amplitude in each of `BANDS` bands of frequencies, ``[N, BANDS]``, of ``[N, H, W]``."""
    amplitudes = np.abs(np.fft.rfft2(grey)).reshape(len(grey), -1)
    # The mean of nothing is 0, as in an image two pixels high.
    bands = [amplitudes.take(band, axis=1).mean(1) if len(band) else np.zeros(len(grey)) for band in _bands(*grey.shape[1:])]
    logarithms: Floats = np.log1p(np.column_stack(bands))
    return logarithms


@lru_cache(maxsize=64)
def _bands(height: int, width: int) -> tuple[npt.NDArray[np.intp], ...]:
    """Return the places of each band in the flattened spectrum of an image of that size."""
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]).ravel()
    return tuple(np.flatnonzero((radius > low / BANDS / 2) & (radius <= (low + 1) / BANDS / 2)) for low in range(BANDS))


def thumbnail(image: Image.Image, side: int) -> Floats:
    """Return the grey levels in [0, 1] of an image scaled to ``side`` × ``side``, flattened."""
    return np.asarray(image.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.float64).ravel() / 255


def thumbnails(levels: npt.NDArray[Any], side: int) -> Floats:
    """Return `thumbnail` of uint8 images ``[N, H, W, 3]``, ``[N, side * side]``."""
    count, height, width, _ = levels.shape
    at_once = count if height > TALL * width else TALL * width // height
    small = np.empty((count, side * side))
    for start in range(0, count, at_once):
        # One above the other: no pixel of a small image covers two of them.
        some = levels[start : start + at_once]
        column = Image.fromarray(some.reshape(-1, width, 3)).convert("L")
        small[start : start + at_once] = np.asarray(column.resize((side, len(some) * side), Image.Resampling.BOX)).reshape(len(some), -1)
    return small / 255
