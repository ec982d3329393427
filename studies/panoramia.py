"""The statistic of PANORAMIA: what guesses with a model's scores show beyond guesses by the images alone.

An auditor fills each of m places with a member or a generated image, by its own fair coin, and guesses of some places that they hold
members. If no image is more than e^c times as frequent among members as among generated images, and the training is ε-private, then each
guess is right with a chance of at most q = e^(c + ε) / (1 + e^(c + ε)), whatever the others were. So the numbers of right guesses bound
c + ε from below; those of a baseline, which never queries the model, bound c. The statistic is the difference of the two.

It is no bound on ε, even where all of this holds: a bound on c from below is taken away, and one from above would be needed.

Source:
    Kazmi et al. 2024, PANORAMIA, arXiv 2402.09477. The form is that of the authors' code (``Plotting/compute_plot_audit_values.py`` of
    github.com/ubc-systopia/panoramia-privacy-measurement, commit 6541bbb): only members are guessed; of many numbers of guesses the best
    counts, and they share the error, half of 5 % for each of the two bounds. There the numbers come from 100 thresholds; here they are
    fixed, since they must not depend on the coins. The bound of one number is `mia_hub.metrics.epsilon.refuted_epsilon`
    (Steinke et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mia_hub.metrics.epsilon import CONFIDENCE, refuted_epsilon

Floats = npt.NDArray[np.float64]


class Beyond(NamedTuple):
    """Two lower bounds, each ≥ 0, and how far apart they are.

    Attributes:
        baseline: on c, by guesses that never saw the model's scores.
        attack: on c + ε, by guesses that did.
    """

    baseline: float
    attack: float

    @property
    def difference(self) -> float:
        """The statistic, {c + ε} - c; at most 0 where the scores let nobody guess better."""
        return self.attack - self.baseline


def fill_places(members: int, generated: int, places: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    """Return which images fill the places, and whether each is a member.

    Args:
        members, generated: numbers of images, those of the members first.
        places: number of places.
        rng: tosses the coins and draws the images.

    Returns:
        Rows ``[places]``, no image twice, and labels ``[places]``, 1 for a member.

    Raises:
        ValueError: if the coins want more images than there are of one kind.
    """
    labels = rng.integers(0, 2, places).astype(np.int8)
    wanted = int(labels.sum()), int(places - labels.sum())
    if wanted[0] > members or wanted[1] > generated:
        raise ValueError(f"{wanted[0]} members and {wanted[1]} generated images are wanted; there are {members} and {generated}.")
    rows = np.empty(places, np.int64)
    rows[labels == 1] = rng.permutation(members)[: wanted[0]]
    rows[labels == 0] = members + rng.permutation(generated)[: wanted[1]]
    return rows, labels


def guessing_bound(scores: Floats, is_member: npt.NDArray[Any], guesses: Sequence[int], level: float) -> float:
    """Return the largest exponent c that the best of several numbers of guesses refutes, ≥ 0.

    Args:
        scores: ``[m]``, one per place; those with the highest are guessed to hold members. Of equal ones, those that don't come first.
        is_member: ``[m]``, 1 or 0.
        guesses: numbers of guesses, at most m each, fixed before the coins were tossed.
        level: chance of too high a bound, in (0, 1); it is shared equally among the numbers of guesses.
    """
    labels = np.asarray(is_member)
    right = np.cumsum(labels[np.lexsort((labels, -scores))])
    return max(_refuted(int(right[count - 1]), count, level / len(guesses)) for count in guesses)


def beyond_baseline(
    baseline: Floats, attack: Floats, is_member: npt.NDArray[Any], guesses: Sequence[int], confidence: float = CONFIDENCE
) -> Beyond:
    """Return both bounds; both hold with the confidence, by the union bound.

    Args:
        baseline, attack: scores ``[m]``; higher = more likely a member.
        is_member, guesses: see `guessing_bound`.
        confidence: in (0, 1).
    """
    level = (1 - confidence) / 2
    return Beyond(*(guessing_bound(scores, is_member, guesses, level) for scores in (baseline, attack)))


@cache
def _refuted(correct: int, guesses: int, level: float) -> float:
    return refuted_epsilon(correct, guesses, guesses, 0.0, level)
