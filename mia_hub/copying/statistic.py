"""The statistic of a copy, and what is called one: nearer to its nearest training image than images are that nobody trained on.

Sources:
    Carlini et al. 2023, "Extracting Training Data from Diffusion Models" (arXiv 2301.13188): the distance to the nearest training image,
    relative to the mean distance to the n nearest, ℓ(x̂, x; S) = d(x̂, x)/(α·E_{y ∈ S}[d(x̂, y)]).
    Bates et al. 2023: conformal p-values against one null set depend on each other positively, so that Benjamini & Hochberg's procedure
    controls the false-discovery rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.rendering.numbers import percent_with_interval

# Neighbours in the mean, as in the paper.
NEIGHBOURS = 50
# A control whose p-value is at or below it shows that the null set doesn't fit the generated images.
UNFIT = 0.01
ROUNDING = 1e-9


@dataclass(frozen=True)
class Share:
    """A share of images, with its 95 % interval (Clopper & Pearson 1934).

    Attributes:
        count, n: of n images, ``count`` are meant.
        low, high: the interval.
    """

    count: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, count: int, n: int) -> Share:
        """Return the share of ``count`` among n ≥ 1."""
        return cls(int(count), int(n), *clopper_pearson(int(count), int(n)))

    @property
    def value(self) -> float:
        """The share, in [0, 1]."""
        return self.count / self.n

    def __str__(self) -> str:
        return percent_with_interval(self.value, self.low, self.high)


def ratios(distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the statistic of images: the distance to the nearest training image over the mean distance to the n nearest.

    **Lower = more like a copy**, unlike a membership score. A distance of 0 gives 0, and equal distances give 1. The paper's α scales all
    ratios alike, so that it changes no p-value, and is left out.

    Args:
        distances: to the nearest training images, ``[N, n]``, increasing.

    Returns:
        ``[N]`` in [0, 1].
    """
    nearest, mean = distances[:, 0], distances.mean(axis=1)
    # Rounded means of equal distances would differ in the last digit, and so would images that are alike.
    equal = distances[:, -1] == nearest
    return np.where(nearest == 0, 0.0, np.where(equal, 1.0, nearest / np.where(mean == 0, 1.0, mean)))


def copy_p_values(statistics: npt.NDArray[np.float64], null: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return conformal p-values ``[N]``: (1 + #{null ≤ statistic})/(m + 1), for statistics ``[N]`` and those of m images of the null."""
    return (1 + np.searchsorted(np.sort(null), statistics, side="right")) / (len(null) + 1)


def q_values(p_values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the q-values ``[N]`` of Benjamini & Hochberg (1995)."""
    from scipy.stats import false_discovery_control  # slow to import

    return np.asarray(false_discovery_control(p_values), np.float64) if len(p_values) else np.empty(0)


def fewest_copies(generated: int, null: int, rate: float) -> int:
    """Return how many generated images must be nearer than the whole null set before any can be called a copy; more than N means never.

    Args:
        generated: N.
        null: size of the null set.
        rate: of false discoveries.
    """
    return max(1, math.ceil(generated / ((null + 1) * rate) - ROUNDING))


def null_needed(generated: int, rate: float, copies: int) -> int:
    """Return the size of the null set with which ``copies`` copies among N generated images can be called such."""
    return math.ceil(generated / (copies * rate) - ROUNDING) - 1


@dataclass(frozen=True)
class Control:
    """The same search among images that the model was never trained on: whatever it calls a copy is none.

    Some of the non-members take the place of the training images, and the others are the null set.

    Attributes:
        n_training: non-members in the place of the training images.
        n_null: the other ones.
        called: generated images that are called copies of images that the model has never seen.
        at_rate: generated images with a p-value at or below the rate of false discoveries, which is their expected share.
        at_called: those with a p-value at or below the largest one that was called a copy in the search itself.
        p_value: of these two numbers, by exact tests, the smaller p-value times 2: small where too many generated images are nearer to
            unseen images than other unseen images are.
    """

    n_training: int
    n_null: int
    called: int
    at_rate: Share
    at_called: Share
    p_value: float

    @property
    def fits(self) -> bool:
        """Whether nothing shows that the null set doesn't fit."""
        return self.p_value > UNFIT


def measure_control(
    statistics: npt.NDArray[np.float64], null: npt.NDArray[np.float64], n_training: int, *, rate: float, largest_called: float
) -> Control:
    """Return the control.

    Args:
        statistics: of the generated images, relative to the non-members in the place of the training images, ``[N]``.
        null: of the other non-members, ``[m]``, with rate·(m + 1) ≥ 1.
        n_training: number of those in the place of the training images.
        rate: of false discoveries.
        largest_called: the largest p-value that was called a copy in the search itself; 0 if none was.
    """
    p_values = copy_p_values(statistics, null)
    counts, tests = [], []
    for level in (rate, largest_called):
        count, p_value = _excess(p_values, len(null), level)
        counts.append(Share.of(count, len(p_values)))
        tests.append(p_value)
    called = int((q_values(p_values) <= rate).sum())
    return Control(n_training, len(null), called, counts[0], counts[1], min(1.0, 2 * min(tests)))


def _excess(p_values: npt.NDArray[np.float64], null: int, level: float) -> tuple[int, float]:
    """Return the number of p-values at or below a level, and the probability of so many or more.

    If generated images and null set are exchangeable, the j-th smallest of m null statistics cuts off a share that is Beta(j, m + 1 - j)
    distributed, so the number of generated images below it is beta-binomial.
    """
    from scipy.stats import betabinom  # slow to import

    # A level below the smallest possible p-value is rounded up to that.
    rank = max(1, math.floor(level * (null + 1) + ROUNDING)) if level > 0 else 0
    if rank == 0:
        return 0, 1.0
    count = int((p_values <= rank / (null + 1) + ROUNDING / (null + 1)).sum())
    return count, float(betabinom.sf(count - 1, len(p_values), rank, null + 1 - rank))
