"""SimA-MC draw by draw: what is looked at is SimA-MC's own score, no verdict changes afterwards, and p-values hold whenever one stops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.early_stopping import measure
from mia_hub.attacks import get_attack
from mia_hub.attacks.draw_by_draw import DrawByDraw
from mia_hub.checking.early_stopping import EarlyChecker, EarlyStopping, doubling
from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, NOT_COMPARABLE
from mia_hub.errors import AttackError, MetricError
from mia_hub.images.sources import as_images
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod

LOOKS = (2, 4, 8, 16)


def model_of(rows: list[int] | None = None, memorised: np.ndarray | None = None):
    def denoise(x, t):
        if rows is not None:
            rows.append(len(x))
        noise = torch.sin(3 * x) + x.flip(-1) * t.reshape(-1, 1, 1, 1) / 500
        if memorised is None:
            return noise
        # Other images are about .7 away.
        near = (x - (torch.from_numpy(memorised) / 127.5 - 1)).square().mean((1, 2, 3), keepdim=True) < 0.3
        return torch.where(near, noise / 10, noise)

    return wrap_denoiser(denoise, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8))


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("parameters", [{}, {"form": "norm-mean"}, {"antithetic": True}, {"p": 2}])
def test_each_look_is_sima_mc_with_as_many_draws(parameters):
    attack = get_attack("sima-mc", timesteps=(100,), draws=16, **parameters)
    observed = DrawByDraw(timesteps=(100,), attack=attack, looks=LOOKS).observe(model_of(), images(20), batch_size=7, progress=False)
    assert observed.queries == 20 * 16 and (observed.values[:, -1] == 16).all()
    for look, draws in enumerate(LOOKS):
        alone = get_attack("sima-mc", timesteps=(100,), draws=draws, **parameters).score(model_of(), images(20), progress=False)
        assert np.exp(-observed.values[:, look]) == pytest.approx(-alone.scores[:, 0], rel=1e-12), draws


def test_a_stopped_image_costs_no_more_and_changes_no_other():
    attack = get_attack("sima-mc", timesteps=(100,), draws=16)
    every = DrawByDraw(timesteps=(100,), attack=attack, looks=LOOKS).observe(model_of(), images(20), progress=False).values
    rows: list[int] = []
    # By the second look, those whose first score is in the upper half.
    middle = np.median(every[:, 0])

    def stop(scores):
        return (scores[:, 0] > middle) & (scores.shape[1] == 2)

    observed = DrawByDraw(timesteps=(100,), attack=attack, looks=LOOKS, stop=stop).observe(model_of(rows), images(20), progress=False)
    stopped = every[:, 0] > middle
    assert observed.values[:, -1].tolist() == np.where(stopped, 4, 16).tolist() and sum(rows) == observed.queries == 10 * 4 + 10 * 16
    assert np.array_equal(observed.values[~stopped, :-1], every[~stopped, :-1])
    assert np.array_equal(observed.values[stopped, :2], every[stopped, :2])
    assert (observed.values[stopped, 2:-1] == every[stopped, 1:2]).all(), "the last is repeated"


def test_what_one_rule_stopped_is_not_taken_for_anothers(tmp_path):
    attack, rows = get_attack("sima-mc", timesteps=(100,), draws=16), []
    every = DrawByDraw(timesteps=(100,), attack=attack, looks=LOOKS)
    # A wrapped function has no revision, and nothing would be cached.
    model = model_of(rows)
    model.info = replace(model.info, revision="sha256:0")

    def draws(stop) -> int:
        rows.clear()
        observed = replace(every, stop=stop).observe(model, images(20), resume=tmp_path, progress=False)
        return int(observed.values[:, -1].sum())

    assert [draws(lambda scores, look=look: np.full(len(scores), scores.shape[1] == look)) for look in (1, 2)] == [20 * 2, 20 * 4]
    assert draws(None) == sum(rows) == 20 * 16
    assert draws(None) == 20 * 16 and not rows, "without a rule it resumes from the finished batches"


def paths(rng, n: int, looks=LOOKS, shift: float = 0.0, noise: float = 1.0) -> np.ndarray:
    """Scores after each look: what an image is like, and the mean of its draws' noise."""
    draws = rng.normal(size=(n, looks[-1])) * noise
    return rng.normal(size=(n, 1)) + shift + np.stack([draws[:, :look].mean(1) for look in looks], 1)


def rule_of(scores, **options) -> EarlyStopping:
    return EarlyStopping.fitted(scores, [f"{i:032}" for i in range(len(scores))], LOOKS, **options)


def test_p_values_hold_at_the_worst_moment_to_stop():
    """Over many reference sets, the share of non-members whose p-value ever falls to α is at most α, and not far below it."""
    rng, alpha = np.random.default_rng(0), 0.05
    shares = []
    for _ in range(400):
        rule = rule_of(paths(rng, 100), alpha=alpha)
        path = np.stack([rule.standardised(column, look) for look, column in enumerate(paths(rng, 50).T)], 1)
        shares.append((rule.p_values(path.max(1)) <= alpha).mean())
    error = np.std(shares) / np.sqrt(len(shares))
    assert alpha - 0.02 < np.mean(shares) < alpha + 3 * error, (np.mean(shares), error)


# Members, by their shift; also where few draws say little, and standardised scores rise with more.
@pytest.mark.parametrize(("shift", "noise"), [(0.0, 1.0), (2.0, 1.0), (4.0, 1.0), (4.0, 3.0), (6.0, 6.0)])
def test_few_verdicts_differ_from_those_of_all_draws(shift, noise):
    rng, missed = np.random.default_rng(1), 0.01
    rule = rule_of(paths(rng, 1000, noise=noise), alpha=0.05, missed=missed)
    path = paths(rng, 4000, shift=shift, noise=noise)
    early = np.full(len(path), "", object)
    draws = np.full(len(path), LOOKS[-1])
    for look in range(len(LOOKS)):
        verdict = rule.verdicts(path[:, : look + 1])
        new = (early == "") & (verdict != "")
        early[new], draws[new] = verdict[new], LOOKS[look]
    whole = rule.verdicts(path)
    assert set(whole) <= {EVIDENCE, CANNOT_TELL}
    assert not ((early == EVIDENCE) & (whole == CANNOT_TELL)).any(), "evidence stays evidence"
    assert ((early == CANNOT_TELL) & (whole == EVIDENCE)).mean() <= 2 * missed
    assert draws.mean() < 0.8 * LOOKS[-1]


def test_the_benchmark_counts_members_that_lost_their_evidence():
    """Their scores rise from the third look on, as no non-member's does."""
    rng = np.random.default_rng(4)
    known, members = paths(rng, 400, noise=0.1), paths(rng, 100, noise=0.1)
    members[:60, 2:] += 9
    scores, labels = np.vstack([members, known]), np.repeat([1, 0], [100, 400])
    rows = {row.what.strip(): row.measured for row in measure(scores, [f"{i:032}" for i in range(500)], labels, LOOKS, 0.05)}
    lost, _, those, interval = rows["members with evidence after all draws, given up earlier"].split(maxsplit=3)
    assert 0 < int(lost) <= 60 <= int(those) and interval.startswith("[")


def test_with_too_few_non_members_for_evidence_nobody_waits_for_it():
    rng = np.random.default_rng(2)
    rule = rule_of(paths(rng, 60))
    assert rule.threshold == np.inf
    assert (rule.verdicts(paths(rng, 10, shift=100)[:, :1]) == CANNOT_TELL).all()


def test_threshold_is_where_evidence_begins():
    rule = rule_of(paths(np.random.default_rng(3), 300))
    at, below = rule.p_values(np.array([rule.threshold, np.nextafter(rule.threshold, -np.inf)]))
    assert at <= rule.alpha < below


def test_the_checker_answers_for_images():
    known, rows = images(1, seed=2)[0], []
    attack = get_attack("sima-mc", timesteps=(100,), draws=8)
    checker = EarlyChecker(model_of(rows, known), images(200), attack, progress=False)
    answers = checker.check(images(100, seed=1))
    comparable = [one for one in answers if one.verdict != NOT_COMPARABLE]
    assert len(answers) == 100 and len(comparable) > 95 and {one.verdict for one in comparable} <= {EVIDENCE, CANNOT_TELL}
    assert all((one.p_value <= 0.01) == (one.verdict == EVIDENCE) and one.draws in checker.rule.looks for one in comparable)
    assert np.mean([one.draws for one in comparable]) < 8
    rows.clear()
    # A image of one colour has hardly any predicted noise: nothing here would look more like a member.
    others = [np.full((8, 8), shade, np.uint8) for shade in (0, 128)]
    *odd, member = checker.check([*others, known])
    assert member.verdict == EVIDENCE and member.p_value == pytest.approx(1 / (len(checker.rule.null) + 1)) and member.draws == 2
    assert [(one.verdict, one.p_value, one.score, one.draws) for one in odd] == [(NOT_COMPARABLE, None, None, 0)] * 2
    assert [one.id for one in (*odd, member)] == [image.id for image in as_images([*others, known])]
    assert sum(rows) == 2, "images of another kind are not scored"
    assert checker.check(others) == odd


def test_copies_of_a_known_non_member_count_once():
    attack, rows = get_attack("sima-mc", timesteps=(100,), draws=8), []
    checker = EarlyChecker(model_of(rows), np.concatenate([images(40)] * 4), attack, progress=False)
    alone = EarlyChecker(model_of(), images(40), attack, progress=False)
    assert np.array_equal(checker.rule.null, alone.rule.null) and len(checker.rule.null) == 32 and sum(rows) == 40 * 8
    rows.clear()
    with pytest.raises(MetricError, match="10 different known non-members are too few for early stopping; at least 25"):
        EarlyChecker(model_of(rows), np.concatenate([images(10)] * 13), attack, progress=False)
    assert not rows, "it is refused before any query"


def test_what_is_refused():
    attack = get_attack("sima-mc", timesteps=(100,), draws=8)
    with pytest.raises(MetricError, match="20 different known non-members are too few for early stopping; at least 25"):
        EarlyChecker(model_of(), images(20), attack, progress=False)
    with pytest.raises(MetricError, match="all have the same score"):
        rule_of(np.zeros((50, 4)))
    with pytest.raises(AttackError, match="at one timestep"):
        EarlyChecker(model_of(), images(30), get_attack("sima-mc", timesteps=(50, 100)), progress=False)
    with pytest.raises(AttackError, match="increasing up to 8"):
        EarlyChecker(model_of(), images(30), attack, looks=(2, 4), progress=False)


def test_doubling():
    assert [doubling(n) for n in (1, 2, 3, 8, 10)] == [(1,), (2,), (2, 3), (2, 4, 8), (2, 4, 8, 10)]
