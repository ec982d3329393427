"""PIL images of every mode as pixels, with the conventions that their format has and Pillow leaves to its callers."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
from PIL.TiffImagePlugin import TiffImageFile

from mia_hub.images import tiff
from mia_hub.images.arrays import Pixels, as_array, check_size, from_array, on_white
from mia_hub.images.messages import image_error

# Functions that turn [H, W, C] upright, by EXIF orientation.
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: np.rot90,
}
_GAIN_MAP = (b"hdrgm:Version", b"urn:iso:std:iso:ts:21496:-1")
_SCALED = "16 bits per channel were scaled to 8."


def pixels_of(im: PIL.Image.Image, name: str) -> tuple[Pixels, tuple[str, ...]]:
    """Decode an opened PIL image; raise an ImageError, or anything that Pillow raises on a damaged file."""
    check_size(im.height, im.width, name)
    is_tiff = isinstance(im, TiffImageFile)
    if isinstance(im, TiffImageFile):
        tiff.prepare(im, name)
    # Read before load(), which turns a TIFF upright by itself and forgets the file's bit depth.
    orientation = _orientation(im) if is_tiff else 1
    rawmode = _rawmode(im)
    im.load()
    notes: list[str] = []
    pixels, frame = _flatten(im, name, notes, rawmode), im.tell()
    if isinstance(im, TiffImageFile):
        if tiff.has_signed_bytes(im) and pixels.max() > 127:
            signed = pixels.view(np.int8)
            problem = f"the integer values range from {signed.min()} to {signed.max()}"
            raise image_error(name, problem, "Negative values have no place in an image: scale them to 0 to 255")
        if tiff.is_inverted(im):
            pixels = (255 if pixels.dtype == np.uint8 else np.float32(1)) - pixels
    if not is_tiff:
        orientation = _orientation(im)
        if orientation in _UPRIGHT:
            pixels = np.ascontiguousarray(_UPRIGHT[orientation](pixels))
    if im.format == "HEIF":  # its decoder turns the image and scales it to 8 bits by itself
        orientation, bits = im.info.get("original_orientation"), im.info.get("bit_depth", 8)
        notes += [_SCALED.replace("16", str(bits))] if bits > 8 else []
    if orientation in _UPRIGHT:
        notes.append("The image was turned upright, as its EXIF orientation says.")
    if _has_gain_map(im):
        notes.append("It holds a gain map for brighter screens (HDR), which was ignored.")
    elif _has_frames(im):
        notes.append(f"It holds several frames or pages; only {'the first' if frame == 0 else f'number {frame + 1}'} was used.")
    return pixels, tuple(notes)


def _rawmode(im: PIL.Image.Image) -> str:
    """Return how the file's samples are packed, in Pillow's words; "" where the image is loaded already."""
    tiles = getattr(im, "tile", [])
    args = tiles[0][3] if tiles else ""
    rawmode = args[0] if isinstance(args, tuple) and args else args
    return rawmode if isinstance(rawmode, str) else ""


def _flatten(im: PIL.Image.Image, name: str, notes: list[str], rawmode: str) -> Pixels:
    """Return the pixels of a loaded PIL image of any mode, [H, W, 1] or [H, W, 3]; add the changes to `notes`."""
    if im.mode == "F":
        return from_array(np.asarray(im), name)[0]
    if im.mode.startswith("I"):
        return _from_integers(im, name, notes, 12 if rawmode == "I;12" else 16)
    if re.search(r";16[BLNS]$", rawmode):
        notes.append(_SCALED)
    _scale_transparent_colour(im, rawmode)
    if im.has_transparency_data:
        return on_white(im, notes)
    if im.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"{im.mode} colours were converted to RGB.")
    mode = "L" if im.mode in ("1", "L") else "RGB"
    return as_array(im if im.mode == mode else im.convert(mode))


def _from_integers(im: PIL.Image.Image, name: str, notes: list[str], bits: int) -> Pixels:
    """Return the 8-bit pixels of an image of wider integers."""
    values = np.asarray(im)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise image_error(name, f"the integer values range from {low} to {high}", "Scale them to 8 bits (0 to 255) or 16 bits (0 to 65535)")
    transparent = values == im.info["transparency"] if isinstance(im.info.get("transparency"), int) else None
    # Mode "I" is also what PIL makes of 8-bit values put in a 32-bit array.
    if im.mode != "I" or high > 255:
        wide = values.astype(np.uint32)
        values = (wide + 128) // 257 if bits == 16 else (wide * 510 + 4095) // 8190
        notes.append(_SCALED.replace("16", str(bits)))
    pixels = values.astype(np.uint8)[..., None]
    if transparent is not None and transparent.any():
        pixels[transparent] = 255
        notes.append("Transparent pixels were put on white.")
    return pixels


def _scale_transparent_colour(im: PIL.Image.Image, rawmode: str) -> None:
    """Bring the transparent colour of a PNG to 8 bits: Pillow scales the pixels and not this colour."""
    colour: Any = im.info.get("transparency")
    factor = {"L;2": 85, "L;4": 17}.get(rawmode)
    if im.format == "PNG" and isinstance(colour, int) and factor:
        im.info["transparency"] = colour * factor
    elif im.format == "PNG" and isinstance(colour, tuple) and rawmode.startswith("RGB;16"):
        im.info["transparency"] = tuple(channel >> 8 for channel in colour)


def _orientation(im: PIL.Image.Image) -> Any:
    try:
        profile = im.info.get("Raw profile type exif")  # of a PNG by ImageMagick: not seen before the file is opened
        if isinstance(profile, str):
            directory = tiff.read_directory(io.BytesIO(bytes.fromhex("".join(profile.split("\n")[3:])).removeprefix(b"Exif\0\0")))
            if directory is None or directory.is_bomb:
                return 1
        return im.getexif().get(0x0112, 1)
    except Exception:  # corrupt EXIF must not kill a readable image
        return 1


def _has_frames(im: PIL.Image.Image) -> bool:
    try:
        return bool(getattr(im, "is_animated", False))
    except Exception:  # a later frame is damaged: it exists, and is not used
        return True


def _has_gain_map(im: PIL.Image.Image) -> bool:
    segments = getattr(im, "applist", [])
    return any(name in ("APP1", "APP2") and any(mark in content for mark in _GAIN_MAP) for name, content in segments)
