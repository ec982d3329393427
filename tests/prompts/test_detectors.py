"""Each detector on Gaussians of captions, where its value is known in closed form; and what it is invariant to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.gaussian_captions import ALPHAS, SHAPE, draws_of, epsilon_of, gaussian_model, parameters_of

import mia_hub
from mia_hub.errors import PromptError
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.prompts import get_detector, list_detectors
from mia_hub.prompts.observing import observe

T = 600
MEMORISED = [f"memorised boot {number}" for number in range(6)]
BROAD = [f"broad shirt {number}" for number in range(6)]
PROMPTS = [*MEMORISED, *BROAD]


def guidance(prompt, x, t=T):
    return epsilon_of(prompt, x, t) - epsilon_of("", x, t)


def by_norm(prompt, x):
    return np.linalg.norm(guidance(prompt, x), axis=1)


def by_curvature(prompt, x):
    """Both Hessians are multiples of the identity, -1/(signal²·spread² + noise²)."""
    ab = float(ALPHAS[T])
    sharp, flat = (-1 / (ab * parameters_of(text)[1] ** 2 + 1 - ab) for text in (prompt, ""))
    return abs(sharp - flat) * by_norm(prompt, x) / np.sqrt(1 - ab)


def by_alignment(prompt, x, weights=(1, 2), low=41):
    without, own = (part.reshape(-1, SHAPE[0], 16) for part in (epsilon_of("", x, low), guidance(prompt, x, low)))
    cosine = (without * own).sum(1) / np.linalg.norm(without, axis=1) / np.linalg.norm(own, axis=1)
    return weights[0] * by_norm(prompt, x) + weights[1] * cosine.mean(axis=1)


def scores(detector, prompts=PROMPTS, model=None, **options):
    """The statistics ``[N, draws]`` of prompts."""
    return observe(get_detector(detector), model or gaussian_model(), prompts, progress=False, **options).values


@pytest.mark.parametrize(
    ("detector", "by_hand"),
    [
        ("guidance-norm", by_norm),
        ("curvature", by_curvature),  # of a linear function, the finite difference is exact
        ("curvature:step=0.01", by_curvature),
        ("curvature:form=exact", by_curvature),
        ("alignment", by_alignment),
        ("alignment:weights=0,1,low_timestep=7", lambda prompt, x: by_alignment(prompt, x, (0, 1), 7)),
    ],
)
def test_a_detector_gives_the_closed_form(detector, by_hand):
    chosen = get_detector(detector, timestep=T, draws=3)
    expected = [by_hand(prompt, draws_of(prompt, T, 3, seed=5)) for prompt in PROMPTS]
    np.testing.assert_allclose(scores(chosen, seed=5), expected, rtol=1e-6)


def test_expected_norms_are_those_of_theory():
    """E‖ε_c - ε_∅‖² over x ~ N(0, I), of a linear ε."""
    ab, (mean, spread), (mean0, spread0) = float(ALPHAS[T]), parameters_of(BROAD[0]), parameters_of("")
    own, without = (np.sqrt(1 - ab) / (ab * s**2 + 1 - ab) for s in (spread, spread0))
    expected = len(mean) * (own - without) ** 2 + ab * ((own * mean - without * mean0) ** 2).sum()
    drawn = scores(get_detector("guidance-norm", timestep=T, draws=500), BROAD[:1])
    np.testing.assert_allclose((drawn**2).mean(), expected, rtol=4 * (drawn**2).std() / expected / np.sqrt(drawn.size))


@pytest.mark.parametrize("detector", ["guidance-norm", "curvature"])
def test_memorised_captions_score_higher(detector):
    labels = np.repeat([1, 0], 6)
    assert auc(scores(detector).mean(axis=1), labels) == 1
    assert auc(-scores(detector).mean(axis=1), labels) == 0


@pytest.mark.parametrize("detector", [*list_detectors(), "curvature:form=exact"])
def test_scores_depend_on_nothing_but_the_prompt_and_the_seed(detector):
    """Batches, order and company; and the queries are those that the detector declares."""
    whole = observe(get_detector(detector), gaussian_model(), PROMPTS, progress=False)
    assert whole.queries == len(PROMPTS) * get_detector(detector).queries_per_prompt
    for batch_size in (1, 5):
        np.testing.assert_allclose(scores(detector, batch_size=batch_size), whole.values, rtol=1e-12)
    np.testing.assert_allclose(scores(detector, PROMPTS[::-1])[::-1], whole.values, rtol=1e-12)
    np.testing.assert_allclose(scores(detector, PROMPTS[3:4]), whole.values[3:4], rtol=1e-12)
    assert not np.isclose(scores(detector, seed=1), whole.values, rtol=1e-9, atol=0).any()


def test_sampling_begins_at_the_last_informative_timestep():
    model = gaussian_model()
    assert get_detector("guidance-norm").start(model) == 999
    model.schedule.signals[-3:] = 0
    assert get_detector("guidance-norm").start(model) == 999
    model.info = mia_hub.models.denoiser.replace(model.info, prediction_type="v_prediction")
    assert get_detector("guidance-norm").start(model) == 996


def test_a_prompt_without_effect_scores_0_and_an_overflow_is_refused():
    silent = wrap_denoiser(lambda x, t, cond: x, ALPHAS, sample_shape=SHAPE, condition=lambda captions: torch.zeros(len(captions), 1))
    for detector in list_detectors():
        assert (scores(detector, model=silent) == 0).all()
    broken = wrap_denoiser(lambda x, t, cond: x / cond[:, :, None, None], ALPHAS, sample_shape=SHAPE, condition=silent._condition)
    with pytest.raises(mia_hub.MiaHubError, match="returns NaN or infinity for 12 of 12 prompts, the first of them 'memorised boot 0'"):
        scores("guidance-norm", model=broken)


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("guidance-nrm", {}, "There is no detector 'guidance-nrm'. Did you mean 'guidance-norm'?"),
        ("curvature", {"stp": 1}, "has no parameter 'stp'. Did you mean 'step'?"),
        ("curvature:draws", {}, "A detector is written as NAME or NAME:PARAMETER=VALUE"),
        ("guidance-norm", {"draws": 0}, "draws must be an integer ≥ 1"),
        ("guidance-norm", {"timestep": -1}, "timestep must be an integer ≥ 0"),
        ("curvature", {"form": "jvp"}, "form must be one of 'finite-difference', 'exact'"),
        ("curvature", {"step": 0}, "step, the length of the finite difference, must be a number above 0"),
        ("curvature", {"step": float("inf")}, "must be a number above 0"),
        ("alignment", {"weights": (1,)}, "weights must be two finite numbers"),
        ("alignment", {"weights": (0, 0)}, "weights must be two finite numbers"),
        ("alignment", {"weights": "one"}, "weights must be two finite numbers"),
        ("alignment", {"low_timestep": 1.5}, "low_timestep must be an integer ≥ 0"),
    ],
)
def test_wrong_parameters_are_refused(name, parameters, says):
    with pytest.raises(PromptError) as error:
        get_detector(name, **parameters)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("change", "parameters", "says"),
    [
        ({"conditioning": "none"}, {}, "gaussian takes no prompts: it is conditioned on nothing. Name a text-to-image model."),
        ({"conditioning": "class"}, {}, "gaussian takes no prompts: it is conditioned on classes."),
        ({"settings": {"guidance": 1.0}}, {}, "gaussian is guidance-distilled"),
        ({}, {"timestep": 1000}, "timestep is 1000, and gaussian can be queried at timesteps from 0 to 999"),
        ({}, {"low_timestep": 1000}, "low_timestep is 1000, and gaussian can be queried at timesteps from 0 to 999"),
    ],
)
def test_models_that_cannot_be_asked_are_refused(change, parameters, says):
    model = gaussian_model()
    model.info = mia_hub.models.denoiser.replace(model.info, **change)
    with pytest.raises(PromptError) as error:
        get_detector("alignment", **parameters).check(model)
    assert says in str(error.value)


def test_the_identity_of_a_detector_has_its_parameters():
    assert repr(get_detector("curvature:draws=2")) == "Curvature(draws=2, timestep=None, form='finite-difference', step=1.0)"
    assert get_detector(get_detector("alignment")) == get_detector("alignment:weights=1,2")
