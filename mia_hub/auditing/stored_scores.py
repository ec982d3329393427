"""A folder in which scores are kept as soon as they are there, so that what was interrupted goes on where it was."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mia_hub.attacks import Attack
from mia_hub.attacks.progress import computed_by
from mia_hub.errors import MetricError, MiaHubError
from mia_hub.models.precision import match_precision
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import ScoreTable
from mia_hub.system.files import write_text
from mia_hub.system.processes import current_processes

BATCHES = "unfinished"


@dataclass(frozen=True)
class Shelf:
    """Scores of attacks on one model and one split, and what was known of these when the scores were made.

    Attributes:
        folder: made if it isn't there.
        model, split, ids, is_member, seed: what scores must have been made with to be taken from the shelf.
        progress: says so where scores are made again because other code made those that are there.
    """

    folder: str | Path
    model: DiffusionModel
    split: dict[str, Any]
    ids: list[str]
    is_member: np.ndarray
    seed: int
    progress: bool = True
    _outdated: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        folder = Path(self.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MiaHubError(f"The folder {folder} can't be made ({error.strerror}); give another one.") from error
        object.__setattr__(self, "folder", folder)

    def unfinished(self, name: str) -> Path:
        """Where `Attack.score` keeps the finished batches of the scores in a file, until the file is there."""
        return self.folder / BATCHES / Path(name).stem

    def find(self, name: str, attack: Attack) -> ScoreTable | None:
        """Scores that needn't be made again; None where there are none."""
        table = current_processes().first(lambda: self._read(name))
        if table is None:
            return None
        hashes = [[(split or {}).get(key) for key in ("hash", "captions_hash")] for split in (table.split, self.split)]
        found = (table.attack, table.model, hashes[0], table.seed, table.ids)
        needed = (repr(attack), self.model.info.to_dict(), hashes[1], self.seed, self.ids)
        if found == needed and not self._by_this_code(name, table, attack):
            return None
        # Last, since it moves parts of the model that have overflowed before, so that what is left is asked as it would have been.
        if found != needed or not np.array_equal(table.is_member, self.is_member) or not match_precision(self.model, table.precision):
            return None
        self._tidy(name)  # where it was killed between the scores and this
        return table

    def _read(self, name: str) -> ScoreTable | None:
        path = self.folder / name
        if self.model.info.revision is None or not path.exists():
            return None
        try:
            return ScoreTable.from_parquet(path)
        except MetricError:  # cut short, or another file of that name: made again
            return None

    def _by_this_code(self, name: str, table: ScoreTable, attack: Attack) -> bool:
        """Whether the same code would make the scores now; where it wouldn't, that is said once."""
        by = computed_by(attack)
        if by and table.computed_by == by:
            return True
        if self.progress and by and not self._outdated and current_processes().is_first:
            why = "were made by other code or versions of libraries" if table.computed_by else "don't say by which code they were made"
            tqdm.write(f"The scores in {self.folder / name} {why}; such scores are made again.", file=sys.stderr)
        self._outdated.append(name)
        return False

    def keep(self, name: str, table: ScoreTable) -> None:
        """Writes new scores, whose finished batches are needed no more."""
        self._written(lambda: table.to_parquet(self.folder / name))
        self._tidy(name)

    def _tidy(self, name: str) -> None:
        def tidied() -> None:
            shutil.rmtree(self.unfinished(name), ignore_errors=True)
            with suppress(OSError):  # there are those of others, or none at all
                (self.folder / BATCHES).rmdir()

        current_processes().first(tidied)

    def write(self, name: str, text: str) -> None:
        """Writes what else there is to say."""
        self._written(lambda: write_text(self.folder / name, text + "\n"))

    def _written(self, write: Callable[[], object]) -> None:
        """Done by the first process alone."""

        def written() -> None:
            try:
                write()
            except OSError as error:
                raise MiaHubError(f"{self.folder} can't be written to ({error.strerror}); give another folder.") from error

        current_processes().first(written)
