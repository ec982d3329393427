"""A folder in which scores are stored once they are computed, so that an interrupted run resumes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from mia_hub.attacks import Attack
from mia_hub.attacks.identity import computed_by, is_identified, recorded_model
from mia_hub.errors import MetricError, MiaHubError
from mia_hub.models.precision import match_precision
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import ScoreTable
from mia_hub.system.files import write_text
from mia_hub.system.processes import current_processes

BATCHES = "unfinished"


@dataclass(frozen=True)
class StoredScores:
    """Scores of attacks on one model and one split, each in a file of its own.

    Attributes:
        folder: created if it doesn't exist.
        model, split, ids, is_member, seed: what scores must have been computed with to be loaded.
        progress: reports on stderr when stored scores are computed again because other code computed them.
    """

    folder: Path
    model: DiffusionModel
    split: dict[str, Any]
    ids: list[str]
    is_member: npt.NDArray[np.int8]
    seed: int
    progress: bool = True
    _outdated: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MiaHubError(f"The folder {self.folder} can't be made ({error.strerror}); give another one.") from error

    def batches_folder(self, file: str) -> Path:
        """Return where `Attack.score` stores finished batches of the scores in ``file``, until the file is there."""
        return self.folder / BATCHES / Path(file).stem

    def load(self, file: str, attack: Attack) -> ScoreTable | None:
        """Return the scores in ``file`` if they needn't be computed again; else None."""
        table = current_processes().first(lambda: self._read(file, attack))
        if table is None:
            return None
        hashes = [[(split or {}).get(key) for key in ("hash", "captions_hash")] for split in (table.split, self.split)]
        stored = (table.attack, table.model, hashes[0], table.seed, table.ids)
        needed = (repr(attack), recorded_model(self.model, attack), hashes[1], self.seed, self.ids)
        if stored != needed or not self._is_current(file, table, attack):
            return None
        # Last, since it widens parts of the model that overflowed then, so that further queries are as they would have been.
        if not np.array_equal(table.is_member, self.is_member) or not match_precision(self.model, table.precision):
            return None
        self._remove_batches(file)  # left by a process that was killed after it had saved the scores
        return table

    def _read(self, file: str, attack: Attack) -> ScoreTable | None:
        path = self.folder / file
        if not is_identified(self.model, attack) or not path.exists():
            return None
        try:
            return ScoreTable.from_parquet(path)
        except MetricError:  # cut short, or another file of that name: computed again
            return None

    def _is_current(self, file: str, table: ScoreTable, attack: Attack) -> bool:
        """Whether the same code would compute the scores now; the first time that it wouldn't, the reason is printed."""
        code = computed_by(attack)
        if code and table.computed_by == code:
            return True
        if self.progress and code and not self._outdated and current_processes().is_first:
            why = "were computed by other code or versions of libraries" if table.computed_by else "don't say which code computed them"
            tqdm.write(f"The scores in {self.folder / file} {why}; such scores are computed again.", file=sys.stderr)
        self._outdated.append(file)
        return False

    def save(self, file: str, table: ScoreTable) -> None:
        """Write scores, and remove their finished batches.

        Raises:
            MiaHubError: if the folder can't be written to.
        """
        self._write(lambda: table.to_parquet(self.folder / file))
        self._remove_batches(file)

    def save_text(self, file: str, text: str) -> None:
        """Write a text.

        Raises:
            MiaHubError: if the folder can't be written to.
        """
        self._write(lambda: write_text(self.folder / file, text + "\n"))

    def _remove_batches(self, file: str) -> None:
        def remove() -> None:
            shutil.rmtree(self.batches_folder(file), ignore_errors=True)
            with suppress(OSError):  # the folder holds other batches, or doesn't exist
                (self.folder / BATCHES).rmdir()

        current_processes().first(remove)

    def _write(self, write: Callable[[], object]) -> None:
        """Write in the first process alone."""

        def attempt() -> None:
            try:
                write()
            except OSError as error:
                raise MiaHubError(f"{self.folder} can't be written to ({error.strerror}); give another folder.") from error

        current_processes().first(attempt)
