"""The demo model's reference, which is stored with the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.attacks import Attack, get_attack
from mia_hub.auditing.measurement import measure
from mia_hub.defaults import COPIES_ATTACK, DEMO_FOLDER, VERDICT_ATTACK
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import SelectedSequence
from mia_hub.models.precision import precision_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.appearance import Appearance, ImageAppearance, StoredAppearance, appearance_arrays
from mia_hub.references.null_sets import FurtherNonmembers
from mia_hub.references.record import SourceRecord
from mia_hub.references.reference import Reference
from mia_hub.references.treatment_check import TreatmentCheck
from mia_hub.scores import ScoreTable, numbers
from mia_hub.splits.loading import load_split
from mia_hub.splits.partition import calibration_part

DEMO_PROFILES, DEMO_OBSERVATIONS = DEMO_FOLDER / "scores.parquet", DEMO_FOLDER / "observations.parquet"
DEMO_COPIES = DEMO_FOLDER / "observations_copies.parquet"
DEMO_APPEARANCE = DEMO_FOLDER / "appearance.safetensors"
DEMO_NULL = DEMO_FOLDER / "null.safetensors"
# By the attack: that of the demo's verdicts, and the one that made them before.
OBSERVATIONS = {VERDICT_ATTACK: DEMO_OBSERVATIONS, "sima-cn": DEMO_FOLDER / "observations_sima-cn.parquet"}
DEMO_SOURCE = "the demo's non-members, greyscale images of clothing"

StoredObservations = tuple[list[str], npt.NDArray[np.float64], dict[str, Any]]


def demo_reference(attack: str = VERDICT_ATTACK) -> Reference:
    """Return the demo model's reference: the part of its split on which nothing was chosen. It is loaded once.

    Args:
        attack: "sima", or a key of `OBSERVATIONS`; only the default one has observed the 20,000 further non-members.
    """
    return _reference(attack)


@lru_cache(maxsize=3)
def _reference(attack: str) -> Reference:
    table, reported = _profiles(), _reported()
    nonmembers = np.flatnonzero(reported & (table.is_member == 0))
    if attack in OBSERVATIONS:
        ids, observations, stored = _observations(attack)
        assert ids == list(table.ids), "the demo's files don't belong together"
        meta = {key: stored[key] for key in ("attack", "chosen", "timestep", "timestep_chosen")}
    else:
        measured = measure(table)
        meta = {"attack": table.attack, "chosen": {}, "timestep": measured.timestep, "timestep_chosen": measured.selection["description"]}
        observations = table.at(measured.timestep)
    appearance = _appearance(tuple(table.ids[row] for row in nonmembers.tolist()))
    origin = SourceRecord(description=DEMO_SOURCE, spelling="demo")
    reference = Reference(table.select(reported), observations[reported], appearance, get_attack(attack), origin=origin, **meta)
    return replace(reference, further=read_null(DEMO_NULL) if attack == VERDICT_ATTACK else None, shared=True)


@lru_cache(maxsize=1)
def demo_copies_reference() -> Reference:
    """Return the demo model's reference for images that may be altered copies: fewer of the same images, with their candidates."""
    ids, observations, stored = read_observations(DEMO_COPIES)
    table, whole = _profiles(), demo_reference().appearance
    places = {sample: row for row, sample in enumerate(table.ids)}
    profiles = table.select(np.array([places[sample] for sample in ids]))
    known, features = whole.features
    nonmembers = [sample for sample, label in zip(ids, profiles.is_member) if label == 0]
    rows = [known.index(sample) for sample in nonmembers]
    treatment = None if whole.treatment is None else TreatmentCheck(whole.treatment.signs[rows], whole.treatment.size)
    appearance = StoredAppearance(whole.comparability, (nonmembers, features[rows]), treatment, whole.border)
    meta = {key: stored[key] for key in ("attack", "chosen", "timestep", "timestep_chosen")}
    origin = SourceRecord(description=DEMO_SOURCE, spelling="demo")
    return Reference(profiles, observations, appearance, get_attack(COPIES_ATTACK), origin=origin, **meta)


def demo_nonmembers() -> Sequence[InputImage]:
    """Return the non-members of the demo model's reference."""
    table = _profiles()
    rows = np.flatnonzero(_reported() & (table.is_member == 0))
    return SelectedSequence(load_split("demo").images, rows.tolist())


def write_appearance(path: Path) -> None:
    """Write how the reference's non-members look, so that no process has to read them all."""
    from safetensors.numpy import save_file

    # In full precision: a classifier would notice values that are rounded on one side only.
    save_file(appearance_arrays(ImageAppearance(demo_nonmembers(), tuple(_profiles().model["sample_shape"]))), path)


@lru_cache(maxsize=1)
def _appearance(ids: tuple[str, ...]) -> Appearance:
    from safetensors.numpy import load_file

    return StoredAppearance.from_arrays(list(ids), load_file(DEMO_APPEARANCE))


def is_demo(model: DiffusionModel) -> bool:
    """Return whether a model is the embedded one at its own image size; another model may have its name."""
    stored, info = _profiles().model, model.info.to_dict()
    return all(info.get(name) == stored[name] for name in stored)


def stored_reference(attack: Attack, model: DiffusionModel) -> Reference | None:
    """Return the demo's stored reference if it is by this attack, of this model and in this precision; otherwise None.

    That of plain SimA is at the timestep that the demo's calibration part chose, the others at the middle of the grid.
    """
    table = _profiles()
    if not is_demo(model) or table.precision != precision_of(model):
        return None
    if repr(attack) == table.attack:
        return demo_reference("sima")
    if repr(attack) == repr(get_attack(COPIES_ATTACK)):
        return demo_copies_reference()
    for name in OBSERVATIONS:
        meta = _observations(name)[2]
        if repr(attack) in (meta["asked"], meta["attack"]):
            return demo_reference(name)
    return None


def write_observations(
    path: Path, ids: Sequence[str], is_member: npt.NDArray[np.int8], observations: npt.NDArray[np.float64], **meta: Any
) -> None:
    """Write observations ``[n, 1 + F]`` of a conditional attack, one column each; ``meta`` goes into the file's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"id": pa.array(ids, pa.string()), "is_member": pa.array(is_member, pa.int8())}
    columns |= {f"observed_{i}": pa.array(observations[:, i]) for i in range(observations.shape[1])}
    pq.write_table(pa.table(columns).replace_schema_metadata({"mia_hub": json.dumps(meta)}), path, compression="zstd")


def read_observations(path: Path) -> StoredObservations:
    """Return ids, observations ``[n, 1 + F]`` and metadata, as `write_observations` wrote them."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:  # `read_table` imports pandas
        table = file.read()
    names = [name for name in table.column_names if name.startswith("observed_")]
    observations = np.stack([numbers(table[name]) for name in names], axis=1)
    return table["id"].to_pylist(), observations, json.loads(table.schema.metadata[b"mia_hub"])


def write_null(path: Path, further: FurtherNonmembers) -> None:
    """Write non-members that serve the p-values alone: the beginnings of their content ids, and float32 observations."""
    from safetensors.numpy import save_file

    ids = np.array([list(bytes.fromhex(sample)) for sample in further.ids], np.uint8)
    save_file({"ids": ids, "observations": further.observations.astype(np.float32)}, path)


def read_null(path: Path) -> FurtherNonmembers:
    """Return non-members as `write_null` wrote them."""
    from safetensors.numpy import load_file

    arrays = load_file(path)
    return FurtherNonmembers(tuple(bytes(row).hex() for row in arrays["ids"]), arrays["observations"])


@lru_cache(maxsize=1)
def _profiles() -> ScoreTable:
    return ScoreTable.from_parquet(DEMO_PROFILES)


def _reported() -> npt.NDArray[np.bool_]:
    """Return which rows of the profiles `measure` reports: the part on which nothing was chosen."""
    table = _profiles()
    return ~calibration_part(table.ids, table.is_member)


@lru_cache(maxsize=2)
def _observations(attack: str) -> StoredObservations:
    return read_observations(OBSERVATIONS[attack])
