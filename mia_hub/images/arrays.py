"""Arrays and tensors as pixels, and pixels as PIL images."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image

from mia_hub.errors import ImageError
from mia_hub.images.messages import image_error

# uint8 or float32 ``[H, W, C]``.
Pixels: TypeAlias = npt.NDArray[Any]
MAX_PIXELS = 50_000_000
MIN_SIDE = 8
_ACCEPTED_ARRAYS = (
    "Accepted are uint8 arrays [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], float arrays [H, W], [H, W, C] or [C, H, W] in [0, 1], "
    "and tensors [C, H, W], with C 1 or 3"
)
_TOLERANCE = 1e-6


def from_array(array: Pixels, name: str, channels_first: bool = False) -> tuple[Pixels, tuple[str, ...]]:
    """Check an array or tensor, and copy it, since its owner may change it later."""
    description = f"{array.dtype} {list(array.shape)}"
    floating = array.dtype.kind == "f"
    if not floating and array.dtype != np.uint8:
        advice = {
            "b": "Multiply by 255 and use .astype(numpy.uint8) for black and white",
            "u": "Divide by its largest possible value, for floats in [0, 1]",
            "i": "If its values are 0 to 255, use .astype(numpy.uint8)",
        }.get(array.dtype.kind, "Convert it to uint8 or float")
        problem = f"an array of {description} is not accepted, as its value range is unclear"
        raise image_error(name, problem, f"{advice}. {_ACCEPTED_ARRAYS}")
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and (channels_first or (floating and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3))):
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] not in ((1, 3) if floating or channels_first else (1, 3, 4)):
        problem = f"the shape of {description} is not that of an image"
        raise image_error(name, problem, f"{_ACCEPTED_ARRAYS}: reorder or pick its dimensions")
    check_size(array.shape[0], array.shape[1], name)
    if array.shape[2] == 4:
        notes: list[str] = []
        return on_white(as_pil(array), notes), tuple(notes)
    if not floating:
        return np.array(array, order="C"), ()
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise image_error(name, "the array has values that are NaN or infinite", "Find their origin; images are expected in [0, 1]")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise image_error(
            name,
            f"the float values range from {low:.4g} to {high:.4g}",
            "Images are expected in [0, 1], not [-1, 1] (use x / 2 + 0.5) or 0..255 (use x / 255, or uint8)",
        )
    pixels = np.ascontiguousarray(np.clip(array, 0, 1), np.float32)
    exact = as_uint8(pixels)
    return pixels if exact is None else exact, ()


def on_white(im: PIL.Image.Image, notes: list[str]) -> Pixels:
    """Return the pixels of a loaded PIL image that has transparency, put on white; add the change to `notes`."""
    grey = im.mode in ("1", "L", "LA", "La")
    im = im.convert("LA" if grey else "RGBA")
    alpha = im.getchannel("A")
    im = im.convert("L" if grey else "RGB")
    if np.asarray(alpha).min() < 255:
        white = PIL.Image.new(im.mode, im.size, "white")
        white.paste(im, mask=alpha)
        im = white
        notes.append("Transparent pixels were put on white.")
    return as_array(im)


def check_size(height: int, width: int, name: str) -> None:
    """Refuse an image with more than `MAX_PIXELS`, or with a side below `MIN_SIDE`."""
    if height * width > MAX_PIXELS:
        raise too_large(name, f"{width:,} x {height:,} pixels")
    if min(height, width) < MIN_SIDE:
        raise image_error(name, f"{width} x {height} pixels are too few", f"Each side must be at least {MIN_SIDE}: pass a larger image")


def too_large(name: str, size: str) -> ImageError:
    """Return the error about an image with more than `MAX_PIXELS`."""
    return image_error(name, f"{size} are too many", f"At most {MAX_PIXELS:,} are accepted: scale it down first")


def as_pil(pixels: Pixels) -> PIL.Image.Image:
    """Return uint8 or float32 pixels [H, W, C] as a PIL image."""
    return PIL.Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def as_array(im: PIL.Image.Image) -> Pixels:
    """Return a PIL image as pixels [H, W, C], which can't be written to: they are a copy already."""
    pixels = np.asarray(im)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def as_uint8(pixels: Pixels) -> Pixels | None:
    """Return the uint8 image that float pixels in [0, 1] represent (within 1e-6); None if they don't represent one."""
    levels = np.rint(pixels * 255)
    exact = np.abs(pixels - levels / 255).max(initial=0) <= _TOLERANCE and levels.min(initial=0) >= 0 and levels.max(initial=0) <= 255
    return levels.astype(np.uint8) if exact else None


def is_tensor(x: Any) -> bool:
    """Whether this is a torch tensor; torch itself, which is slow to import, is not needed."""
    # Python's file objects have a detach(), too.
    return hasattr(x, "detach") and hasattr(x, "cpu")
