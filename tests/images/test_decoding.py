"""Files, PIL images, arrays and tensors become pixels, or one clear error."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.image_files import (
    FLOAT,
    GREY,
    RGB,
    SMOOTH,
    chunk,
    exif,
    frames,
    grey_png,
    open_files,
    png,
    real_bomb,
    saved,
)

from mia_hub.errors import ImageError
from mia_hub.images import formats
from mia_hub.images.decoding import FORMATS, MAX_PIXELS, MIN_SIDE
from mia_hub.images.image import content_id
from mia_hub.images.sources import open_image

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
    monkeypatch.setattr(formats, "find_spec", lambda name: None)  # as where HEIC can't be read
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


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_handles_are_closed_after_failures(tmp_path):
    for name, (file, make, *_) in BAD_FILES.items():
        path = tmp_path / file
        path.write_bytes(make())
        with pytest.raises(ImageError):
            open_image(path)
        if Path("/proc/self/fd").is_dir():
            assert str(path) not in open_files(), name


def test_limits_and_formats():
    assert MAX_PIXELS == 50_000_000 and MIN_SIDE == 8
    assert FORMATS == ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
