"""Was this *set* of pictures used for training? Many weak scores make one strong answer.

After CDI (arXiv 2411.12858), with two differences that guard against a wrong accusation. CDI trains a classifier to tell the suspects from
known non-members, in whatever direction they differ, and asks whether it succeeds on held-out pictures; here the direction is fixed
beforehand, "looks more like a training image", so that suspects which merely differ in kind are no evidence. And the test is one-sided.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mia_hub.calibration import ALPHA, CANNOT_TELL, ENOUGH_NULL, EVIDENCE, FEWEST_NULL, NO_NULL, NOT_COMPARABLE
from mia_hub.conditioning import ExpectedStatistic
from mia_hub.errors import MetricError
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.wording import p_text, share

FOLDS = 5
FEWEST_IN_SET = 5
PERMUTATIONS = 9_999
RESAMPLES = 2_000
POWER = 0.9
# One picture that is certainly a member must not carry a whole set: a score further out than this counts as this.
LARGEST_DEVIATION = 3.0


@dataclass(frozen=True)
class Fraction:
    """Estimated share of members in a set, with its 95 % interval.

    Attributes:
        value, low, high: in [0, 1].
        at_least: whether value and low are lower bounds, as they are where no known members show what members look like; high is 1 then.
    """

    value: float
    low: float
    high: float
    at_least: bool


@dataclass(frozen=True)
class SetCheck:
    """The answer for a set of pictures.

    Attributes:
        verdict: "evidence", "cannot-tell", "not-comparable" or "no-null"; never "not used", which no score can show.
        sentence: the answer in words.
        caveats: what the answer does not mean.
        n: different pictures in the set.
        n_null: known non-members that they were compared with.
        p_value: of a one-sided permutation test of the mean score; None where no verdict is possible.
        p_welch: of Welch's t-test on the same scores, one-sided.
        fraction: estimated share of members in the set; None as p_value.
        more_needed: further pictures of this kind with which p ≤ 0.01 would be reached nine times in ten, if the set goes on as it began;
            0 if it is reached, None if no number would do.
        scores: of each picture, in standard deviations above what non-members of its difficulty show. **Higher = more likely a member.**
        ids: their content ids.
        names: their names, such as those of their files.
        model: id of the model that was asked.
        attack: identity of the attack that scores are of, its ``repr``.
        attack_name, timestep: in short.
        source: where the known non-members come from; None without any.
        notes: what was left out.
    """

    verdict: str
    sentence: str
    caveats: tuple[str, ...]
    n: int
    n_null: int
    p_value: float | None
    p_welch: float | None
    fraction: Fraction | None
    more_needed: int | None
    scores: tuple[float, ...]
    ids: tuple[str, ...]
    model: str
    attack: str
    attack_name: str
    timestep: int
    source: str | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def without(self, unreadable: int) -> SetCheck:
        """The answer, with a note about files that were given and could not be read."""
        if not unreadable:
            return self
        said = (
            "1 file that was given could not be read, and is"
            if unreadable == 1
            else f"{unreadable} files that were given could not be read, and are"
        )
        return replace(self, notes=(*self.notes, f"{said} not part of the set."))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values."""
        return asdict(self)


def judge_set(p_value: float) -> str:
    """The verdict of a set's p-value."""
    return EVIDENCE if p_value <= ALPHA else CANNOT_TELL


SET_VERDICTS = {
    EVIDENCE: "Evidence that pictures of this set were in the training set",
    CANNOT_TELL: "Cannot tell",
    NOT_COMPARABLE: "Not comparable",
    NO_NULL: "No verdict is possible",
}


def say_set(verdict: str, *, model: str, n: int, n_null: int, test: SetTest | None, why: str = "") -> str:
    """The answer as one sentence that begins with the verdict; ``why`` says what makes a set not comparable."""
    if verdict == NO_NULL:
        return (
            f"{SET_VERDICTS[verdict]}: no pictures are known that are certainly not in the training set of the model {model}. Give "
            f"{ENOUGH_NULL} or more such pictures, of the same kind as those in question."
        )
    if verdict == NOT_COMPARABLE:
        return (
            f"{SET_VERDICTS[verdict]}: {why}. For a verdict, give {ENOUGH_NULL} or more pictures drawn from the same source as these that "
            "are certainly not in the training set."
        )
    side = "more" if test.scores.mean() >= 0 else "no more"
    return (
        f"{SET_VERDICTS[verdict]}: as a set, the {n} pictures look {side} like training images of the model {model} than {n_null:,} "
        f"pictures known not to be in the training set do; p = {p_text(test.p_value)}."
    )


def fraction_text(fraction: Fraction) -> str:
    """The estimated share of members in words."""
    if fraction.at_least:
        return f"at least {share(fraction.value)} (95 % interval: from {share(fraction.low)} up)"
    return f"{share(fraction.value)} (95 % interval: {share(fraction.low)} to {share(fraction.high)})"


def more_text(more_needed: int | None) -> str:
    """How many more pictures would be needed, in words."""
    if more_needed is None:
        return "no number of further pictures like these"
    return "none: it is reached" if more_needed == 0 else f"about {more_needed:,} further pictures, if they are like these"


def explain_set(verdict: str, test: SetTest | None) -> tuple[str, ...]:
    """What an answer does *not* mean, for whoever reads it."""
    if test is None:
        return ("It says nothing about whether the pictures were in the training set.",)
    lines = [
        f"The p-value is not the probability of innocence: of sets that were never used, about {share(test.p_value)} would look at least "
        "this much like training images by chance."
    ]
    if verdict == EVIDENCE:
        lines.append(
            "It is statistical evidence about the set and one model, not proof, and doesn't say which of the pictures were used; by design "
            f"{share(ALPHA)} of sets that were never used get here too."
        )
    else:
        lines.append("“Cannot tell” doesn't clear the set: it may hold few training images, or the model may remember them too weakly.")
    lines.append(
        "It holds if the known non-members come from the same source as these pictures: any other difference between the two that makes "
        "pictures easier for the model would look the same."
    )
    return tuple(lines)


@dataclass(frozen=True)
class SetTest:
    """The figures of `SetCheck`, without words."""

    p_value: float
    p_welch: float
    fraction: Fraction
    more_needed: int | None
    scores: np.ndarray


def too_few(n: int) -> MetricError:
    """The error for a set of so few pictures."""
    found = f"{n} different pictures are" if n != 1 else "One picture is"
    return MetricError(f"{found} too few for a set; give at least {FEWEST_IN_SET} different ones, or have each checked by itself.")


def compare_sets(suspects: np.ndarray, null: np.ndarray, members: np.ndarray | None = None, *, seed: int = 0) -> SetTest:
    """Compares a set with known non-members.

    Each score is taken by what was fitted on other folds of suspects and non-members together, blind to which is which; so under the null
    hypothesis, that the suspects are further non-members of the same kind, all are exchangeable and the permutation test is exact.

    Args:
        suspects: what the attack saw of the set: float64 ``[m]`` scores, or ``[m, 1 + F]`` for a conditional attack.
        null: the same of known non-members, ``[n, …]``.
        members: the same of known members, where there are any; they serve the estimated share alone.
        seed: of folds, permutations and intervals.

    Raises:
        MetricError: with fewer than 5 suspects or 20 non-members.
    """
    m = len(suspects)
    if m < FEWEST_IN_SET:
        raise too_few(m)
    if len(null) < FEWEST_NULL:
        raise MetricError(f"{len(null)} known non-members are too few to compare a set with; at least {FEWEST_NULL} are needed.")
    scores, known = _scores(np.concatenate([suspects, null]), members, seed)
    own, others = scores[:m], scores[m:]
    difference = own.mean() - others.mean()
    drawn = _means_of_draws(scores, m, np.random.default_rng(seed))
    p_value = (1 + int((drawn >= own.mean() - 1e-12).sum())) / (PERMUTATIONS + 1)
    return SetTest(
        p_value,
        _welch(own, others),
        _fraction(own, others, known, seed),
        0 if p_value <= ALPHA else _more_needed(own, others, difference),
        own,
    )


def _scores(pooled: np.ndarray, members: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Scores ``[m + n]`` of suspects and non-members, and of known members, in standard deviations."""
    if pooled.ndim == 1:
        centre, spread = np.median(pooled), np.subtract(*np.quantile(pooled, (0.8413, 0.1587))) / 2 or 1.0
        scaled = [None if part is None else (part - centre) / spread for part in (pooled, members)]
    else:
        fold = np.random.default_rng(seed).permutation(len(pooled)) % FOLDS
        found = np.empty(len(pooled))
        for k in range(FOLDS):
            fit = ExpectedStatistic(pooled[fold != k, 1:], pooled[fold != k, 0])
            found[fold == k] = -fit.deviation(pooled[fold == k, 1:], pooled[fold == k, 0])
        fit = ExpectedStatistic(pooled[:, 1:], pooled[:, 0])
        scaled = [found, None if members is None else -fit.deviation(members[:, 1:], members[:, 0])]
    return tuple(None if part is None else np.clip(part, -LARGEST_DEVIATION, LARGEST_DEVIATION) for part in scaled)


def _means_of_draws(scores: np.ndarray, m: int, rng: np.random.Generator) -> np.ndarray:
    """Means of `PERMUTATIONS` random subsets of size m."""
    n = len(scores)
    if m * m < n:
        # With replacement first, which is much faster; of so small subsets few have a repeated index, and only those are drawn again.
        rows = np.sort(rng.integers(n, size=(PERMUTATIONS, m)), axis=1)
        again = np.flatnonzero((np.diff(rows, axis=1) == 0).any(axis=1))
    else:
        rows, again = np.empty((PERMUTATIONS, m), int), range(PERMUTATIONS)
    for i in again:
        rows[i] = rng.choice(n, m, replace=False, shuffle=False)
    return scores[rows].mean(axis=1)


def _welch(own: np.ndarray, others: np.ndarray) -> float:
    from scipy.stats import ttest_ind

    p = float(ttest_ind(own, others, equal_var=False, alternative="greater").pvalue)
    return 1.0 if np.isnan(p) else p


def _fraction(own: np.ndarray, others: np.ndarray, members: np.ndarray | None, seed: int) -> Fraction:
    """π in mean(set) = π·mean(members) + (1-π)·mean(non-members); without known members, a lower bound.

    Without them: if every member of the set scored above the non-members' median, its share above would be π + (1-π)/2; so
    π ≥ 2·(share above) - 1, whatever members look like.
    """
    if members is None or len(members) < 2:
        above = int((own > np.median(others)).sum())
        low, _ = clopper_pearson(above, len(own))
        return Fraction(max(0.0, 2 * above / len(own) - 1), max(0.0, 2 * low - 1), 1.0, at_least=True)
    rng = np.random.default_rng(seed)
    # Means are drawn from Student's t, which knows how little five pictures tell of their own spread; a bootstrap doesn't, and is too sure.
    means = [
        part.mean() + np.concatenate([[0.0], part.std(ddof=1) / np.sqrt(len(part)) * rng.standard_t(len(part) - 1, RESAMPLES)])
        for part in (own, others, members)
    ]
    found = ((means[0] - means[1]) / np.maximum(means[2] - means[1], 1e-9)).clip(0, 1)
    low, high = np.quantile(found[1:], (0.025, 0.975))
    return Fraction(float(found[0]), float(low), float(high), at_least=False)


def _more_needed(own: np.ndarray, others: np.ndarray, difference: float) -> int | None:
    """From the two-sample z-test: n with (z_α + z_power)²·(s²/n + s0²/n0) ≤ difference²."""
    from scipy.stats import norm

    if difference <= 0:
        return None
    z = norm.ppf(1 - ALPHA) + norm.ppf(POWER)
    left = difference**2 / z**2 - others.var(ddof=1) / len(others)
    return max(0, int(np.ceil(own.var(ddof=1) / left)) - len(own)) if left > 0 else None
