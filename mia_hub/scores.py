"""The table of scores, from which every figure can be recomputed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mia_hub.errors import MetricError
from mia_hub.system.files import replacing

if TYPE_CHECKING:
    import pyarrow

UNKNOWN = -1
COLUMN = "score_t"


def numbers(column: pyarrow.ChunkedArray) -> npt.NDArray[Any]:
    """Return a column of numbers as an array ``[N]``, to be read alone. Arrow's own `to_numpy` imports pandas, which takes long.

    Raises:
        pyarrow.ArrowException: for a column of anything else, or with nulls.
    """
    values: npt.NDArray[Any] = np.from_dlpack(column.combine_chunks())
    return values


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of one attack on one model. **A score is higher when membership is more likely.**

    Attributes:
        ids: content id of each image, N of them.
        is_member: int8 ``[N]``: 1 member, 0 non-member, -1 unknown.
        timesteps: int64 ``[T]``.
        scores: float64 ``[N, T]``, higher = more likely a member; never rescaled.
        attack: the identity of the attack that was run, its ``repr``.
        chosen: parameters that it chose on the calibration part, if any.
        model: `ModelInfo.to_dict` of the model.
        split: the split's name, revision and hash, as far as known, or None.
        seed: of the noise draws.
        queries: denoiser forward passes spent on the table, counted in images.
        seconds: wall-clock time spent, or None if unknown.
        device, precision: the device that computed it, and in which precision.
        peak_memory_mb: peak memory of the scoring, in MiB, or None if unknown.
        captions: the source of the conditions: "given", "empty", or "none" for an unconditional model.
        remarks: what the reader must know, by the names of `mia_hub.flags.FLAGS`.
        computed_by: hash of the code and versions of the libraries, see `mia_hub.attacks.identity.computed_by`; empty if unknown.
    """

    ids: Sequence[str]
    is_member: npt.NDArray[np.int8]
    timesteps: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    attack: str
    model: dict[str, Any]
    split: dict[str, Any] | None = None
    seed: int = 0
    queries: int = 0
    seconds: float | None = None
    device: str = ""
    precision: str = ""
    chosen: dict[str, Any] = field(default_factory=dict)
    peak_memory_mb: float | None = None
    captions: str = "none"
    remarks: dict[str, str] = field(default_factory=dict)
    computed_by: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "ids", [str(i) for i in self.ids])
        set_(self, "is_member", np.asarray(self.is_member, dtype=np.int8))
        set_(self, "timesteps", np.asarray(self.timesteps, dtype=np.int64))
        set_(self, "scores", np.asarray(self.scores, dtype=np.float64))
        shape = (len(self.ids), len(self.timesteps))
        if self.scores.shape != shape or self.is_member.shape != shape[:1]:
            raise MetricError(
                f"A ScoreTable of {shape[0]} ids and {shape[1]} timesteps needs scores of shape {shape} and as many labels; "
                f"got {self.scores.shape} and {self.is_member.shape}."
            )
        if not np.isin(self.is_member, (0, 1, UNKNOWN)).all():
            raise MetricError("is_member must be 1 (member), 0 (non-member) or -1 (unknown).")

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, timestep: int) -> npt.NDArray[np.float64]:
        """Return the scores ``[N]`` at one timestep.

        Raises:
            MetricError: if the table has no such timestep.
        """
        columns = np.flatnonzero(self.timesteps == timestep)
        if not len(columns):
            raise MetricError(f"The table has no timestep {timestep}; it has {', '.join(map(str, self.timesteps))}.")
        return self.scores[:, columns[0]]

    def select(self, rows: npt.NDArray[Any]) -> ScoreTable:
        """Return the table of some rows, a boolean mask ``[N]`` or indices."""
        indices = np.arange(len(self))[rows]
        return replace(self, ids=[self.ids[i] for i in indices], is_member=self.is_member[indices], scores=self.scores[indices])

    def to_parquet(self, path: str | Path) -> None:
        """Write ``id``, ``is_member`` (null when unknown) and one ``score_t<timestep>`` column each; the rest is file metadata."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {"id": pa.array(self.ids, pa.string())}
        columns["is_member"] = pa.array(self.is_member, pa.int8(), mask=self.is_member == UNKNOWN)
        columns |= {f"{COLUMN}{t}": pa.array(self.scores[:, i]) for i, t in enumerate(self.timesteps)}
        recorded = ("attack", "model", "split", "seed", "queries", "seconds", "device", "precision", "chosen", "peak_memory_mb")
        meta = {key: getattr(self, key) for key in (*recorded, "captions", "remarks", "computed_by")}
        table = pa.table(columns).replace_schema_metadata({"mia_hub": json.dumps(meta)})
        with replacing(path) as temporary, open(temporary, "wb") as file:  # pyarrow opens no path that isn't UTF-8
            pq.write_table(table, file, compression="zstd")

    @classmethod
    def from_parquet(cls, path: str | Path | BinaryIO) -> ScoreTable:
        """Read a table written by `to_parquet`.

        Raises:
            MetricError: if the file holds no such table.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with open(path, "rb") if isinstance(path, (str, Path)) and Path(path).is_file() else nullcontext(path) as file:
                table = pq.ParquetFile(file).read()  # `read_table` imports pandas
            meta = json.loads((table.schema.metadata or {})[b"mia_hub"])
            names = [name for name in table.column_names if name.startswith(COLUMN)]
            labels = table["is_member"]
            if not pa.types.is_integer(labels.type):
                raise ValueError("is_member is not a column of integers")
            if lacking := [name for name in names if table[name].null_count]:
                raise ValueError(f"values are missing in {lacking[0]}")
            return cls(
                ids=table["id"].to_pylist(),
                is_member=np.array([UNKNOWN if label is None else label for label in labels.to_pylist()], np.int8),
                timesteps=np.array([int(name.removeprefix(COLUMN)) for name in names]),
                scores=np.stack([numbers(table[name]) for name in names], axis=1),
                **meta,
            )
        except (OSError, KeyError, ValueError, TypeError, OverflowError, RecursionError, pa.ArrowException) as error:
            name = path if isinstance(path, (str, Path)) else "The file"
            raise MetricError(f"{name} is not a ScoreTable in Parquet form ({type(error).__name__}: {error}).") from error
