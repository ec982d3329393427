"""References kept on this machine, so that a model's known images are scored once.

Those that somebody built or fetched answer for their model from then on. Those of images that were passed to a check are only found
again for the same images.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mia_hub.attacks import Attack
from mia_hub.attacks.identity import computed_by, is_identified, model_identity
from mia_hub.errors import MiaHubError, SplitError
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.matching import mismatch
from mia_hub.references.record import ReferenceRecord
from mia_hub.references.scoring import LabelledImages
from mia_hub.references.storing import RECORD, read_record, write_files
from mia_hub.splits.member_split import captions_hash, split_hash
from mia_hub.system.files import home_folder

Kind = Literal["built", "checked"]
BUILT: Kind = "built"
# References of images that were passed to a check: the newest of them stay.
CHECKED: Kind = "checked"
MOST_CHECKED = 100
UNFINISHED = "unfinished"
# A file beside a reference that was fetched from the Hub: its name and commit there.
FETCHED = "fetched.json"


@dataclass(frozen=True)
class KeptReference:
    """A reference on this machine.

    Attributes:
        id: its name in lists.
        folder: where it lies.
        record: what it states about itself.
    """

    id: str
    folder: Path
    record: ReferenceRecord


@dataclass(frozen=True)
class KeptReferences:
    """The references in a folder.

    Attributes:
        folder: by default ``references`` in the folder of `mia_hub.system.files.home_folder`.
    """

    folder: Path

    @classmethod
    def of_this_machine(cls) -> KeptReferences:
        """Return those in the home folder."""
        return cls(home_folder() / "references")

    def all(self, kind: Kind = BUILT) -> list[KeptReference]:
        """Return the references of a kind, the newest first; damaged ones are left out."""
        dated = []
        for path in (self.folder / kind).glob(f"[!.]*/{RECORD}"):
            with suppress(OSError, MiaHubError):
                dated.append((path.stat().st_mtime_ns, KeptReference(path.parent.name, path.parent, read_record(path.parent))))
        return [reference for _, reference in sorted(dated, key=lambda pair: (-pair[0], pair[1].id))]

    def state(self) -> tuple[tuple[str, int], ...]:
        """Return what changes whenever a reference is built, fetched or removed."""
        records = []
        for path in (self.folder / BUILT).glob(f"[!.]*/{RECORD}"):
            with suppress(OSError):
                records.append((path.parent.name, path.stat().st_mtime_ns))
        return tuple(sorted(records))

    def named(self, id: str) -> KeptReference:
        """Return the reference with an id, or with the only one that begins so.

        Raises:
            SplitError: if there is none, or several.
        """
        ids = [reference for reference in self.all() if reference.id.startswith(id)]
        exact = [reference for reference in ids if reference.id == id]
        if len(exact or ids) != 1:
            known = ", ".join(reference.id for reference in (ids or self.all())) or "none; build one with 'mia-hub reference build'"
            problem = f"Several references begin with {id!r}" if ids else f"There is no reference {id!r} on this machine"
            raise SplitError(f"{problem}. {'They are' if ids else 'There are'}: {known}.")
        return (exact or ids)[0]

    def fitting(self, model: DiffusionModel, attack: Attack | None = None) -> Iterator[KeptReference]:
        """Yield the references of a model that were fetched, or built by this code, the newest first.

        Args:
            model: at one revision, in one precision.
            attack: the attack, as it is configured; None for any.
        """
        for reference in self.all():
            record = reference.record
            if attack is not None and record.attack.identity != repr(attack):
                continue
            if self.is_current(reference) and not mismatch(record.model, record.schedule, record.precision, model, adapt=False):
                yield reference

    @staticmethod
    def is_current(reference: KeptReference) -> bool:
        """Return whether checks use the reference: it was fetched, or this code would compute the same numbers."""
        if (reference.folder / FETCHED).exists():
            return True
        try:
            return reference.record.computed_by == computed_by(reference.record.attack.build())
        except MiaHubError:
            return False

    def place(self, id: str, kind: Kind) -> Path:
        """Return the folder of the reference with an id; it need not exist."""
        return self.folder / kind / id

    def keep(self, id: str, record: ReferenceRecord, numbers: bytes, kind: Kind) -> Path:
        """Write a reference; of those that were passed to checks, the oldest are removed.

        Raises:
            SplitError: if it can't be written.
        """
        folder = self.place(id, kind)
        write_files(folder, record, numbers, replace=True)
        if kind == CHECKED:
            for old in self.all(CHECKED)[MOST_CHECKED:]:
                shutil.rmtree(old.folder, ignore_errors=True)
        return folder

    def use(self, id: str, kind: Kind) -> None:
        """Make a reference the newest: it was asked for again."""
        with suppress(OSError):
            os.utime(self.place(id, kind) / RECORD)
        self.forget_unfinished(id)

    def unfinished(self, id: str) -> Path:
        """Return the folder of finished batches of a reference that is being built."""
        return self.folder / UNFINISHED / id

    def can_keep(self, id: str) -> bool:
        """Return whether a reference can be written here; a home folder may be read-only."""
        try:
            for folder in (self.unfinished(id), self.folder / BUILT):
                folder.mkdir(parents=True, exist_ok=True)
            return os.access(self.folder / BUILT, os.W_OK)
        except OSError:
            return False

    def forget_unfinished(self, id: str) -> None:
        """Remove the finished batches of a reference that is complete."""
        shutil.rmtree(self.unfinished(id), ignore_errors=True)
        with suppress(OSError):  # others are being built
            (self.folder / UNFINISHED).rmdir()

    def remove(self, id: str) -> Path:
        """Remove a reference, and return where it was.

        Raises:
            SplitError: if there is none, or it can't be removed.
        """
        folder = self.named(id).folder
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise SplitError(f"{folder} can't be removed ({error.strerror}).") from error
        return folder


def reference_id(model: DiffusionModel, attack: Attack, known: LabelledImages, ids: Sequence[str], seed: int) -> str | None:
    """Return the id of a reference, which depends on everything that its numbers depend on.

    Args:
        model, attack, known, seed: as the reference is built with.
        ids: content ids of the images.

    Returns:
        None if it can't be kept: for a model without a revision, or an attack whose code can't be identified.
    """
    code = computed_by(attack)
    if not is_identified(model, attack) or not code:
        return None
    identity = model_identity(model, attack)
    described: dict[str, Any] = {key: value for key, value in identity["model"].items() if key != "id"}
    captions = known.captions
    if captions is not None and not isinstance(captions, (str, int)):
        captions = captions_hash(ids, captions)
    parts = [described, identity["schedule"], identity["precision"], repr(attack), code, seed, captions, split_hash(ids, known.is_member)]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^A-Za-z0-9]+", "-", os.path.basename(model.info.id.rstrip("/")))[:40].strip("-")
    return f"{name}-{digest[:12]}"
