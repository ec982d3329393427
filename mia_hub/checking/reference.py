"""What a new image is judged by: known images of one model, as one attack sees them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mia_hub.attacks import Attack
from mia_hub.auditing.measurement import measure
from mia_hub.checking.image_answers import Band
from mia_hub.defaults import DEMO_FOLDER
from mia_hub.images.image import InputImage
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA, ConditionalNull, Judged, NullDistribution
from mia_hub.models.precision import precision_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import ScoreTable
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import Chosen, MemberSplit, split_hash

DEMO_PROFILES, DEMO_OBSERVATIONS = DEMO_FOLDER / "scores.parquet", DEMO_FOLDER / "observations.parquet"
DEMO_SOURCE = "the demo's non-members, greyscale images of clothing"


@dataclass(frozen=True, eq=False)
class Reference:
    """Known images of one model: what a new image is judged by.

    Attributes:
        profiles: their plain scores over the timesteps, with labels, for the bands of a plot.
        observed: what the verdict's attack saw of them at the verdict's timestep: float64 ``[n]`` scores, or ``[n, 1 + F]`` for a
            conditional attack. The non-members among them are the null set.
        images: the non-members themselves, for the comparability check.
        attack: identity of the verdict's attack.
        chosen: parameters that it chose, see `Attack.choose`.
        timestep: at which verdicts are made.
        timestep_chosen: how that timestep was chosen.
        source: where the images come from.
    """

    profiles: ScoreTable
    observed: np.ndarray
    images: Sequence[InputImage]
    attack: str
    chosen: dict[str, Any]
    timestep: int
    timestep_chosen: str
    source: str

    @cached_property
    def null(self) -> NullDistribution | ConditionalNull:
        ids, labels = self.profiles.ids, self.profiles.is_member
        if self.observed.ndim == 1:
            rows = np.flatnonzero(labels == 0)
            return NullDistribution(self.observed[rows], tuple(ids[row] for row in rows), self.timestep)
        return ConditionalNull.from_observations(ids, labels, self.observed)

    @cached_property
    def bands(self) -> tuple[Band | None, Band | None]:
        """Of members and of non-members."""
        return tuple(Band.of(self.profiles.scores[self.profiles.is_member == label]) for label in (1, 0))

    @cached_property
    def members(self) -> tuple[Judged, ...]:
        """The known members, each judged as any other image is."""
        return tuple(self.null.judge(row) for row in self.observed[self.profiles.is_member == 1])

    @cached_property
    def power(self) -> Estimate | None:
        """Share of known members that reach p ≤ `ALPHA`; None where no members are known."""
        if not self.members:
            return None
        caught = sum(judged.p_value <= ALPHA for judged in self.members)
        return Estimate(caught / len(self.members), *clopper_pearson(caught, len(self.members)), len(self.members), len(self.null))

    def to_dict(self) -> dict[str, Any]:
        members, nonmembers = (None if band is None else vars(band) for band in self.bands)
        return {
            "source": self.source,
            "attack": self.attack,
            "n_nonmembers": len(self.null),
            "n_members": int((self.profiles.is_member == 1).sum()),
            "hash": split_hash(self.profiles.ids, self.profiles.is_member),
            "timestep": self.timestep,
            "timestep_chosen": self.timestep_chosen,
            "power_at_p_0.01": None if self.power is None else vars(self.power),
            "timesteps": self.profiles.timesteps.tolist(),
            "member_band": members,
            "nonmember_band": nonmembers,
        }


@lru_cache(maxsize=1)
def _demo_profiles() -> ScoreTable:
    return ScoreTable.from_parquet(DEMO_PROFILES)


def write_observations(path: Path, ids: Sequence[str], is_member: np.ndarray, observed: np.ndarray, **meta: Any) -> None:
    """Writes what a conditional attack saw, ``[n, 1 + F]``, one column each; ``meta`` goes into the file's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"id": pa.array(ids, pa.string()), "is_member": pa.array(is_member, pa.int8())}
    columns |= {f"observed_{i}": pa.array(observed[:, i]) for i in range(observed.shape[1])}
    pq.write_table(pa.table(columns).replace_schema_metadata({"mia_hub": json.dumps(meta)}), path, compression="zstd")


def read_observations(path: Path) -> tuple[list[str], np.ndarray, dict[str, Any]]:
    """Ids, ``[n, 1 + F]`` and metadata, as `write_observations` wrote them."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    names = [name for name in table.column_names if name.startswith("observed_")]
    observed = np.stack([table[name].to_numpy() for name in names], axis=1)
    return table["id"].to_pylist(), observed, json.loads(table.schema.metadata[b"mia_hub"])


@lru_cache(maxsize=1)
def _demo_observations() -> tuple[list[str], np.ndarray, dict[str, Any]]:
    return read_observations(DEMO_OBSERVATIONS)


def demo_reference(split: MemberSplit | None = None, *, plain: bool = False) -> Reference:
    """The demo model's reference: the part of its split on which nothing was chosen, as stored with the model.

    Args:
        split: the demo's split, where it is at hand.
        plain: for plain SimA, instead of the conditional attack that verdicts are made by.
    """
    split = load_split("demo") if split is None else split
    table = _demo_profiles()
    measured = measure(table)
    reported, nonmembers = measured.reported, np.flatnonzero(measured.reported & (table.is_member == 0))
    meta = {"attack": table.attack, "chosen": {}, "timestep": measured.timestep, "timestep_chosen": measured.selection["description"]}
    observed = table.at(measured.timestep)
    if not plain:
        ids, observed, stored = _demo_observations()
        assert ids == list(table.ids), "the demo's files don't belong together"
        meta = {key: stored[key] for key in meta}
    images = Chosen(split.images, nonmembers)
    return Reference(table.select(reported), observed[reported], images, source=DEMO_SOURCE, **meta)


def is_demo(model: DiffusionModel) -> bool:
    """Whether it is the embedded model, asked at its own size; another one may be called so."""
    stored, info = _demo_profiles().model, model.info.to_dict()
    return all(info.get(name) == stored[name] for name in stored)


def stored_for(attack: Attack, model: DiffusionModel) -> Reference | None:
    """The demo's stored reference if it was made by this attack, of this model and in this precision, so that it need not be made again.

    A conditional attack that chooses its neighbours itself is answered with those chosen on the demo's calibration part.
    """
    table = _demo_profiles()
    if not is_demo(model) or table.precision != precision_of(model):
        return None
    if repr(attack) == table.attack:
        return demo_reference(plain=True)
    meta = _demo_observations()[2]
    return demo_reference() if repr(attack) in (meta["asked"], meta["attack"]) else None
