"""A made-up population of points in the plane, to show what SimA measures: the page draws one training set of it, a study draws many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Half of the points stand in a crowd, where members and others are as near to one another as to themselves; the rest stand alone.
CROWD, CROWD_WIDTH, REACH = (0.42, 0.36), 0.08, 0.9


def population(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return points in [-1, 1]², float64 ``[count, 2]``: each from the crowd or from the whole plane, with equal chance."""
    crowd = rng.normal(CROWD, CROWD_WIDTH, (count, 2)).clip(-REACH, REACH)
    alone = rng.uniform(-REACH, REACH, (count, 2))
    return np.where(rng.random((count, 1)) < 0.5, crowd, alone)


def members_and_others(members: int, others: int, seed: int = 0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return a training set and held-out points of the same draw."""
    points = population(members + others, np.random.default_rng(seed))
    return points[:members], points[members:]
