"""Figures of copying that others report: C_T, authenticity and coverage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mia_hub.copying.embedding import EmbeddedImages
from mia_hub.copying.nearest import Neighbours, nearest
from mia_hub.copying.statistic import Share

# Coverage compares all training images with one another; with more of them it costs more than the search.
MOST_COVERED = 20_000
COVERAGE_NEIGHBOURS = 5


@dataclass(frozen=True)
class KnownFigures:
    """Figures of other papers, in the same embedder; none of them is calibrated, and none decides what is called a copy.

    Attributes:
        c_t: C_T of Meehan et al. 2020 (arXiv 2004.05675) with one cell, a z-score: far below 0, generated images are nearer to training
            images than non-members are; far above 0, farther. None without non-members.
        authenticity: of generated images, after Alaa et al. 2022 (arXiv 2102.08921): the share that lies farther from the nearest
            training image than that lies from the nearest other one.
        authenticity_nonmembers: the same of the non-members: what images reach that are no copies. None without non-members.
        coverage: Naeem et al. 2020 (arXiv 2002.09797): the share of training images with a generated image no farther than their 5th
            nearest other training image; None with more than 20,000 or fewer than 6 training images.
    """

    c_t: float | None
    authenticity: Share
    authenticity_nonmembers: Share | None
    coverage: Share | None


def known_figures(
    training: EmbeddedImages, generated: EmbeddedImages, of_generated: Neighbours, of_nonmembers: Neighbours | None
) -> KnownFigures:
    """Measure the figures.

    Args:
        training, generated: the images; at least 2 training images, none twice.
        of_generated, of_nonmembers: the training images nearest to each generated image, and to each non-member, if there are any.
    """
    both = [of_generated] if of_nonmembers is None else [of_generated, of_nonmembers]
    spacing = _spacing(training, np.unique(np.concatenate([each.rows[:, 0] for each in both])))
    shares = [Share.of(int((each.distances[:, 0] > spacing[each.rows[:, 0]]).sum()), len(each.rows)) for each in both]
    c_t = None if of_nonmembers is None else copying_z(of_generated.distances[:, 0], of_nonmembers.distances[:, 0])
    return KnownFigures(c_t, shares[0], shares[1] if len(shares) > 1 else None, _coverage(training, generated))


def copying_z(generated: npt.NDArray[np.float64], nonmembers: npt.NDArray[np.float64]) -> float:
    """Return C_T with one cell: the z-score of Mann & Whitney's U of distances to the nearest training image, ``[N]`` and ``[m]``.

    U counts the pairs in which the generated image lies farther, and half of the ties.
    """
    from scipy.stats import rankdata  # slow to import

    n, m = len(generated), len(nonmembers)
    u = rankdata(np.concatenate([generated, nonmembers]))[:n].sum() - n * (n + 1) / 2
    return float((u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12))


def _spacing(training: EmbeddedImages, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the distance of some training images to the nearest other one, by their rows; NaN for all others."""
    neighbours = nearest(training.select(rows).queries(), training, 2).without_self(rows)
    spacing = np.full(len(training), np.nan)
    spacing[rows] = neighbours.distances[:, 0]
    return spacing


def _coverage(training: EmbeddedImages, generated: EmbeddedImages) -> Share | None:
    if not COVERAGE_NEIGHBOURS < len(training) <= MOST_COVERED:
        return None
    own = nearest(training.queries(), training, COVERAGE_NEIGHBOURS + 1).without_self(np.arange(len(training)))
    reached = nearest(training.queries(), generated, 1).distances[:, 0] <= own.distances[:, -1]
    return Share.of(int(reached.sum()), len(training))
