"""Decode files, PIL images, arrays and tensors into pixels; every bad one raises an `ImageError` that names the next step.

Nothing is fetched from the network, written to disk or logged, and only the formats in `FORMATS` are ever opened.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image

from mia_hub.errors import ImageError

# uint8 or float32 ``[H, W, C]``.
Pixels: TypeAlias = npt.NDArray[Any]
MAX_PIXELS = 50_000_000
MIN_SIDE = 8
# Passed to Image.open, so that nothing exotic is ever opened (EPS would start ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
_ACCEPTED_FILES = "Accepted are PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF files"
ACCEPTED_TYPES = (
    "Accepted are a path, the bytes of an image file, an open binary file, a PIL image, a NumPy array, a tensor, "
    'or a dict with "bytes" or "path"'
)
_ACCEPTED_ARRAYS = (
    "Accepted are uint8 arrays [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], float arrays [H, W], [H, W, C] or [C, H, W] in [0, 1], "
    "and tensors [C, H, W], with C 1 or 3"
)
_TOLERANCE = 1e-6
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
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
# Common files that are no images, recognised by their first 4,096 bytes: (pattern, description, next step).
_NOT_IMAGES = (
    (rb"(?is)\s*(<!doctype html|<html)", "a web page", "Download the image itself and pass that"),
    (rb"(?s).*<svg[\s>]", "an SVG drawing", "Export it as PNG and pass that"),
    (rb"%PDF", "a PDF document", "Export the page as PNG and pass that"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file", "Export it as PNG and pass that"),
    (rb"version https://git-lfs", "a Git LFS pointer", "Run `git lfs pull` to get the image itself"),
    (rb"(?s)....ftyp(hei|hev|mif1|msf1)", "a HEIC image", "Export it as PNG or JPEG and pass that"),
    (rb"PK\x03\x04", "a zip archive", "Unpack it and pass the images in it"),
)
_KNOWN_MAGIC = re.compile(rb"(?s)\x89PNG|\xff\xd8\xff|RIFF....WEBP|GIF8[79]a|II\*\0|MM\0\*|....ftypavi[fs]")


def decode(source: Any, name: str) -> tuple[Pixels, tuple[str, ...]]:
    """Return the pixels of one image, uint8 or float32 [H, W, C], and the changes made while decoding, one sentence each.

    Args:
        source: anything that `mia_hub.images.sources.open_image` takes, except a dict or an `InputImage`.
        name: for messages.

    Raises:
        ImageError: if it can't be read, or isn't fit to be scored.
    """
    if isinstance(source, (str, os.PathLike)):
        return _from_path(source, name)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        return _from_stream(io.BytesIO(source), name)
    elif isinstance(source, PIL.Image.Image):
        try:
            return _decode(source, name)
        except _UndecodableError as err:
            raise image_error(
                name, f"the PIL image can't be decoded ({failure_reason(err.__cause__)})", "Open it again, from a complete file"
            ) from err
    elif isinstance(source, np.ndarray):
        return _from_array(source, name)
    elif is_tensor(source):
        array = source.detach().cpu()
        try:
            array = array.numpy()
        except TypeError:  # NumPy has no bfloat16
            array = array.float().numpy()
        return _from_array(array, name, channels_first=True)
    elif hasattr(source, "read"):
        return _from_file(source, name)
    else:
        raise image_error(name, f"an object of type {type(source).__name__} is not an image", f"{ACCEPTED_TYPES}: pass one of these")


def _from_path(source: str | os.PathLike[str], name: str) -> tuple[Pixels, tuple[str, ...]]:
    path = Path(os.fsdecode(source))
    try:
        if path.is_dir():
            raise image_error(
                name, "this is a folder, not an image", "Pass the files in it; where several images are accepted, pass the folder"
            )
        if not path.exists():
            raise image_error(name, f"there is no file {printable(path)}", "Check the path")
        if not path.is_file():
            raise image_error(name, "this is a device or a pipe, not a file", "Pass the path of an image file")
        with path.open("rb") as stream:
            return _from_stream(stream, name)
    except (OSError, ValueError) as err:
        raise image_error(name, f"the file can't be read ({failure_reason(err)})", "Check the path and its permissions") from err


def _from_file(source: Any, name: str) -> tuple[Pixels, tuple[str, ...]]:
    try:
        if hasattr(source, "seek") and (not hasattr(source, "seekable") or source.seekable()):
            source.seek(0)
            is_text = not isinstance(source.read(0), bytes)
        else:
            source = source.read()
            is_text = not isinstance(source, bytes)
            source = None if is_text else io.BytesIO(source)
    except (OSError, ValueError) as err:
        raise image_error(name, f"the file object can't be read ({failure_reason(err)})", "Open the file again, or pass its path") from err
    if is_text:
        raise image_error(name, "the file is open in text mode", 'Open it with open(path, "rb"), or pass its path')
    return _from_stream(source, name)


def _from_stream(stream: BinaryIO, name: str) -> tuple[Pixels, tuple[str, ...]]:
    """Decode an image file. `stream` stands at its start, can seek, and stays open."""
    head = stream.read(4096)
    if not head:
        raise image_error(name, "the file is empty (0 bytes)", "Save or download the image again")
    stream.seek(0)
    try:
        return _decode(stream, name)
    except _UndecodableError as err:
        failure = err.__cause__
    if head.startswith(_PNG_MAGIC):
        # Pillow gives up on a bad checksum or length in a PNG's metadata, which says nothing about the pixels.
        stream.seek(0)
        try:
            pixels, notes = _decode(io.BytesIO(_bare_png(stream.read())), name)
            return pixels, (*notes, "Damaged metadata in the file was ignored.")
        except _UndecodableError:
            pass
    for pattern, what, advice in _NOT_IMAGES:
        if re.match(pattern, head):
            raise image_error(name, f"this is {what}, which can't be read as pixels", f"{advice}. {_ACCEPTED_FILES}") from failure
    unidentified = isinstance(failure, PIL.UnidentifiedImageError)
    if _KNOWN_MAGIC.match(head) or not unidentified:
        why = "" if unidentified else f" ({failure_reason(failure)})"
        raise image_error(name, f"the file is damaged or cut short{why}", "Save or download the image again") from failure
    raise image_error(
        name, "this is not an image file, whatever its name says", f"{_ACCEPTED_FILES}: convert it to one of these"
    ) from failure


class _UndecodableError(Exception):
    """Pillow failed; its own error is the cause."""


def _decode(source: BinaryIO | PIL.Image.Image, name: str) -> tuple[Pixels, tuple[str, ...]]:
    try:
        if isinstance(source, PIL.Image.Image):
            return _from_pil(source, name)
        with PIL.Image.open(source, formats=FORMATS) as im:
            return _from_pil(im, name)
    except ImageError:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as err:
        count = re.search(r"\d+", str(err))
        raise _too_large(name, f"{int(count[0]):,} pixels" if count else "far more pixels") from err
    except Exception as err:  # damaged files make Pillow raise nearly anything: OSError, SyntaxError, struct.error, KeyError...
        raise _UndecodableError from err


def _from_pil(im: PIL.Image.Image, name: str) -> tuple[Pixels, tuple[str, ...]]:
    """Decode an opened PIL image; raise an ImageError, or anything that Pillow raises on a damaged file."""
    _check_size(im.height, im.width, name)
    # Read before load(), which turns a TIFF upright by itself and forgets the file's bit depth.
    orientation = _orientation(im) if im.format == "TIFF" else 1
    deep = re.search(r";16[BLNS]", str([tile[3] for tile in getattr(im, "tile", [])])) is not None
    im.load()
    notes: list[str] = []
    pixels, frame = _flatten(im, name, notes, deep), im.tell()
    if im.format != "TIFF":
        orientation = _orientation(im)
        if orientation in _UPRIGHT:
            pixels = np.ascontiguousarray(_UPRIGHT[orientation](pixels))
    if orientation in _UPRIGHT:
        notes.append("The image was turned upright, as its EXIF orientation says.")
    if _has_frames(im):
        notes.append(f"It holds several frames or pages; only {'the first' if frame == 0 else f'number {frame + 1}'} was used.")
    return pixels, tuple(notes)


def _flatten(im: PIL.Image.Image, name: str, notes: list[str], deep: bool) -> Pixels:
    """Return the pixels of a loaded PIL image of any mode, [H, W, 1] or [H, W, 3]; add the changes to `notes`."""
    if im.mode == "F":
        return _from_array(np.asarray(im), name)[0]
    if im.mode.startswith("I"):
        values = np.asarray(im)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise image_error(
                name, f"the integer values range from {low} to {high}", "Scale them to 8 bits (0 to 255) or 16 bits (0 to 65535)"
            )
        # Mode "I" is also what PIL makes of 8-bit values put in a 32-bit array.
        if im.mode != "I" or high > 255:
            values = (values.astype(np.uint32) + 128) // 257
            notes.append("16 bits per channel were scaled to 8.")
        return values.astype(np.uint8)[..., None]
    if deep:
        notes.append("16 bits per channel were scaled to 8.")
    grey = im.mode in ("1", "L", "LA", "La")
    if im.has_transparency_data:
        im = im.convert("LA" if grey else "RGBA")
        alpha = im.getchannel("A")
        im = im.convert("L" if grey else "RGB")
        if np.asarray(alpha).min() < 255:
            white = PIL.Image.new(im.mode, im.size, "white")
            white.paste(im, mask=alpha)
            im = white
            notes.append("Transparent pixels were put on white.")
    elif im.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"{im.mode} colours were converted to RGB.")
    return as_array(im.convert("L" if grey else "RGB"))


def _from_array(array: Pixels, name: str, channels_first: bool = False) -> tuple[Pixels, tuple[str, ...]]:
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
    _check_size(array.shape[0], array.shape[1], name)
    if array.shape[2] == 4:
        return _from_pil(as_pil(array), name)
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


def _check_size(height: int, width: int, name: str) -> None:
    if height * width > MAX_PIXELS:
        raise _too_large(name, f"{width:,} x {height:,} pixels")
    if min(height, width) < MIN_SIDE:
        raise image_error(name, f"{width} x {height} pixels are too few", f"Each side must be at least {MIN_SIDE}: pass a larger image")


def _too_large(name: str, size: str) -> ImageError:
    return image_error(name, f"{size} are too many", f"At most {MAX_PIXELS:,} are accepted: scale it down first")


def _orientation(im: PIL.Image.Image) -> Any:
    try:
        return im.getexif().get(0x0112, 1)
    except Exception:  # corrupt EXIF must not kill a readable image
        return 1


def _has_frames(im: PIL.Image.Image) -> bool:
    try:
        return bool(getattr(im, "is_animated", False))
    except Exception:  # a later frame is damaged: it exists, and is not used
        return True


def _bare_png(data: bytes) -> bytes:
    """Return a PNG without its metadata: only the critical chunks (upper-case first letter) and the transparency."""
    chunks, at = [_PNG_MAGIC], len(_PNG_MAGIC)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind[:1].isupper() or kind == b"tRNS":
            chunks.append(data[at:end])
        at = end
    return b"".join(chunks)


def as_pil(pixels: Pixels) -> PIL.Image.Image:
    """Return uint8 or float32 pixels [H, W, C] as a PIL image."""
    return PIL.Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def as_array(im: PIL.Image.Image) -> Pixels:
    """Return a PIL image as pixels [H, W, C]."""
    pixels = np.array(im)
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


def printable(text: object) -> str:
    """Return one safe line: file names can hold line breaks, terminal codes and bytes that are no text."""
    line = "".join(c if c.isprintable() else "?" for c in str(text))
    return line if len(line) <= 120 else f"{line[:80]}...{line[-30:]}"


def failure_reason(err: BaseException | None) -> str:
    """Return what an error says, in one safe line; its type if it says nothing."""
    return printable(getattr(err, "strerror", None) or err or type(err).__name__)


def image_error(name: str, problem: str, advice: str) -> ImageError:
    """Return the error about an image: its name, the problem, and the next step."""
    return ImageError(f"{printable(name)}: {problem}. {advice}.")
