"""Made-up score tables."""

import numpy as np

from mia_hub.scores import ScoreTable


def table(n_members=300, n_nonmembers=300, shifts=(0.0, 1.0, 0.5), seed=0, **changes) -> ScoreTable:
    """Normal scores; members are shifted upwards by a different amount at each timestep."""
    rng = np.random.default_rng(seed)
    is_member = np.repeat([1, 0], [n_members, n_nonmembers])
    scores = rng.normal(size=(len(is_member), len(shifts))) + is_member[:, None] * np.array(shifts)
    ids = [f"{seed}-{i}" for i in range(len(is_member))]
    fields = dict(
        ids=ids, is_member=is_member, timesteps=range(10, 10 + 10 * len(shifts), 10), scores=scores, attack="A()", model={"id": "m"}
    )
    return ScoreTable(**(fields | changes))
