"""Finished batches of an attack, stored one by one, so that a process that was killed resumes after the last of them.

Each batch is a file, written atomically, in a folder named by a hash of all that its numbers depend on. If anything of that changes, the
folder is another one, so that nothing stale is used. A resumed run composes its batches as the first run did, so that its table equals
that of an undisturbed run to the bit (on the same device, with as many threads). The caller who names the folder removes it.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mia_hub.attacks.identity import computed_by, content_hash, is_identified, model_identity
from mia_hub.errors import MiaHubError
from mia_hub.models.protocol import DiffusionModel
from mia_hub.system.files import replacing


@dataclass(frozen=True, eq=False)
class FinishedBatch:
    """The result of finished work, on a batch of images or on generated ones.

    Attributes:
        ids: content ids of the images, n of them, in order.
        values: the result, ``[n, …]``.
        rows: rows per forward pass at the end of the work; fewer than at its beginning if memory ran out.
        queries: forward passes that the work took, counted in images.
        seconds: wall-clock time that the work took.
    """

    ids: list[str]
    values: npt.NDArray[Any]
    rows: int
    queries: int
    seconds: float


class FinishedBatches:
    """The finished batches of one attack on one model and list of images.

    Args:
        folder: the caller's folder; the batches lie in a subfolder.
        identity: all that the batches' numbers depend on, JSON-ready.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any]):
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder = Path(folder) / digest[:32]

    def read(self, name: str) -> FinishedBatch | None:
        """Return a finished batch; None if there is none, or if its file is damaged."""
        try:
            with np.load(self._path(name), allow_pickle=False) as stored:
                rows, queries, seconds = stored["spent"].tolist()
                return FinishedBatch(stored["ids"].tolist(), stored["values"], int(rows), int(queries), seconds)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def write(self, name: str, batch: FinishedBatch) -> None:
        """Write a batch atomically.

        Raises:
            MiaHubError: if the folder can't be written to.
        """
        spent = np.array([batch.rows, batch.queries, batch.seconds])
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(name)) as temporary, open(temporary, "wb") as file:
                np.savez(file, ids=np.array(batch.ids, str), values=batch.values, spent=spent)
        except OSError as error:
            raise MiaHubError(f"{self.folder} can't be written to ({error.strerror}); give another folder.") from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


def finished_batches(
    folder: str | Path | None,
    attack: Any,
    model: DiffusionModel,
    *,
    captions: Sequence[Any] | None,
    images: int,
    rows: int,
    seed: int,
    device: str,
) -> FinishedBatches | None:
    """Return the store of an attack's finished batches.

    Args:
        folder: see `FinishedBatches`.
        attack: the attack.
        model: the model.
        captions: what the model is conditioned on, one entry per image.
        images: the number of images; each batch states their ids.
        rows: most rows per forward pass at the beginning.
        seed: of the noise draws.
        device: the device's name.

    Returns:
        None if nothing can be stored: without a folder, or if the model or the attack can't be identified, such as a wrapped function, or
        an attack with a function among its parameters.
    """
    if folder is None or not is_identified(model, attack) or not (code := computed_by(attack)):
        return None
    identity = {
        "attack": repr(attack),
        **code,
        **model_identity(model, attack),
        "captions": None if captions is None else content_hash(repr(list(captions)).encode()),
        "images": images,
        "rows": rows,
        "seed": seed,
        "device": device,
    }
    return FinishedBatches(folder, identity)
