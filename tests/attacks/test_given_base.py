"""Attacks given the base model: the same draws in both models, the features by hand, known answers, and p-values that stay exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from support.populations import mixture_images

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.attacks.given_base import GRID
from mia_hub.errors import AttackError
from mia_hub.images.complexity import complexity
from mia_hub.images.sources import as_images
from mia_hub.metrics.p_values import ConditionalNull
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod, gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.models.noise import SampleNoise

MEMBERS = 150
T = 220


@pytest.fixture(scope="module")
def tuned():
    """A fine-tune that knows the first 150 images by heart, whose base knows their population; and 450 images of it."""
    means, _, images = mixture_images(3 * MEMBERS)
    model = training_set_denoiser(images[:MEMBERS].double() * 2 - 1, name="fine-tune")
    base = gaussian_mixture_denoiser(means, 0.1, name="base")
    return mia_hub.load_model(model, base=base), images, np.repeat([1, 0, 0], MEMBERS)


@pytest.mark.parametrize(
    ("plain", "given", "t"), [("sima-c", "sima-b", 220), ("sima-lp", "sima-lpb", 220), ("loss:draws=10", "loss-b", 160)]
)
def test_given_the_base_members_stand_out(tuned, plain, given, t):
    """Exact denoisers: of the members, and of the population that all images come from."""
    model, images, labels = tuned
    name, _, draws = plain.partition(":draws=")
    attacks = [get_attack(name, timesteps=(t,), **({"draws": int(draws)} if draws else {})), get_attack(given, timesteps=(t,))]
    without, with_base = (auc(a.score(model, images, is_member=labels, progress=False).scores[:, 0], labels) for a in attacks)
    assert with_base > 0.97 and with_base > without + 0.05


def test_features_by_hand(tuned):
    model, images, _ = tuned
    observed = get_attack("sima-b", timesteps=(40, T)).observe(model, images[:3], progress=False).values
    assert observed.shape == (3, 2, 1 + 5 + 3)
    for i, image in enumerate(as_images(images[:3])):
        x = torch.tensor(image.pixels).permute(2, 0, 1)[None].double() * 2 - 1
        for j, t in enumerate((40, T)):
            own, base = (m.predict_noise(x, torch.tensor([t])) for m in (model, model.base))
            of_base = [np.log(float(base.norm(p))) for p in (1, 2, 4)]
            np.testing.assert_allclose(observed[i, j], [np.log(float(own.norm(2))), *complexity(image.pixels.transpose(2, 0, 1)), *of_base])


@pytest.mark.parametrize("form", ["vector-mean", "norm-mean"])
def test_sima_mc_gives_norms_of_three_orders_of_the_base(tuned, form):
    model, images, _ = tuned
    attack = get_attack("sima-mc", timesteps=(T,), draws=2, form=form, given=("base",))
    observed = attack.observe(model, images[:1], progress=False).values[0, 0]
    (image,) = as_images(images[:1])
    x0 = model.encode([image])
    noise = SampleNoise([image.id], (1, 8, 8), dtype=x0.dtype)
    epsilons = [model.base.predict_noise(model.schedule.add_noise(x0, noise(T, k), T), torch.tensor([T])) for k in range(2)]
    if form == "vector-mean":
        expected = [float(np.log((sum(epsilons) / 2).norm(p))) for p in (1, 2, 4)]
    else:
        expected = [float(np.log(sum(e.norm(p) for e in epsilons) / 2)) for p in (1, 2, 4)]
    np.testing.assert_allclose(observed[1:], expected, rtol=1e-9)


def recording(seen):
    def predict(x, t):
        seen.append((x.clone(), t.clone()))
        return x + 0.1

    return wrap_denoiser(predict, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8))


DRAWING = {
    "loss-b": {"draws": 3},
    "sima-mc": {"draws": 4, "given": ("base",)},
    "sima": {"input": "noised", "given": ("base", "complexity")},
}


@pytest.mark.parametrize("name", DRAWING)
def test_both_models_see_the_same_inputs_to_the_bit(name):
    own, of_base = [], []
    model = mia_hub.load_model(recording(own), base=recording(of_base))
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    attack = get_attack(name, timesteps=(60, T), **DRAWING[name])
    observed = attack.observe(model, images, progress=False)
    for mine, theirs in zip(own, of_base, strict=True):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])
    assert observed.queries == 5 * attack.queries_per_image == sum(len(x) for x, _ in own + of_base)


@pytest.mark.parametrize("name", ["sima", "sima-mc", "loss", "pia", "pian", "secmi", "pfami", "nearest-generated"])
def test_any_attack_can_be_given_the_base(name, tuned):
    model, images, labels = tuned
    small = {"pfami": {"timesteps": (20, 60), "crops": 2}, "nearest-generated": {"samples": 4, "steps": 3}, "sima-mc": {"draws": 2}}
    options = {"timesteps": (20, 60)} | small.get(name, {}) if name != "nearest-generated" else small[name]
    rows = np.r_[:22, MEMBERS : MEMBERS + 22]
    attack, plain = get_attack(name, given=("base", "complexity"), **options), get_attack(name, **options)
    assert attack.uses_base and not plain.uses_base
    assert attack.queries_per_image == 2 * plain.queries_per_image and attack.setup_queries == 2 * plain.setup_queries
    table = attack.score(model, images[rows], is_member=labels[rows], progress=False)
    assert table.queries == len(rows) * attack.queries_per_image + attack.setup_queries
    assert np.isfinite(table.scores).all()
    assert table.model["base"] == {"id": "base", "revision": None, "precision": "float64"}
    assert "base" not in plain.score(model, images[rows[:2]], progress=False).model


def test_a_combination_may_have_a_part_given_the_base(tuned):
    model, images, labels = tuned
    rows = np.r_[:22, MEMBERS : MEMBERS + 22]
    attack = get_attack("combine", parts=(get_attack("sima-b", timesteps=(T,)), get_attack("pia", timesteps=(60,))))
    table = attack.score(model, images[rows], is_member=labels[rows], progress=False)
    assert attack.uses_base and table.queries == 44 * (1 + 1 + 2) and table.model["base"]["id"] == "base"


def test_a_fitted_attack_names_the_base_and_depends_on_it(tuned):
    model, images, _ = tuned
    other = mia_hub.load_model(model, base=gaussian_mixture_denoiser(mixture_images(1)[0] * 0.5, 0.3, name="other base"))
    attack = get_attack("sima-b", timesteps=(T,))
    fits = [attack.fit(each, images[MEMBERS : MEMBERS + 30], progress=False) for each in (model, other)]
    assert fits[0].fitted_on != fits[1].fitted_on and fits[0].uses_base
    assert fits[0].score(model, images[:3], progress=False).model["base"]["id"] == "base"


def test_p_values_of_held_out_nonmembers_are_uniform(tuned):
    model, images, labels = tuned
    observed = get_attack("sima-b", timesteps=(160,)).observe(model, images, is_member=labels, progress=False)
    ids, values = observed.ids, observed.values[:, 0]
    null, held_out = np.arange(MEMBERS, 2 * MEMBERS), np.arange(2 * MEMBERS, 3 * MEMBERS)
    known = ConditionalNull(values[null], tuple(ids[row] for row in null))
    p = np.array([known.judge(values[row]).p_value for row in held_out])
    assert kstest(p, "uniform", alternative="greater").pvalue > 0.01
    assert (np.array([known.judge(values[row]).p_value for row in range(MEMBERS)]) <= 0.01).mean() > 0.9


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: get_attack("sima-b", p=0), "above 0"),
        (lambda: get_attack("loss-b", draws=0), "draws"),
        (lambda: get_attack("sima", given=("base", "base")), "different names"),
        (lambda: get_attack("gsa1", given=("base",)), "no parameter 'given'"),
    ],
)
def test_parameters_are_refused(call, says):
    with pytest.raises(AttackError, match=says):
        call()


def test_the_default_timestep_lies_where_fine_tunes_are_told_best():
    for name in ("sima-b", "sima-lpb", "loss-b"):
        assert get_attack(name).default_timestep == 220 and {160, 220, 280} <= set(GRID)


def test_timesteps_are_checked_against_the_base_too(tuned):
    model, images, _ = tuned
    with pytest.raises(AttackError, match="outside the schedule"):
        get_attack("sima-b", timesteps=(1000,)).score(model, images[:2], progress=False)
