"""Bounds on the work of decoding a file, known before Pillow opens it: a decoder can't be interrupted once it runs.

A few kilobytes can hold metadata that takes gigabytes of memory to read, or an image of a hundred thousand passes. What is counted here is
what costs time or memory out of proportion to the file's pixels and bytes; the files of cameras, scanners and editors are far below.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from mia_hub.images import tiff
from mia_hub.images.arrays import check_size
from mia_hub.images.formats import KNOWN_MAGIC, is_heif
from mia_hub.images.messages import image_error

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Of a JPEG, before its pixels.
MOST_SEGMENTS = 2**16
# Pixels of a progressive JPEG, each counted in each pass over it: 20 passes over the largest image. Encoders make about 10.
MOST_PASSED_PIXELS = 10**9
# Of a PNG, besides those of the pixels.
MOST_CHUNKS = 2**16
# Bytes that Pillow copies to join the comments of a GIF, block by block.
MOST_COPIED = 2**34
# Of a GIF, before its second frame.
MOST_BLOCKS = 2**20
# Of a BMP in run lengths, which Pillow decodes in Python.
MOST_RUN_LENGTH_PIXELS = 2**24
# Of a file that is looked into: no image within the limit on pixels is larger.
MOST_READ = 2**29
_NEXT_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]", re.DOTALL)
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_START_OF_SCAN, _END_OF_IMAGE, _APP1, _APP2 = 0xDA, 0xD9, 0xE1, 0xE2
_START_OF_FRAME = (0xC0, 0xC1, 0xC2)
_EXIF = b"Exif\0\0"
# In an AVIF file, EXIF data follows this mark, or the four bytes of an offset of 0.
_EXIF_IN_AVIF = re.compile(rb"(?:Exif\0\0|\0\0\0\0)(II\*\0|MM\0\*)")
# Of an AVIF file, which has one.
MOST_EXIF_PARTS = 16


def has_too_much(stream: BinaryIO, head: bytes, name: str) -> bool:
    """Whether the metadata of a PNG is to be left out; any other file with too much to do is refused. `stream` is set back to its start.

    Args:
        stream: the file.
        head: its first bytes.
        name: for messages.

    Raises:
        ImageError: for work out of proportion to the file's pixels and bytes, with what there is too much of.
    """
    problem, is_png = "", head.startswith(PNG_MAGIC)
    if head[:4] in tiff.MAGIC:
        directory = tiff.read_directory(stream)
        if directory is not None:
            tiff.check_work(directory, name)
    elif head.startswith(b"BM"):
        problem = _bmp_problem(head)
    elif KNOWN_MAGIC.match(head) or is_heif(head):
        stream.seek(0)
        if head[12:16] == b"VP8X":  # Pillow makes room for all pixels of a WebP when it opens the file
            width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
            check_size(height, width, name)
        data = stream.read(MOST_READ)
        if is_png:
            chunks = list(islice((kind for kind, _ in _png_chunks(data) if kind[:1].islower()), MOST_CHUNKS + 1))
            if len(chunks) > MOST_CHUNKS:
                stream.seek(0)
                return True
        problem = _problem(data)
    if problem:
        raise image_error(name, problem, "Open it in an image editor, and save it again")
    stream.seek(0)
    return False


def _problem(data: bytes) -> str:
    """Return what a file that is neither TIFF nor BMP has too much of, in words; "" if nothing."""
    if data.startswith(b"GIF8"):
        return _gif_problem(data)
    problem = _jpeg_problem(data) if data.startswith(b"\xff\xd8\xff") else _avif_problem(data) if data[4:8] == b"ftyp" else ""
    for exif in () if problem else _exif_parts(data):
        directory = tiff.read_directory(io.BytesIO(exif))
        if directory is not None and directory.is_bomb:
            return f"its EXIF data claims {directory.claimed:,} bytes, and the file has {len(data):,}"
    return problem


def _avif_problem(data: bytes) -> str:
    parts = sum(1 for _ in islice(_EXIF_IN_AVIF.finditer(data), MOST_EXIF_PARTS + 1))
    return f"it has more than {MOST_EXIF_PARTS} blocks of EXIF data" if parts > MOST_EXIF_PARTS else ""


def _exif_parts(data: bytes) -> Iterator[bytes]:
    """Yield the EXIF data of a file, from its TIFF header on; of a JPEG also the directory of further images, which has the same form."""
    if data.startswith(b"\xff\xd8\xff"):
        segments = (content[6:] for marker, content in jpeg_segments(data) if marker == _APP1 and content.startswith(_EXIF))
        yield b"".join(segments)  # Pillow joins them
        yield from (content[4:] for marker, content in jpeg_segments(data) if marker == _APP2 and content.startswith(b"MPF\0"))
    elif data.startswith(PNG_MAGIC):
        yield from (content for kind, content in _png_chunks(data) if kind == b"eXIf")
    elif data.startswith(b"RIFF"):
        yield from (content.removeprefix(_EXIF) for kind, content in _riff_chunks(data) if kind == b"EXIF")
    else:  # an AVIF, in which they may be anywhere
        yield from (data[match.start(1) :] for match in islice(_EXIF_IN_AVIF.finditer(data), MOST_EXIF_PARTS))


def _bmp_problem(head: bytes) -> str:
    if len(head) < 34:
        return ""
    width, height, _, compression = struct.unpack_from("<iiII", head, 18)
    pixels = abs(width * height)
    in_runs = int.from_bytes(head[14:18], "little") >= 40 and compression in (1, 2)
    return (
        f"its {pixels:,} pixels are in run lengths; at most {MOST_RUN_LENGTH_PIXELS:,} are read"
        if in_runs and pixels > MOST_RUN_LENGTH_PIXELS
        else ""
    )


def _jpeg_problem(data: bytes) -> str:
    scans, pixels = 0, 0
    for segments, (marker, content) in enumerate(jpeg_segments(data), 1):
        if marker in _START_OF_FRAME and len(content) >= 5:
            height, width = struct.unpack_from(">HH", content, 1)
            pixels = height * width
        scans += marker == _START_OF_SCAN
        if segments > MOST_SEGMENTS:
            return f"it has more than {MOST_SEGMENTS:,} segments"
        if scans * pixels > MOST_PASSED_PIXELS:
            return f"it has {scans} passes or more over its {pixels:,} pixels"
    return ""


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment of the first image in a JPEG file, as far as it is whole."""
    at = 2
    while match := _NEXT_MARKER.search(data, at):
        marker, at = data[match.start() + 1], match.end()
        if marker == _END_OF_IMAGE:
            return
        if marker in _ALONE:
            continue
        if at + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, at)
        yield marker, data[at + 2 : at + length]
        at += length


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk of a PNG, as far as it is whole."""
    at = len(PNG_MAGIC)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + 8 + length] if kind == b"eXIf" else b""
        at += 12 + length


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk of a WebP file, as far as it is whole."""
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + length] if kind == b"EXIF" else b""
        at += 8 + length + length % 2


def _gif_problem(data: bytes) -> str:
    """Walk the blocks of the first frame, and of what stands before the second."""
    if len(data) < 13:
        return ""
    at, blocks, comments, comment_bytes, frames = 13 + _table_bytes(data[10]), 0, 0, 0, 0
    while at + 2 < len(data) and frames < 2:
        kind, label = data[at], data[at + 1]
        if kind == 0x2C and at + 10 < len(data):
            frames += 1
            at += 11 + _table_bytes(data[at + 9])
        elif kind == 0x21:
            at += 2
        else:  # Pillow steps over other bytes, too
            blocks, at = blocks + 1, at + 1
            continue
        is_comment = kind == 0x21 and label == 0xFE
        while at < len(data) and data[at]:
            blocks, comments, comment_bytes = blocks + 1, comments + is_comment, comment_bytes + is_comment * data[at]
            at += 1 + data[at]
        at += 1
        if comments * comment_bytes > MOST_COPIED:
            return f"its comments have {comment_bytes:,} bytes or more in {comments:,} blocks"
        if blocks > MOST_BLOCKS:
            return f"its first frame is in more than {MOST_BLOCKS:,} blocks"
    return ""


def _table_bytes(flags: int) -> int:
    """Return the size of the colour table that flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 128 else 0
