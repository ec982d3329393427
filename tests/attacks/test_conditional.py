"""Conditional attacks: features by hand, honest fits, refusals, the demo's figures."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kstest
from support.blobs import perfect_memory
from support.latent_memory import latent_memory, textures

from mia_hub.attacks import get_attack
from mia_hub.attacks.conditional import CANDIDATES, neighbour
from mia_hub.errors import AttackError
from mia_hub.images.complexity import complexity
from mia_hub.images.sources import as_images
from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.metrics.roc import auc, tpr_at_fpr
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod, training_set_denoiser
from mia_hub.references.demo_reference import DEMO_OBSERVATIONS, demo_reference, read_observations
from mia_hub.scores import ScoreTable
from mia_hub.splits.partition import calibration_part


def test_complexity_by_hand():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 6, 5)).astype(np.float32) / 255
    grey = [[float(v) for v in row] for row in pixels[0]]
    dx = np.mean([abs(row[j + 1] - row[j]) for row in grey for j in range(4)])
    dy = np.mean([abs(grey[i + 1][j] - grey[i][j]) for i in range(5) for j in range(5)])
    laplacian = np.mean(
        [abs(4 * grey[i][j] - grey[i - 1][j] - grey[i + 1][j] - grey[i][j - 1] - grey[i][j + 1]) for i in range(1, 5) for j in range(1, 4)]
    )
    file = io.BytesIO()
    Image.fromarray((pixels[0] * 255).round().astype(np.uint8)).save(file, "PNG")
    expected = [np.log(file.tell()), np.log((dx + dy) / 2 + 1e-3), np.log(laplacian + 1e-3), np.mean(grey), np.std(grey)]
    np.testing.assert_allclose(complexity(pixels), expected, rtol=1e-6)
    assert np.isfinite(complexity(np.zeros((3, 4, 4), np.float32))).all()


def test_neighbours():
    x = torch.arange(12.0).reshape(1, 1, 3, 4) / 12
    rows = lambda name: (neighbour(name, x)[0, 0] * 12).round().int().tolist()  # noqa: E731
    assert rows("mirror") == [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8]]
    assert rows("flip") == [[8, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert rows("turn") == [[11, 10, 9, 8], [7, 6, 5, 4], [3, 2, 1, 0]]
    assert rows("shift-right") == [[0, 0, 1, 2], [4, 4, 5, 6], [8, 8, 9, 10]]
    assert rows("shift-left") == [[1, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]
    assert rows("shift-down") == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert rows("shift-up") == [[4, 5, 6, 7], [8, 9, 10, 11], [8, 9, 10, 11]]
    assert rows("mirror+shift-right") == [[3, 3, 2, 1], [7, 7, 6, 5], [11, 11, 10, 9]]


@pytest.fixture(scope="module")
def memory():
    """60 samples, an exact memory of the first 30, and labels."""
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return training_set_denoiser(images[:30].double() * 2 - 1), images, np.repeat([1, 0], 30)


def test_features_by_hand(memory):
    model, images, _ = memory
    attack = get_attack("sima-cn", timesteps=(20, 60), given=("complexity", "mirror", "shift-left"))
    seen = attack.observe(model, images[:4], progress=False).values
    assert seen.shape == (4, 2, 1 + 5 + 3)
    for i, image in enumerate(as_images(images[:4])):
        pixels = torch.tensor(image.pixels).permute(2, 0, 1)[None].double()
        for j, t in enumerate((20, 60)):
            norm = lambda x, p, t=t: float(model.predict_noise(x * 2 - 1, torch.tensor([t])).norm(p))  # noqa: E731
            mirror, left = pixels.flip(-1), torch.cat([pixels[..., 1:], pixels[..., -1:]], -1)
            spread = [(np.log(norm(mirror, p)) + np.log(norm(left, p))) / 2 for p in (1, 2, 4)]
            expected = [np.log(norm(pixels, 2)), *complexity(pixels[0].numpy()), *spread]
            np.testing.assert_allclose(seen[i, j], expected, rtol=1e-9)


def squares(pixels: np.ndarray, side: int) -> np.ndarray:
    """Means over squares of pixels of ``[H, W]``; those at the lower and right edge may be cut."""
    height, width = (-(-length // side) for length in pixels.shape)
    return np.array([[pixels[i * side : i * side + side, j * side : j * side + side].mean() for j in range(width)] for i in range(height)])


@pytest.mark.parametrize(("model", "side", "reduced_by"), [("pixels", 9, 2), ("latents", 24, 4)])
def test_coarse_complexity_is_that_of_the_image_at_the_size_of_latents(model, side, reduced_by):
    images = textures(6, 0, side)
    queried = perfect_memory(images[:3]) if model == "pixels" else latent_memory(images[:3])
    seen = get_attack("sima-cc", timesteps=(20,)).observe(queried, images, progress=False)
    plain = get_attack("sima-c", timesteps=(20,)).observe(queried, images, progress=False)
    assert seen.queries == plain.queries == len(images) and seen.values.shape == (6, 1, 1 + 5 + 5)
    np.testing.assert_array_equal(seen.values[..., :6], plain.values)
    for row, image in zip(seen.values[:, 0, 6:], images):
        expected = complexity(squares(image / 255, reduced_by)[None])
        np.testing.assert_allclose(row[1:], expected[1:], rtol=1e-5)
        # A mean that lies half-way between two grey levels may be rounded to either, which changes the size as a PNG by a few bytes.
        np.testing.assert_allclose(row[0], expected[0], atol=0.05)


@pytest.mark.parametrize("name", ["sima-c", "sima-cc", "sima-cn"])
def test_known_answer(name, memory):
    model, images, labels = memory
    table = get_attack(name, timesteps=(20,)).score(model, images, is_member=labels, progress=False)
    assert auc(table.scores[:, 0], labels) == 1.0
    settled = get_attack(name, timesteps=(20,)).with_chosen(table.chosen)
    choosing = 0 if name != "sima-cn" else 30 * sum(1 + len(candidate) for candidate in CANDIDATES)
    assert table.queries == 60 * settled.queries_per_image + choosing


def test_what_is_scored_outside_the_calibration_part_uses_no_label_from_there(memory):
    model, images, labels = memory
    ids = [image.id for image in as_images(images)]
    attack = get_attack("sima-cn", timesteps=(20,))
    table = attack.score(model, images, is_member=labels, progress=False)
    outside = ~calibration_part(ids, labels)
    fitted = get_attack("sima-cn", timesteps=(20,), given=table.chosen["given"])
    nulls = np.flatnonzero(~outside & (labels == 0))
    alone = fitted.fit(model, images[nulls], np.zeros(len(nulls)), progress=False).score(model, images[outside], progress=False)
    np.testing.assert_allclose(table.scores[outside], alone.scores, rtol=1e-9)


def test_auto_chooses_among_the_candidates_by_the_calibration_part_alone(memory):
    model, images, labels = memory
    seen = []

    def counting(x, t):
        seen.append(len(x))
        return model.predict_noise(x, t)

    counted = wrap_denoiser(counting, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8), dtype=torch.float64)
    chosen, spent = get_attack("sima-cn", timesteps=(20, 60, 100)).choose(counted, as_images(images), labels, progress=False)
    assert chosen["given"][1:] in CANDIDATES
    assert spent == sum(seen) == 30 * sum(1 + len(candidate) for candidate in CANDIDATES)
    without = get_attack("sima-cn").choose(counted, as_images(images), np.zeros(60, np.int8), progress=False)
    assert without == ({"given": ("complexity", "shift-left", "shift-right")}, 0)


@pytest.mark.parametrize("name", ["sima", "sima-mc", "loss", "pia", "pian", "secmi"])
def test_any_attack_can_be_conditional(name, memory):
    model, images, labels = memory
    plain = get_attack(name, timesteps=(20, 60))
    attack = get_attack(name, timesteps=(20, 60), given=("complexity", "mirror"))
    assert attack.queries_per_image == 2 * plain.queries_per_image
    assert attack.at(60).timesteps == (60,)
    table = attack.score(model, images, is_member=labels, progress=False)
    assert table.queries == 60 * attack.queries_per_image
    assert np.isfinite(table.scores).all()


def never(x, t):
    raise AssertionError("the model was queried")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m, x: get_attack("sima-c", given=("simplicity",)), "complexity, base, mirror"),
        (lambda m, x: get_attack("sima-c", given=()), "one or more"),
        (lambda m, x: get_attack("sima", given=("mirror", "mirror")), "different names"),
        (lambda m, x: get_attack("sima", given="mirror+tilt"), "joined"),
        (lambda m, x: get_attack("secmi-nns", given=("mirror",)), "given"),
        (lambda m, x: get_attack("sima-c").score(m, x), "no non-members"),
        (lambda m, x: get_attack("sima-c").score(m, x, is_member=[0] * 12 + [1] * 8), "12 non-members are too few"),
        (lambda m, x: get_attack("sima-c").fit(m, x[:9]), "9 non-members are too few"),
    ],
)
def test_refusals_come_before_the_model_is_queried(call, says):
    model = wrap_denoiser(never, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8))
    with pytest.raises(AttackError, match=says):
        call(model, np.zeros((20, 8, 8), np.uint8))


def test_a_fitted_attack_refuses_what_it_was_fitted_on(memory):
    model, images, _ = memory
    fitted = get_attack("sima-c", timesteps=(20,)).fit(model, images[30:55], progress=False)
    assert fitted.score(model, images[55:], progress=False).scores.shape == (5, 1)
    asked = wrap_denoiser(never, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8))
    with pytest.raises(AttackError, match="1 of these images are among those that the attack 'sima-c' was fitted on"):
        fitted.score(asked, images[54:], progress=False)


def test_on_the_demo_neighbours_triple_what_sima_catches():
    """From what was stored with the demo: the fit on its calibration part's non-members, the figures on the rest."""
    table = ScoreTable.from_parquet(DEMO_OBSERVATIONS.parent / "scores.parquet")
    ids, observed, meta = read_observations(DEMO_OBSERVATIONS)
    calibration = calibration_part(ids, table.is_member)
    known = calibration & (table.is_member == 0)
    scores = -ExpectedStatistic(observed[known, 1:], observed[known, 0]).deviation(observed[:, 1:], observed[:, 0])
    labels = table.is_member[~calibration]
    best = max(range(len(table.timesteps)), key=lambda i: auc(table.scores[calibration, i], table.is_member[calibration]))
    sima = table.scores[~calibration, best]
    assert auc(scores[~calibration], labels) > auc(sima, labels) + 0.03
    assert tpr_at_fpr(scores[~calibration], labels, 0.01) >= 3 * tpr_at_fpr(sima, labels, 0.01)
    assert meta["attack"].startswith("SimALP(")


def test_p_values_of_the_demos_own_nonmembers_are_uniform():
    reference = demo_reference()
    rows = np.random.default_rng(0).permutation(len(reference.null))[:200]
    p = [reference.null.judge(reference.null.observed[row], reference.null.ids[row]).p_value for row in rows]
    assert kstest(p, "uniform").pvalue > 0.01
