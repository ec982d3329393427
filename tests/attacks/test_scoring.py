"""Scoring, whatever the attack: refusals, NaN, and batches that don't fit into memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mia_hub.attacks import get_attack
from mia_hub.errors import AttackError, ModelError
from mia_hub.models.denoiser import PixelSpace, wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod

STEPS = (20, 60)


def failing_model(fail, dtype=torch.float32):
    return wrap_denoiser(fail, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8), dtype=dtype)


def test_refusals_come_before_the_model_is_queried():
    def never(x, t):
        raise AssertionError("the model was queried")

    model, image = failing_model(never), np.zeros((8, 8), np.uint8)
    sima = get_attack("sima")
    for call, says in (
        (lambda: get_attack("sima", timesteps=(1000,)).score(model, image), "runs from 0 to 999"),
        (lambda: sima.score(model, image, batch_size=0), "≥ 1"),
        (lambda: sima.score(model, image, is_member=[1, 0]), "2 entries for 1 images"),
        (lambda: sima.score(model, image, captions=["a", "b"]), "2 entries for 1 images"),
    ):
        with pytest.raises(AttackError, match=says):
            call()
    with pytest.raises(ModelError, match="takes no captions"):
        sima.score(model, image, captions=["a cat"])


def test_nan_in_half_precision_is_an_error_that_names_the_way_out():
    model = failing_model(lambda x, t: x * 1e30 * 1e30, torch.float16)
    with pytest.raises(ModelError, match=r"NaN or infinity in float16 for 2 of 2 images .*dtype='float32'"):
        get_attack("sima", timesteps=(5,)).score(model, np.full((2, 8, 8), 200, np.uint8), progress=False)


def test_out_of_memory_halves_the_batch_until_it_fits_and_counts_each_query_once():
    tried = []

    def tight(x, t):
        tried.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x

    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8), dtype=np.uint8)
    table = get_attack("sima", timesteps=STEPS).score(failing_model(tight), images, batch_size=16, progress=False)
    roomy = get_attack("sima", timesteps=STEPS).score(failing_model(lambda x, t: x), images, progress=False)
    np.testing.assert_allclose(table.scores, roomy.scores, rtol=1e-6)
    assert table.queries == 20
    assert tried[:4] == [10, 5, 2, 2]


def test_out_of_memory_outside_the_denoiser_is_halved_too():
    """Encoding, noise and norms need memory as well."""
    model = failing_model(lambda x, t: x)
    pixels, sizes = model.pixels, []

    def tight(inputs):
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise MemoryError
        return pixels(inputs)

    model.pixels = tight
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    table = get_attack("sima", timesteps=STEPS).score(model, images, progress=False)
    assert len(table) == 5 and table.queries == 10
    assert sizes[:2] == [5, 2]


def test_photographs_of_a_batch_are_let_go_once_encoded(monkeypatch):
    monkeypatch.setattr("mia_hub.attacks.batch_reading.MAX_DECODED_VALUES", 250)
    model = failing_model(lambda x, t: x)
    pixels, sizes = PixelSpace.pixels, []
    monkeypatch.setattr(PixelSpace, "pixels", lambda self, inputs: sizes.append(len(inputs)) or pixels(self, inputs))
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16), dtype=np.uint8)
    held = get_attack("sima", timesteps=STEPS).score(model, images, progress=False)
    monkeypatch.undo()
    assert sizes == [4, 4, 2]  # 4 × 64 values, of images resized to 8×8, are more than 250
    np.testing.assert_array_equal(held.scores, get_attack("sima", timesteps=STEPS).score(model, images, progress=False).scores)


def test_out_of_memory_for_a_single_row_says_so():
    def full(x, t):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(ModelError, match="was halved down to 1"):
        get_attack("sima").score(failing_model(full), np.zeros((4, 8, 8), np.uint8), progress=False)


def test_other_errors_of_a_model_are_not_taken_for_lack_of_memory():
    def broken(x, t):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        get_attack("sima").score(failing_model(broken), np.zeros((8, 8), np.uint8), progress=False)


def test_wrapped_denoiser_must_return_noise_of_its_inputs_shape():
    with pytest.raises(ModelError, match="must return a tensor of shape"):
        get_attack("sima").score(failing_model(lambda x, t: x[:, 0]), np.zeros((8, 8), np.uint8), progress=False)
    with pytest.raises(ModelError, match="1 or 3 channels"):
        wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(), sample_shape=(4, 8, 8))


def test_images_are_decoded_batch_by_batch():
    """Memory can't grow with the number of images: no more than one batch is decoded beside that which the model is asked about."""
    decoded, most_ahead = [], 0

    class Column:
        def __len__(self):
            return 40

        def __getitem__(self, i):
            decoded.append(i)
            return np.full((8, 8), i, np.uint8)

    answered = 0

    def fn(x, t):
        nonlocal answered, most_ahead
        most_ahead = max(most_ahead, len(decoded) - answered)
        answered += len(x)
        return x

    get_attack("sima", timesteps=(5,)).score(failing_model(fn), Column(), batch_size=4, progress=False)
    assert len(decoded) == 40
    assert 4 <= most_ahead <= 8


@pytest.mark.parametrize("labels", [[2, 0], [0.7, 1], "01", [1]])
def test_labels_are_checked_before_the_model_is_queried(labels):
    model = wrap_denoiser(lambda *_: pytest.fail("the model was queried"), [0.9, 0.5], sample_shape=(1, 12, 12))
    with pytest.raises(AttackError, match="is_member"):
        get_attack("sima", timesteps=(1,)).score(model, [np.zeros((12, 12), np.uint8)] * 2, is_member=labels)
