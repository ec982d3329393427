"""A model's LoRAs switched off: its base, to the bit, on one copy of the weights."""

from __future__ import annotations

import copy
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.overlays import CAPTIONS, LORA_LAYERS, T, epsilon, load_model, save_random_lora

from mia_hub.models.bases import base_of
from mia_hub.models.overlays.lora_switch import LoRASwitch


@pytest.mark.parametrize("name", LORA_LAYERS)
def test_switched_off_it_is_the_base_loaded_apart(base, loaded, alone, tmp_path, name):
    save_random_lora(name, LORA_LAYERS[name], tmp_path / "lora")
    model, apart = load_model(f"{base(name)} + {tmp_path / 'lora'}"), loaded(name)
    before = epsilon(model)
    switched = base_of(model)
    assert torch.equal(epsilon(switched), alone(name))
    assert (switched.info.id, switched.info.revision) == (apart.info.id, apart.info.revision)
    images = torch.rand(1, 3, apart.info.picture_shape[1], apart.info.picture_shape[2], generator=torch.Generator().manual_seed(0))
    assert torch.equal(switched.encode(images), apart.encode(images))
    assert torch.equal(epsilon(model), before) and not torch.equal(before, alone(name))


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    save_random_lora("sd1", LORA_LAYERS["sd1"], folder)
    return load_model(f"{base('sd1')} + {folder}")


def values_in(*models) -> int:
    tensors = [each for model in models for part in (model.network, model.vae, model.pipeline.text_encoder) for each in part.parameters()]
    return sum(pointer.numel() for pointer in {each.data_ptr(): each for each in tensors}.values())


def test_there_is_one_copy_of_the_weights(tuned):
    switched = base_of(tuned)
    assert switched.network is tuned.network and switched.pipeline is tuned.pipeline and switched.vae is tuned.vae
    assert values_in(tuned, switched) == values_in(tuned)


def test_no_weight_requires_gradients_afterwards(tuned):
    epsilon(base_of(tuned))
    assert not any(weight.requires_grad for part in (tuned.network, tuned.pipeline.text_encoder) for weight in part.parameters())


def test_a_pass_that_fails_leaves_the_lora_switched_on(tuned):
    before, switched = epsilon(tuned), base_of(tuned)
    with pytest.raises(RuntimeError):
        switched.predict_noise(torch.zeros(1, 3, 8, 8), T[:1], switched.condition(CAPTIONS[:1]))
    assert torch.equal(epsilon(tuned), before)


def test_threads_that_query_both_at_once_get_each_its_own(tuned):
    models = [tuned, base_of(tuned)] * 8
    expected = [epsilon(model) for model in models]
    with ThreadPoolExecutor(8) as threads:
        for answer, right in zip(threads.map(epsilon, models), expected, strict=True):
            assert torch.equal(answer, right)


def test_a_copy_has_a_switch_of_its_own(tuned):
    expected, of_base = epsilon(tuned), epsilon(base_of(tuned))
    copied = copy.deepcopy(tuned)
    assert base_of(copied).network is copied.network is not tuned.network
    with tuned.base.passes():
        assert torch.equal(epsilon(copied), expected)
    assert torch.equal(epsilon(base_of(copied)), of_base)
    assert isinstance(pickle.loads(pickle.dumps(LoRASwitch([]))), LoRASwitch)


def test_of_a_fine_tuned_part_below_a_lora_the_part_stays(base, tmp_path):
    save_random_lora("sd1", LORA_LAYERS["sd1"], tmp_path / "lora")
    part = shutil.copytree(base("sd1") / "unet", tmp_path / "unet")
    model = load_model(f"{base('sd1')} + {part} + {tmp_path / 'lora'}")
    apart = load_model(f"{base('sd1')} + {part}")
    assert (base_of(model).info.id, base_of(model).info.revision) == (apart.info.id, apart.info.revision)
    assert torch.equal(epsilon(base_of(model)), epsilon(apart))
