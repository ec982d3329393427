"""Conformal p-values that hold for one reference: calibration-conditional p-values.

A conformal p-value p of a non-member satisfies P(p ≤ α) ≤ α on average over references. Of one reference that many people share, it holds
only up to the luck of its draw. An adjustment h makes P(h(p) ≤ α | reference) ≤ α hold for all α at once, for a share 1 - δ of references.

Theorem (Bates, Candès, Lei, Romano, Sesia 2023, "Testing for outliers with conformal p-values", Annals of Statistics 51, section 3): if
U_(1) ≤ … ≤ U_(n) are sorted independent uniform draws, and P(U_(i) ≤ b_i for all i) ≥ 1 - δ for increasing b_1 … b_n, then
h(i/(n + 1)) = b_i, with b_(n+1) = 1, is such an adjustment. It needs a score function that is fixed before the n non-members are drawn
(split conformal prediction), independent draws, and no ties, or ties that count against the image as they do here.

Three choices of b are here, the paper's: Simes', the asymptotic one, and the latter with the constant that makes its probability 1 - δ for
this n. The paper finds such a constant by Monte Carlo; here it is found by the exact recursion of `coverage`. The third is used: with the
same guarantee it calls evidence (p ≤ .01) from 422 non-members on, and Simes' from 598 on; with 20,000 it does at a conformal p of .0078,
and Simes' at .0070. (No adjustment can do so with fewer than 299, or at more than about .0088 with 20,000.)
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

# The share of references for which an adjusted p-value may fail to hold.
DELTA = 0.05
# c for which the asymptotic adjustment of n non-members has a probability of 1 - DELTA, rounded up (`python -m
# benchmarks.shared_reference` computes them). It grows with n, so that the next larger n of the table is on the safe side.
EXACT_CONSTANTS = {
    20: 2.470, 30: 2.647, 50: 2.821, 75: 2.929, 100: 2.992, 150: 3.067, 200: 3.111, 300: 3.164, 500: 3.218, 700: 3.248, 1000: 3.276,
    1500: 3.304, 2000: 3.321, 3000: 3.344, 5000: 3.369, 7000: 3.384, 10_000: 3.399, 15_000: 3.415, 20_000: 3.426, 30_000: 3.440,
    50_000: 3.456, 100_000: 3.477,
}  # fmt: skip

Floats = npt.NDArray[np.float64]


def holds_for_reference(p: float, n: int) -> float:
    """Return the p-value that holds for this reference with a confidence of 1 - `DELTA`.

    Args:
        p: conformal, i/(n + 1) for an i from 1 to n + 1.
        n: number of non-members, at least 1, that it was computed from.

    Returns:
        In (0, 1], never below p.
    """
    rank = round(p * (n + 1))
    return 1.0 if rank > n else float(with_constant(n, constant(n), np.array([rank]))[0])


@cache
def constant(n: int) -> float:
    """Return the c of the adjustment of n non-members: the exact one for the next larger n of `EXACT_CONSTANTS`, or the asymptotic one."""
    return next((c for size, c in EXACT_CONSTANTS.items() if n <= size), asymptotic_constant(max(n, 20)))


def with_constant(n: int, c: float, ranks: npt.NDArray[np.int64]) -> Floats:
    """Return b of some ranks i from 1 to n: ``min(1, i/n + c·√(i(n - i))/n^1.5)``, the asymptotic adjustment's form (Eicker 1979)."""
    i = ranks.astype(np.float64)
    return np.asarray(np.minimum(1.0, i / n + c * np.sqrt(i * (n - i)) / n**1.5))


def asymptotic_constant(n: int, delta: float = DELTA) -> float:
    """Return the c of the paper's asymptotic adjustment; n ≥ 16."""
    loglog = math.log(math.log(n))
    numerator = -math.log(-math.log(1 - delta)) + 2 * loglog + math.log(loglog) / 2 - math.log(math.pi) / 2
    return numerator / math.sqrt(2 * loglog)


def simes(n: int, delta: float = DELTA) -> Floats:
    """Return b ``[n]`` of Simes' adjustment with k = n/2: ``b_(n+1-i) = 1 - δ^(1/k)·(i…(i-k+1)/(n…(n-k+1)))^(1/k)`` (Sarkar 2008)."""
    k = max(1, n // 2)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    i = np.arange(1, n + 1)
    products = np.where(i >= k, logs[i] - logs[np.maximum(i - k, 0)], -np.inf)
    return np.asarray(1 - np.exp((math.log(delta) + products - (logs[n] - logs[n - k])) / k))[::-1]


def coverage(bounds: Floats) -> float:
    """Return ``P(U_(i) ≤ b_i for all i)`` of n sorted uniform draws, for increasing bounds ``[n]``.

    Exact up to rounding: the draws are the points of a Poisson process with rate n in [0, 1], given that there are n of them. From bound to
    bound, the distribution of the number of points so far is convolved with that of the new ones, and loses the mass of fewer than i.
    """
    n = len(bounds)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    fewest, mass = 0, np.ones(1)
    for i, gap in enumerate(np.diff(bounds, prepend=0.0, append=1.0) * n):
        if gap > 0:
            new = np.arange(min(n, int(gap + 12 * math.sqrt(gap) + 20)) + 1)
            mass = np.convolve(mass, np.exp(new * math.log(gap) - gap - log_factorials[new]))[: n - fewest + 1]
        if i < n and i + 1 > fewest:
            mass, fewest = mass[i + 1 - fewest :], i + 1
        mass = mass[: 1 + max(np.flatnonzero(mass > 1e-18), default=0)]
        if not mass.any():
            return 0.0
    return float(mass[n - fewest] / math.exp(n * math.log(n) - n - log_factorials[n]))


def smallest(n: int) -> float:
    """Return the smallest p-value that holds for a reference of n non-members."""
    return holds_for_reference(1 / (n + 1), n)


@cache
def enough_for(alpha: float) -> int:
    """Return the fewest non-members with which a p-value that holds for the reference can fall to ``alpha``."""
    n = 1
    while smallest(n) > alpha:
        n += 1
    return n
