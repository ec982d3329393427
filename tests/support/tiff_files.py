"""TIFF files of every layout, written by hand: nothing of the decoder under test takes part in them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

SHORT, LONG = 3, 4
RAW, DEFLATE = 1, 8
_FORMATS = {SHORT: "H", LONG: "I"}


def packed(samples: np.ndarray, bits: int, endian: str, fill_order: int = 1) -> bytes:
    """Rows of samples ``[H, N]``, each row padded to whole bytes."""
    if samples.dtype.kind == "f" or bits in (8, 16, 32, 64):
        kind = samples.dtype.kind if samples.dtype.kind == "f" else "i" if samples.min(initial=0) < 0 else "u"
        data = samples.astype(np.dtype(f"{kind}{bits // 8}").newbyteorder(endian)).tobytes()
    else:
        places = np.arange(bits - 1, -1, -1)
        data = np.packbits((samples[..., None] >> places & 1).reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()
    if fill_order == 2:
        data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)), bitorder="little").tobytes()
    return data


def tiff(
    samples: np.ndarray,
    bits: int,
    photometric: int | None,
    *,
    endian: str = "<",
    sample_format: int = 1,
    compression: int = RAW,
    planar: int = 1,
    fill_order: int = 1,
    extra: Sequence[int] = (),
    colours: np.ndarray | None = None,
    tags: Sequence[tuple[int, int, Sequence[int]]] = (),
    rows_per_strip: int | None = None,
) -> bytes:
    """Return a TIFF file of samples ``[H, W, S]``.

    Args:
        colours: of a palette, uint16 ``[2 ** bits, 3]``.
        tags: further ones, as (tag, type, values); they replace those of the same number.
        rows_per_strip: one strip by default.
    """
    height, width, channels = samples.shape
    rows = rows_per_strip or height
    planes = [samples.reshape(height, -1)] if planar == 1 else [samples[..., i] for i in range(channels)]
    strips = [packed(plane[top : top + rows], bits, endian, fill_order) for plane in planes for top in range(0, height, rows)]
    if compression == DEFLATE:
        strips = [zlib.compress(strip) for strip in strips]
    offsets = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    entries = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * channels),
        259: (SHORT, [compression]),
        273: (LONG, offsets),
        277: (SHORT, [channels]),
        278: (LONG, [rows]),
        279: (LONG, [len(strip) for strip in strips]),
        284: (SHORT, [planar]),
    }
    if photometric is not None:
        entries[262] = (SHORT, [photometric])
    if fill_order != 1:
        entries[266] = (SHORT, [fill_order])
    if sample_format != 1:
        entries[339] = (SHORT, [sample_format] * channels)
    if extra:
        entries[338] = (SHORT, list(extra))
    if colours is not None:
        entries[320] = (SHORT, colours.T.ravel().tolist())
    entries |= {tag: (kind, list(values)) for tag, kind, values in tags}
    return tiff_of(b"".join(strips), entries, endian)


def tiff_of(data: bytes, entries: dict[int, tuple[int, list[int]]], endian: str = "<") -> bytes:
    """Return a TIFF file of one directory, after the data that starts at byte 8."""
    data += b"\0" * (len(data) % 2)
    start, values = 8 + len(data), b""
    after, table = start + 2 + 12 * len(entries) + 4, b""
    for tag, (kind, numbers) in sorted(entries.items()):
        content = struct.pack(endian + _FORMATS[kind] * len(numbers), *numbers)
        if len(content) > 4:
            field, values = struct.pack(endian + "I", after + len(values)), values + content + b"\0" * (len(content) % 2)
        else:
            field = content.ljust(4, b"\0")
        table += struct.pack(endian + "HHI", tag, kind, len(numbers)) + field
    magic = b"II*\0" if endian == "<" else b"MM\0*"
    return magic + struct.pack(endian + "I", start) + data + struct.pack(endian + "H", len(entries)) + table + bytes(4) + values
