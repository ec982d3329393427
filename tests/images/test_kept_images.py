"""Images that stay in memory at a model's size: decoded once, the same to the bit, and bounded."""

from __future__ import annotations

import numpy as np
import pytest
from support.known_blobs import folder_of, members, nonmembers

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.checking import checker as checker_module
from mia_hub.checking.checker import Checker
from mia_hub.images import kept_images
from mia_hub.images.kept_images import KeptImages
from mia_hub.images.sequences import MappedSequence
from mia_hub.images.sources import as_images, decode
from mia_hub.models.denoiser import FunctionModel, wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod

RNG = np.random.default_rng(0)
PIXELS = {
    "its own size": RNG.integers(0, 256, (12, 8, 3), dtype=np.uint8),
    "grey": RNG.integers(0, 256, (12, 8), dtype=np.uint8),
    "larger": RNG.integers(0, 256, (31, 50, 3), dtype=np.uint8),
    "larger and grey": RNG.integers(0, 256, (50, 31), dtype=np.uint8),
    "float": RNG.uniform(0, 1, (21, 13, 3)).astype(np.float32),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", PIXELS)
def test_a_resized_image_is_the_same_to_the_bit_and_keeps_its_identity(kind, channels):
    (image,) = as_images([PIXELS[kind]])
    resized = image.at(12, 8, channels)
    np.testing.assert_array_equal(resized.resized(12, 8, channels), image.resized(12, 8, channels))
    assert (resized.id, resized.name, resized.notes) == (image.id, image.name, image.notes)
    assert resized.pixels.shape[:2] == (12, 8) and resized.pixels.dtype == image.pixels.dtype


def counted(count):
    """Images of 8×8, and a list that grows by the index of each that is decoded."""
    decoded = []

    def decode(index):
        decoded.append(index)
        return as_images([np.full((8, 8), index, np.uint8)])[0]

    return MappedSequence(range(count), decode), decoded


def test_each_image_is_decoded_once():
    images, decoded = counted(5)
    kept = KeptImages(images, (1, 2, 2))
    assert [image.pixels.shape for image in kept.originals] == [(8, 8, 1)] * 5 and decoded == [0, 1, 2, 3, 4]
    for _ in range(2):
        assert [image.pixels.shape for image in kept] == [(2, 2, 1)] * 5
    assert decoded == [0, 1, 2, 3, 4]


def test_no_more_are_kept_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(kept_images, "MOST_BYTES", 2 * (4 + kept_images.BYTES_PER_IMAGE) + 1)
    images, decoded = counted(4)
    kept = KeptImages(images, (1, 2, 2))
    first, second = ([image.pixels.copy() for image in kept] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert decoded == [0, 1, 2, 3, 2, 3]


def test_a_comparison_of_attacks_opens_each_file_once(tmp_path, monkeypatch, tiny_pixel_repo):
    folder_of(members(), tmp_path / "split" / "member")
    folder_of(nonmembers(), tmp_path / "split" / "nonmember")
    opened = []
    monkeypatch.setattr("mia_hub.images.sources.decode", lambda path, name: opened.append(path) or decode(path, name))
    attacks = [get_attack("sima", timesteps=(50, 100)), get_attack("loss", timesteps=(50,))]
    options = {"shift_check": False, "fprs": (0.2,), "progress": False}
    model, split = str(tiny_pixel_repo()), str(tmp_path / "split")
    once = mia_hub.compare(model, split, attacks, **options)
    assert len(opened) == len(set(map(str, opened))) == len(members()) + len(nonmembers())
    monkeypatch.setattr(kept_images, "MOST_BYTES", 0)
    anew = mia_hub.compare(model, split, attacks, **options)
    assert len(opened) > 2 * len(set(map(str, opened)))
    for one, other in zip(once.rows, anew.rows):
        np.testing.assert_array_equal(one.report.scores.scores, other.report.scores.scores)


@pytest.mark.parametrize("attack", ["sima", "sima-c"])
def test_a_check_of_many_images_opens_each_file_once(attack, tmp_path, monkeypatch, tiny_pixel_repo):
    """Though each is looked at beside the reference images, scored, and scored again by an attack that is judged otherwise."""
    files = sorted(folder_of(members(), tmp_path / "checked").iterdir())
    checker = Checker(str(tiny_pixel_repo()), get_attack(attack, timesteps=(50, 100)), nonmembers=list(nonmembers()), progress=False)
    opened = []
    monkeypatch.setattr("mia_hub.images.sources.decode", lambda path, name: opened.append(path) or decode(path, name))
    assert len(files) > checker_module.MOST_DECODED
    once = checker.check(files, progress=False)
    assert list(map(str, opened)) == list(map(str, files))
    monkeypatch.setattr(kept_images, "MOST_BYTES", 0)
    anew = checker.check(files, progress=False)
    assert len(opened) > 2 * len(files)
    monkeypatch.setattr(checker_module, "MOST_DECODED", len(files))
    decoded = checker.check(files, progress=False)
    assert once == anew == decoded


def test_a_model_with_a_resizing_of_its_own_gets_images_at_their_own_size(tmp_path):
    folder_of(members(), tmp_path / "member")
    folder_of(nonmembers(), tmp_path / "nonmember")
    sizes = set()

    class Own(FunctionModel):
        def pixels(self, images):
            sizes.update((image.height, image.width) for image in images)
            return super().pixels(images)

    plain = wrap_denoiser(lambda x, t: x.sin(), ddpm_alphas_cumprod(), sample_shape=(1, 4, 4))
    model = Own(plain.fn, plain.schedule, plain.info, plain.dtype, None)
    options = {"shift_check": False, "fprs": (0.2,), "progress": False}
    own, kept = (mia_hub.audit(one, get_attack("sima", timesteps=(50,)), str(tmp_path), **options) for one in (model, plain))
    assert sizes == {(8, 8)}
    np.testing.assert_array_equal(own.scores.scores, kept.scores.scores)
