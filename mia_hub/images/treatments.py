"""The fixed table of treatments: what happens to images between a training set and the copy that somebody holds.

Every attack that gives verdicts is measured on it, members and non-members alike: `python -m studies.copies`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from mia_hub.errors import ImageError
from mia_hub.images.image import InputImage, content_id

# uint8 ``[H, W]`` or ``[H, W, 3]``.
Levels = npt.NDArray[np.uint8]
UNTREATED, SHIFTED = "as it is", "shifted right by 1 pixel"
# Standard deviation of the noise, in grey levels.
NOISE_LEVELS = 4.0
# Share of the side that a crop leaves, and that a screenshot's border adds on each side.
CROP, BORDER = 0.92, 0.06
# Gains of red, green and blue.
COLOUR_GAINS = (1.06, 1.0, 0.92)
DESKTOP = 236


def _through(change: Callable[[Image.Image], Image.Image], pixels: Levels) -> Levels:
    return np.asarray(change(Image.fromarray(pixels)))


def _saved(image: Image.Image, kind: str, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, quality=quality)
    return Image.open(file).convert(image.mode)


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.BICUBIC)


def _reduced_and_back(image: Image.Image) -> Image.Image:
    return _scaled(image, 0.5).resize(image.size, Image.Resampling.BICUBIC)


def _cropped(image: Image.Image) -> Image.Image:
    dx, dy = (max(1, round(side * (1 - CROP) / 2)) for side in image.size)
    return image.crop((dx, dy, image.width - dx, image.height - dy)).resize(image.size, Image.Resampling.BICUBIC)


def _bordered(image: Image.Image) -> Image.Image:
    return ImageOps.expand(image, max(1, round(max(image.size) * BORDER)), DESKTOP if image.mode == "L" else (DESKTOP,) * 3)


def shifted(dy: int, dx: int, pixels: Levels) -> Levels:
    """Return an image moved by some pixels; the rows and columns that become empty repeat their neighbours."""
    rows, columns = (np.clip(np.arange(side) - by, 0, side - 1) for side, by in zip(pixels.shape, (dy, dx)))
    moved: Levels = pixels[rows][:, columns]
    return moved


def _levels(values: npt.NDArray[Any]) -> Levels:
    rounded: Levels = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded


def _noisy(pixels: Levels) -> Levels:
    """Add Gaussian noise that is a function of the image."""
    rng = np.random.default_rng(int(content_id(pixels), 16))
    return _levels(pixels + rng.normal(scale=NOISE_LEVELS, size=pixels.shape))


def _tinted(pixels: Levels) -> Levels:
    """Return RGB with each channel multiplied by its gain."""
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return _levels(rgb * np.array(COLOUR_GAINS))


# Name: function from uint8 pixels to those of the treated copy, which may have another size, or be in colour.
TREATMENTS: dict[str, Callable[[Levels], Levels]] = {
    UNTREATED: lambda pixels: pixels,
    "mirrored": lambda pixels: pixels[:, ::-1],
    SHIFTED: partial(shifted, 0, 1),
    "shifted up and left by 1 pixel": partial(shifted, -1, -1),
    "JPEG, quality 95": partial(_through, partial(_saved, kind="JPEG", quality=95)),
    "JPEG, quality 85": partial(_through, partial(_saved, kind="JPEG", quality=85)),
    "JPEG, quality 50": partial(_through, partial(_saved, kind="JPEG", quality=50)),
    "WebP, quality 80": partial(_through, partial(_saved, kind="WEBP", quality=80)),
    "enlarged 4 times": partial(_through, partial(_scaled, factor=4)),
    "reduced to half and back": partial(_through, _reduced_and_back),
    "cropped and resized": partial(_through, _cropped),
    "brightness × 0.9": lambda pixels: _levels(pixels * 0.9),
    "contrast × 0.8": lambda pixels: _levels(pixels.mean() + 0.8 * (pixels - pixels.mean())),
    "noise, 4 grey levels": _noisy,
    "blurred, radius 0.5": partial(_through, lambda image: image.filter(ImageFilter.GaussianBlur(0.5))),
    "colour shifted": _tinted,
    "screenshot with a border": partial(_through, _bordered),
}


def with_full_contrast(image: InputImage) -> InputImage:
    """Return an image stretched so that its levels reach from black to white; one of a single level is returned as it is."""
    pixels = np.asarray(image.to_pil(), dtype=np.float64)
    low, spread = pixels.min(), np.ptp(pixels)
    if not spread:
        return image
    stretched = _levels((pixels - low) / spread * 255)
    return InputImage(stretched if stretched.ndim == 3 else stretched[..., None], image.name, image.notes)


def treated(name: str, pixels: Levels) -> Levels:
    """Return a treated copy of an image.

    Args:
        name: a key of `TREATMENTS`.
        pixels: uint8 ``[H, W]`` or ``[H, W, 3]``.

    Returns:
        uint8 ``[H', W']`` or ``[H', W', 3]``, the same for the same image wherever it is computed with the same codecs.

    Raises:
        ImageError: for an unknown treatment, or pixels of another form.
    """
    if name not in TREATMENTS:
        raise ImageError(f"There is no treatment {name!r}; choose one of: {'; '.join(TREATMENTS)}.")
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ImageError(
            f"Treatments take uint8 pixels [H, W] or [H, W, 3]; got {pixels.dtype} {list(pixels.shape)}. Convert the image first, as by "
            "numpy.asarray(image.to_pil())."
        )
    return np.ascontiguousarray(TREATMENTS[name](pixels))
