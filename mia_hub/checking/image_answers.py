"""From a score to an answer: conformal p-values against images known not to be in the training set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.p_values import ALPHA, FALSE_DISCOVERY_RATE
from mia_hub.rendering.numbers import floored_percent, p_text, share

BAND = (0.05, 0.5, 0.95)


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
    """Membership score per timestep, with the bands of known members and non-members. **Higher = more likely a member.**

    Attributes:
        attack: short name of the attack that the scores are of, which need not be the one that the verdict is made by.
    """

    timesteps: tuple[int, ...]
    scores: tuple[float, ...]
    members: Band | None
    nonmembers: Band | None
    attack: str = ""


# Verdicts, and how they are said: every sentence begins with its verdict and a colon.
EVIDENCE, CANNOT_TELL, NOT_COMPARABLE, NO_NULL = "evidence", "cannot-tell", "not-comparable", "no-null"
VERDICTS = {
    EVIDENCE: "Evidence that this image was in the training set",
    CANNOT_TELL: "Cannot tell",
    NOT_COMPARABLE: "Not comparable",
    NO_NULL: "No verdict is possible",
}
# So many non-members make p ≤ `ALPHA` possible.
ENOUGH_NULL = round(1 / ALPHA) - 1
# Measured by benchmarks/altered_copies.py.
TREATMENT = (
    "It holds for images that are like the reference images and were treated alike. A copy that was altered can look less like a "
    "training image than it is: on the demo, of training images that had been shifted by one pixel or mirrored, few or none got "
    "evidence, and JPEG and enlarging cost many theirs."
)


@dataclass(frozen=True)
class ImageCheck:
    """The answer for one image.

    Attributes:
        name, id: of the image.
        model: id of the model that was asked.
        attack: name of the attack that the verdict is made by.
        source: where the known non-members come from; None without any.
        verdict: "evidence", "cannot-tell", "not-comparable" or "no-null"; never "not a member", which no score can show.
        sentence: the answer in words.
        caveats: what the answer does not mean.
        profile: score per timestep with the bands of known images.
        timestep: at which the verdict is made.
        score: there; higher = more likely a member.
        p_value: conformal, in (0, 1]; None where no verdict is possible.
        q_value: adjusted for the number of images checked together; None for a single one.
        share_below: share of known non-members with a lower score.
        n_null: known non-members that it was compared with.
        comparable: whether the image is of the reference images' kind; None where that can't be told.
        notes: what was changed when the image was read.
    """

    name: str
    id: str
    model: str
    attack: str
    source: str | None
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
        """As `to_dict`, without the bands, which all images of one reference share: "scores" by timestep instead."""
        entry = asdict(self)
        del entry["profile"]
        return entry | {"scores_of": self.profile.attack, "scores": dict(zip(map(str, self.profile.timesteps), self.profile.scores))}

    @classmethod
    def from_entry(cls, entry: dict[str, Any], reference: dict[str, Any] | None) -> ImageCheck:
        """The inverse of `to_entry`; ``reference`` as `mia_hub.Checker.to_dict` gives it."""
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        scores, attack = fields.pop("scores"), fields.pop("scores_of")
        bands = [Band.from_dict(reference[name]) if reference else None for name in ("member_band", "nonmember_band")]
        return cls(**fields, profile=Profile(tuple(map(int, scores)), tuple(scores.values()), *bands, attack))


def judge(p_value: float, q_value: float | None) -> str:
    """The verdict of a p-value, or, for one of several images, of its q-value (see `adjusted`)."""
    small = p_value <= ALPHA if q_value is None else q_value <= FALSE_DISCOVERY_RATE
    return EVIDENCE if small else CANNOT_TELL


def say(
    verdict: str,
    *,
    model: str,
    source: str | None = None,
    n_null: int = 0,
    share_below: float | None = None,
    p_value: float | None = None,
    q_value: float | None = None,
) -> str:
    """An answer as one sentence that begins with the verdict; where there is none, a second one says what to do.

    Args:
        model, source, n_null, share_below, p_value, q_value: as in `ImageCheck`; the last three where there is a p-value.
    """
    asked = f"the model {model}"
    if verdict == NO_NULL:
        return (
            f"{VERDICTS[verdict]}: no images are known that are certainly not in the training set of {asked}. Give {ENOUGH_NULL} or more "
            "such images, of the same kind as the one in question."
        )
    if verdict == NOT_COMPARABLE:
        return (
            f"{VERDICTS[verdict]}: this image is unlike the {n_null:,} images that scores of {asked} are compared with ({source}). "
            f"For a verdict, name the model that you suspect, and give {ENOUGH_NULL} or more images of this one's kind that are "
            "certainly not in its training set."
        )
    side, part = ("more", share_below) if share_below >= 0.5 else ("less", 1 - share_below)
    than = "any" if part == 1 else f"{floored_percent(part):.1f} %"
    lowest = ", the lowest that so few can give" if smallest_p(n_null) and p_value <= 1 / (n_null + 1) else ""
    # Above `ALPHA` q is 1 whatever p is, and says nothing.
    together = f" (q = {p_text(q_value)} among the images checked together)" if q_value is not None and p_value <= ALPHA else ""
    return (
        f"{VERDICTS[verdict]}: it is {side} like a training image of {asked} than {than} of {n_null:,} images known not to be in the "
        f"training set; p = {p_text(p_value)}{together}{lowest}."
    )


def smallest_p(n_null: int) -> str | None:
    """What so few known non-members mean for every answer; None where there are enough for evidence."""
    if 1 / (n_null + 1) <= ALPHA:
        return None
    return (
        f"With {n_null} known non-members no image can get evidence: p can't get below {p_text(1 / (n_null + 1))}, and evidence starts "
        f"at {p_text(ALPHA)}. Give {ENOUGH_NULL} or more."
    )


def explain(verdict: str, p_value: float | None, q_value: float | None, n_null: int, power: Estimate | None) -> tuple[str, ...]:
    """What an answer does *not* mean, for whoever reads it.

    Args:
        power: share of known members that reach p ≤ `ALPHA`; None where no members are known.
    """
    if verdict == NO_NULL:
        return ("The curve alone says nothing: how high a score is depends on how hard the image is, whether it was used or not.",)
    if verdict == NOT_COMPARABLE:
        return ("It says nothing about whether the image was in the training set: images of another kind can't tell what its score means.",)
    lines = [
        f"The p-value is not the probability of innocence: of images never in the training set, about {share(p_value)} would look "
        "at least this much like training images by chance.",
    ]
    if verdict == CANNOT_TELL:
        few = smallest_p(n_null)
        lines = [few, *lines] if few else lines
        caught = (
            f"of known training images, the attack recognises {share(power.value)} at p ≤ {p_text(ALPHA)} and misses the others."
            if power
            else "how many training images the attack misses isn't known for this model."
        )
        lines.append(f"“Cannot tell” doesn't clear the image: {caught}")
    else:
        by_design = (
            f"by design {share(ALPHA)} of images that were never used get here too, so checking many images one by one will turn up "
            "false ones."
            if q_value is None
            else f"of all images so called, up to {share(FALSE_DISCOVERY_RATE)} are expected to be false."
        )
        lines.append(f"It is statistical evidence about one model, not proof: {by_design}")
        lines.append("A near copy of this image in the training set would look the same.")
    return (*lines, TREATMENT)
