"""LiRA, RMIA and BaVarIA: slow implementations of their formulas, known answers, the convention, and what is refused or never mixed."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import norm, t
from support.populations import mixture_images

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.attacks.identity import is_identified, recorded_model
from mia_hub.errors import AttackError, SplitError
from mia_hub.images.sources import as_images
from mia_hub.metrics.roc import auc
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod, gaussian_mixture_denoiser, training_set_denoiser
from mia_hub.models.noise import SampleNoise
from mia_hub.models.reference_models import reference_models
from mia_hub.splits.training_images import TRAINING_FACTS, TRAINING_IDS

NAMES = ("lira", "rmia", "bavaria")
MEMBERS, STEPS = 120, (40, 160)
FORMS = [
    ("lira", {}),
    ("lira", {"variance": "image"}),
    ("rmia", {}),
    ("rmia", {"a": 1}),
    ("bavaria", {}),
    ("bavaria", {"prior": "variances"}),
]
STATISTICS = [{"compared": "loss", "draws": 2}, {"compared": "sima"}]


def population_models(count):
    """Closed-form denoisers of populations that differ a little, as trained reference models do."""
    means, *_ = mixture_images(1)
    return [gaussian_mixture_denoiser(means * (1 + 0.03 * i), 0.1 + 0.02 * i, name=f"other {i}") for i in range(count)]


@pytest.fixture(scope="module")
def memory():
    """A perfect memory of 120 images, three reference models that know their population, and 360 images of it."""
    _, _, images = mixture_images(3 * MEMBERS)
    model = training_set_denoiser(images[:MEMBERS].double() * 2 - 1, name="memory")
    return mia_hub.load_model(model, reference_models=population_models(3)), images, np.repeat([1, 0, 0], MEMBERS)


def statistics_by_hand(model, images, compared, draws=1):
    """S_t of each image on the model and on each reference model, ``[N, T, 1 + k]``, image by image and draw by draw."""
    rows = []
    for image in as_images(images):
        x0 = torch.tensor(image.pixels).permute(2, 0, 1)[None].double() * 2 - 1
        noise = SampleNoise([image.id], (1, 8, 8), dtype=torch.float64)
        columns = []
        for step in STEPS:
            signal = math.sqrt(float(ddpm_alphas_cumprod()[step]))
            spread = math.sqrt(1 - signal**2)
            values = []
            for one in (model, *reference_models(model)):
                if compared == "sima":
                    values.append(float((one.predict_noise(x0, torch.tensor([step])) ** 4).sum()) ** 0.25)
                    continue
                losses = []
                for k in range(draws):
                    e = noise(step, k)
                    epsilon = one.predict_noise(signal * x0 + spread * e, torch.tensor([step]))
                    losses.append(float(((e - epsilon) ** 2).sum()))
                values.append(sum(losses) / draws)
            columns.append(values)
        rows.append(columns)
    return np.array(rows)


def lira_by_hand(statistics, _, variance="global"):
    """The paper's one-sided probability, as it is in units of its normal quantile."""
    logs = np.log(statistics)
    scores = np.empty(logs.shape[:2])
    for i, j in np.ndindex(*scores.shape):
        own, others = logs[i, j, 0], logs[i, j, 1:]
        sigma = 1.0 if variance == "global" else math.sqrt(sum((x - others.mean()) ** 2 for x in others) / len(others))
        scores[i, j] = norm.ppf(norm.sf(own, others.mean(), sigma))
    return scores


def rmia_by_hand(statistics, compared, a=0.33):
    size = 64 if compared == "loss" else 64**0.25
    scores = np.empty(statistics.shape[:2])
    for i, j in np.ndindex(*scores.shape):
        own, *others = (math.exp(-s / size) for s in statistics[i, j])
        p_out = sum(others) / len(others)
        p_in = a * p_out + 1 - a
        scores[i, j] = math.log(own / ((p_out + p_in) / 2))
    return scores


@pytest.mark.parametrize("statistic", STATISTICS, ids=["loss", "sima"])
@pytest.mark.parametrize(("name", "form"), [form for form in FORMS if form[0] != "bavaria"])
def test_scores_by_hand(memory, name, form, statistic):
    model, images, _ = memory
    rows = np.r_[:3, MEMBERS : MEMBERS + 3]
    table = get_attack(name, timesteps=STEPS, **form, **statistic).score(model, images[rows], progress=False)
    by_hand = {"lira": lira_by_hand, "rmia": rmia_by_hand}[name]
    expected = by_hand(statistics_by_hand(model, images[rows], **statistic), statistic["compared"], **form)
    reachable = np.isfinite(expected)  # the probability of a clear member rounds to 1
    np.testing.assert_allclose(table.scores[reachable], expected[reachable], rtol=1e-6, atol=1e-8)
    assert reachable.mean() > 0.4


@pytest.mark.parametrize("gamma", [1, 1.02])
def test_the_papers_comparison_with_a_population_ranks_as_the_ratio_does(memory, gamma):
    """RMIA's score is the share of population images z with ratio(x)/ratio(z) ≥ γ; no two images may change places by it."""
    model, images, _ = memory
    rows = np.r_[:30, MEMBERS : MEMBERS + 30]
    scores = get_attack("rmia", timesteps=(160,)).score(model, images[rows], progress=False).scores[:, 0]
    z = get_attack("rmia", timesteps=(160,)).score(model, images[2 * MEMBERS :], progress=False).scores[:, 0]
    share = np.array([np.mean([math.exp(x) / math.exp(each) >= gamma for each in z]) for x in scores])
    assert len(np.unique(share)) > 10
    i, j = np.nonzero(share[:, None] > share[None, :])
    assert (scores[i] > scores[j]).all()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("prior", ["population", "variances"])
def test_bavaria_ranks_by_the_tail_of_the_students_t(memory, prior, k):
    """Against scipy's distribution, at the posterior that the textbook gives one value after the other."""
    model, images, _ = memory
    model = mia_hub.load_model(model, reference_models=population_models(k))
    fitted = get_attack("bavaria", timesteps=(160,), prior=prior).fit(model, images[2 * MEMBERS :], progress=False)
    rows = np.r_[:20, MEMBERS : MEMBERS + 20]
    scores = fitted.score(model, images[rows], progress=False).scores[:, 0]
    attack = get_attack("bavaria", timesteps=(160,))
    null = attack.observe(model, images[2 * MEMBERS :], progress=False).values[:, 0, 1:]
    values = attack.observe(model, images[rows], progress=False).values[:, 0]
    tails = []
    for own, *others in values:
        if prior == "population":
            mean, kappa, alpha, beta = null.mean(), 1.0, 2.0, null.var()
            for x in others:
                beta += kappa * (x - mean) ** 2 / (2 * (kappa + 1))
                mean = (kappa * mean + x) / (kappa + 1)
                kappa, alpha = kappa + 1, alpha + 0.5
            tails.append(t.logsf(own, 2 * alpha, mean, math.sqrt(beta * (kappa + 1) / (alpha * kappa))))
        elif k == 1:
            tails.append(others[0] - own)
    if tails:
        assert (np.argsort(tails) == np.argsort(scores)).all()
    else:
        # Between no pooling and pooling of all variances.
        none, full = (values[:, 1:].mean(1) - values[:, 0]) / values[:, 1:].std(1), values[:, 1:].mean(1) - values[:, 0]
        assert min(np.corrcoef(scores, each)[0, 1] for each in (none, full)) > 0.5


@pytest.fixture(scope="module")
def compared_alone(memory):
    """``compared_alone(**statistic)``: the scores of the statistic on the model itself; scored once."""
    model, images, _ = memory

    @cache
    def scored(**statistic):
        return get_attack("lira", **statistic).plain.score(model, images[: 2 * MEMBERS], progress=False).scores

    return scored


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("statistic", [{"compared": "loss", "draws": 5}, {"compared": "sima"}], ids=["loss", "sima"])
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_members_score_higher(memory, compared_alone, name, form, statistic, k):
    """Exact denoisers: of the members, and of populations that all images come from."""
    model, images, labels = memory
    images, labels = images[: 2 * MEMBERS], labels[: 2 * MEMBERS]
    k = max(k, 2) if form.get("variance") == "image" else k
    model, statistic = mia_hub.load_model(model, reference_models=population_models(k)), statistic | {"timesteps": (160, 220)}
    plain = compared_alone(**statistic)
    scores = get_attack(name, **form, **statistic).score(model, images, is_member=labels, progress=False).scores
    assert auc(scores[:, 0], labels) > 0.97
    # At t = 220 the statistic alone tells members from the others by little.
    assert auc(plain[:, 1], labels) < 0.8 and auc(scores[:, 1], labels) > auc(plain[:, 1], labels) + 0.05


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_memorised_nothing_gives_chance(memory, name):
    _, images, labels = memory
    first, *others = population_models(3)
    model = mia_hub.load_model(first, reference_models=others)
    scores = get_attack(name, timesteps=(160,)).score(model, images, is_member=labels, progress=False).scores[:, 0]
    assert 0.4 < auc(scores, labels) < 0.6


def recording(seen):
    def predict(x, step):
        seen.append((x.clone(), step.clone()))
        return x + 0.1

    return wrap_denoiser(predict, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8))


@pytest.mark.parametrize("statistic", STATISTICS, ids=["loss", "sima"])
@pytest.mark.parametrize("name", NAMES)
def test_all_models_see_the_same_inputs_to_the_bit(name, statistic):
    own, *of_others = ([], [], [])
    model = mia_hub.load_model(recording(own), reference_models=[recording(seen) for seen in of_others])
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    attack = get_attack(name, timesteps=STEPS, **statistic)
    observed = attack.observe(model, images, progress=False)
    for seen in of_others:
        for mine, theirs in zip(own, seen, strict=True):
            assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])
    passes = 5 * len(STEPS) * statistic.get("draws", 1)
    assert observed.queries == 5 * attack.queries_on(model) == 3 * passes
    assert attack.queries_per_image == attack.queries_per_reference_model == passes / 5


@pytest.mark.parametrize("name", NAMES)
def test_without_reference_models_the_message_says_what_to_give(memory, name):
    plain = training_set_denoiser(memory[1][:5].double())
    with pytest.raises(AttackError, match=r"was given none\. Give reference_models=\[…\] \(--reference-model .*train-reference"):
        get_attack(name).check(plain)


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("lira", {"variance": "pooled"}, "'global', 'image'"),
        ("lira", {"compared": "pia"}, "'loss', 'sima'"),
        ("rmia", {"compared": "sima", "draws": 2}, "has no effect"),
        ("bavaria", {"draws": 0}, "draws"),
        ("rmia", {"a": 1.5}, "from 0 to 1"),
        ("rmia", {"a": "half"}, "from 0 to 1"),
        ("bavaria", {"prior": "flat"}, "'population', 'variances'"),
    ],
)
def test_parameters_are_refused(name, parameters, says):
    with pytest.raises(AttackError, match=says):
        get_attack(name, **parameters)


def test_a_variance_per_image_needs_two_reference_models(memory):
    model = mia_hub.load_model(memory[0], reference_models=population_models(1))
    with pytest.raises(AttackError, match=r"needs two reference models or more, and there is one\. .*variance='global'"):
        get_attack("lira", variance="image").check(model)


def test_timesteps_are_checked_against_the_reference_models(memory):
    with pytest.raises(AttackError, match="outside the schedule"):
        get_attack("lira", timesteps=(1000,)).score(memory[0], memory[1][:2], progress=False)


def test_results_record_the_reference_models_of_attacks_that_use_them(memory):
    model, images, labels = memory
    rows = np.r_[:22, MEMBERS : MEMBERS + 22]
    parts = (get_attack("lira", timesteps=(160,)), get_attack("sima", timesteps=(40,)))
    for attack in (*parts, get_attack("combine", parts=parts), get_attack("lira", timesteps=(160,), given=("complexity", "mirror"))):
        table = attack.score(model, images[rows], is_member=labels[rows], progress=False)
        assert table.queries == 44 * attack.queries_on(model)
        assert attack.uses_reference_models == (attack != parts[1]) == ("reference_models" in table.model)
        if attack.uses_reference_models:
            recorded = [(each["id"], each["revision"], each["precision"]) for each in table.model["reference_models"]]
            assert recorded == [(f"other {i}", None, "float64") for i in range(3)]
            assert not is_identified(model, attack)


def test_a_fit_depends_on_the_reference_models(memory):
    model, images, _ = memory
    fewer = mia_hub.load_model(model, reference_models=population_models(2))
    attack = get_attack("bavaria", timesteps=(160,))
    fits = [attack.fit(each, images[MEMBERS : MEMBERS + 30], progress=False) for each in (model, fewer)]
    assert fits[0].fitted_on != fits[1].fitted_on and fits[0].uses_reference_models


def overflowing(moved):
    """A reference model whose denoiser overflows at bright images, until it is moved to a wider precision."""

    def predict(x, step):
        narrow = not model.fallbacks
        return torch.where((x[:, :, :1, :1] > 0.9) & narrow, torch.nan, x.sin() * (1 if narrow else 1.5))

    def fall_back():
        model.fallbacks = {"denoiser": "bfloat16"}
        return True

    model = wrap_denoiser(predict, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8), name="narrow")
    model.fallbacks, model.fall_back = {"denoiser": "bfloat16"} if moved else {}, fall_back
    return model


def test_a_reference_model_that_overflows_is_moved_and_all_images_are_scored_again():
    images = np.random.default_rng(0).integers(0, 100, (9, 8, 8), dtype=np.uint8)
    images[7] = 255
    attack, other = get_attack("lira", timesteps=(60,), compared="sima"), recording([])
    tables = []
    for moved in (False, True):
        model = mia_hub.load_model(recording([]), reference_models=[other, overflowing(moved)])
        tables.append(attack.score(model, images, batch_size=3, progress=False))
        assert tables[-1].remarks["precision-fallback"].endswith("; reference model 2's denoiser in bfloat16")
        assert tables[-1].model["reference_models"][1]["precision"] == "float32 (denoiser in bfloat16)"
    np.testing.assert_array_equal(tables[0].scores, tables[1].scores)


# On models with files: what they state to have seen, and stored scores.


def pixels(seed, n=30):
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8), dtype=np.uint8)


@pytest.fixture
def compared(tiny_pixel_repo):
    """``compared(*seeds, **files)``: a model with reference models of these seeds, the first of which states its training in files."""

    def make(*seeds, **files):
        folders = [tiny_pixel_repo(seed=seed) for seed in seeds]
        for name, text in files.items():
            (folders[0] / name).write_text(text)
        return mia_hub.load_model(str(tiny_pixel_repo()), device="cpu", reference_models=[str(folder) for folder in folders])

    return make


@pytest.fixture
def split():
    return mia_hub.make_split(pixels(0), pixels(1))


ATTACK = get_attack("lira", timesteps=(100,))
SAYS = "was trained on {} of these images, as its files state"
AUDIT = {"shift_check": False, "progress": False, "fprs": [0.2]}


def ids_file(images):
    return {TRAINING_IDS: "\n".join(image.id for image in as_images(images))}


@pytest.mark.parametrize("name", NAMES)
def test_images_that_a_reference_model_has_seen_are_refused_in_audits(compared, split, name):
    model = compared(1, 2, **ids_file(pixels(1)[:3]))
    with pytest.raises(SplitError, match=SAYS.format(3)):
        mia_hub.audit(model, get_attack(name, timesteps=(100,)), split, **AUDIT)
    stated = compared(1, 2, **{TRAINING_FACTS: f'{{"split_hash": "{split.hash}"}}'})
    with pytest.raises(SplitError, match=SAYS.format(30)):
        mia_hub.audit(stated, get_attack(name, timesteps=(100,)), split, **AUDIT)


def test_images_that_a_reference_model_has_seen_are_refused_in_checks(compared):
    images = pixels(2, 2)
    options = {"nonmembers": pixels(1), "keep": False, "progress": False}
    with pytest.raises(SplitError, match=SAYS.format(3)):
        mia_hub.check_image(images[0], compared(1, 2, **ids_file(pixels(1)[:3])), ATTACK, **options)
    with pytest.raises(SplitError, match=SAYS.format(1)):
        mia_hub.check_image(images[0], compared(1, 2, **ids_file(images[:1])), ATTACK, **options)
    with pytest.raises(SplitError, match=SAYS.format(1)):
        ATTACK.score(compared(1, 2, **ids_file(images[:1])), images, progress=False)


def test_a_check_states_what_it_presupposes(compared):
    model = compared(1, 2)
    check = mia_hub.check_image(pixels(2)[0], model, ATTACK, nonmembers=pixels(1), keep=False, progress=False)
    assert 0 < check.p_value <= 1
    assert any("compared with the reference models" in caveat and "none of them has seen the image" in caveat for caveat in check.caveats)


def test_stored_scores_are_those_of_the_same_reference_models_alone(compared, split, tmp_path):
    one, other = compared(1, 2), compared(1, 3)
    first = mia_hub.audit(one, ATTACK, split, folder=tmp_path, **AUDIT)
    turned = mia_hub.load_model(one, reference_models=reference_models(one)[::-1])
    again = mia_hub.audit(turned, ATTACK, split, folder=tmp_path, **AUDIT)
    assert again.scores.seconds == first.scores.seconds and "Reference model 2: id" in first.to_markdown()
    assert first.cost.queries_per_image == 3 and first.cost.reference_model_queries_per_image == 2
    changed = mia_hub.audit(other, ATTACK, split, folder=tmp_path, **AUDIT)
    assert changed.model != first.model and not np.array_equal(changed.scores.scores, first.scores.scores)
    assert recorded_model(one, ATTACK) != recorded_model(other, ATTACK) == changed.model


def test_finished_batches_are_those_of_the_same_reference_models_alone(compared, tmp_path):
    tables = []
    for model in (compared(1, 2), compared(1, 3)):
        tables.append(ATTACK.score(model, pixels(0), batch_size=7, resume=tmp_path, progress=False))
    assert len(list(tmp_path.iterdir())) == 2
    fresh = ATTACK.score(compared(1, 3), pixels(0), batch_size=7, progress=False)
    np.testing.assert_array_equal(tables[1].scores, fresh.scores)


def test_a_kept_reference_answers_for_the_same_reference_models_alone(compared, tmp_path, monkeypatch):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "home"))
    model = compared(1, 2)
    built = mia_hub.Reference.build(model, pixels(1), ATTACK, progress=False)
    options = {"progress": False}
    same = mia_hub.check_image(pixels(2)[0], compared(2, 1), ATTACK, **options)
    assert same.p_value is not None
    for others in ((1, 3), (1,)):
        assert mia_hub.check_image(pixels(2)[0], compared(*others), ATTACK, **options).p_value is None
        with pytest.raises(SplitError, match=r"compares the model with the reference models .* at hand are"):
            built.check_fits(compared(*others))


def test_checkers_are_reused_for_the_same_reference_models_alone(compared):
    from mia_hub.checking.checks import get_checker

    model, options = compared(1, 2), {"nonmembers": pixels(1), "keep": False, "progress": False}
    checker = get_checker(model, ATTACK, **options)
    assert get_checker(model, ATTACK, **options) is checker
    other = mia_hub.load_model(model, reference_models=list(reference_models(compared(1, 3))))
    assert get_checker(other, ATTACK, **options) is not checker


def test_a_base_and_reference_models_may_be_given_to_one_comparison(tiny_pixel_repo, split):
    base, *others = (str(tiny_pixel_repo(seed=seed)) for seed in (4, 1, 2))
    attacks = [replace(ATTACK), get_attack("sima-b", timesteps=(100,)), get_attack("sima", timesteps=(100,))]
    comparison = mia_hub.compare(str(tiny_pixel_repo()), split, attacks, base=base, reference_models=others, **AUDIT)
    assert [sorted({"base", "reference_models"} & set(row.report.model)) for row in comparison.rows] == [["reference_models"], ["base"], []]
    assert [row.queries_at_timestep for row in comparison.rows] == [3, 2, 1]
    with pytest.raises(AttackError, match="Reference models were given, and 'sima' compares the model with none"):
        mia_hub.audit(str(tiny_pixel_repo()), attacks[2], split, reference_models=others, **AUDIT)
