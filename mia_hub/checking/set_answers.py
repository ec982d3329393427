"""Was this *set* of images used for training? Many weak scores make one strong answer.

After CDI (arXiv 2411.12858), with two differences that guard against a wrong accusation. CDI trains a classifier to tell the suspects from
known non-members, in whatever direction they differ, and asks whether it succeeds on held-out images; here the direction is fixed
beforehand, "looks more like a training image", so that suspects which merely differ in kind are no evidence. And the test is one-sided.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mia_hub.checking.image_answers import CANNOT_TELL, ENOUGH_NULL, EVIDENCE, NO_NULL, NOT_COMPARABLE
from mia_hub.metrics.p_values import ALPHA
from mia_hub.metrics.set_tests import Fraction, SetTest
from mia_hub.rendering.numbers import p_text, share


@dataclass(frozen=True)
class SetCheck:
    """The answer for a set of images.

    Attributes:
        verdict: "evidence", "cannot-tell", "not-comparable" or "no-null"; never "not used", which no score can show.
        sentence: the answer in words.
        caveats: what the answer does not mean.
        n: different images in the set.
        n_null: known non-members that they were compared with.
        p_value: of a one-sided permutation test of the mean score; None where no verdict is possible.
        p_welch: of Welch's t-test on the same scores, one-sided.
        fraction: estimated share of members in the set; None as p_value.
        more_needed: further images of this kind with which p ≤ 0.01 would be reached nine times in ten, if the set goes on as it began;
            0 if it is reached, None if no number would do.
        scores: of each image, in standard deviations above what non-members of its difficulty show. **Higher = more likely a member.**
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
    EVIDENCE: "Evidence that images of this set were in the training set",
    CANNOT_TELL: "Cannot tell",
    NOT_COMPARABLE: "Not comparable",
    NO_NULL: "No verdict is possible",
}


def say_set(verdict: str, *, model: str, n: int, n_null: int, test: SetTest | None, why: str = "") -> str:
    """The answer as one sentence that begins with the verdict; ``why`` says what makes a set not comparable."""
    if verdict == NO_NULL:
        return (
            f"{SET_VERDICTS[verdict]}: no images are known that are certainly not in the training set of the model {model}. Give "
            f"{ENOUGH_NULL} or more such images, of the same kind as those in question."
        )
    if verdict == NOT_COMPARABLE:
        return (
            f"{SET_VERDICTS[verdict]}: {why}. For a verdict, give {ENOUGH_NULL} or more images drawn from the same source as these that "
            "are certainly not in the training set."
        )
    side = "more" if test.scores.mean() >= 0 else "no more"
    return (
        f"{SET_VERDICTS[verdict]}: as a set, the {n} images look {side} like training images of the model {model} than {n_null:,} "
        f"images known not to be in the training set do; p = {p_text(test.p_value)}."
    )


def fraction_text(fraction: Fraction) -> str:
    """The estimated share of members in words."""
    if fraction.at_least:
        return f"at least {share(fraction.value)} (95 % interval: from {share(fraction.low)} up)"
    return f"{share(fraction.value)} (95 % interval: {share(fraction.low)} to {share(fraction.high)})"


def more_text(more_needed: int | None) -> str:
    """How many more images would be needed, in words."""
    if more_needed is None:
        return "no number of further images like these"
    return "none: it is reached" if more_needed == 0 else f"about {more_needed:,} further images, if they are like these"


def explain_set(verdict: str, test: SetTest | None) -> tuple[str, ...]:
    """What an answer does *not* mean, for whoever reads it."""
    if test is None:
        return ("It says nothing about whether the images were in the training set.",)
    lines = [
        f"The p-value is not the probability of innocence: of sets that were never used, about {share(test.p_value)} would look at least "
        "this much like training images by chance."
    ]
    if verdict == EVIDENCE:
        lines.append(
            "It is statistical evidence about the set and one model, not proof, and doesn't say which of the images were used; by design "
            f"{share(ALPHA)} of sets that were never used get here too."
        )
    else:
        lines.append("“Cannot tell” doesn't clear the set: it may hold few training images, or the model may remember them too weakly.")
    lines.append(
        "It holds if the known non-members come from the same source as these images: any other difference between the two that makes "
        "images easier for the model would look the same."
    )
    return tuple(lines)
