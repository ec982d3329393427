"""What an attack has finished of its images, kept batch by batch, so that a process that was killed goes on where it was.

Each batch is a file of its own, written in one piece, in a folder named by a hash of all that its numbers depend on: where anything of that
changes, nothing is found, and nothing stale is used. A batch is composed on resumption as it was before, so that the table of a resumed
run is that of an undisturbed one to the bit (on the same device, with as many threads). Whoever names the folder removes it in the end.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from mia_hub.defaults import PACKAGE_FOLDER
from mia_hub.errors import MiaHubError
from mia_hub.models.precision import precision_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.system.files import replacing

# What comes from elsewhere is known by its version, or never changes.
KNOWN_CODE = ("mia_hub", "builtins", "abc", "numpy")
# Their versions may change a number in its last digits.
COMPUTED_BY = ("torch", "diffusers", "transformers", "numpy", "pillow", "scikit-learn")


@dataclass(frozen=True, eq=False)
class Part:
    """Finished work.

    Attributes:
        ids: content ids of the images that it is of, in order.
        values: what came of it, ``[n, …]``.
        rows: the most rows that went through the denoiser at once; fewer than asked for, once memory ran out.
        queries: forward passes that it took, counted in images.
        seconds: wall-clock time that it took.
    """

    ids: list[str]
    values: np.ndarray
    rows: int
    queries: int
    seconds: float


class Progress:
    """Finished parts of one attack on one model and list of images.

    Args:
        folder: of the caller's; the parts lie in a folder inside.
        identity: all that the parts' numbers depend on, JSON-ready.
    """

    def __init__(self, folder: str | Path, identity: dict[str, Any]):
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.folder = Path(folder) / digest[:32]

    def find(self, name: str) -> Part | None:
        """A part that is finished; None where there is none, or none that can be read."""
        try:
            with np.load(self._path(name), allow_pickle=False) as found:
                rows, queries, seconds = found["spent"].tolist()
                return Part(found["ids"].tolist(), found["values"], int(rows), int(queries), seconds)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def keep(self, name: str, part: Part) -> None:
        """Writes a part in one piece.

        Raises:
            MiaHubError: if the folder can't be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(name)) as temporary, open(temporary, "wb") as file:
                np.savez(file, ids=np.array(part.ids, str), values=part.values, spent=np.array([part.rows, part.queries, part.seconds]))
        except OSError as error:
            raise MiaHubError(f"{self.folder} can't be written to ({error.strerror}); give another folder.") from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


def progress_of(
    folder: str | Path | None, attack, model: DiffusionModel, *, captions: Sequence | None, images: int, rows: int, seed: int, device: str
) -> Progress | None:
    """Where an attack's finished parts are.

    Args:
        folder: see `Progress`.
        captions: what the model is told of each image.
        images: how many images there are; which ones is said by each part.
        rows: most rows per forward pass when it starts.
        seed: of the noise draws.
        device: its name.

    Returns:
        None where nothing can be kept: without a folder, or where something has no name that it could be known by again, such as a
        wrapped function, or an attack with a function among its parameters.
    """
    if folder is None or model.info.revision is None or not (by := computed_by(attack)):
        return None
    identity = {
        "attack": repr(attack),
        **by,
        **model_identity(model),
        "captions": None if captions is None else _hash(repr(list(captions)).encode()),
        "images": images,
        "rows": rows,
        "seed": seed,
        "device": device,
    }
    return Progress(folder, identity)


def computed_by(attack) -> dict[str, Any]:
    """What an attack's numbers are computed by: a hash of its code and of ours, and versions of libraries; JSON-ready.

    Empty where a part of the attack has no code that it could be known by again.
    """
    code = _code_of(attack)
    return {} if code is None else {"code": code, "versions": {name: metadata.version(name) for name in COMPUTED_BY}}


def model_identity(model: DiffusionModel) -> dict[str, Any]:
    """What a model is known by, JSON-ready; of one without a revision it doesn't tell all."""
    schedule = _hash(model.schedule.signals.numpy().tobytes(), model.schedule.noises.numpy().tobytes())
    return {"model": model.info.to_dict(), "schedule": schedule, "precision": precision_of(model)}


def _code_of(attack) -> str | None:
    """A hash of the code that an attack runs; None where a part of it lies in no file that could be compared."""
    files = set()
    for each in _made_of(attack):
        if callable(each):
            return None
        for kind in type(each).__mro__:
            if kind.__module__.partition(".")[0] not in KNOWN_CODE:
                try:
                    files.add(inspect.getfile(kind))
                except (TypeError, OSError):
                    return None
    try:
        return _hash(_own_code(), *(Path(file).read_bytes() for file in sorted(files)))
    except OSError:
        return None


def _made_of(attack) -> Iterator[Any]:
    """An attack and its parameters, with the attacks among them and theirs."""
    yield attack
    for parameter in fields(attack) if is_dataclass(attack) else ():
        if parameter.repr:
            value = getattr(attack, parameter.name)
            for part in value if isinstance(value, tuple) else (value,):
                yield from _made_of(part)


@cache
def _own_code() -> bytes:
    return _hash(*(path.read_bytes() for path in sorted(PACKAGE_FOLDER.rglob("*.py")))).encode()


def _hash(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
