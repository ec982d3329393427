"""Every registered attack: its declarations, its costs, its identity, and parameters that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mia_hub
from mia_hub.attacks import ATTACKS, get_attack, gsa, list_attacks
from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.learning import TrainedAttack
from mia_hub.errors import AttackError
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod

STEPS = (20, 60)
# What an attack needs to run in little time on a tiny model; every other one runs at timesteps 20 and 60.
SMALL = {
    "combine": {"parts": ("sima", "pia", "sima-c")},
    "forensics-text": {"steps": 3},
    "mofit": {"timesteps": (60,), "image_steps": 3, "embedding_steps": 3},
    "nearest-generated": {"samples": 4, "steps": 3},
    "pfami": {"timesteps": STEPS, "crops": 2},
    "quantile": {"timesteps": STEPS, "bag": 2},
    "random": {},
    "rediffuse": {"timesteps": (20, 60), "k": 20, "variations": 2},
    "rediffuse-nns": {"timesteps": (60,), "k": 20, "variations": 2},
    "secmi-nns": {"timesteps": (60,)},
    "sima-cn": {"timesteps": STEPS, "given": ("complexity", "mirror", "shift-up")},
}

WITH_VARIANT = [name for name in list_attacks() if issubclass(ATTACKS[name], HasAuthorsVariant)]
# ResNet-18 takes seconds to fit; tests/attacks/test_map_network.py fits it, too.
SLOW = ("secmi-nns", "rediffuse-nns")
# Every attack, and the further forms that its authors' code, or another's, has.
FORMS = [
    *((name, {}) for name in list_attacks()),
    *(pytest.param(name, {"variant": "authors"}, marks=[pytest.mark.slow] * (name in SLOW)) for name in WITH_VARIANT),
    ("loss", {"form": "norm"}),
    ("pfami", {"form": "stat", "crops": 6}),
    ("rediffuse", {"decision": "ssim"}),
    ("sima-mc", {"form": "error-mean"}),
    *((name, {"compared": "sima"}) for name in ("lira", "rmia", "bavaria")),
    ("lira", {"variance": "image"}),
    ("bavaria", {"prior": "variances"}),
    *((name, {"filtered": (2, 0.2)}) for name in ("sima", "loss", "secmi", "pia")),
]


class TinyTextModel(torch.nn.Module):
    """A network with weights and captions, which counts the rows that it is asked for."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layer = torch.nn.Conv2d(1, 1, 3, padding=1)
        self.seen = []

    def forward(self, x, t, cond):
        assert len(x) == len(t) == len(cond)
        self.seen.append(len(x))
        return self.layer(x) + 0.1 * cond[:, None, None, None]


def words(captions):
    return torch.tensor([len(caption.split()) for caption in captions], dtype=torch.float32)


@pytest.mark.parametrize(("name", "form"), FORMS, ids=lambda value: value if isinstance(value, str) else ",".join(map(str, value.values())))
def test_every_attack_costs_what_it_declares_and_scores_the_same_in_any_batch_and_order(name, form, monkeypatch):
    """Forward passes are counted by the network itself; scores must not depend on batch size, order or company."""
    monkeypatch.setattr("mia_hub.attacks.map_network.EPOCHS", 2)
    for trees in ("SMALL_TREES", "XGBOOST_TREES"):
        monkeypatch.setitem(getattr(gsa, trees), "max_iter", 10)
    one = get_attack(name, **SMALL.get(name, {"timesteps": STEPS}) | form)
    network, base_network, *other_networks = (TinyTextModel(seed=seed) for seed in range(4))
    wrapped = {"alphas_cumprod": ddpm_alphas_cumprod(), "sample_shape": (1, 8, 8), "condition": words}
    others = [wrap_denoiser(other, **wrapped) for other in other_networks]
    model = mia_hub.load_model(wrap_denoiser(network, **wrapped), base=wrap_denoiser(base_network, **wrapped), reference_models=others)
    for other in (base_network, *other_networks):
        other.seen = network.seen
    n = 40 if isinstance(one, TrainedAttack) else 10
    images = np.random.default_rng(0).integers(0, 256, (n, 8, 8), dtype=np.uint8)
    labels = np.repeat([1, 0], n // 2)
    captions = [f"a image of {i} things"[: 12 + i % 9] for i in range(n)]
    tables = []
    for order, batch_size in ((slice(None), 3), (slice(None), 64), (slice(None, None, -1), 7)):
        network.seen.clear()
        given = {"is_member": labels[order], "captions": captions[order], "batch_size": batch_size}
        table = one.score(model, images[order], progress=False, **given)
        assert sum(network.seen) == n * one.queries_on(model) + one.setup_queries == table.queries
        assert max(network.seen, default=0) <= max(batch_size, len(one.timesteps) if one.needs_gradients else 0)
        assert table.scores.shape == (n, len(one.columns)) and table.scores.dtype == np.float64
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
    if one.uses_base:
        with pytest.raises(AttackError, match=r"compares the model with its base.* none is known\. Give base="):
            one.check(wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8)))
    if one.uses_reference_models:
        with pytest.raises(AttackError, match=r"compares the model with reference models.* given none\. Give reference_models="):
            one.check(wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8)))
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
        ("sima-mc", {"form": "mean"}, "'vector-mean', 'norm-mean', 'error-mean'"),
        *((name, {"variant": "paper"}, "variant must be one of 'ours', 'authors'; got 'paper'") for name in WITH_VARIANT),
    ],
)
def test_parameters_that_cannot_be_are_refused(name, parameters, says):
    with pytest.raises(AttackError, match=says):
        get_attack(name, **parameters)


def test_identity_of_an_attack_is_its_repr():
    assert repr(get_attack("sima", timesteps=(5,), p=2)) == "SimA(timesteps=(5,), p=2, input='clean')"
    assert get_attack("sima") == get_attack("sima")
    names = (
        "sima sima-mc sima-c sima-cc sima-cn sima-lp sima-copies sima-cc-copies sima-b-copies sima-b sima-lpb loss-b loss secmi secmi-nns "
    )
    names += "pia pian pfami clid "
    names += "rediffuse rediffuse-nns gsa1 gsa2 forensics-vlb forensics-mse forensics-xstart forensics-text nearest-generated "
    names += "random combine mofit quantile lira rmia bavaria"
    assert set(ATTACKS) == set(names.split())
    with pytest.raises(AttackError, match="has its parameters already"):
        get_attack(get_attack("sima"), p=2)


@pytest.mark.parametrize(
    ("name", "later", "shown"),
    [
        ("pfami", {"variant": "authors"}, "PFAMI(timesteps=(50,), variant='authors', crops=10, form='relative')"),
        ("gsa1", {"variant": "authors"}, "GSA1(timesteps=(50,), variant='authors')"),
        ("secmi-nns", {"variant": "authors"}, "SecMINNs(timesteps=(50,), variant='authors', k=10)"),
        ("forensics-mse", {"variant": "authors"}, "ForensicsMSE(timesteps=(50,), variant='authors', aggregate='mean', draws=1)"),
        ("loss", {"form": "norm"}, "Loss(timesteps=(50,), draws=1, form='norm')"),
        ("rediffuse", {"decision": "ssim"}, "ReDiffuse(timesteps=(50,), k=100, variations=10, variation=None, decision='ssim')"),
    ],
)
def test_a_later_parameter_leaves_the_identity_of_earlier_scores(name, later, shown):
    assert repr(get_attack(name, timesteps=(50,), **later)) == shown
    ((parameter, value),) = later.items()
    assert repr(get_attack(name, timesteps=(50,))) == shown.replace(f", {parameter}={value!r}", "")


def test_the_authors_timesteps_come_with_their_variant_unless_others_are_given():
    assert get_attack("gsa1", variant="authors").timesteps == tuple(range(99, 1000, 100))
    assert get_attack("gsa2", variant="authors", timesteps=(50,)).timesteps == (50,)
    assert get_attack("gsa1", variant="ours") == get_attack("gsa1")
