"""From observations of a set of images to the answer about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mia_hub.attacks import Attack
from mia_hub.attacks.scoring import Observations
from mia_hub.checking.set_answers import CDI, PERMUTATION, Method, SetCheck
from mia_hub.checking.verdict_texts import (
    blind_classifier_text,
    copies_note,
    overlap_note,
    remark_notes,
    set_caveats,
    set_sentence,
    unlike_images_text,
)
from mia_hub.checking.verdicts import NO_NULL, NOT_COMPARABLE, set_verdict_of
from mia_hub.errors import SplitError
from mia_hub.images.features import blind_features
from mia_hub.images.image import InputImage
from mia_hub.metrics.p_values import ALPHA, FEWEST_NULL
from mia_hub.metrics.set_tests import SetTest, compare_sets
from mia_hub.references.comparability import UNLIKE_BY_CHANCE
from mia_hub.references.reference import Reference
from mia_hub.references.verdict_attack import untouched, verdict_observations
from mia_hub.references.verdict_scores import VerdictScores
from mia_hub.splits.shift import blind_auc


@dataclass(frozen=True, eq=False)
class ObservedSet:
    """A set of different images, and what the verdict's attack observed of them.

    Attributes:
        images: n of them.
        copies: number of copies that were left out.
        model: id of the model that was queried.
        attack: that gives the verdict.
        attack_name: its short name.
        timestep: at which the images were scored.
        observations: of the images, by this attack.
        caveats: what an answer by this attack presupposes.
        method: of the test.
    """

    images: Sequence[InputImage]
    copies: int
    model: str
    attack: Attack
    attack_name: str
    timestep: int
    observations: Observations
    caveats: tuple[str, ...] = ()
    method: Method = PERMUTATION


@dataclass(frozen=True, eq=False)
class SetComparison:
    """The outcome of comparing a set with a reference: a test, or the difference in kind that makes it meaningless.

    Attributes:
        n_null: number of known non-members that it was compared with.
        overlap: number of known non-members that are in the set themselves.
        test: None where the set is not comparable.
        difference: in kind; "" where the set is comparable.
    """

    n_null: int
    overlap: int
    test: SetTest | None
    difference: str

    @property
    def verdict(self) -> str:
        return NOT_COMPARABLE if self.test is None else set_verdict_of(self.test.p_value)


def compare_with_reference(observed: ObservedSet, reference: Reference, *, seed: int) -> SetComparison:
    """Compare a set with the known non-members that are not in it.

    Args:
        seed: of the folds, permutations and intervals.

    Raises:
        SplitError: if fewer than 20 known non-members are outside the set.
    """
    ids = set(observed.observations.ids)
    rows = [row for row, sample in enumerate(reference.profiles.ids) if sample not in ids]
    nonmembers, members = (_observations_of(reference, rows, label) for label in (0, 1))
    n_null = len(nonmembers)
    overlap = int((reference.profiles.is_member == 0).sum()) - n_null
    if n_null < FEWEST_NULL:
        raise SplitError(
            f"{overlap} of the known non-members are in the set themselves, and of the others there are only {n_null}; give at least "
            f"{FEWEST_NULL} that are not in it."
        )
    parts = (verdict_observations(observed.attack, observed.observations), nonmembers, members)
    test = compare_sets(*(untouched(observed.attack, part) for part in parts), seed=seed)
    difference = difference_in_kind(observed.images, ids, reference, seed)
    return SetComparison(n_null, overlap, None if difference else test, difference)


def _observations_of(reference: Reference, rows: Sequence[int], label: int) -> npt.NDArray[np.float64]:
    """Return the reference's observations of members (1) or non-members (0) among some rows."""
    return reference.observations[[row for row in rows if reference.profiles.is_member[row] == label]]


def difference_in_kind(images: Sequence[InputImage], ids: Collection[str], reference: Reference, seed: int) -> str:
    """Return how a set differs in kind from the known non-members, in words; "" where it does not.

    Args:
        images: the set.
        ids: their content ids; known non-members among them are left out.
        seed: of the blind classifier's folds.
    """
    from scipy.stats import binomtest

    unlike = sum(not reference.is_comparable(image) for image in images)
    if binomtest(unlike, len(images), UNLIKE_BY_CHANCE, alternative="greater").pvalue <= ALPHA:
        return unlike_images_text(unlike, len(images))
    null_ids, null_features = reference.appearance.features
    rows = [row for row, sample in enumerate(null_ids) if sample not in ids]
    features = np.vstack([[blind_features(image) for image in images], null_features[rows]])
    blind = blind_auc(features, np.repeat([1, 0], [len(images), len(rows)]), seed=seed)
    return blind_classifier_text(blind) if blind is not None and blind.low > 0.5 else ""


def set_answer(observed: ObservedSet, reference: Reference | None, comparison: SetComparison | None) -> SetCheck:
    """Return the answer about a set.

    Args:
        reference, comparison: None where no non-members are known.
    """
    n, ids, by_cdi = len(observed.images), observed.observations.ids, observed.method == CDI
    verdict, test, n_null, difference = NO_NULL, None, 0, ""
    notes = [copies_note(observed.copies)] if observed.copies else []
    notes += remark_notes(observed.observations.remarks)
    if comparison is not None:
        verdict, test, n_null, difference = comparison.verdict, comparison.test, comparison.n_null, comparison.difference
        notes += [overlap_note(comparison.overlap)] if comparison.overlap else []
    return SetCheck(
        verdict=verdict,
        sentence=set_sentence(verdict, model=observed.model, n=n, n_null=n_null, test=test, difference=difference, by_cdi=by_cdi),
        caveats=(*set_caveats(verdict, test, by_cdi=by_cdi), *(observed.caveats if test is not None else ())),
        n=n,
        n_null=n_null,
        p_value=None if test is None else test.p_value,
        p_welch=None if test is None else test.p_welch,
        fraction=None if test is None else test.fraction,
        more_needed=None if test is None else test.more_needed,
        scores=() if test is None else tuple(test.scores.tolist()),
        ids=tuple(ids),
        model=observed.model,
        attack=repr(observed.attack),
        attack_name=observed.attack_name,
        timestep=observed.timestep,
        source=None if reference is None else reference.source,
        names=tuple(image.name for image in observed.images),
        notes=tuple(notes),
        known_scores=None if test is None else VerdictScores.of(test.null_scores, test.member_scores),
        method=observed.method,
    )
