"""Small files that take a decoder long, or much memory, each in one way."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from support.image_files import GREY, RGB, SMOOTH, chunk, frames, grey_png, saved
from support.tiff_files import LONG, tiff


def greedy_directory(tags: int, padding: int) -> bytes:
    """TIFF data whose tags all claim the same bytes."""
    start = 8 + padding
    entries = b"".join(struct.pack("<HHII", 40_000 + i, 1, padding, 8) for i in range(tags))
    return b"II*\0" + struct.pack("<I", start) + bytes(padding) + struct.pack("<H", tags) + entries + bytes(4)


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    data = saved(SMOOTH, "JPEG")
    return data[:2] + b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in segments) + data[2:]


def jpeg_with_scans(copies: int) -> bytes:
    """A progressive JPEG that states 49 megapixels, and whose last scan is repeated."""
    data = saved(SMOOTH, "JPEG", progressive=True)
    size = data.index(b"\xff\xc2") + 5
    data = data[:size] + struct.pack(">HH", 7000, 7000) + data[size + 4 :]
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * copies + data[-2:]


def webp_with_exif(exif: bytes) -> bytes:
    data = saved(RGB, "WEBP", lossless=True, exif=b"Exif\0\0MM\0*" + bytes(20))
    at = data.index(b"EXIF")
    body = data[8:at] + b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_with(*extensions: tuple[int, list[bytes]]) -> bytes:
    """A GIF with extensions, of a label and blocks, before its frame."""
    data = saved(GREY, "GIF")
    at = 13 + (3 << ((data[10] & 7) + 1))
    blocks = b"".join(
        bytes([0x21, label]) + b"".join(bytes([len(block)]) + block for block in content) + b"\0" for label, content in extensions
    )
    return data[:at] + blocks + data[at:]


def run_length_bmp(width: int, height: int) -> bytes:
    """A BMP in which a run of one pixel begins each row, and the rest of the row is left out."""
    runs = b"\1\0\0\0" * height + b"\0\1"
    head = struct.pack("<2sIHHI", b"BM", 54 + 1024 + len(runs), 0, 0, 54 + 1024)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024) + runs


def many_frames(count: int) -> bytes:
    """A GIF whose first frame is followed by copies of the second."""
    data = saved(GREY, "GIF", **frames(2))
    first = data.index(b"\x2c", 13 + 768)
    second = data.index(b"\x21\xf9", first)
    return data[:second] + data[second:-1] * count + data[-1:]


def bombs() -> Iterator[tuple[str, bytes, str]]:
    """Yield names, files, and words of the message that refuses each."""
    greedy = greedy_directory(2600, 33_000)
    yield "TIFF: tags that overlap", greedy, "tags claim 85,800,000 bytes"
    yield "TIFF: the same with its number reversed", b"II\0*" + greedy[4:], "tags claim 85,800,000 bytes"
    nested = tiff(np.zeros((9, 9, 1), int), 8, 1, tags=[(34665, LONG, (0,))])
    at = nested.index(struct.pack("<HHI", 34665, LONG, 1)) + 8
    yield (
        "TIFF: EXIF tags that overlap",
        nested[:at] + struct.pack("<I", len(nested) + 33_000) + nested[at + 4 :] + greedy[8:],
        "tags claim",
    )
    yield "PNG: EXIF tags that overlap", grey_png(before=(chunk(b"eXIf", greedy),)), "EXIF data claims 85,800,000 bytes"
    yield "JPEG: EXIF tags that overlap", jpeg_with((0xE1, b"Exif\0\0" + greedy)), "EXIF data claims 85,800,000 bytes"
    yield "JPEG: tags of further images that overlap", jpeg_with((0xE2, b"MPF\0" + greedy)), "claims 85,800,000 bytes"
    parts = [greedy[i : i + 50_000] for i in range(0, len(greedy), 50_000)]
    yield "JPEG: EXIF in parts", jpeg_with(*((0xE1, b"Exif\0\0" + part) for part in parts)), "EXIF data claims 85,800,000 bytes"
    yield "WebP: EXIF tags that overlap", webp_with_exif(greedy), "EXIF data claims 85,800,000 bytes"
    avif = saved(SMOOTH, "AVIF")
    yield "AVIF: EXIF tags that overlap", saved(SMOOTH, "AVIF", exif=b"Exif\0\0" + greedy), "EXIF data claims 85,800,000 bytes"
    yield "AVIF: many marks of EXIF", avif + (bytes(4) + b"II*\0") * 17, "more than 16 blocks of EXIF"
    yield "AVIF of another brand", avif.replace(b"ftypavif", b"ftypmif1") + (bytes(4) + b"II*\0") * 17, "more than 16 blocks of EXIF"
    yield "JPEG: passes", jpeg_with_scans(30), "it has 21 passes or more over its 49,000,000 pixels"
    yield "JPEG: segments", jpeg_with(*[(0xEB, b"")] * 65_537), "more than 65,536 segments"
    yield "GIF: comments", gif_with((0xFE, [b"x"] * 131_073)), "its comments have 131,073 bytes or more in 131,073 blocks"
    yield "GIF: blocks", gif_with((0xFF, [b"x"] * (2**20 + 1))), "more than 1,048,576 blocks"
    yield "BMP: run lengths", run_length_bmp(7000, 7000), "its 49,000,000 pixels are in run lengths"
    yield "TIFF: strips", tiff(np.zeros((8, 8, 1), int), 8, 1, tags=[(273, LONG, (8,) * (2**20 + 1))]), "1,048,577 strips or tiles"
    tile = [(322, LONG, (60_000,)), (323, LONG, (60_000,)), (324, LONG, (8,)), (325, LONG, (64,))]
    yield "TIFF: a tile larger than the image", tiff(np.zeros((8, 8, 1), int), 8, 1, tags=tile), "tiles have 3,600,000,000 pixels"
    yield (
        "TIFF: rows that are not there",
        tiff(np.zeros((24, 32, 3), int), 8, 2, tags=[(257, LONG, (1_310_744,)), (278, LONG, (24,))]),
        "damaged",
    )


def chunky_png(chunks: int) -> bytes:
    """A PNG with many chunks of metadata."""
    return grey_png(before=(chunk(b"tEXt", b"a\0b"),) * chunks)
