"""Reference models: given by the user, checked like a base, recorded, and refused before anything is scored with them."""

from __future__ import annotations

import copy

import pytest
import torch

import mia_hub
from mia_hub.errors import ModelError
from mia_hub.models.bases import loaded_base
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.reference_models import reference_model_records, reference_models


@pytest.fixture
def others(tiny_pixel_repo):
    """Three models of the same architecture with other weights."""
    return [str(tiny_pixel_repo(seed=seed)) for seed in (1, 2, 3)]


def test_reference_models_leave_the_model_as_it_was_and_are_loaded_as_it_was(tiny, others):
    plain = mia_hub.load_model(str(tiny), device="cpu", dtype="float64", size=16)
    compared = mia_hub.load_model(plain, reference_models=others[:2])
    assert reference_models(plain) == () and loaded_base(compared) is None
    assert compared.network is plain.network and compared.info == plain.info
    loaded = reference_models(compared)
    assert {each.info.id for each in loaded} == set(others[:2])
    assert {(each.dtype, each.info.sample_shape) for each in loaded} == {(torch.float64, (1, 16, 16))}
    assert len(reference_models(copy.deepcopy(compared))) == 2


def test_records_state_id_revision_and_precision_in_whatever_order_they_are_given(tiny, others):
    model = mia_hub.load_model(str(tiny), device="cpu")
    given, turned = (mia_hub.load_model(model, reference_models=names) for names in (others, others[::-1]))
    records = reference_model_records(given)
    assert records == reference_model_records(turned)
    revisions = {name: mia_hub.load_model(name, device="cpu").info.revision for name in others}
    assert {record["id"]: record["revision"] for record in records} == revisions
    assert {record["precision"] for record in records} == {"float32"}


def test_one_may_be_given_alone_and_as_a_loaded_model_and_beside_a_base(tiny, others):
    loaded = mia_hub.load_model(others[0], device="cpu")
    for given in (others[0], loaded, [loaded]):
        model = mia_hub.load_model(str(tiny), device="cpu", base=others[1], reference_models=given)
        assert [each.info.id for each in reference_models(model)] == others[:1] and loaded_base(model).info.id == others[1]


def zero(x, t):
    return torch.zeros_like(x)


UNFIT = {
    "another size": (lambda make, model: [str(make(size=16, seed=1))], "takes images of the shape"),
    "other channels": (lambda make, model: [str(make(channels=3))], "takes images of the shape"),
    "other steps": (
        lambda make, model: [wrap_denoiser(zero, ddpm_alphas_cumprod(100), sample_shape=(1, 8, 8))],
        "number of timesteps of 100",
    ),
    "another schedule": (
        lambda make, model: [wrap_denoiser(zero, ddpm_alphas_cumprod(1000, 1e-3, 0.2), sample_shape=(1, 8, 8))],
        "noise schedule",
    ),
    "the model itself": (lambda make, model: [model], "it is that model itself"),
    "the model itself by name": (lambda make, model: [str(make(seed=1)), model.info.id], "it is that model itself"),
    "one twice": (lambda make, model: [str(make(seed=1)), str(make(seed=1))], "are one reference model; give each once"),
    "none": (lambda make, model: [], r"reference_models is empty\. Give reference_models=\[…\] \(--reference-model"),
    "no model": (lambda make, model: [model.network], "names that load_model takes, or DiffusionModels; got UNet2DModel"),
    "nothing of that name": (lambda make, model: ["no such model"], "There is no model 'no such model'"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_cannot_be_a_reference_model_is_refused(tiny_pixel_repo, tiny, kind):
    make, says = UNFIT[kind]
    model = mia_hub.load_model(str(tiny), device="cpu")
    with pytest.raises(ModelError, match=says) as error:
        mia_hub.load_model(model, reference_models=make(tiny_pixel_repo, model))
    assert str(error.value)[-1] == "."
