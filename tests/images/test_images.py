from __future__ import annotations

import hashlib
import io
import os
import re
import socket
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mia_hub.errors import ImageError
from mia_hub.images.decoding import FORMATS, MAX_PIXELS, MIN_SIDE
from mia_hub.images.image import InputImage, content_id
from mia_hub.images.sources import as_images, find_images, open_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)
GREY = RGB[..., 0].copy()
SMOOTH = np.linspace(0, 255, 64 * 96 * 3).reshape(64, 96, 3).astype(np.uint8)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


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


# ---- bad input: (file name or None, what is passed, what the message must name, the next step)

BAD_FILES = {
    "empty": ("a.png", lambda: b"", "empty (0 bytes)", "download the image again"),
    "text": ("a.png", lambda: b"hello, I am no image\n" * 9, "not an image file", "PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF"),
    "binary": ("a.jpg", lambda: bytes(range(256)) * 8, "not an image file", "convert it"),
    "pdf": ("a.pdf", lambda: b"%PDF-1.7\n1 0 obj", "PDF", "Export the page as PNG"),
    "eps": ("a.eps", lambda: saved(RGB, "EPS"), "PostScript", "Export it as PNG"),
    "svg": ("a.svg", lambda: b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG", "Export it as PNG"),
    "html": ("a.jpg", lambda: b"\n<!DOCTYPE html><html><svg ></svg>", "a web page", "Download the image itself"),
    "lfs": ("a.jpg", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer", "git lfs pull"),
    "heic": ("a.heic", lambda: b"\0\0\0\x18ftypheic" + bytes(64), "HEIC", "Export it as PNG or JPEG"),
    "zip": ("a.zip", lambda: b"PK\x03\x04" + bytes(64), "zip", "Unpack it"),
    "other format": ("a.ppm", lambda: saved(RGB, "PPM"), "not an image file", "convert it"),
    "cut JPEG": ("a.jpg", lambda: saved(RGB, "JPEG")[:-400], "cut short", "download the image again"),
    "cut JPEG header": ("a.jpg", lambda: saved(RGB, "JPEG")[:40], "damaged", "download the image again"),
    "cut PNG": ("a.png", lambda: saved(RGB, "PNG")[:-900], "cut short", "download the image again"),
    "cut PNG header": ("a.png", lambda: saved(RGB, "PNG")[:20], "damaged", "download the image again"),
    "cut GIF": ("a.gif", lambda: saved(RGB, "GIF")[:800], "cut short", "download the image again"),
    "cut BMP": ("a.bmp", lambda: saved(RGB, "BMP")[:300], "cut short", "download the image again"),
    "cut WebP": ("a.webp", lambda: saved(RGB, "WEBP")[:200], "damaged", "download the image again"),
    "cut TIFF": ("a.tif", lambda: saved(RGB, "TIFF", compression="tiff_lzw")[:300], "damaged", "download the image again"),
    "broken PNG data": ("a.png", lambda: png(32, 24, 8, 0, b"garbage"), "damaged", "download the image again"),
    "PNG bomb header": ("a.png", lambda: png(60_000, 60_000, 8, 2, b""), "3,600,000,000 pixels", "50,000,000 are accepted: scale it down"),
    "PNG bomb": ("a.png", real_bomb, "400,000,000 pixels are too many", "50,000,000 are accepted: scale it down"),
    "just too large": ("a.png", lambda: png(10_000, 5_001, 8, 2, b""), "10,000 x 5,001 pixels are too many", "scale it down"),
    "1 x 1": ("a.png", lambda: saved(RGB[:1, :1], "PNG"), "1 x 1 pixels are too few", "at least 8"),
    "one thin side": ("a.png", lambda: saved(RGB[:7], "PNG"), "32 x 7 pixels are too few", "at least 8"),
}

FLOAT = RGB / np.float32(255)
BAD_OBJECTS = {
    "URL": (lambda: "https://example.org/a.png", "https://example.org/a.png is a URL", "Download the image"),
    "data URL": (lambda: "data:image/png;base64,AAAA", "URL", "Download the image"),
    "missing": (lambda: "/no/such/a.png", "there is no file /no/such/a.png", "Check the path"),
    "null in path": (lambda: "a\0.png", "a?.png", "Check the path"),
    "long path": (lambda: "a" * 9000, "can't be read", "Check the path"),
    "device": (lambda: Path("/dev/zero"), "device", "path of an image file"),
    "text file": (lambda: io.StringIO("x"), "text mode", 'open(path, "rb")'),
    "closed image": (lambda: (im := Image.open(io.BytesIO(saved(RGB, "PNG"))), im.close())[0], "can't be decoded", "Open it again"),
    "truncated PIL": (lambda: Image.open(io.BytesIO(saved(RGB, "JPEG")[:-400])), "truncated", "Open it again"),
    "[-1, 1]": (lambda: FLOAT * 2 - 1, "from -1 to 1", "x / 2 + 0.5"),
    "0..255 float": (lambda: RGB.astype(np.float64), "from 0 to 255", "x / 255"),
    "NaN": (lambda: np.where(FLOAT > 0.5, np.nan, FLOAT), "NaN", "Find their origin"),
    "infinite": (lambda: np.where(FLOAT > 0.5, np.inf, FLOAT), "infinite", "Find their origin"),
    "bool": (lambda: RGB > 9, "bool [24, 32, 3]", "Multiply by 255"),
    "int64": (lambda: RGB.astype(np.int64), "int64 [24, 32, 3]", ".astype(numpy.uint8)"),
    "uint16": (lambda: RGB.astype(np.uint16), "uint16", "Divide"),
    "complex": (lambda: RGB.astype(complex), "complex128", "Convert it"),
    "1-D": (lambda: np.zeros(64, np.uint8), "uint8 [64]", "[H, W, 3]"),
    "5 channels": (lambda: np.zeros((5, 24, 32), np.float32), "float32 [5, 24, 32]", "reorder"),
    "small array": (lambda: RGB[:4], "32 x 4 pixels are too few", "at least 8"),
    "empty array": (lambda: RGB[:0], "32 x 0 pixels are too few", "at least 8"),
    "large array": (lambda: np.broadcast_to(np.uint8(0), (8000, 8000)), "8,000 x 8,000 pixels are too many", "scale it down"),
    "negative 32-bit": (lambda: Image.fromarray(GREY.astype(np.int32) - 9), "range from -9", "0 to 65535"),
    "F out of range": (lambda: Image.fromarray(GREY.astype(np.float32)), "from 0 to 255", "x / 255"),
    "dataset row": (lambda: {"image": 1, "label": 2}, "keys ['image', 'label']", 'data["image"]'),
    "empty dict": (lambda: {"bytes": None, "path": None}, "['bytes', 'path']", 'dict with "bytes" or "path"'),
    "number": (lambda: 3, "an object of type int is not an image", "Accepted are a path"),
    "pair": (lambda: (RGB, 1), "an object of type tuple is not an image", "pass one of these"),
    "None": (lambda: None, "NoneType", "Accepted are a path"),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore:Corrupt EXIF data")
def test_bad_file(case, tmp_path, monkeypatch):
    name, make, what, step = BAD_FILES[case]
    data = make()
    path = tmp_path / name
    path.write_bytes(data)
    if "too large" in case or "bomb" in case:
        monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    for source, shown in ((path, name), (data, "image"), ({"bytes": None, "path": str(path)}, name)):
        with pytest.raises(ImageError) as caught:
            open_image(source)
        message = str(caught.value)
        assert message.startswith(f"{shown}: ") and what in message and step in message, message
        assert "\n" not in message and "BytesIO" not in message and "..." not in message


@pytest.mark.parametrize("case", BAD_OBJECTS)
def test_bad_object(case):
    make, what, step = BAD_OBJECTS[case]
    with pytest.raises(ImageError) as caught:
        open_image(make(), name="the upload")
    message = str(caught.value)
    assert message.startswith("the upload: ") or case == "null in path", message
    assert what in message.replace("\0", "?") and step in message, message
    assert "\0" not in message and len(message) < 600


def test_bomb_warning_as_error_is_an_image_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="100,000,000 pixels are too many"):
            open_image(png(10_000, 10_000, 8, 2, b""))


def test_folder_as_image(tmp_path):
    with pytest.raises(
        ImageError, match=r"this is a folder, not an image\. Pass the files in it; where several images are accepted, pass the folder"
    ):
        open_image(tmp_path)


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(saved(RGB, "PNG"))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"a\.png: the file can't be read \(Permission denied\)\. Check the path and its permissions"):
        open_image(path)


# ---- good files: (bytes, expected pixels or None, words in the notes)


def palette(alpha: bool) -> tuple[Image.Image, np.ndarray]:
    image = Image.new("P", (16, 16))
    image.putpalette([200, 10, 20, 0, 255, 0, 9, 9, 9])
    image.putdata(([0] * 8 + [1] * 8) * 16)
    expected = np.zeros((16, 16, 3), np.uint8)
    expected[:, :8], expected[:, 8:] = (200, 10, 20), (255, 255, 255) if alpha else (0, 255, 0)
    return image, expected


def rgba(low: int) -> np.ndarray:
    alpha = np.full((24, 32, 1), 255, np.uint8)
    alpha[:12] = low
    return np.concatenate([RGB, alpha], axis=2)


def on_white() -> np.ndarray:
    out = RGB.copy()
    out[:12] = 255
    return out


GREY16 = GREY.astype(np.uint16) * 257
CMYK = Image.fromarray(SMOOTH).convert("CMYK")
UPRIGHT = np.rot90(SMOOTH, -1)
FIRST = "only the first was used"

GOOD = {
    "PNG": (lambda: saved(RGB, "PNG"), RGB, ()),
    "grey PNG": (lambda: saved(GREY, "PNG"), GREY[..., None], ()),
    "BMP": (lambda: saved(RGB, "BMP"), RGB, ()),
    "TIFF": (lambda: saved(RGB, "TIFF"), RGB, ()),
    "LZW TIFF": (lambda: saved(RGB, "TIFF", compression="tiff_lzw"), RGB, ()),
    "WebP": (lambda: saved(RGB, "WEBP", lossless=True), RGB, ()),
    "AVIF": (lambda: saved(SMOOTH, "AVIF"), None, ()),
    "JPEG": (lambda: saved(SMOOTH, "JPEG"), None, ()),
    "grey GIF": (lambda: saved(GREY, "GIF"), None, ()),
    "1-bit": (lambda: saved(Image.fromarray(GREY > 99), "PNG"), (GREY > 99)[..., None].astype(np.uint8) * 255, ()),
    "palette": (lambda: saved(palette(False)[0], "PNG"), palette(False)[1], ()),
    "palette, alpha": (lambda: saved(palette(True)[0], "PNG", transparency=1), palette(True)[1], ("on white",)),
    "palette, alpha bytes": (lambda: saved(palette(True)[0], "PNG", transparency=b"\xff\0"), palette(True)[1], ("on white",)),
    "RGBA": (lambda: saved(rgba(0), "PNG"), on_white(), ("on white",)),
    "opaque RGBA": (lambda: saved(rgba(255), "PNG"), RGB, ()),
    "LA": (lambda: saved(Image.fromarray(rgba(0)[..., [0, 3]]), "PNG"), on_white()[..., :1], ("on white",)),
    "opaque LA": (lambda: saved(Image.fromarray(rgba(255)[..., [0, 3]]), "PNG"), GREY[..., None], ()),
    "tRNS grey": (
        lambda: saved(GREY, "PNG", transparency=int(GREY[0, 0])),
        np.where(GREY[0, 0] == GREY, 255, GREY)[..., None].astype(np.uint8),
        ("on white",),
    ),
    "CMYK": (lambda: saved(CMYK, "JPEG", quality=95), None, ("CMYK colours were converted to RGB",)),
    "LAB": (lambda: saved(Image.merge("LAB", Image.fromarray(SMOOTH).split()), "TIFF"), None, ("LAB colours",)),
    "16-bit grey": (lambda: saved(GREY16, "PNG"), GREY[..., None], ("16 bits",)),
    "16-bit grey TIFF": (lambda: saved(GREY16, "TIFF"), GREY[..., None], ("16 bits",)),
    "16-bit RGB": (
        lambda: png(32, 24, 16, 2, zlib.compress(b"".join(b"\0" + r.tobytes() for r in (RGB.astype(np.uint16) * 257).astype(">u2")))),
        RGB,
        ("16 bits",),
    ),
    "float TIFF": (lambda: saved((GREY / 255).astype(np.float32), "TIFF"), GREY[..., None], ()),
    "animated GIF": (lambda: saved(SMOOTH, "GIF", save_all=True, append_images=[Image.new("RGB", (96, 64))]), None, (FIRST,)),
    "animated WebP": (lambda: saved(RGB, "WEBP", lossless=True, **frames()), RGB, (FIRST,)),
    "animated PNG": (lambda: saved(RGB, "PNG", **frames()), RGB, (FIRST,)),
    "TIFF pages": (lambda: saved(RGB, "TIFF", **frames()), RGB, (FIRST,)),
    "MPO": (lambda: saved(SMOOTH, "MPO", save_all=True, append_images=[Image.fromarray(SMOOTH)]), None, (FIRST,)),
    "EXIF 6 PNG": (lambda: saved(SMOOTH, "PNG", exif=exif(6)), UPRIGHT, ("upright",)),
    "EXIF 6 TIFF": (lambda: saved(SMOOTH, "TIFF", exif=exif(6)), UPRIGHT, ("upright",)),
    "EXIF 6 WebP": (lambda: saved(SMOOTH, "WEBP", lossless=True, exif=exif(6)), UPRIGHT, ("upright",)),
    "EXIF 1": (lambda: saved(SMOOTH, "PNG", exif=exif(1)), SMOOTH, ()),
    "EXIF 77": (lambda: saved(SMOOTH, "PNG", exif=exif(77)), SMOOTH, ()),
    "ICC": (lambda: saved(RGB, "PNG", icc_profile=b"not a profile"), RGB, ()),
    "bad EXIF": (lambda: saved(RGB, "PNG", exif=b"Exif\0\0garbage"), RGB, ()),
    "bad EXIF JPEG": (lambda: saved(SMOOTH, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), None, ()),
    "bad text checksum": (lambda: grey_png(before=(chunk(b"tEXt", b"a\0b", True),)), GREY[..., None], ("Damaged metadata",)),
    "bad pHYs": (lambda: grey_png(before=(chunk(b"pHYs", b"abc"),)), GREY[..., None], ("Damaged metadata",)),
    "bad pHYs at the end": (lambda: grey_png(after=(chunk(b"pHYs", b"abc"),)), GREY[..., None], ("Damaged metadata",)),
    "text bomb": (lambda: grey_png(before=(chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(5_000_000))),)), GREY[..., None], ("Damaged",)),
    "extreme aspect": (lambda: saved(np.tile(GREY[:8], (1, 2000)), "PNG"), np.tile(GREY[:8], (1, 2000))[..., None], ()),
}


@pytest.mark.parametrize("case", GOOD)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_good_file(case, tmp_path):
    make, expected, notes = GOOD[case]
    data = make()
    path = tmp_path / "some image.bin"
    path.write_bytes(data)
    image = open_image(path)
    assert image.name == "some image.bin"
    assert image.pixels.dtype == np.uint8 and image.pixels.ndim == 3 and image.pixels.shape[2] in (1, 3)
    assert image.pixels.flags.c_contiguous and not image.pixels.flags.writeable
    if expected is not None:
        np.testing.assert_array_equal(image.pixels, expected)
    assert len(image.notes) == len(notes), image.notes
    for note, words in zip(image.notes, notes):
        assert words in note and note.endswith(".")
    from_bytes, from_pil = open_image(data), open_image(Image.open(io.BytesIO(data))) if "Damaged" not in str(notes) else None
    assert from_bytes.id == image.id and from_bytes.notes == image.notes
    assert from_pil is None or (from_pil.id == image.id and from_pil.notes == image.notes)


def test_lossy_colours_are_close():
    for case in ("CMYK", "JPEG", "AVIF", "MPO"):
        assert np.abs(open_image(GOOD[case][0]()).pixels.astype(int) - SMOOTH).mean() < 4, case


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_like_pillow(orientation):
    from PIL import ImageOps

    data = saved(SMOOTH, "JPEG", exif=exif(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(open_image(data).pixels, np.asarray(expected))


def test_pil_modes():
    image = Image.fromarray(RGB)
    for mode in ("HSV", "YCbCr", "RGBX", "RGBa", "RGBA", "CMYK", "P", "1", "L"):
        source = open_image(image.convert("RGBA").convert(mode) if mode == "RGBa" else image.convert(mode))
        assert source.pixels.shape == (24, 32, 1 if mode in "1L" else 3), mode
    np.testing.assert_array_equal(open_image(Image.fromarray(GREY).convert("I")).pixels[..., 0], GREY)
    wide = open_image(Image.fromarray(GREY16.astype(np.int32)))
    np.testing.assert_array_equal(wide.pixels[..., 0], GREY)
    assert wide.notes == ("16 bits per channel were scaled to 8.",)
    later = Image.open(io.BytesIO(saved(RGB, "PNG", **frames())))
    later.seek(1)
    assert "only number 2 was used" in open_image(later).notes[0]


def test_names(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(saved(RGB, "PNG"))
    assert open_image(path).name == open_image(str(path)).name == "cat.png"
    assert open_image(path, name="x").name == open_image(RGB, "x").name == "x"
    assert open_image(RGB).name == "image"
    assert open_image({"bytes": path.read_bytes(), "path": "sub/dog.png"}).name == "dog.png"
    with Image.open(path) as image:
        assert open_image(image).name == "cat.png"
    odd = tmp_path / "a\nb\x1b[31m.png"
    odd.write_bytes(path.read_bytes())
    assert open_image(odd).name == "a?b?[31m.png"
    source = open_image(path)
    assert open_image(source) is source


def test_file_objects(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(saved(RGB, "PNG"))
    with path.open("rb") as file:
        file.read(99)  # wherever it stands, it is read from its start
        assert open_image(file).name == "cat.png" and not file.closed
        file.seek(0)
        assert file.read(4) == b"\x89PNG"

    class Pipe(io.RawIOBase):
        def __init__(self, data):
            self.inner = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.inner.readinto(buffer)

    assert open_image(Pipe(path.read_bytes())).id == open_image(RGB).id
    with pytest.raises(ImageError, match=r"empty \(0 bytes\)"):
        open_image(Pipe(b""))
    with path.open() as text, pytest.raises(ImageError, match="text mode"):
        open_image(text)
    with pytest.raises(ImageError, match=r"cat\.png: the file object can't be read"):
        open_image(file)


def test_arrays_and_tensors():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(RGB.copy()).permute(2, 0, 1)
    same = [
        RGB,
        FLOAT,
        FLOAT.astype(np.float64),
        np.moveaxis(FLOAT, 2, 0),
        tensor,
        tensor.float() / 255,
        (tensor.double() / 255).requires_grad_(),
        np.concatenate([RGB, np.full((24, 32, 1), 255, np.uint8)], 2),
    ]
    for source in same:
        image = open_image(source)
        np.testing.assert_array_equal(image.pixels, RGB)
        assert image.pixels.dtype == np.uint8 and image.pixels.flags.c_contiguous
    assert open_image(tensor.float().div(255).to(torch.bfloat16)).pixels.dtype == np.float32
    for source in (GREY, GREY[..., None], GREY / 255, (GREY / 255)[None], torch.from_numpy(GREY), torch.from_numpy(GREY)[None]):
        np.testing.assert_array_equal(open_image(source).pixels, GREY[..., None])
    with pytest.raises(ImageError, match=re.escape("uint8 [24, 32, 3]") + ".*tensors \\[C, H, W\\]"):
        open_image(torch.from_numpy(RGB))
    with pytest.raises(ImageError, match=r"from -1 to 1"):
        open_image(tensor.float() / 127.5 - 1)
    half = open_image(FLOAT * np.float32(0.5))
    assert half.pixels.dtype == np.float32 and half.pixels.shape == (24, 32, 3)
    np.testing.assert_allclose(half.pixels, FLOAT * 0.5)


def test_array_is_copied():
    mine = RGB.copy()
    image = open_image(mine)
    before = image.id
    mine[:] = 0
    assert content_id(image.pixels) == before == content_id(RGB)


# ---- ids


def test_content_id_definition_is_fixed():
    assert content_id(RGB) == hashlib.sha256(b"rgb8:24x32:" + RGB.tobytes()).hexdigest()[:32]
    assert content_id(GREY) == hashlib.sha256(b"rgb8:24x32:" + np.stack([GREY] * 3, 2).tobytes()).hexdigest()[:32]
    odd = FLOAT * np.float32(0.5)
    assert content_id(odd) == hashlib.sha256(b"rgbf:24x32:" + odd.tobytes()).hexdigest()[:32]


def test_content_id_same_and_different():
    grey_as_rgb = np.stack([GREY] * 3, 2)
    sources = [
        GREY,
        GREY[..., None],
        grey_as_rgb,
        GREY / 255,
        np.moveaxis(grey_as_rgb / 255, 2, 0),
        saved(GREY, "PNG"),
        saved(grey_as_rgb, "PNG"),
    ]
    assert len({open_image(s).id for s in sources}) == 1
    assert open_image(grey_as_rgb).pixels.shape[2] == 3
    assert content_id((GREY / 255).astype(np.float32)) == content_id(GREY) == content_id(GREY / 255 + 5e-7)
    changed = RGB.copy()
    changed[0, 0, 0] ^= 1
    others = [RGB, changed, RGB[:, :, ::-1], RGB[::-1], RGB.reshape(32, 24, 3), RGB[:-1], GREY]
    others += [FLOAT * np.float32(0.5), FLOAT * np.float32(0.5) + np.float32(1e-4)]
    assert len({content_id(np.ascontiguousarray(x)) for x in others}) == len(others)
    zero = np.full((8, 8, 3), 0.3, np.float32)
    negative = zero.copy()
    zero[0, 0], negative[0, 0] = 0.0, -0.0
    assert content_id(zero) == content_id(negative)


@pytest.mark.parametrize("array", [RGB.astype(np.int64), np.zeros((8, 8, 4), np.uint8), np.zeros(8, np.uint8)])
def test_content_id_refuses(array):
    with pytest.raises(ImageError, match=r"is not decoded pixels.*open_image"):
        content_id(array)


# ---- Image


def test_image_basics():
    image = open_image(RGB)
    assert (image.height, image.width) == (24, 32)
    assert image.to_pil().mode == "RGB" and open_image(GREY).to_pil().mode == "L"
    np.testing.assert_array_equal(np.asarray(image.to_pil()), RGB)
    half = InputImage(np.full((8, 8, 1), 0.5, np.float32), "half")
    assert half.to_pil().getpixel((0, 0)) == 128 and half.notes == ()
    with pytest.raises(AttributeError):
        image.name = "other"


def test_resized_exact():
    for source in (RGB, GREY, FLOAT * np.float32(0.5)):
        image = open_image(source)
        out = image.resized(24, 32)
        assert out.dtype == np.float32 and out.flags.writeable
        expected = image.pixels.astype(np.float32) / 255 if image.pixels.dtype == np.uint8 else image.pixels
        np.testing.assert_array_equal(out, expected)
    before = image.pixels.copy()
    out[:] = 0
    np.testing.assert_array_equal(image.pixels, before)


def test_resized_to_tensor_equality():
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(open_image(RGB).resized(24, 32), (torch.from_numpy(RGB).float() / 255).numpy())


def test_resized_channels():
    luma = np.asarray(Image.fromarray(RGB).convert("L"))
    np.testing.assert_array_equal(open_image(RGB).resized(24, 32, 1)[..., 0], luma / np.float32(255))
    floats = open_image(FLOAT * np.float32(0.5)).resized(24, 32, 1)[..., 0]
    np.testing.assert_allclose(floats, luma / 510, atol=0.002)
    tripled = open_image(GREY).resized(24, 32, 3)
    assert tripled.shape == (24, 32, 3) and all(np.array_equal(tripled[..., i], GREY / np.float32(255)) for i in range(3))
    assert open_image(np.stack([GREY] * 3, 2)).resized(24, 32, 1).tobytes() == open_image(GREY).resized(24, 32).tobytes()
    assert open_image(GREY).resized(16, 16).shape == (16, 16, 1)


@pytest.mark.parametrize("size", [(32, 32), (16, 16), (17, 16), (100, 100), (8, 200), (64, 64), (50, 96)])
@pytest.mark.parametrize("array", [SMOOTH, RGB, RGB[:, :23]], ids=["96x64", "32x24", "23x24"])
def test_resized_is_scale_then_centre_crop(size, array):
    height, width = size
    h, w = array.shape[:2]
    scale = max(height / h, width / w)
    full = (max(width, int(w * scale + 1e-9)), max(height, int(h * scale + 1e-9)))
    scaled = Image.fromarray(array).resize(full, Image.Resampling.BICUBIC)
    left, top = round((full[0] - width) / 2), round((full[1] - height) / 2)
    expected = np.asarray(scaled)[top : top + height, left : left + width] / np.float32(255)
    out = open_image(array).resized(height, width)
    assert out.dtype == np.float32 and out.shape == (height, width, 3) and out.min() >= 0 and out.max() <= 1
    assert np.abs(out - expected).max() <= 1.01 / 255
    assert (out == expected).mean() > 0.99
    floats = InputImage(array.astype(np.float32) / 255, "float").resized(height, width)
    assert floats.shape == out.shape and floats.min() >= 0 and floats.max() <= 1
    assert np.abs(floats - out).mean() < 0.01  # 8 bits are clipped between the two passes too, which shows in noise


def test_resized_only_crops_when_one_side_fits():
    tall = open_image(np.vstack([RGB, RGB])[:41])
    np.testing.assert_array_equal(tall.resized(32, 32), tall.pixels[4:36] / np.float32(255))


def test_resized_extreme_aspect_is_cheap():
    thin = open_image(np.tile(GREY[:8], (1, 20_000)))
    assert thin.resized(64, 64, 3).shape == (64, 64, 3)


@pytest.mark.parametrize("args", [(0, 8), (8, -1), (8, 8, 4)])
def test_resized_refuses(args):
    with pytest.raises(ImageError, match=r"image: can't be resized.*pass the size"):
        open_image(RGB).resized(*args)


# ---- as_images


@pytest.fixture
def three(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for i, path in enumerate(paths):
        path.write_bytes(saved(np.roll(RGB, i, 0), "PNG"))
    return paths


def open_files() -> list[str]:
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]


def test_lazy_and_closed(three, monkeypatch):
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (opened.append(self.name), real(self, *a, **k))[1])
    images = as_images([*three, three[0].parent / "missing.png"])
    assert len(images) == 4 and not opened
    view = images[1:3]
    assert len(view) == 2 and not opened
    assert view[0].name == "b.png" and opened == ["b.png"]
    assert view[-1].name == "c.png" and images[-2].name == "c.png"
    assert [p.name for p in images[:3][::-1]] == ["c.png", "b.png", "a.png"]
    if Path("/proc/self/fd").is_dir():
        assert not [f for f in open_files() if f.endswith(".png")]
    with pytest.raises(IndexError):
        images[4]
    with pytest.raises(ImageError, match=r"image 4 of 4, missing\.png: there is no file"):
        images[3]
    assert as_images(images) is images


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_handles_are_closed_after_failures(tmp_path):
    for name, (file, make, *_) in BAD_FILES.items():
        path = tmp_path / file
        path.write_bytes(make())
        with pytest.raises(ImageError):
            open_image(path)
        if Path("/proc/self/fd").is_dir():
            assert str(path) not in open_files(), name


@pytest.mark.parametrize("shape", [(24, 32), (24, 32, 1), (24, 32, 3), (24, 32, 4)])
def test_one_array(shape):
    assert [p.name for p in as_images(np.zeros(shape, np.uint8))] == ["image 1"]


def test_single_things(three):
    data = three[0].read_bytes()
    for single in (
        three[0],
        str(three[0]),
        data,
        io.BytesIO(data),
        Image.fromarray(RGB),
        {"bytes": data},
        open_image(RGB),
        FLOAT,
        [RGB],
        (RGB,),
    ):
        images = as_images(single)
        assert len(images) == 1 and images[0].id == content_id(RGB)


def test_batches():
    torch = pytest.importorskip("torch")
    stack = np.stack([RGB, RGB[::-1]])
    nchw = np.moveaxis(stack, 3, 1) / np.float32(255)
    tensor = torch.from_numpy(nchw)
    for batch in (stack, nchw, tensor, list(tensor), (tensor * 255).round().to(torch.uint8)):
        images = as_images(batch)
        assert [p.id for p in images] == [content_id(RGB), content_id(RGB[::-1])]
        assert [p.name for p in images] == ["image 1", "image 2"]
    assert len(as_images(tensor[0])) == 1
    assert [p.id for p in as_images(stack[..., 0])] == [content_id(RGB[..., 0]), content_id(RGB[::-1, :, 0])]


def test_array_of_paths(three):
    assert [p.name for p in as_images(np.array([str(p) for p in three]))] == ["a.png", "b.png", "c.png"]


def test_any_indexed_object_is_lazy():
    items = Listed([RGB, b"no image", Image.fromarray(GREY)])
    images = as_images(items)
    assert len(images) == 3 and items.taken == []
    assert images[2].name == "image 3" and items.taken == [2]
    with pytest.raises(ImageError, match=r"^image 2: this is not an image file"):
        images[1]


def test_broken_collection_names_the_item():
    class Broken(Listed):
        def __getitem__(self, i):
            if i == 1:
                raise IndexError("lost")
            return super().__getitem__(i)

    with pytest.raises(ImageError, match=r"image 2: it can't be taken from the Broken \(lost\)\. Fix or drop it"):
        list(as_images(Broken([RGB, RGB, RGB])))


def test_datasets_column():
    datasets = pytest.importorskip("datasets")
    rows = {"image": [{"bytes": saved(x, "PNG"), "path": None} for x in (RGB, GREY)], "label": [0, 1]}
    data = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}))
    images = as_images(data["image"])
    assert [p.id for p in images] == [content_id(RGB), content_id(GREY)] and images[1].name == "image 2"
    raw = as_images(data.cast_column("image", datasets.Image(decode=False))["image"])
    assert [p.id for p in raw] == [p.id for p in images]
    with pytest.raises(ImageError, match=r"image 1: a dict with the keys \['image', 'label'\].*its image column"):
        as_images(data)[0]
    rows["image"][1]["bytes"] = b"broken"
    bad = datasets.Dataset.from_dict(rows, features=data.features)
    with pytest.raises(ImageError, match="image 2: it can't be taken from the Column"):
        as_images(bad["image"])[1]


@pytest.mark.parametrize(
    ("images", "what", "step"),
    [
        (None, "No images were given", "Accepted are"),
        ([], "No images were given", "at least one"),
        ((), "No images were given", "at least one"),
        (np.zeros((0, 3, 8, 8), np.float32), "No images were given", "at least one"),
        ((x for x in [RGB]), "A generator can be read only once", "Pass list(...)"),
        (iter([RGB]), "A list_iterator can be read only once", "Pass list(...)"),
        ({1, 2}, "A set", "Pass list(...)"),
        (3, "An object of type int is not an image", "a list of them"),
    ],
)
def test_as_images_refuses(images, what, step):
    with pytest.raises(ImageError) as caught:
        as_images(images)
    assert what in str(caught.value) and step in str(caught.value)


# ---- find_images


def test_find_images(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/c.tiff", "sub/deep/d.avif", ".hidden.png", ".cache/e.png", "notes.txt", "__x/._f.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [p.relative_to(tmp_path).as_posix() for p in find_images(str(tmp_path))] == ["a.jpg", "b.PNG", "sub/c.tiff", "sub/deep/d.avif"]


def test_find_images_refuses(tmp_path):
    with pytest.raises(ImageError, match=re.escape(f"{tmp_path} has no images; accepted are .png, ") + ".*Check the folder"):
        find_images(tmp_path)
    with pytest.raises(ImageError, match="doesn't exist: check the path"):
        find_images(tmp_path / "none")
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(ImageError, match="is a file, not a folder: pass it as an image"):
        find_images(tmp_path / "a.txt")


# ---- the module


def test_import_is_light():
    code = "import sys, mia_hub.images.image; print([m for m in ('torch', 'datasets') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_limits_and_formats():
    assert MAX_PIXELS == 50_000_000 and MIN_SIDE == 8
    assert FORMATS == ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
