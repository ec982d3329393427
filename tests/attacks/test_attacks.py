"""SimA and SimA-MC: known answers, literal re-derivations, and what must never change a score."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from support.populations import mixture_images

from mia_hub.attacks import ATTACKS, get_attack, list_attacks
from mia_hub.errors import AttackError, ModelError
from mia_hub.images.sources import as_images
from mia_hub.metrics.intervals import delong
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod, gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.models.noise import SampleNoise

N = 150
STEPS = (20, 60)
VARIANTS = {
    "sima": {},
    "sima scaled": {"input": "scaled"},
    "sima noised": {"input": "noised"},
    "sima p=2": {"p": 2},
    "sima-mc": {"draws": 4},
    "sima-mc norm-mean": {"draws": 4, "form": "norm-mean"},
    "sima-mc antithetic": {"draws": 4, "antithetic": True},
}


def attack(variant: str, **changes):
    return get_attack(variant.split()[0], **({"timesteps": STEPS} | VARIANTS[variant] | changes))


@pytest.fixture(scope="module")
def population():
    """2N samples of a Gaussian mixture: means, samples in model space, and as images in [0, 1]."""
    means, _, images = mixture_images(2 * N)
    return means, images.double() * 2 - 1, images


is_member = np.repeat([1, 0], N)


@pytest.mark.parametrize("variant", VARIANTS)
def test_known_answers(variant, population):
    means, samples, images = population
    memory = training_set_denoiser(samples[:N])
    knows_nothing = gaussian_mixture_denoiser(means, 0.1)
    remembered = attack(variant, timesteps=(20,)).score(memory, images, progress=False)
    assert auc(remembered.scores[:, 0], is_member) == 1.0
    generalised = attack(variant).score(knows_nothing, images, progress=False)
    for column in generalised.scores.T:
        # Members are no different here: .5 must lie in a 99.9 % interval (7 variants, 2 timesteps).
        low, high = delong(column, is_member, confidence=0.999)
        assert low < 0.5 < high


@pytest.mark.parametrize("variant", VARIANTS)
def test_literal_rederivation(variant, population):
    """Each definition written out sample by sample, step by step, draw by draw."""
    _, samples, images = population
    model = training_set_denoiser(samples[:N])
    one = attack(variant)
    table = one.score(model, images[:5], progress=False, seed=3)
    alphas = ddpm_alphas_cumprod()
    p = getattr(one, "p", 4)
    for (i, image), (j, t) in itertools.product(enumerate(as_images(images[:5])), enumerate(STEPS)):
        x0 = torch.tensor(image.pixels).permute(2, 0, 1)[None].double() * 2 - 1

        def epsilon(x, t=t):
            return model.predict_noise(x, torch.tensor([t]))

        def norm(v, p=p):
            return sum(abs(float(a)) ** p for a in v.flatten()) ** (1 / p)

        def noised(k, sign=1, t=t, x0=x0, image=image):
            e = sign * SampleNoise([image.id], (1, 8, 8), 3, dtype=torch.float64)(t, k)
            return alphas[t].sqrt() * x0 + (1 - alphas[t]).sqrt() * e

        expected = {
            "sima": lambda x0=x0: norm(epsilon(x0)),
            "sima p=2": lambda x0=x0: norm(epsilon(x0)),
            "sima scaled": lambda x0=x0, t=t: norm(epsilon(alphas[t].sqrt() * x0)),
            "sima noised": lambda: norm(epsilon(noised(0))),
            "sima-mc": lambda: norm(sum(epsilon(noised(k)) for k in range(4)) / 4),
            "sima-mc norm-mean": lambda: sum(norm(epsilon(noised(k))) for k in range(4)) / 4,
            "sima-mc antithetic": lambda: norm(sum(epsilon(noised(k, sign)) for k in range(2) for sign in (1, -1)) / 4),
        }[variant]()
        assert table.scores[i, j] == pytest.approx(-expected, rel=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_size_order_and_company_never_change_a_score(variant, tiny_pixel_repo):
    from mia_hub.models.loading import load_model

    model = load_model(tiny_pixel_repo(channels=3, size=16), device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    one = attack(variant)
    alone = np.concatenate([one.score(model, image, progress=False).scores for image in images])
    for batch_size in (1, 2, 3, 64):
        table = one.score(model, images, batch_size=batch_size, progress=False)
        np.testing.assert_allclose(table.scores, alone, rtol=1e-5)
        assert table.queries == one.queries_per_image * len(images)
    backwards = one.score(model, images[::-1], batch_size=3, progress=False)
    np.testing.assert_allclose(backwards.scores[::-1], alone, rtol=1e-5)


# What an attack needs to run in little time on a tiny model; every other one runs at timesteps 20 and 60.
SMALL = {
    "combine": {"parts": ("sima", "pia", "sima-c")},
    "forensics-text": {"steps": 3},
    "nearest-generated": {"samples": 4, "steps": 3},
    "pfami": {"timesteps": STEPS, "crops": 2},
    "random": {},
    "rediffuse": {"timesteps": (20, 60), "k": 20, "variations": 2},
    "secmi-nns": {"timesteps": (60,)},
    "sima-cn": {"timesteps": STEPS, "given": ("complexity", "mirror", "shift-up")},
}


class TinyTextModel(torch.nn.Module):
    """A network with weights and captions, which counts the rows that it is asked for."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = torch.nn.Conv2d(1, 1, 3, padding=1)
        self.seen = []

    def forward(self, x, t, cond):
        assert len(x) == len(t) == len(cond)
        self.seen.append(len(x))
        return self.layer(x) + 0.1 * cond[:, None, None, None]


def words(captions):
    return torch.tensor([len(caption.split()) for caption in captions], dtype=torch.float32)


@pytest.mark.parametrize("name", list_attacks())
def test_every_attack_costs_what_it_declares_and_scores_the_same_in_any_batch_and_order(name):
    """Forward passes are counted by the network itself; scores must not depend on batch size, order or company."""
    one = get_attack(name, **SMALL.get(name, {"timesteps": STEPS}))
    network = TinyTextModel()
    model = wrap_denoiser(network, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8), condition=words)
    images = np.random.default_rng(0).integers(0, 256, (44, 8, 8), dtype=np.uint8)
    labels = np.repeat([1, 0], 22)
    captions = [f"a image of {i} things"[: 12 + i % 9] for i in range(44)]
    tables = []
    for order, batch_size in ((slice(None), 3), (slice(None), 64), (slice(None, None, -1), 7)):
        network.seen.clear()
        given = {"is_member": labels[order], "captions": captions[order], "batch_size": batch_size}
        table = one.score(model, images[order], progress=False, **given)
        assert sum(network.seen) == 44 * one.queries_per_image + one.setup_queries == table.queries
        assert max(network.seen, default=0) <= max(batch_size, len(one.timesteps) if one.needs_gradients else 0)
        assert table.scores.shape == (44, len(one.columns)) and table.scores.dtype == np.float64
        tables.append(table.scores[order])
    np.testing.assert_allclose(tables[1], tables[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tables[2], tables[0], rtol=1e-4, atol=1e-6)
    assert not any(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", list_attacks())
def test_every_attack_declares_itself(name):
    one = get_attack(name)
    assert one.access in ("black", "gray", "white") and one.paper
    assert get_attack(name) == one
    with pytest.raises(AttackError):
        get_attack(name, no_such_parameter=1)
    if one.needs_caption:
        with pytest.raises(AttackError, match="isn't conditioned on text"):
            one.check(wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8)))
    elif one.needs_gradients:
        with pytest.raises(AttackError, match="plain function"):
            one.check(wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8)))
    elif name != "random":
        short = wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(5), sample_shape=(1, 8, 8))
        if one.timesteps[-1] >= 5:
            with pytest.raises(AttackError, match="outside the schedule"):
                one.check(short)


def test_convention_smaller_predicted_noise_means_higher_score():
    model = wrap_denoiser(lambda x, t: x * 0 + x.mean((1, 2, 3), keepdim=True), ddpm_alphas_cumprod(), sample_shape=(1, 8, 8))
    images = np.stack([np.full((8, 8), v, np.uint8) for v in (128, 255)])  # ε about 0, and ε = 1
    quiet, loud = get_attack("sima", timesteps=(100,)).score(model, images, progress=False).scores[:, 0]
    assert quiet > loud
    assert loud == pytest.approx(-(64**0.25))


def test_vector_mean_cancels_noise_that_norm_mean_keeps():
    """For ε = x the average over antithetic pairs is exactly √ᾱ_t·x0; the average of norms is not."""
    model = wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8), dtype=torch.float64)
    image = np.full((8, 8), 255, np.uint8)
    signal = ddpm_alphas_cumprod()[200].sqrt().item()
    score = lambda **k: get_attack("sima-mc", timesteps=(200,), draws=2, **k).score(model, image, progress=False).scores.item()  # noqa: E731
    assert score(antithetic=True) == pytest.approx(-signal * 64**0.25, rel=1e-12)
    assert score(antithetic=True, form="norm-mean") < score(antithetic=True) - 0.01


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("simma", {}, "Did you mean 'sima'"),
        ("sima", {"timestep": (1,)}, "Did you mean 'timesteps'"),
        ("sima", {"timesteps": ()}, "one or more different integers"),
        ("sima", {"timesteps": (5, 5)}, "increasing"),
        ("sima", {"timesteps": (-1, 5)}, "≥ 0"),
        ("sima", {"timesteps": ("a",)}, "must be integers"),
        ("sima", {"timesteps": (50.7,)}, "must be integers"),
        ("sima-mc", {"antithetic": "no"}, "True or False"),
        ("sima", {"p": 0}, "above 0"),
        ("sima", {"p": "four"}, "above 0"),
        ("sima", {"input": "dirty"}, "'clean', 'scaled', 'noised'"),
        ("sima-mc", {"draws": 0}, "≥ 1"),
        ("sima-mc", {"draws": 3, "antithetic": True}, "even"),
        ("sima-mc", {"form": "mean"}, "'vector-mean', 'norm-mean'"),
    ],
)
def test_parameters_that_cannot_be_are_refused(name, parameters, says):
    with pytest.raises(AttackError, match=says):
        get_attack(name, **parameters)


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
    monkeypatch.setattr("mia_hub.attacks.batch_reading.MAX_DECODED_VALUES", 1000)
    model = failing_model(lambda x, t: x)
    pixels, sizes = model.pixels, []
    model.pixels = lambda inputs: sizes.append(len(inputs)) or pixels(inputs)
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16), dtype=np.uint8)
    held = get_attack("sima", timesteps=STEPS).score(model, images, progress=False)
    monkeypatch.undo()
    assert sizes == [4, 4, 2]  # 4 × 256 values are more than 1,000
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


def test_identity_of_an_attack_is_its_repr():
    assert repr(get_attack("sima", timesteps=(5,), p=2)) == "SimA(timesteps=(5,), p=2, input='clean')"
    assert get_attack("sima") == get_attack("sima")
    asked = "sima sima-mc sima-c sima-cn loss secmi secmi-nns pia pian pfami clid rediffuse gsa1 gsa2 forensics-vlb forensics-mse "
    asked += "forensics-xstart forensics-text nearest-generated random combine"
    assert set(ATTACKS) == set(asked.split())
    with pytest.raises(AttackError, match="has its parameters already"):
        get_attack(get_attack("sima"), p=2)


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
