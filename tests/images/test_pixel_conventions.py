"""Files of every layout against the pixels that they mean: photometric interpretations, depths, byte orders, planes, transparency."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from support.image_files import SMOOTH, chunk, png, saved
from support.tiff_files import DEFLATE, LONG, RAW, SHORT, tiff

from mia_hub.errors import ImageError
from mia_hub.images.sources import open_image

HEIGHT, WIDTH = 9, 13
RNG = np.random.default_rng(7)


class File(NamedTuple):
    """A file, the 8-bit pixels ``[H, W, C]`` that it means, and how far off they may be."""

    data: bytes
    expected: np.ndarray
    tolerance: float = 0.51


def levels(bits: int, channels: int) -> np.ndarray:
    """Random samples, with both ends of their range."""
    samples = RNG.integers(0, 2**bits, (HEIGHT, WIDTH, channels))
    samples[0, :2] = [[0] * channels, [2**bits - 1] * channels]
    return samples


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return colours * alpha + 255 * (1 - alpha)


# ---- TIFF

ENDS, COMPRESSIONS = ("<", ">"), (RAW, DEFLATE)


def grey_tiff(white: bool, bits: int, endian: str, compression: int, planar: int, order: int) -> File:
    samples = levels(bits, 1)
    expected = samples * 255.0 / (2**bits - 1)
    data = tiff(samples, bits, 0 if white else 1, endian=endian, compression=compression, planar=planar, fill_order=order)
    return File(data, 255 - expected if white else expected)


def integer_tiff(bits: int, signed: bool, endian: str, compression: int, planar: int) -> File:
    """16-bit values in integers that could hold more."""
    samples = levels(15, 1)
    data = tiff(samples, bits, 1, endian=endian, compression=compression, planar=planar, sample_format=2 if signed else 1)
    return File(data, samples * 255.0 / 65535)


def float_tiff(white: bool, endian: str, compression: int, planar: int) -> File:
    samples = RNG.random((HEIGHT, WIDTH, 1), dtype=np.float32)
    data = tiff(samples, 32, 0 if white else 1, endian=endian, compression=compression, planar=planar, sample_format=3)
    return File(data, 255 * (1 - samples if white else samples), 1e-3)


def rgb_tiff(bits: int, extra: tuple[int, ...], endian: str, compression: int, planar: int) -> File:
    samples, top = levels(bits, 3 + len(extra)), 2**bits - 1
    alpha = samples[..., 3:4] / top
    if extra == (1,):  # multiplied with the transparency
        samples[..., :3] = samples[..., :3] * alpha
    expected = samples[..., :3] * 255.0 / top
    if extra == (1,):
        expected = expected + 255 * (1 - alpha)
    elif extra == (2,):
        expected = on_white(expected, alpha)
    # 16-bit colours are cut to 8 bits, not rounded; transparency mixes rounded values.
    tolerance = {(): 1, (0,): 1, (1,): 3, (2,): 2}[extra]
    return File(tiff(samples, bits, 2, endian=endian, compression=compression, planar=planar, extra=extra), expected, tolerance)


def cmyk_tiff(bits: int, endian: str, compression: int, planar: int) -> File:
    samples = levels(bits, 4)
    inks = samples / (2**bits - 1)
    expected = 255 * (1 - inks[..., :3]) * (1 - inks[..., 3:])
    return File(tiff(samples, bits, 5, endian=endian, compression=compression, planar=planar), expected, 2)


def palette_tiff(bits: int, extra: tuple[int, ...], endian: str, compression: int, planar: int) -> File:
    samples, colours = levels(bits, 1 + len(extra)), RNG.integers(0, 256, (2**bits, 3)) * 257
    expected = colours[samples[..., 0]] / 257.0
    if extra == (2,):
        expected = on_white(expected, samples[..., 1:] / 255)
    data = tiff(samples, bits, 3, endian=endian, compression=compression, planar=planar, extra=extra, colours=colours)
    return File(data, expected, 1 if extra == (2,) else 0)


def ycbcr_tiff(endian: str, compression: int, planar: int) -> File:
    samples = levels(8, 3)
    y, cb, cr = (samples[..., i] - 128 * (i > 0) for i in range(3))
    expected = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2).clip(0, 255)
    data = tiff(samples, 8, 6, endian=endian, compression=compression, planar=planar, tags=[(530, SHORT, (1, 1))])
    return File(data, expected, 2)


def strips_tiff(planar: int, compression: int) -> File:
    samples = levels(8, 3)
    return File(tiff(samples, 8, 2, planar=planar, compression=compression, rows_per_strip=4), samples)


def grey_alpha_tiff(endian: str, compression: int) -> File:
    samples = levels(8, 2)
    expected = on_white(samples[..., :1], samples[..., 1:] / 255)
    return File(tiff(samples, 8, 1, endian=endian, compression=compression, extra=(2,)), expected, 1)


TIFFS: dict[str, Callable[[], File]] = {}


def add(name: str, make: Callable[..., File], *choices: tuple) -> None:
    for values in product(*choices):
        TIFFS[f"{name} {values}"] = lambda values=values: make(*values)


add("grey: white, bits, end, compression, planar, fill order", grey_tiff, (False, True), (1, 2, 4, 8), ENDS, COMPRESSIONS, (1, 2), (1,))
add("grey: bits reversed", grey_tiff, (False, True), (1, 2, 4, 8), ENDS, (RAW,), (1,), (2,))
add("16 bits", grey_tiff, (False, True), (16,), ("<",), COMPRESSIONS, (1, 2), (1,))
add("16 bits, big-endian", grey_tiff, (False,), (16,), (">",), COMPRESSIONS, (1, 2), (1,))
add("12 bits", grey_tiff, (False,), (12,), ("<",), COMPRESSIONS, (1,), (1,))
add("integers: bits, signed", integer_tiff, (32,), (True, False), ("<",), COMPRESSIONS, (1, 2))
add("integers: bits, signed", integer_tiff, (16, 32), (True,), ENDS, COMPRESSIONS, (1, 2))
add("floats: white", float_tiff, (False, True), ENDS, COMPRESSIONS, (1, 2))
add("RGB: bits, extra, end, compression, planar", rgb_tiff, (8, 16), ((), (1,), (2,)), ENDS, COMPRESSIONS, (1, 2))
add("RGB: bits, extra, end, compression, planar", rgb_tiff, (8, 16), ((0,),), ENDS, COMPRESSIONS, (1,))
add("CMYK: bits, end, compression, planar", cmyk_tiff, (8, 16), ENDS, COMPRESSIONS, (1, 2))
add("palette: bits, extra, end, compression, planar", palette_tiff, (1, 2, 4, 8), ((),), ENDS, COMPRESSIONS, (1, 2))
add("palette: bits, extra, end, compression, planar", palette_tiff, (8,), ((0,), (2,)), ENDS, COMPRESSIONS, (1,))
add("YCbCr: end, compression, planar", ycbcr_tiff, ENDS, COMPRESSIONS, (1, 2))
add("strips: planar, compression", strips_tiff, (1, 2), COMPRESSIONS)
add("grey and alpha: end, compression", grey_alpha_tiff, ENDS, COMPRESSIONS)

# ---- PNG


def png_of(samples: np.ndarray, bits: int, colour: int, *before: bytes) -> bytes:
    """Return a PNG of samples ``[H, W, C]``."""
    flat = samples.reshape(HEIGHT, -1)
    if bits < 8:
        places = np.arange(bits - 1, -1, -1)
        flat = np.packbits((flat[..., None] >> places & 1).reshape(HEIGHT, -1).astype(np.uint8), axis=1)
    rows = flat.astype(">u2" if bits == 16 else "u1")
    return png(WIDTH, HEIGHT, bits, colour, zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)), before=before)


def grey_png(bits: int, transparent: bool) -> File:
    samples = levels(bits, 1)
    expected, colour = samples * 255.0 / (2**bits - 1), int(samples[3, 4, 0])
    before = [chunk(b"gAMA", struct.pack(">I", 100_000))] + [chunk(b"tRNS", struct.pack(">H", colour))] * transparent
    return File(png_of(samples, bits, 0, *before), np.where(samples == colour, 255, expected) if transparent else expected)


def rgb_png(bits: int, transparent: bool) -> File:
    samples = levels(bits, 3)
    expected, colour = samples * 255.0 / (2**bits - 1), samples[3, 4]
    before = [chunk(b"tRNS", struct.pack(">3H", *colour))] * transparent
    same = (samples == colour).all(axis=2, keepdims=True)
    return File(png_of(samples, bits, 2, *before), np.where(same, 255, expected) if transparent else expected, 1)


def alpha_png(bits: int, colour: int) -> File:
    samples = levels(bits, {4: 2, 6: 4}[colour]) * 1.0
    expected = on_white(samples[..., :-1] * 255 / (2**bits - 1), samples[..., -1:] / (2**bits - 1))
    return File(png_of(samples.astype(int), bits, colour), expected, 2)


def palette_png(bits: int, alphas: int) -> File:
    samples, colours, alpha = levels(bits, 1), RNG.integers(0, 256, (2**bits, 3)), np.full((2**bits, 1), 255)
    alpha[:alphas, 0] = RNG.integers(0, 256, alphas)
    before = [chunk(b"PLTE", colours.astype(np.uint8).tobytes())]
    before += [chunk(b"tRNS", alpha[:alphas].astype(np.uint8).tobytes())] * (alphas > 0)
    expected = on_white(colours[samples[..., 0]], alpha[samples[..., 0]] / 255)
    return File(png_of(samples, bits, 3, *before), expected, 1)


OTHERS: dict[str, Callable[[], File]] = {
    **{f"grey PNG of {b} bits, {t}": lambda b=b, t=t: grey_png(b, t) for b, t in product((1, 2, 4, 8, 16), (False, True))},
    **{f"RGB PNG of {b} bits, {t}": lambda b=b, t=t: rgb_png(b, t) for b, t in product((8, 16), (False, True))},
    **{f"PNG of {b} bits with alpha, {c}": lambda b=b, c=c: alpha_png(b, c) for b, c in product((8, 16), (4, 6))},
    **{f"palette PNG of {b} bits, {a}": lambda b=b, a=a: palette_png(b, a) for b, a in ((1, 0), (1, 1), (2, 2), (4, 9), (8, 0), (8, 200))},
}


# ---- BMP


def bmp(bits: int, top_down: bool) -> File:
    """Return an uncompressed BMP; one of 16 bits has 5 per colour."""
    channels = 1 if bits <= 8 else 3
    samples = levels(5 if bits == 16 else min(bits, 8), channels)
    colours = RNG.integers(0, 256, (2**bits if bits <= 8 else 0, 3))
    if bits <= 8:
        places = np.arange(bits - 1, -1, -1)
        rows = np.packbits((samples[..., 0, None] >> places & 1).reshape(HEIGHT, -1).astype(np.uint8), axis=1)
        expected = colours[samples[..., 0]]
    elif bits == 16:
        rows = (samples @ [1 << 10, 1 << 5, 1]).astype("<u2").view(np.uint8).reshape(HEIGHT, -1)
        expected = samples * 255 / 31
    else:
        rows = (
            np.concatenate([samples[..., ::-1], np.zeros((HEIGHT, WIDTH, bits // 8 - 3), int)], axis=2).reshape(HEIGHT, -1).astype(np.uint8)
        )
        expected = samples
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    pixels = (rows if top_down else rows[::-1]).tobytes()
    table = np.concatenate([colours[:, ::-1], np.zeros((len(colours), 1), int)], axis=1).astype(np.uint8).tobytes()
    start = 54 + len(table)
    head = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, -HEIGHT if top_down else HEIGHT, 1, bits, 0, len(pixels), 0, 0, len(colours), 0)
    return File(head + info + table + pixels, expected, 1)


OTHERS |= {f"BMP of {b} bits, {t}": lambda b=b, t=t: bmp(b, t) for b, t in product((1, 4, 8, 16, 24, 32), (False, True))}


@pytest.mark.parametrize("case", [*TIFFS, *OTHERS])
def test_the_pixels_are_those_that_the_file_means(case):
    file = (TIFFS | OTHERS)[case]()
    for source in (file.data, Image.open(io.BytesIO(file.data))):
        pixels = open_image(source).pixels
        values = pixels * 255.0 if pixels.dtype == np.float32 else pixels.astype(float)
        assert values.shape[:2] == file.expected.shape[:2] and values.shape[2] in (1, 3)
        assert np.abs(values - file.expected).max() <= file.tolerance


# ---- what is refused by name: (file, words of the message)

SAVE_AGAIN = "Save it as RGB or grey with 8 or 16 bits per channel"
REFUSED = {
    "half floats": (lambda: tiff(levels(1, 1).astype(np.float16), 16, 1, sample_format=3), "16-bit floats", SAVE_AGAIN),
    "doubles": (lambda: tiff(levels(1, 1).astype(float), 64, 1, sample_format=3), "64-bit floats", SAVE_AGAIN),
    "floats outside [0, 1]": (lambda: tiff(levels(4, 1).astype(np.float32), 32, 1, sample_format=3), "range from 0 to 15", "x / 255"),
    "RGB floats": (lambda: tiff(levels(1, 3).astype(np.float32), 32, 2, sample_format=3), "32-bit floats (RGB, 3 channels)", SAVE_AGAIN),
    "negative 16 bits": (lambda: tiff(levels(8, 1) - 9, 16, 1, sample_format=2), "integer values range from -9", "0 to 65535"),
    "negative 32 bits": (lambda: tiff(levels(8, 1) - 9, 32, 1, sample_format=2), "integer values range from -9", "0 to 65535"),
    "signed RGB": (lambda: tiff(levels(7, 3), 8, 2, sample_format=2), "8-bit signed integers (RGB", SAVE_AGAIN),
    "10 bits": (lambda: tiff(levels(10, 1), 10, 1), "10-bit unsigned integers (grey, 1 channel)", SAVE_AGAIN),
    "32-bit RGB": (lambda: tiff(levels(16, 3), 32, 2), "32-bit unsigned integers (RGB", SAVE_AGAIN),
    "white is zero, 16 bits, big-endian": (lambda: tiff(levels(16, 1), 16, 0, endian=">"), "16-bit unsigned integers (grey", SAVE_AGAIN),
    "two grey channels": (lambda: tiff(levels(8, 2), 8, 1, extra=(0,)), "(grey, 2 channels)", SAVE_AGAIN),
    "grey and alpha apart": (lambda: tiff(levels(8, 2), 8, 1, extra=(2,), planar=2, compression=DEFLATE), "is stored apart", SAVE_AGAIN),
    "a colour filter": (lambda: tiff(levels(8, 1), 8, 32803), "colours of kind 32803", SAVE_AGAIN),
    "ICC LAB": (lambda: tiff(levels(8, 3), 8, 9), "ICC LAB", SAVE_AGAIN),
    "other inks": (lambda: tiff(levels(8, 4), 8, 5, tags=[(332, SHORT, (2,))]), "its inks are not cyan", "Save it as RGB"),
    "JPEG 2000 inside": (lambda: tiff(levels(8, 3), 8, 2, tags=[(259, SHORT, (34712,))]), "compression (number 34712", SAVE_AGAIN),
    "DNG": (lambda: tiff(levels(8, 3), 8, 2, tags=[(50706, LONG, (1,))]), "this is a camera raw file", "raw converter"),
    "preview of a raw": (lambda: tiff(levels(8, 3), 8, 2, tags=[(254, LONG, (1,)), (330, LONG, (8,))]), "is a preview", "raw"),
    "missing strips": (lambda: tiff(levels(8, 1), 8, 1, tags=[(278, LONG, (4,))]), "1 of 3 strips or tiles", "download"),
    "missing planes": (lambda: tiff(levels(8, 3), 8, 2, tags=[(284, SHORT, (2,))]), "1 of 3 strips or tiles are there", "download"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read_is_named(case):
    make, what, advice = REFUSED[case]
    with pytest.raises(ImageError) as caught:
        open_image(make(), name="the scan")
    message = str(caught.value)
    assert message.startswith("the scan: ") and what in message and advice in message, message


def test_signed_bytes_without_a_negative_value_are_read():
    samples = levels(7, 1)
    np.testing.assert_array_equal(open_image(tiff(samples, 8, 1, sample_format=2)).pixels, samples)
    with pytest.raises(ImageError, match=r"integer values range from -1 to 126\. Negative"):
        open_image(tiff(samples - 1, 8, 1, sample_format=2))


# ---- notes


@pytest.mark.parametrize("mark", [b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>', b"urn:iso:std:iso:ts:21496:-1\0"])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_gain_map_is_named(mark, frames):
    data = saved(SMOOTH, "MPO", save_all=True, append_images=[Image.fromarray(SMOOTH)]) if frames == 2 else saved(SMOOTH, "JPEG")
    kind = b"\xff\xe1" if mark.startswith(b"http") else b"\xff\xe2"
    ultra = data[:2] + kind + struct.pack(">H", len(mark) + 2) + mark + data[2:]
    image = open_image(ultra)
    assert image.notes == ("It holds a gain map for brighter screens (HDR), which was ignored.",)
    np.testing.assert_array_equal(image.pixels, open_image(data).pixels)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_depth_is_noted(bits):
    notes = open_image(tiff(levels(bits, 1), bits, 1)).notes
    assert notes == ((f"{bits} bits per channel were scaled to 8.",) if bits > 8 else ())
