"""The answer about a *set* of images: many weak scores make one strong answer.

After CDI (arXiv 2411.12858), with two differences that guard against a wrong accusation. CDI trains a classifier to tell the suspects from
known non-members, in whatever direction they differ, and tests whether it succeeds on held-out images (`method="cdi"`). By default the
direction is fixed beforehand, "looks more like a training image", so that suspects which merely differ in kind are no evidence; and the
test is one-sided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mia_hub.checking.verdict_texts import unreadable_note
from mia_hub.metrics.set_tests import Fraction
from mia_hub.references.verdict_scores import VerdictScores

Method = Literal["permutation", "cdi"]
PERMUTATION: Method = "permutation"
CDI: Method = "cdi"


@dataclass(frozen=True)
class SetCheck:
    """The answer for a set of images.

    Attributes:
        verdict: "evidence", "cannot-tell", "not-comparable" or "no-null"; never "not used", which no score can show.
        sentence: the answer in words.
        caveats: what the answer does not mean.
        n: number of different images in the set.
        n_null: number of known non-members that they were compared with.
        p_value: of a one-sided permutation test of the mean score; None where no verdict is possible.
        p_welch: of Welch's t-test on the same scores, one-sided.
        fraction: estimated share of members in the set; None as p_value.
        more_needed: number of further images of this kind with which p ≤ 0.01 would be reached nine times in ten, if the set goes on as it
            began; 0 if it is reached, None if no number would do.
        scores: of each image, in standard deviations above what non-members of its difficulty show. **Higher = more likely a member.**
        ids: their content ids.
        model: id of the model that was queried.
        attack: identity of the attack that scores are of, its ``repr``.
        attack_name: its short name.
        timestep: at which the images were scored.
        source: where the known non-members come from; None without any.
        names: of the images, such as those of their files.
        notes: what was left out.
        known_scores: the scores of the known images, for a plot; None where there is no verdict.
        method: "permutation", or "cdi" for the test of that paper. By CDI ``p_value`` is that of Welch's t-test, ``scores`` are of the half
            of the images that nothing was fitted on, and there is no fraction and no ``more_needed``.
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
    known_scores: VerdictScores | None = None
    method: Method = PERMUTATION

    def without(self, unreadable: int, others: Sequence[str] = ()) -> SetCheck:
        """Return the answer with notes on files that are not part of the set.

        Args:
            unreadable: the number of those that could not be read.
            others: sentences on what was left out besides.
        """
        notes = (*others, *([unreadable_note(unreadable)] if unreadable else []))
        return replace(self, notes=(*self.notes, *notes)) if notes else self

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return asdict(self)
