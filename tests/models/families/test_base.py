"""ε of every family against diffusers itself: its pipelines run, and the queries of their denoisers are compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.families import ALL, EXPECTED, SIDE, base_of, captions_for, difference, epsilon, prediction_of, random_images, some_x
from support.pipeline_runs import comparable_steps, exact_scheduler, queries_of, textbook, timestep_of

from mia_hub import get_attack

# The flows that shift their noise levels by themselves pass through none of ours.
OWN = [name for name in ALL if not name.startswith(("sd3", "flux-dev", "flux-fast"))]


# Variants differ in what the exact run shows as well.
RUNS = [
    *(pytest.param(name, "own", marks=() if name in EXPECTED else pytest.mark.slow) for name in OWN),
    # A pipeline of latent consistency takes no other scheduler.
    *((name, "exact") for name in ALL if name != "lcm"),
]


@pytest.mark.parametrize("name, which", RUNS)
def test_epsilon_and_steps_are_those_of_the_pipelines_run(model_of, pipeline_of, monkeypatch, name, which):
    """A pipeline runs. Each query of its denoiser implies our ε, and one step by our ε leads to the x of the next query."""
    model, pipeline, prediction, captions = model_of(name), pipeline_of(name), prediction_of(name), captions_for(model_of(name), 2)
    assert model.info.prediction_type == prediction
    if which == "exact":
        monkeypatch.setattr(pipeline, "scheduler", exact_scheduler(pipeline.scheduler, prediction))
    run = queries_of(base_of(name), pipeline, captions)
    times = [timestep_of(call, prediction) for call in run]
    actual = [epsilon(model, t, call.x, captions) for t, call in zip(times, run)]
    for call, each in zip(run, actual):
        assert each.dtype == torch.float64
        assert difference(each, textbook(call, pipeline.scheduler, prediction)) < 1e-8, call.t
    steps = comparable_steps(pipeline.scheduler, prediction, which)
    assert len(run) > steps
    for i in range(steps):
        stepped = model.schedule.ddim_step(run[i].x, actual[i], times[i], times[i + 1])
        assert difference(stepped, run[i + 1].x) < 1e-6, run[i].t


@pytest.mark.parametrize("name", EXPECTED)
def test_rows_are_independent(model_of, name):
    model, t = model_of(name, "float32"), torch.tensor([3, 400, 950])
    x, captions = some_x(model), captions_for(model)
    batch = model.predict_noise(x, t, model.condition(captions))
    for row in range(3):
        alone = epsilon(model, t[row], x[[row]], captions and [captions[row]])
        assert difference(batch[[row]], alone) < 1e-5
        assert difference(epsilon(model, t[row - 1], x[[row]], captions and [captions[row]]), alone) > 1e-3
        if captions:
            assert difference(epsilon(model, t[row], x[[row]], [captions[row - 1]]), alone) > 1e-3


ATTACKS = {
    "sima": {"timesteps": (10, 50)},
    "sima-mc": {"timesteps": (10, 50), "draws": 2},
    "loss": {"timesteps": (10, 50)},
    "secmi": {"timesteps": (50,), "k": 50},
    "pia": {"timesteps": (10, 50)},
}


# Each family with one attack, and each attack with one family; the others take minutes and find little.
QUICK = {*((name, "sima") for name in EXPECTED), *(("sd1", attack) for attack in ATTACKS)}


@pytest.mark.parametrize(
    "name, attack",
    [pytest.param(name, attack, marks=() if (name, attack) in QUICK else pytest.mark.slow) for name in EXPECTED for attack in ATTACKS],
)
def test_attacks_run(model_of, name, attack):
    model, images = model_of(name, "float32"), random_images(SIDE[name])
    captions, chosen = captions_for(model), get_attack(attack, **ATTACKS[attack])
    table = chosen.score(model, images, captions=captions, progress=False)
    assert table.scores.shape == (3, len(chosen.timesteps)) and np.isfinite(table.scores).all()
    one_by_one = chosen.score(model, images, captions=captions, batch_size=1, progress=False)
    np.testing.assert_allclose(one_by_one.scores, table.scores, rtol=1e-4)
    if captions:
        others = chosen.score(model, images, captions=captions[1:] + captions[:1], progress=False)
        assert (~np.isclose(others.scores, table.scores, rtol=1e-3)).any(axis=1).all()
