"""Image files of every kind, and pixels to put in them."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)
GREY = RGB[..., 0].copy()
SMOOTH = np.linspace(0, 255, 64 * 96 * 3).reshape(64, 96, 3).astype(np.uint8)
FLOAT = RGB / np.float32(255)


def saved(array_or_image, fmt: str, **options) -> bytes:
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes, bad: bool = False) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ bad)


def png(width: int, height: int, depth: int, colour: int, data: bytes, *, before: tuple = (), after: tuple = ()) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"".join((b"\x89PNG\r\n\x1a\n", header, *before, chunk(b"IDAT", data), *after, chunk(b"IEND", b"")))


def grey_png(**chunks) -> bytes:
    return png(32, 24, 8, 0, zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY)), **chunks)


def real_bomb() -> bytes:
    """A complete PNG of 20,000 x 20,000 1-bit pixels: 400 megapixels in a few tens of kilobytes."""
    packer, row = zlib.compressobj(6), bytes(1 + 20_000 // 8)
    return png(20_000, 20_000, 1, 0, b"".join([packer.compress(row) for _ in range(20_000)] + [packer.flush()]))


def frames(count: int = 3) -> dict:
    rest = [Image.fromarray(np.roll(RGB, i + 1, 0)) for i in range(count - 1)]
    return {"save_all": True, "append_images": rest}


def exif(orientation: int) -> Image.Exif:
    out = Image.Exif()
    out[0x0112] = orientation
    return out


class Listed:
    """A collection that counts what is taken from it."""

    def __init__(self, items):
        self.items, self.taken = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        self.taken.append(i)
        return self.items[i]


def open_files() -> list[str]:
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
