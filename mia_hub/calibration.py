"""From a score to an answer: conformal p-values against images known not to be in the training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mia_hub.errors import MetricError
from mia_hub.report import Estimate
from mia_hub.scores import ScoreTable
from mia_hub.wording import floored_percent, p_text, share

# A p-value at or below it is called evidence; fixed once, for the app, the scripts and the command line.
ALPHA = 0.01
# Share of false discoveries tolerated among several pictures that are called evidence.
FALSE_DISCOVERY_RATE = 0.05
FEWEST_NULL = 20
BAND = (0.05, 0.5, 0.95)


@dataclass(frozen=True, eq=False)
class NullDistribution:
    """Scores of images known *not* to be in the training set, at one timestep. **Higher = more likely a member.**

    Attributes:
        scores: float64 ``[n]``, sorted upwards.
        ids: content ids, in the order of ``scores``.
        timestep: at which they were taken.
    """

    scores: np.ndarray
    ids: tuple[str, ...]
    timestep: int

    @classmethod
    def from_table(cls, table: ScoreTable, timestep: int) -> NullDistribution:
        """From the non-members of a table.

        Raises:
            MetricError: with fewer than 20 of them.
        """
        rows = np.flatnonzero(table.is_member == 0)
        if len(rows) < FEWEST_NULL:
            raise MetricError(
                f"{len(rows)} images known not to be in the training set are too few for a p-value; give at least {FEWEST_NULL}, better "
                f"{round(1 / ALPHA) - 1} or more."
            )
        scores = table.at(timestep)[rows]
        order = np.argsort(scores, kind="stable")
        return cls(scores[order], tuple(table.ids[rows[i]] for i in order), timestep)

    def __len__(self) -> int:
        return len(self.scores)

    def _counts(self, score: float, sample: str | None) -> tuple[int, int]:
        """How many null scores reach ``score``, and of how many; a picture is never compared with itself."""
        if not np.isfinite(score):
            raise MetricError(f"A p-value needs a finite score; got {score}.")
        reach = len(self) - int(np.searchsorted(self.scores, score, side="left"))
        own = [i for i, known in enumerate(self.ids) if known == sample] if sample is not None else []
        return reach - sum(bool(self.scores[i] >= score) for i in own), len(self) - len(own)

    def p_value(self, score: float, sample: str | None = None) -> float:
        """``(1 + #{null ≥ s})/(n + 1)``: conformal, uniform or larger for a non-member of the same kind (Vovk et al. 2005).

        Args:
            score: the picture's score.
            sample: its content id; if it is itself among the null images, it is left out.

        Returns:
            In [1/(n+1), 1].
        """
        reach, n = self._counts(score, sample)
        return (1 + reach) / (n + 1)

    def share_below(self, score: float, sample: str | None = None) -> tuple[float, int]:
        """Share of null images with a lower score, and how many there are."""
        reach, n = self._counts(score, sample)
        return (n - reach) / n, n


def adjusted(p_values: Sequence[float]) -> np.ndarray:
    """q-values of pictures judged together, where a p-value above `ALPHA` counts as 1.

    Calling those with q ≤ `FALSE_DISCOVERY_RATE` is the step-up procedure with critical values min(k·q/m, `ALPHA`). It keeps the
    false-discovery rate (Blanchard & Roquain 2008), and being checked together with others, or with a copy of itself, never makes a
    picture look more suspicious. (To demand p ≤ `ALPHA` only after the procedure would not keep the rate.)
    """
    p = np.asarray(p_values, dtype=np.float64)
    return benjamini_hochberg(np.where(p <= ALPHA, p, 1.0))


def benjamini_hochberg(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p-values (Benjamini & Hochberg 1995): calling those ≤ q keeps the expected share of false calls ≤ q.

    p-values against one null set depend on each other positively, under which the procedure stays valid (Bates et al. 2023).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return adjusted


@dataclass(frozen=True)
class Band:
    """5 %, 50 % and 95 % quantiles of known images' scores at each timestep."""

    low: tuple[float, ...]
    middle: tuple[float, ...]
    high: tuple[float, ...]
    n: int

    @classmethod
    def of(cls, scores: np.ndarray) -> Band | None:
        """From scores ``[n, T]``; None without any."""
        if not len(scores):
            return None
        return cls(*(tuple(map(float, row)) for row in np.quantile(scores, BAND, axis=0)), n=len(scores))

    @classmethod
    def from_dict(cls, values: dict[str, Any] | None) -> Band | None:
        """From the JSON form; None from None."""
        return None if values is None else cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})


@dataclass(frozen=True)
class Profile:
    """Membership score per timestep, with the bands of known members and non-members. **Higher = more likely a member.**"""

    timesteps: tuple[int, ...]
    scores: tuple[float, ...]
    members: Band | None
    nonmembers: Band | None


# Verdicts, and how they are said.
EVIDENCE, CANNOT_TELL, NOT_COMPARABLE, NO_NULL = "evidence", "cannot-tell", "not-comparable", "no-null"
VERDICTS = {
    EVIDENCE: "Evidence that this picture was in the training set.",
    CANNOT_TELL: "Cannot tell.",
    NOT_COMPARABLE: "Not comparable with the reference images.",
    NO_NULL: "No verdict is possible.",
}


@dataclass(frozen=True)
class ImageCheck:
    """The answer for one picture.

    Attributes:
        name, id: of the picture.
        verdict: "evidence", "cannot-tell", "not-comparable" or "no-null"; never "not a member", which no score can show.
        sentence: the answer in words.
        caveats: what the answer does not mean.
        profile: score per timestep with the bands of known images.
        timestep: at which the verdict is made.
        score: there; higher = more likely a member.
        p_value: conformal, in (0, 1]; None where no verdict is possible.
        q_value: adjusted for the number of pictures checked together; None for a single one.
        share_below: share of known non-members with a lower score.
        n_null: known non-members that it was compared with.
        comparable: whether the picture is of the reference images' kind; None where that can't be told.
        notes: what was changed when the picture was read.
    """

    name: str
    id: str
    verdict: str
    sentence: str
    caveats: tuple[str, ...]
    profile: Profile
    timestep: int
    score: float
    p_value: float | None
    q_value: float | None
    share_below: float | None
    n_null: int
    comparable: bool | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, the profile with its bands included."""
        return asdict(self)

    def to_entry(self) -> dict[str, Any]:
        """As `to_dict`, without the bands, which all pictures of one reference share: "scores" by timestep instead."""
        entry = asdict(self)
        del entry["profile"]
        return entry | {"scores": dict(zip(map(str, self.profile.timesteps), self.profile.scores))}

    @classmethod
    def from_entry(cls, entry: dict[str, Any], reference: dict[str, Any] | None) -> ImageCheck:
        """The inverse of `to_entry`; ``reference`` as `mia_hub.Checker.to_dict` gives it."""
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        scores = fields.pop("scores")
        bands = [Band.from_dict(reference[name]) if reference else None for name in ("member_band", "nonmember_band")]
        return cls(**fields, profile=Profile(tuple(map(int, scores)), tuple(scores.values()), *bands))


def judge(p_value: float, q_value: float | None) -> str:
    """The verdict of a p-value, or, for one of several pictures, of its q-value (see `adjusted`)."""
    small = p_value <= ALPHA if q_value is None else q_value <= FALSE_DISCOVERY_RATE
    return EVIDENCE if small else CANNOT_TELL


def say(share_below: float, n_null: int, p_value: float, q_value: float | None) -> str:
    """The answer's figures as one sentence."""
    together = "" if q_value is None else f" (q = {p_text(q_value)} among the pictures checked together)"
    than = "any" if share_below == 1 else f"{floored_percent(share_below):.1f} %"
    figures = f"p = {p_text(p_value)}{together}"
    return f"More like a training image than {than} of {n_null:,} images known not to be in the training set; {figures}."


def explain(verdict: str, p_value: float | None, q_value: float | None, n_null: int, power: Estimate | None) -> tuple[str, ...]:
    """What an answer does *not* mean, for whoever reads it.

    Args:
        power: share of known members that reach p ≤ `ALPHA`; None where no members are known.
    """
    if verdict == NO_NULL:
        return (
            "The curve alone says nothing: how high a score is depends on how hard the picture is, whether it was used or not.",
            f"Add {round(1 / ALPHA) - 1} or more pictures of the same kind that are certainly not in the training set to get a p-value.",
        )
    if verdict == NOT_COMPARABLE:
        return (
            "This picture is unlike the pictures that the scores are calibrated on, so they can't judge its score; no p-value is given.",
            "It says nothing about whether the picture was in the training set.",
        )
    lines = [
        f"The p-value is not the probability of innocence: of pictures never in the training set, about {share(p_value)} would look "
        "at least this much like training images by chance.",
    ]
    if verdict == CANNOT_TELL:
        caught = f" Of images that are in the training set, it recognises {share(power.value)} at p ≤ {ALPHA:g}." if power else ""
        lines.append(f"“Cannot tell” doesn't clear the picture: the attack misses many training images.{caught}")
    else:
        by_design = (
            "by design 1 in 100 pictures that were never used gets here too, so checking many pictures one by one will turn up false ones."
            if q_value is None
            else f"of all pictures so called, up to {share(FALSE_DISCOVERY_RATE)} are expected to be false."
        )
        lines.append(f"It is statistical evidence about one model, not proof: {by_design}")
        lines.append("A near copy of this picture in the training set would look the same.")
    if 1 / (n_null + 1) > ALPHA:
        lines.append(f"{n_null} known non-members are too few for strong evidence: p can't get below {p_text(1 / (n_null + 1))}.")
    lines.append(
        "It holds for pictures drawn like the reference images. One made darker, flatter or smoother can look more like a training image "
        "than it is; one cropped, recoloured or recompressed can look less."
    )
    return tuple(lines)
