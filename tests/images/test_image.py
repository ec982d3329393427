"""The identity of an image, and its size for a model."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image
from support.image_files import (
    FLOAT,
    GREY,
    RGB,
    SMOOTH,
    saved,
)

from mia_hub.errors import ImageError
from mia_hub.images.image import InputImage, content_id
from mia_hub.images.sources import open_image

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
    assert repr([image, half.at(4, 4, 1)]) == "[<InputImage 'image': 24×32, RGB, uint8>, <ResizedImage 'half': 4×4, grey, float32>]"
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


@pytest.mark.parametrize("channels", [1, 3, None])
@pytest.mark.parametrize("source", [RGB, GREY, FLOAT * np.float32(0.5)], ids=["RGB", "grey", "float"])
def test_each_resized_array_is_the_callers_own(source, channels):
    image = open_image(source)
    first = image.resized(10, 12, channels)
    expected = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(image.resized(10, 12, channels), expected)
    np.testing.assert_array_equal(image.at(10, 12, channels).resized(10, 12, channels), expected)
    np.testing.assert_array_equal(open_image(source).resized(10, 12, channels), expected)
    small = open_image(source).at(10, 12, channels)
    assert small.resized(10, 12, channels).any() and not vars(small).keys() & {"_sizes"}, "of a million images, each is kept without more"


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
