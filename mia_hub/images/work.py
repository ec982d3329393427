"""Bounds on the work of decoding a file, known before Pillow opens it: a decoder can't be interrupted once it runs.

A few kilobytes can hold metadata that takes gigabytes of memory to read, or an image of a hundred thousand passes. What is counted here is
what costs time or memory out of proportion to the file's pixels and bytes; the files of cameras, scanners and editors are far below.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from mia_hub.images import tiff
from mia_hub.images.formats import KNOWN_MAGIC
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
# Of a file that is looked into: no image within the limit on pixels is larger.
MOST_READ = 2**29
_NEXT_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]", re.DOTALL)
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1
_START_OF_FRAME = (0xC0, 0xC1, 0xC2)
# What stands before EXIF data in a JPEG, PNG or AVIF file; in a WebP file, 4 bytes of length follow.
_BEFORE_EXIF = (b"Exif\0\0", b"eXIf", b"\0\0\0\0")


def has_too_much(stream: BinaryIO, head: bytes, name: str) -> bool:
    """Whether the metadata of a PNG are to be left out; any other file with too much to do is refused. `stream` is set back to its start.

    Args:
        stream: the file.
        head: its first bytes.
        name: for messages.

    Raises:
        ImageError: for work out of proportion to the file's pixels and bytes, with what there is too much of.
    """
    many_chunks, problem = False, ""
    if head[:4] in tiff.MAGIC:
        directory = tiff.read_directory(stream)
        if directory is not None:
            tiff.check_work(directory, name)
    elif KNOWN_MAGIC.match(head):
        stream.seek(0)
        data = stream.read(MOST_READ)
        if head.startswith(PNG_MAGIC):
            many_chunks = _has_many_chunks(data)
        elif head.startswith(b"\xff\xd8\xff"):
            problem = _jpeg_problem(data)
        elif head.startswith(b"GIF8"):
            problem = _gif_problem(data)
        problem = problem or _exif_problem(data)
    if problem:
        raise image_error(name, problem, "Open it in an image editor, and save it again")
    stream.seek(0)
    return many_chunks


def _exif_problem(data: bytes) -> str:
    for magic in (b"II*\0", b"MM\0*"):
        at = data.find(magic)
        while at >= 0:
            before = data[max(at - 8, 0) : at]
            if before.endswith(_BEFORE_EXIF) or before.startswith(b"EXIF"):
                directory = tiff.read_directory(io.BytesIO(data[at:]))
                if directory is not None and directory.is_bomb:
                    return f"its EXIF data claims {directory.claimed:,} bytes, and the file has {len(data):,}"
            at = data.find(magic, at + 1)
    return ""


def _jpeg_problem(data: bytes) -> str:
    scans, pixels, exif = 0, 0, []
    for segments, (marker, content) in enumerate(jpeg_segments(data), 1):
        if marker in _START_OF_FRAME and len(content) >= 5:
            height, width = struct.unpack_from(">HH", content, 1)
            pixels = height * width
        scans += marker == _START_OF_SCAN
        if marker == _APP1 and content.startswith(b"Exif\0\0"):
            exif.append(content[6:])
        if segments > MOST_SEGMENTS:
            return f"it has more than {MOST_SEGMENTS:,} segments"
        if scans * pixels > MOST_PASSED_PIXELS:
            return f"it has {scans} passes or more over its {pixels:,} pixels"
    # Pillow joins them.
    return _exif_problem(b"Exif\0\0" + b"".join(exif)) if len(exif) > 1 else ""


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


def _has_many_chunks(data: bytes) -> bool:
    """Whether a PNG has so many chunks besides its pixels that reading them takes long."""
    number, at = 0, len(PNG_MAGIC)
    while at + 8 <= len(data) and number <= MOST_CHUNKS:
        length, kind = struct.unpack_from(">I4s", data, at)
        number += kind[:1].islower()
        at += 12 + length
    return number > MOST_CHUNKS


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
