"""Decode files, PIL images, arrays and tensors into pixels; every bad one raises an `ImageError` that names the next step.

Nothing is fetched from the network, written to disk or logged, and only the formats in `FORMATS` are ever opened.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image

from mia_hub.errors import ImageError
from mia_hub.images import tiff
from mia_hub.images.arrays import MAX_PIXELS as MAX_PIXELS
from mia_hub.images.arrays import MIN_SIDE as MIN_SIDE
from mia_hub.images.arrays import Pixels, from_array, is_tensor, too_large
from mia_hub.images.formats import (
    ACCEPTED_FILES,
    CAMERA_RAW,
    FORMATS,
    HEAD,
    HEIC,
    KNOWN_MAGIC,
    is_heif,
    not_readable,
    reads_heif,
    register_heif,
)
from mia_hub.images.messages import failure_reason, image_error, printable
from mia_hub.images.pil_images import pixels_of
from mia_hub.images.work import PNG_MAGIC, has_too_much

ACCEPTED_TYPES = (
    "Accepted are a path, the bytes of an image file, an open binary file, a PIL image, a NumPy array, a tensor, "
    'or a dict with "bytes" or "path"'
)


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
        return from_array(source, name)
    elif is_tensor(source):
        array = source.detach().cpu()
        try:
            array = array.numpy()
        except TypeError:  # NumPy has no bfloat16
            array = array.float().numpy()
        return from_array(array, name, channels_first=True)
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
            file = printable(path)
            raise image_error(name, "there is no such file" if name == file else f"there is no file {file}", "Check the path")
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
    head = stream.read(HEAD)
    if not head:
        raise image_error(name, "the file is empty (0 bytes)", "Save or download the image again")
    foreign, failure = not_readable(head), None
    if foreign is not CAMERA_RAW:  # Pillow takes its preview for the image
        try:
            return _decode_file(stream, head, name)
        except _UndecodableError as err:
            failure = err.__cause__
    if foreign is not None and not (foreign is HEIC and reads_heif()):
        raise image_error(
            name, f"this is {foreign.kind}, which can't be read as pixels", f"{foreign.advice}. {ACCEPTED_FILES}"
        ) from failure
    unidentified = isinstance(failure, PIL.UnidentifiedImageError)
    if head[:4] in tiff.MAGIC and unidentified:
        directory = tiff.read_directory(stream)
        layout = "" if directory is None else tiff.unread_layout(directory)
        if layout:
            raise image_error(name, layout, tiff.SAVE_AGAIN) from failure
    if KNOWN_MAGIC.match(head) or is_heif(head) or not unidentified:
        why = "" if unidentified else f" ({failure_reason(failure)})"
        raise image_error(name, f"the file is damaged or cut short{why}", "Save or download the image again") from failure
    raise image_error(
        name, "this is not an image file, whatever its name says", f"{ACCEPTED_FILES}: convert it to one of these"
    ) from failure


def _decode_file(stream: BinaryIO, head: bytes, name: str) -> tuple[Pixels, tuple[str, ...]]:
    """Decode an image file, a PNG with damaged metadata without them.

    Raises:
        ImageError: if it isn't fit to be scored, or would take too much work.
        _UndecodableError: if it can't be decoded.
    """
    formats: tuple[str, ...] = FORMATS
    if is_heif(head) and reads_heif():
        register_heif()
        formats = (*FORMATS, "HEIF")
    failure = None
    if not has_too_much(stream, head, name):
        try:
            return _decode(stream, name, formats)
        except _UndecodableError as err:
            failure = err
    if head.startswith(PNG_MAGIC):
        # Pillow gives up on a bad checksum or length in a PNG's metadata, which says nothing about the pixels.
        stream.seek(0)
        try:
            pixels, notes = _decode(io.BytesIO(_bare_png(stream.read())), name)
            return pixels, (*notes, "Damaged metadata in the file was ignored.")
        except _UndecodableError as err:
            failure = failure or err
    assert failure is not None
    raise failure


class _UndecodableError(Exception):
    """Pillow failed; its own error is the cause."""


def _decode(source: BinaryIO | PIL.Image.Image, name: str, formats: tuple[str, ...] = FORMATS) -> tuple[Pixels, tuple[str, ...]]:
    try:
        if isinstance(source, PIL.Image.Image):
            return pixels_of(source, name)
        with PIL.Image.open(source, formats=formats) as im:
            return pixels_of(im, name)
    except ImageError:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as err:
        count = re.search(r"\d+", str(err))
        raise too_large(name, f"{int(count[0]):,} pixels" if count else "far more pixels") from err
    except Exception as err:  # damaged files make Pillow raise nearly anything: OSError, SyntaxError, struct.error, KeyError...
        raise _UndecodableError from err


def _bare_png(data: bytes) -> bytes:
    """Return a PNG without its metadata: only the critical chunks (upper-case first letter) and the transparency."""
    chunks, at = [PNG_MAGIC], len(PNG_MAGIC)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind[:1].isupper() or kind == b"tRNS":
            chunks.append(data[at:end])
        at = end
    return b"".join(chunks)
