"""The training images most at risk: the members that an attack finds first, as a list to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.errors import MetricError, integer_at_least
from mia_hub.images.image import InputImage
from mia_hub.images.thumbnails import png_address, thumbnail_png
from mia_hub.metrics.p_values import FEWEST_NULL, NullDistribution, adjusted
from mia_hub.metrics.roc import count_above
from mia_hub.scores import ScoreTable
from mia_hub.splits.partition import calibration_part


@dataclass(frozen=True)
class RankedImage:
    """A member among those most at risk.

    Attributes:
        id: content id.
        name: the file name, if there is one.
        score: higher = more at risk.
        p_value: conformal, against the reported non-members: the share of them that score as high, counting the image itself.
        q_value: the p-value adjusted for the number of members that were ranked, see `mia_hub.metrics.p_values.adjusted`.
        thumbnail: a small PNG; empty in a ranking that was read back.
    """

    id: str
    name: str
    score: float
    p_value: float
    q_value: float
    thumbnail: bytes = field(default=b"", repr=False, compare=False)

    @property
    def thumbnail_url(self) -> str:
        """The thumbnail as a ``data:`` address, which a page shows without a request; empty where there is none."""
        return png_address(self.thumbnail) if self.thumbnail else ""


@dataclass(frozen=True)
class Ranking:
    """The members most at risk, the one that the attack finds first at the top.

    It is a list to look at, not a test of each image: all of them are members. The p-value says how an attacker would see the image who
    doesn't know that. Only members of the reported part are ranked, so that none of them had a part in choosing the timestep.

    Attributes:
        images: the first of the ranked members.
        timestep: of the scores.
        n_ranked: number of members that were ranked.
        n_held_back: number of members that chose the timestep, and are not ranked.
        n_null: number of non-members that they were compared with.
    """

    images: tuple[RankedImage, ...]
    timestep: int
    n_ranked: int
    n_held_back: int
    n_null: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values, with ids and names, and without thumbnails."""
        names = ("id", "name", "score", "p_value", "q_value")
        images = [{name: getattr(image, name) for name in names} for image in self.images]
        return {name: getattr(self, name) for name in ("timestep", "n_ranked", "n_held_back", "n_null")} | {"images": images}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Ranking:
        """Return the ranking that `to_dict` gave these values for, without thumbnails."""
        return cls(**values | {"images": tuple(RankedImage(**image) for image in values["images"])})


def check_rank(rank: Any, n_nonmembers: int, *, parted: bool) -> None:
    """Refuse a ranking that can't be made, before the model is queried.

    Args:
        rank: number of members to list.
        n_nonmembers: number of non-members in the split.
        parted: whether half of them choose the timestep, and the other half is reported.

    Raises:
        MetricError: if ``rank`` is no integer ≥ 1, or fewer than `FEWEST_NULL` non-members are reported.
    """
    integer_at_least("rank", rank, 1, MetricError)
    reported = n_nonmembers - round(n_nonmembers / 2) if parted else n_nonmembers
    if reported < FEWEST_NULL:
        part, needed = (" in the part that is reported", 2 * FEWEST_NULL) if parted else ("", FEWEST_NULL)
        raise MetricError(
            f"A ranking compares members with at least {FEWEST_NULL} non-members; there are {reported}{part}. Give at least {needed} "
            "non-members."
        )


def rank_members(table: ScoreTable, selection: dict[str, Any], images: Sequence[InputImage], rank: int) -> Ranking:
    """Rank the members of the reported part by their scores at the selected timestep.

    Args:
        table: scores of the images.
        selection: how the timestep was selected, as in an AuditReport.
        images: N images, in the order of the table; only those listed are read.
        rank: number of members to list.

    Raises:
        MetricError: with fewer than `FEWEST_NULL` reported non-members.
    """
    reported, timestep = _reported(table, selection), int(selection["timestep"])
    scores = table.at(timestep)
    null = NullDistribution.from_table(table.select(reported), timestep).scores
    rows = np.flatnonzero(reported & (table.is_member == 1))
    # No member is in the null set: an audit refuses a split with an image on both sides.
    p_values = (1 + count_above(null, scores[rows])) / (len(null) + 1)
    q_values = adjusted(p_values.tolist())
    order = np.argsort(-scores[rows], kind="stable")[:rank]
    listed = tuple(_ranked(images[row], scores[row], p_values[i], q_values[i]) for i, row in zip(order.tolist(), rows[order].tolist()))
    return Ranking(listed, timestep, len(rows), int((table.is_member == 1).sum()) - len(rows), len(null))


def _reported(table: ScoreTable, selection: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """Return the rows ``[N]`` that took no part in selecting the timestep."""
    if "n_calibration_members" not in selection:
        return np.ones(len(table), bool)
    return ~calibration_part(table.ids, table.is_member, fraction=selection["fraction"], seed=selection["seed"])


def _ranked(image: InputImage, score: float, p_value: float, q_value: float) -> RankedImage:
    return RankedImage(image.id, image.name, float(score), float(p_value), float(q_value), thumbnail_png(image))
