"""Anything a person would pass as a picture, turned into safe decoded pixels, or into an `ImageError` that says what to do.

Nothing is fetched from the network, written to disk or logged, and only the formats in `FORMATS` are ever opened.
"""

from __future__ import annotations

import hashlib
import io
import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image

from mia_hub.errors import ImageError

MAX_PIXELS = 50_000_000
MIN_SIDE = 8
# Given to Image.open, so that nothing exotic is ever opened (EPS, for one, would start ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")

_ACCEPTED_FILES = "Accepted are PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF files"
_ACCEPTED_TYPES = (
    "Accepted are a path, the bytes of an image file, an open binary file, a PIL image, a NumPy array, a tensor, "
    'or a dict with "bytes" or "path"'
)
_ACCEPTED_ARRAYS = (
    "Accepted are uint8 arrays [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], float arrays [H, W], [H, W, C] or [C, H, W] in [0, 1], "
    "and tensors [C, H, W], with C 1 or 3"
)
_TOLERANCE = 1e-6
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_URL = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)
# How to turn [H, W, C] upright, by EXIF orientation.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: np.rot90,
}
# What people upload by mistake, told from the first 4,096 bytes: (pattern, what it is, next step).
_NOT_PICTURES = (
    (rb"(?is)\s*(<!doctype html|<html)", "a web page", "Download the picture itself and pass that"),
    (rb"(?s).*<svg[\s>]", "an SVG drawing", "Export it as PNG and pass that"),
    (rb"%PDF", "a PDF document", "Export the page as PNG and pass that"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file", "Export it as PNG and pass that"),
    (rb"version https://git-lfs", "a Git LFS pointer", "Run `git lfs pull` to get the picture itself"),
    (rb"(?s)....ftyp(hei|hev|mif1|msf1)", "a HEIC picture", "Export it as PNG or JPEG and pass that"),
    (rb"PK\x03\x04", "a zip archive", "Unpack it and pass the pictures in it"),
)
_KNOWN_MAGIC = re.compile(rb"(?s)\x89PNG|\xff\xd8\xff|RIFF....WEBP|GIF8[79]a|II\*\0|MM\0\*|....ftypavi[fs]")


@dataclass(frozen=True, eq=False)
class Picture:
    """One decoded image.

    Attributes:
        pixels: uint8 [H, W, C], or float32 [H, W, C] in [0, 1]; C is 1 or 3.
        name: what to call it in tables and messages: its file name where it has one.
        notes: what was changed on the way in, one sentence each.
    """

    pixels: np.ndarray
    name: str
    notes: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """The `content_id` of the pixels: the same for the same picture, whatever file or array it came in."""
        return content_id(self.pixels)

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    def to_pil(self) -> PIL.Image.Image:
        """The picture as an 8-bit PIL image, mode "L" or "RGB"."""
        return _as_pil(self.pixels if self.pixels.dtype == np.uint8 else np.rint(self.pixels * 255).astype(np.uint8))

    def resized(self, height: int, width: int, channels: int | None = None) -> np.ndarray:
        """The picture at a model's size: scaled until it covers the size (antialiased bicubic), then cropped at the centre.

        A picture that has the size already is not resampled. uint8 pixels are resampled as 8 bits, as the usual training pipeline does
        (PIL image, Resize of the short side, CenterCrop), and agree with it to within one of 255 levels in rare pixels; float pixels
        are resampled as float.

        Args:
            height: rows wanted.
            width: columns wanted.
            channels: 1 (ITU-R 601 luma), 3 (grey is repeated), or None to keep the picture's own.

        Returns:
            float32 [height, width, C] in [0, 1]; a fresh array, free to be changed.

        Raises:
            ImageError: for a size below 1, or other channels than 1, 3 and None.
        """
        if height < 1 or width < 1 or channels not in (None, 1, 3):
            raise ImageError(
                f"{self.name}: can't be resized to {height} x {width} with {channels} channels. "
                "Height and width start at 1, and channels is 1, 3 or None: pass the size that the model's images have."
            )
        pixels = self.pixels
        if channels == 1 and pixels.shape[2] == 3:
            pixels = _luma(pixels)
        if pixels.shape[:2] != (height, width):
            pixels = _cover(pixels, height, width)
        if channels == 3 and pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        if pixels.dtype == np.uint8:
            return pixels.astype(np.float32) / np.float32(255)
        return np.clip(pixels, 0, 1).astype(np.float32, copy=False)


def content_id(pixels: np.ndarray) -> str:
    """A name for a picture's content: 32 hex digits of a SHA-256 over its size and RGB values.

    Args:
        pixels: uint8, or float in [0, 1]; [H, W], [H, W, 1] or [H, W, 3]. Grey counts as RGB with equal channels. Floats that are all
            k / 255 (within 1e-6) count as the uint8 picture they are, so that a ToTensor'd picture and its PNG share an id.

    Raises:
        ImageError: for another dtype or shape.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not (pixels.dtype == np.uint8 or pixels.dtype.kind == "f"):
        raise ImageError(
            f"content_id: an array of {pixels.dtype} {list(pixels.shape)} is not decoded pixels. Expected is uint8, or float in [0, 1], "
            "[H, W, 1] or [H, W, 3]: pass `open_picture(...).pixels`."
        )
    kind = "rgb8"
    if pixels.dtype != np.uint8:
        exact = _as_uint8(pixels)
        if exact is not None:
            pixels = exact
        else:
            kind, pixels = "rgbf", pixels.astype("<f4") + np.float32(0)  # adding zero makes -0.0 and 0.0 the same bytes
    rgb = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    head = f"{kind}:{rgb.shape[0]}x{rgb.shape[1]}:".encode()
    return hashlib.sha256(head + rgb.tobytes()).hexdigest()[:32]


def open_picture(source: Any, name: str | None = None) -> Picture:
    """Decodes one picture.

    Transparent pixels are put on white, EXIF rotation is undone, CMYK and 16 bits become 8-bit RGB or grey, and only the first frame of
    several is used; each such change is noted. ICC profiles are ignored.

    Args:
        source: one of
            - a path (str or Path), the bytes of an image file, or an open binary file (which stays open);
            - a PIL image;
            - a NumPy array: uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (RGBA), or float in [0, 1]: [H, W], [C, H, W] if the first
              dimension is 1 or 3 and the last isn't, else [H, W, C];
            - a tensor, always [C, H, W] (or [H, W]): float in [0, 1], or uint8;
            - a dict {"bytes", "path"}, as the `datasets` library keeps undecoded images;
            - a `Picture`, which is returned as it is.
        name: what to call it; by default its file name, or else "image".

    Returns:
        The picture. Floats that are all k / 255 are stored as the uint8 picture they are: one id, one set of pixels, one score.

    Raises:
        ImageError: whenever the source can't be read or isn't fit to be scored, with the reason and the next step.
    """
    return _open(source, name, "image")


def as_pictures(images: Any) -> Sequence[Picture]:
    """A lazy sequence of pictures: each is decoded when it is asked for, and none is kept.

    Args:
        images: one of
            - anything that `open_picture` takes: a sequence of one;
            - a list or tuple of such things;
            - a NumPy array: uint8 [N, H, W] or [N, H, W, C] (three dimensions that end in 1, 3 or 4 are one picture), float [N, C, H, W];
            - a tensor [N, C, H, W];
            - an image column of a `datasets` Dataset, or any object with a length and integer indices.

    Returns:
        A sequence with `len`, integer indices (negative ones too), lazy slices and iteration. A picture without a file name is called
        "image 1", "image 2"... Indexing raises an `ImageError` that tells which image is at fault.

    Raises:
        ImageError: for no images, or for something that is neither a picture nor a sequence, such as a generator.
    """
    if isinstance(images, _Pictures):
        return images
    if images is None:
        raise ImageError(f"No images were given (None). {_ACCEPTED_TYPES}, or a list of them.")
    if isinstance(images, np.ndarray) and images.dtype.kind in "OU":
        images = images.tolist()  # an array of paths, or of pictures of several sizes
    if _is_single(images):
        items: Any = (images,)
    elif isinstance(images, (list, tuple)):
        items = tuple(images)
    elif hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        items = images
    elif hasattr(images, "__iter__"):
        raise ImageError(
            f"A {type(images).__name__} can be read only once, or in no fixed order; the audit needs images with a length and an order. "
            "Pass list(...) of it (of its first part, if it has no end)."
        )
    else:
        raise ImageError(
            f"What was given ({type(images).__name__}) is no picture. {_ACCEPTED_TYPES}, or a list of them: pass one of these."
        )
    if len(items) == 0:
        raise ImageError(f"No images were given (the {type(images).__name__} is empty). Pass at least one image.")
    return _Pictures(items, range(len(items)))


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The image files in a folder and its subfolders, by suffix, sorted by path; hidden files and folders are skipped.

    Raises:
        ImageError: if there is no such folder, or no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file, not a folder: pass it as an image" if root.is_file() else "doesn't exist: check the path of the folder"
        raise ImageError(f"{_printable(root)} {what}.")
    found = []
    for parent, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += [Path(parent, f) for f in files if not f.startswith(".") and f.lower().endswith(SUFFIXES)]
    if not found:
        raise ImageError(f"{_printable(root)} has no images; accepted: {', '.join(SUFFIXES)}. Check the folder, or convert its files.")
    return sorted(found)


class _Pictures(Sequence[Picture]):
    """A lazy view of the items at some indices."""

    def __init__(self, items: Any, indices: range) -> None:
        self._items, self._indices = items, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Pictures(self._items, self._indices[index])
        return self._decode(self._indices[operator.index(index)])

    def __iter__(self) -> Iterator[Picture]:
        # Sequence's own would take an IndexError from inside a broken collection for the end.
        return map(self._decode, self._indices)

    def _decode(self, i: int) -> Picture:
        default = f"image {i + 1}"
        try:
            item = self._items[i]
        except Exception as err:  # a column decodes its images on access, and may fail in any way
            raise _error(default, f"it can't be taken from the {type(self._items).__name__} ({_reason(err)})", "Fix or drop it") from err
        try:
            return _open(item, None, default)
        except ImageError as err:
            if len(self._items) == 1 or str(err).startswith(f"{default}:"):
                raise
            raise ImageError(f"{default} of {len(self._items)}, {err}") from err


def _is_single(images: Any) -> bool:
    """Whether it is one picture (or meant as one), rather than a collection."""
    if isinstance(images, np.ndarray) or _is_tensor(images):
        stack = images.ndim == 3 and not _is_tensor(images) and images.dtype == np.uint8 and images.shape[2] not in (1, 3, 4)
        return images.ndim < 4 and not stack
    kinds = (Picture, str, os.PathLike, bytes, bytearray, memoryview, PIL.Image.Image, Mapping)
    return isinstance(images, kinds) or hasattr(images, "read")


def _open(source: Any, name: str | None, default: str) -> Picture:
    """`open_picture`, with the name to fall back on."""
    if isinstance(source, Picture):
        return source
    if isinstance(source, Mapping):
        data, path = source.get("bytes"), source.get("path")
        if data is None and path is None:
            raise _error(
                name or default,
                f"a dict with the keys {sorted(map(str, source))} is no picture",
                'Pass the picture in it (for a dataset, its image column: data["image"]), or a dict with "bytes" or "path"',
            )
        name = name or (_file_name(path) if path is not None else None)
        source = path if data is None else data
    if isinstance(source, str) and _URL.match(source):
        raise _error(
            name or default,
            f"{_printable(source)} is a URL, and nothing is fetched from the network",
            "Download the picture and pass the path of the file",
        )
    name = _printable(name or _file_name(source) or default)
    notes: tuple[str, ...] = ()
    if isinstance(source, (str, os.PathLike)):
        pixels, notes = _from_path(source, name)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        pixels, notes = _from_stream(io.BytesIO(source), name)
    elif isinstance(source, PIL.Image.Image):
        try:
            pixels, notes = _decode(source, name)
        except _UndecodableError as err:
            raise _error(name, f"the PIL image can't be decoded ({_reason(err.__cause__)})", "Open it again, from a complete file") from err
    elif isinstance(source, np.ndarray):
        pixels, notes = _from_array(source, name)
    elif _is_tensor(source):
        array = source.detach().cpu()
        try:
            array = array.numpy()
        except TypeError:  # NumPy has no bfloat16
            array = array.float().numpy()
        pixels, notes = _from_array(array, name, channels_first=True)
    elif hasattr(source, "read"):
        pixels, notes = _from_file(source, name)
    else:
        raise _error(name, f"what was given ({type(source).__name__}) is no picture", f"{_ACCEPTED_TYPES}: pass one of these")
    pixels.setflags(write=False)  # the id is cached: it must stay true
    return Picture(pixels, name, notes)


def _from_path(source: str | os.PathLike[str], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    path = Path(os.fsdecode(source))
    try:
        if path.is_dir():
            raise _error(name, "this is a folder, not an image", "Pass the files in it, or use the folder option")
        if not path.exists():
            raise _error(name, f"there is no file {_printable(path)}", "Check the path")
        if not path.is_file():
            raise _error(name, "this is a device or a pipe, not a file", "Pass the path of an image file")
        with path.open("rb") as stream:
            return _from_stream(stream, name)
    except (OSError, ValueError) as err:
        raise _error(name, f"the file can't be read ({_reason(err)})", "Check the path and its permissions") from err


def _from_file(source: Any, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        if hasattr(source, "seek") and (not hasattr(source, "seekable") or source.seekable()):
            source.seek(0)
            is_text = not isinstance(source.read(0), bytes)
        else:
            source = source.read()
            is_text = not isinstance(source, bytes)
            source = None if is_text else io.BytesIO(source)
    except (OSError, ValueError) as err:
        raise _error(name, f"the file object can't be read ({_reason(err)})", "Open the file again, or pass its path") from err
    if is_text:
        raise _error(name, "the file is open in text mode", 'Open it with open(path, "rb"), or pass its path')
    return _from_stream(source, name)


def _from_stream(stream: BinaryIO, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes an image file. `stream` stands at its start, can seek, and stays open."""
    head = stream.read(4096)
    if not head:
        raise _error(name, "the file is empty (0 bytes)", "Save or download the picture again")
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
    for pattern, what, advice in _NOT_PICTURES:
        if re.match(pattern, head):
            raise _error(name, f"this is {what}, which can't be read as pixels", f"{advice}. {_ACCEPTED_FILES}") from failure
    unidentified = isinstance(failure, PIL.UnidentifiedImageError)
    if _KNOWN_MAGIC.match(head) or not unidentified:
        why = "" if unidentified else f" ({_reason(failure)})"
        raise _error(name, f"the file is damaged or cut short{why}", "Save or download the picture again") from failure
    raise _error(name, "this is not an image file, whatever its name says", f"{_ACCEPTED_FILES}: convert it to one of these") from failure


class _UndecodableError(Exception):
    """Pillow failed, in whatever way; its own error is the cause."""


def _decode(source: BinaryIO | PIL.Image.Image, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
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


def _from_pil(im: PIL.Image.Image, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decodes an opened PIL image. Raises an ImageError, or whatever Pillow raises on a damaged file."""
    _check_size(im.height, im.width, name)
    # To be asked before load(): it turns a TIFF upright by itself, and it forgets the file's bit depth.
    orientation = _orientation(im) if im.format == "TIFF" else 1
    deep = re.search(r";16[BLNS]", str([tile[3] for tile in getattr(im, "tile", [])])) is not None
    im.load()
    notes = []
    pixels, frame = _flatten(im, name, notes, deep), im.tell()
    if im.format != "TIFF":
        orientation = _orientation(im)
        if orientation in _UPRIGHT:
            pixels = np.ascontiguousarray(_UPRIGHT[orientation](pixels))
    if orientation in _UPRIGHT:
        notes.append("The picture was turned upright, as its EXIF orientation says.")
    if _has_frames(im):
        notes.append(f"It holds several frames or pages; only {'the first' if frame == 0 else f'number {frame + 1}'} was used.")
    return pixels, tuple(notes)


def _flatten(im: PIL.Image.Image, name: str, notes: list[str], deep: bool) -> np.ndarray:
    """The pixels of a loaded PIL image of any mode, [H, W, 1] or [H, W, 3]; what was changed is added to `notes`."""
    if im.mode == "F":
        return _from_array(np.asarray(im), name)[0]
    if im.mode.startswith("I"):
        values = np.asarray(im)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise _error(name, f"the integer values range from {low} to {high}", "Scale them to 8 bits (0 to 255) or 16 bits (0 to 65535)")
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
        if alpha.getextrema()[0] < 255:
            white = PIL.Image.new(im.mode, im.size, "white")
            white.paste(im, mask=alpha)
            im = white
            notes.append("Transparent pixels were put on white.")
    elif im.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"{im.mode} colours were converted to RGB.")
    return _as_array(im.convert("L" if grey else "RGB"))


def _from_array(array: np.ndarray, name: str, channels_first: bool = False) -> tuple[np.ndarray, tuple[str, ...]]:
    """Checks an array or tensor, and copies it: its owner may change it later."""
    given = f"{array.dtype} {list(array.shape)}"
    floating = array.dtype.kind == "f"
    if not floating and array.dtype != np.uint8:
        advice = {
            "b": "Multiply by 255 and use .astype(numpy.uint8) for black and white",
            "u": "Divide by its largest possible value, for floats in [0, 1]",
            "i": "If its values are 0 to 255, use .astype(numpy.uint8)",
        }.get(array.dtype.kind, "Convert it to uint8 or float")
        raise _error(name, f"an array of {given} is not taken, as its value range is unclear", f"{advice}. {_ACCEPTED_ARRAYS}")
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and (channels_first or (floating and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3))):
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] not in ((1, 3) if floating or channels_first else (1, 3, 4)):
        raise _error(name, f"the shape of {given} is not that of a picture", f"{_ACCEPTED_ARRAYS}: reorder or pick its dimensions")
    _check_size(array.shape[0], array.shape[1], name)
    if array.shape[2] == 4:
        return _from_pil(_as_pil(array), name)
    if not floating:
        return np.array(array, order="C"), ()
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise _error(name, "the array has values that are NaN or infinite", "Find where they come from; images are expected in [0, 1]")
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise _error(
            name,
            f"the float values range from {low:.4g} to {high:.4g}",
            "Images are expected in [0, 1], not [-1, 1] (use x / 2 + 0.5) or 0..255 (use x / 255, or uint8)",
        )
    pixels = np.ascontiguousarray(np.clip(array, 0, 1), np.float32)
    exact = _as_uint8(pixels)
    return pixels if exact is None else exact, ()


def _check_size(height: int, width: int, name: str) -> None:
    if height * width > MAX_PIXELS:
        raise _too_large(name, f"{width:,} x {height:,} pixels")
    if min(height, width) < MIN_SIDE:
        raise _error(name, f"{width} x {height} pixels are too few", f"Each side must be at least {MIN_SIDE}: pass a larger picture")


def _too_large(name: str, size: str) -> ImageError:
    return _error(name, f"{size} are too many", f"At most {MAX_PIXELS:,} are accepted: scale it down first")


def _orientation(im: PIL.Image.Image) -> int:
    try:
        return im.getexif().get(0x0112, 1)
    except Exception:  # corrupt EXIF must not kill a readable picture
        return 1


def _has_frames(im: PIL.Image.Image) -> bool:
    try:
        return bool(getattr(im, "is_animated", False))
    except Exception:  # a later frame is damaged: it is there, and not used
        return True


def _bare_png(data: bytes) -> bytes:
    """A PNG without its metadata: only the critical chunks (upper-case first letter) and the transparency."""
    kept, at = [_PNG_MAGIC], len(_PNG_MAGIC)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind[:1].isupper() or kind == b"tRNS":
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _as_pil(pixels: np.ndarray) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def _as_array(im: PIL.Image.Image) -> np.ndarray:
    pixels = np.array(im)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _as_uint8(pixels: np.ndarray) -> np.ndarray | None:
    """The uint8 picture that float pixels in [0, 1] are (within 1e-6), or None if they are none."""
    levels = np.rint(pixels * 255)
    exact = np.abs(pixels - levels / 255).max(initial=0) <= _TOLERANCE and levels.min(initial=0) >= 0 and levels.max(initial=0) <= 255
    return levels.astype(np.uint8) if exact else None


def _luma(pixels: np.ndarray) -> np.ndarray:
    """ITU-R 601 grey [H, W, 1] of RGB pixels, of the same dtype."""
    if pixels.dtype == np.uint8:
        return _as_array(_as_pil(pixels).convert("L"))
    return pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)


def _cover(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels scaled until they cover the size, and cropped at the centre; dtype and channels stay."""
    h, w = pixels.shape[:2]
    # The size before the crop. The crop is then cut out of the source and not of the scaled picture, which gives the same pixels and
    # never makes the whole of it: for a picture of 8 x 1,000,000 that would be huge.
    if height * w >= width * h:
        full_h, full_w = height, max(width, height * w // h)
    else:
        full_h, full_w = max(height, width * h // w), width
    top, left = round((full_h - height) / 2), round((full_w - width) / 2)
    box = (left * w / full_w, top * h / full_h, (left + width) * w / full_w, (top + height) * h / full_h)
    if pixels.dtype == np.uint8:
        return _as_array(_as_pil(pixels).resize((width, height), PIL.Image.Resampling.BICUBIC, box))
    planes = [_as_pil(plane[..., None]).resize((width, height), PIL.Image.Resampling.BICUBIC, box) for plane in np.moveaxis(pixels, 2, 0)]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def _is_tensor(x: Any) -> bool:
    # Duck typing, as torch is slow to import and not needed here. Python's file objects have a detach() too.
    return hasattr(x, "detach") and hasattr(x, "cpu")


def _file_name(source: Any) -> str | None:
    """The file name that a source knows of itself."""
    if isinstance(source, PIL.Image.Image):
        source = getattr(source, "filename", None)
    elif hasattr(source, "read"):
        source = getattr(source, "name", None)
    return Path(os.fsdecode(source)).name or None if isinstance(source, (str, os.PathLike)) else None


def _printable(text: object) -> str:
    """One safe line: file names can hold line breaks, terminal codes and bytes that are no text."""
    line = "".join(c if c.isprintable() else "?" for c in str(text))
    return line if len(line) <= 120 else f"{line[:80]}...{line[-30:]}"


def _reason(err: BaseException | None) -> str:
    return _printable(getattr(err, "strerror", None) or err or type(err).__name__)


def _error(name: str, problem: str, advice: str) -> ImageError:
    return ImageError(f"{_printable(name)}: {problem}. {advice}.")
