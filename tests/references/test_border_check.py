"""A border that hardly any reference image has makes an image incomparable, whatever made it; a common one doesn't."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.blobs import blobs, perfect_memory

import mia_hub
from mia_hub.checking.checker import Checker
from mia_hub.images.borders import border_share
from mia_hub.images.sources import as_images, open_image
from mia_hub.images.treatments import treated
from mia_hub.references.border_check import BorderCheck
from mia_hub.references.demo_reference import demo_reference


def photos(n: int, seed: int, side: int = 24) -> list[Image.Image]:
    """Images of which no edge has one colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC) for pixels in coarse]


def saved(image: Image.Image, **options) -> Image.Image:
    file = io.BytesIO()
    image.save(file, **options)
    return Image.open(file).convert("RGB")


BORDERED = {
    "white": lambda image: ImageOps.expand(image, 2, (255,) * 3),
    "black": lambda image: ImageOps.expand(image, 1, (0,) * 3),
    "coloured": lambda image: ImageOps.expand(image, 3, (200, 30, 90)),
    "of a compressed file": lambda image: saved(ImageOps.expand(image, 8, (236,) * 3), format="JPEG", quality=95),
    "of a screenshot": lambda image: Image.fromarray(treated("screenshot with a border", np.asarray(image))),
}
OTHERS = {
    "none": lambda image: image,
    "above and below alone": lambda image: ImageOps.expand(image, (0, 2, 0, 2), (255,) * 3),
    "of the image's own colours": lambda image: Image.fromarray(np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)), mode="wrap")),
}


def shares(images: list[Image.Image]) -> np.ndarray:
    return np.array([border_share(image) for image in as_images(images)])


@pytest.mark.parametrize("kind", [*BORDERED, *OTHERS])
def test_a_border_of_any_colour_is_seen(kind):
    check = BorderCheck(shares(photos(20, 0)))
    found = [check(image) for image in as_images([(BORDERED | OTHERS)[kind](image) for image in photos(8, 1)])]
    assert found == [kind in BORDERED] * 8


def test_a_border_is_the_same_in_grey_in_colour_and_in_floats():
    for image in [*photos(3, 2), BORDERED["of a compressed file"](photos(1, 3)[0])]:
        grey, colour = np.asarray(image.convert("L")), np.asarray(image)
        for one, other in ((grey, np.stack([grey] * 3, axis=2)), (colour, colour / np.float32(255) * np.float32(0.999))):
            assert border_share(open_image(one)) == border_share(open_image(other))


def test_a_border_that_many_reference_images_have_is_of_their_kind():
    white = as_images([BORDERED["white"](image) for image in photos(3, 1)])
    assert all(map(BorderCheck(np.r_[np.zeros(96), np.ones(4)]), white))
    assert not any(map(BorderCheck(np.r_[np.zeros(95), np.ones(5)]), white))
    # Clothes on black: one in nine images of the demo's reference has a border.
    assert (demo_reference().appearance.border.shares >= 0.95).mean() > 0.05


def test_a_border_makes_the_answer_not_comparable_and_says_what_to_do():
    rng, members, known = np.random.default_rng(3), blobs(20, 0), blobs(250, 1)
    known[:, 0], known[:, -1] = rng.integers(0, 60, (2, 250, 12), dtype=np.uint8)
    plain = known[3].copy()
    framed = plain.copy()
    framed[0], framed[-1], framed[:, 0], framed[:, -1] = 30, 30, 30, 30
    checker = Checker(perfect_memory(members), mia_hub.get_attack("sima", timesteps=(60,)), nonmembers=known, keep=False, progress=False)
    answers = checker.check([Image.fromarray(plain), Image.fromarray(framed)], progress=False)
    assert answers[0].comparable and answers[0].p_value is not None
    assert (answers[1].verdict, answers[1].comparable, answers[1].p_value) == ("not-comparable", False, None)
    assert answers[1].sentence == (
        "Not comparable: this image has a border of one colour, which hardly any reference image has, so that its score says little about "
        "what is inside. Cut the border off, and check the image again."
    )
    assert not checker.reference.is_comparable(as_images([Image.fromarray(framed)])[0])
    assert checker.comparability(as_images([Image.fromarray(framed)])[0]), "but for its border it is of their kind"


def test_references_keep_the_check(tmp_path):
    checker = Checker(perfect_memory(blobs(20, 0)), "sima", nonmembers=blobs(40, 1), keep=False, progress=False)
    checker.reference.save(tmp_path / "one")
    read = mia_hub.Reference.load(tmp_path / "one")
    assert np.array_equal(read.appearance.border.shares, checker.reference.appearance.border.shares)
