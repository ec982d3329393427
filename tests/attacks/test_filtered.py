"""Attacks in the frequency domain: the filter by its definition and by the authors' code, known answers, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.reference.fremia import filtered as slowly_filtered

from mia_hub.attacks import get_attack
from mia_hub.attacks.filtered import frequency_filter
from mia_hub.attacks.spelling import parse_attack, spell
from mia_hub.errors import AttackError
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod, training_set_denoiser
from mia_hub.references.record import AttackRecord
from studies.agreement import golden

ATTACKS = ("sima:timesteps=20,60", "loss:timesteps=20,60,draws=2", "secmi:timesteps=20,60", "pia:timesteps=20,60", "pian:timesteps=20,60")


@pytest.fixture(scope="module")
def memory():
    """An exact memory of the first 60 of 140 images, the images, and labels."""
    images = torch.rand(140, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return training_set_denoiser(images[:60].double() * 2 - 1), images, np.repeat([1, 0], (60, 80))


@pytest.mark.parametrize(("shape", "half_side", "factor"), [((6, 6), 2, 0.2), ((5, 8), 2, 0.0), ((7, 4), 1, 0.5), ((4, 9), 3, 0.2)])
def test_the_filter_by_its_definition(shape, half_side, factor):
    vector = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    expected = [[slowly_filtered(plane, half_side, factor) for plane in image] for image in vector.double().tolist()]
    np.testing.assert_allclose(frequency_filter(vector, half_side, factor).numpy(), expected, atol=1e-12)


def test_the_filter_of_the_authors():
    arrays = golden("fremia")
    vectors = torch.from_numpy(arrays["vectors"])
    np.testing.assert_allclose(frequency_filter(vectors, 5, 0.2).numpy(), arrays["filtered"], atol=1e-12)


def test_slow_waves_are_kept_and_fast_ones_are_weakened():
    x = torch.arange(16.0).double() * 2 * torch.pi / 16
    for frequency, factor in ((0, 1.0), (1, 1.0), (4, 1.0), (6, 0.2), (8, 0.2)):
        wave = torch.cos(frequency * x).expand(1, 1, 16, 16)
        torch.testing.assert_close(frequency_filter(wave, 5, 0.2), factor * wave, atol=1e-12, rtol=0)


@pytest.mark.parametrize("text", ATTACKS)
def test_a_filtered_attack_separates_and_costs_no_further_query(text, memory):
    model, images, is_member = memory
    plain, one = parse_attack(text), parse_attack(f"{text},filtered=2,0.2")
    assert one.queries_per_image == plain.queries_per_image and one.columns == plain.columns and one.access == "gray"
    table = one.score(model, images, is_member=is_member, progress=False)
    assert (table.at(20) != plain.score(model, images, progress=False).at(20)).all()
    assert auc(table.at(20), is_member) == 1
    alone = one.at(20).score(model, images[:3], progress=False)
    np.testing.assert_allclose(alone.scores[:, 0], table.scores[:3, 0], rtol=1e-9)


def test_the_length_of_what_is_left_by_hand(memory):
    model, images, _ = memory
    score = get_attack("sima", timesteps=(20,), filtered=(3, 0.1)).score(model, images[100:101], progress=False).scores[0, 0]
    epsilon = model.predict_noise(images[100:101].double() * 2 - 1, torch.tensor([20]))
    (plane,) = epsilon[0].tolist()
    assert score == pytest.approx(-((np.array(slowly_filtered(plane, 3, 0.1)) ** 4).sum() ** 0.25), rel=1e-9)


@pytest.mark.parametrize("text", [*ATTACKS, "sima:timesteps=20,60,given=complexity,mirror", "loss:given=base,complexity"])
def test_names_and_records_make_the_same_attack_again(text):
    name, _, rest = text.partition(":")
    settings, given, conditions = rest.partition("given=")
    one = parse_attack(
        f"{name}:{settings.rstrip(',')}{',' * bool(settings.rstrip(','))}filtered=4,0.1{',given=' * bool(given)}{conditions}"
    )
    assert parse_attack(spell(one)) == one and "filtered=4,0.1" in spell(one)
    assert AttackRecord.of(one).build() == one


def test_ways_to_ask_for_the_filter():
    paper = get_attack("secmi", filtered=(5, 0.2))
    assert get_attack("secmi", filtered=True) == get_attack("secmi", filtered=5) == parse_attack("secmi:filtered=true") == paper
    assert get_attack("secmi", filtered=False) == get_attack("secmi")


@pytest.mark.parametrize(
    ("name", "filtered", "message"),
    [
        ("sima", 0, "half-side of filtered=… must be an integer ≥ 1; got 0"),
        ("sima", -3, "integer ≥ 1; got -3"),
        ("sima", 2.5, "integer ≥ 1; got 2.5"),
        ("sima", "five", "integer ≥ 1; got 'five'"),
        ("pia", (5, 1), "from 0 to below 1 .* got 1"),
        ("pia", (5, -0.1), "from 0 to below 1 .* got -0.1"),
        ("pia", (5, float("nan")), "from 0 to below 1 .* got nan"),
        ("pia", (5, "weak"), "from 0 to below 1 .* got 'weak'"),
        ("pia", (5, True), "from 0 to below 1 .* got True"),
        ("loss", (5, 0.2, 1), "takes a half-side and a factor"),
        ("loss", (), "takes a half-side and a factor"),
        *((name, 5, f"the attack '{name}' takes no such length") for name in ("gsa1", "sima-mc", "sima-c", "secmi-nns", "random", "pfami")),
    ],
)
def test_what_is_refused(name, filtered, message):
    with pytest.raises(AttackError, match=message):
        get_attack(name, filtered=filtered)


@pytest.mark.parametrize(
    ("shape", "half_side", "advice"),
    [((3, 8, 8), 5, "up to 3"), ((3, 8, 8), 4, "up to 3"), ((1, 28, 28), 14, "up to 13"), ((1, 2, 2), 1, "leave filtered=… out")],
)
def test_a_square_that_holds_every_frequency_is_refused(shape, half_side, advice):
    model = wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(), sample_shape=shape)
    with pytest.raises(AttackError, match=f"holds all of their frequencies, so that .* nothing: .*{advice}"):
        get_attack("sima", filtered=half_side).check(model)
