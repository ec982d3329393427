"""Models and splits in a folder of whoever runs a board, named ``local:NAME``: evaluated and shown as those on the Hub are.

The folder is given to the worker and to ``mia-hub submit``, and to nothing that strangers reach. A name never leads out of it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard.errors import StoreError, SubmissionError
from leaderboard.requests.naming import LOCAL, LOCAL_PREFIX, ON_TOP, check_local
from mia_hub.errors import MiaHubError

if TYPE_CHECKING:
    from mia_hub.models.protocol import DiffusionModel
    from mia_hub.splits.member_split import MemberSplit


class LocalFolder:
    """A folder of models and splits.

    Args:
        folder: in which ``NAME`` is what ``local:NAME`` stands for.

    Raises:
        StoreError: if it isn't there, or its name can't be told from two of models.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.root = Path(folder).resolve()
        if not self.root.is_dir():
            raise StoreError(f"There is no folder {os.fspath(folder)!r} of local models.")
        if ON_TOP.strip() in str(self.root).split():
            raise StoreError(f"The folder {str(self.root)!r} of local models has a plus sign between blanks in its name; rename it.")

    def path(self, name: str) -> Path:
        """Where ``local:NAME`` lies.

        Raises:
            SubmissionError: for another name, where nothing lies, and where anything in there is a link out of the folder, or to a folder.
        """
        check_local(name)
        found = self.root / LOCAL.fullmatch(name)[1]
        if not found.is_dir():
            raise SubmissionError(f"There is no {name}: the folder of local models has no folder of that name.")
        inside = (Path(parent) / each for parent, folders, files in os.walk(found) for each in (*folders, *files))
        for each in (found, *inside):
            if each != found and each.is_symlink() and each.is_dir():
                # What lies behind it would be in no hash.
                raise SubmissionError(f"{self.named(str(each))} is a link to a folder, and not followed. Copy what it names there.")
            if each.is_symlink() and not each.resolve().is_relative_to(self.root):
                link = self.named(str(each))
                raise SubmissionError(f"{link} is a link out of the folder of local models, and not followed. Copy what it names there.")
        return found

    def revision(self, model: str) -> str:
        """The hash of a model's weights, and of what lies on top of it, as reports state it; the weights are not loaded.

        Raises:
            SubmissionError: if it is no model that can be audited.
        """
        from mia_hub.models.lookup import local_revision

        paths = self._paths(model)
        try:
            return local_revision(paths)
        except MiaHubError as error:
            raise SubmissionError(self.named(str(error))) from error

    def load_model(self, model: str, **options: Any) -> DiffusionModel:
        """The model, under its own name and not under its path; ``options`` as for `mia_hub.load_model`.

        Raises:
            MiaHubError: if it can't be loaded.
        """
        from mia_hub.models.loading import load_model

        found = load_model(self._paths(model), **options)
        found.info = replace(found.info, id=self.named(found.info.id))
        return found

    def load_split(self, name: str) -> MemberSplit:
        """The split, whose `revision` is a hash over the paths and contents of all files in its folder: images, captions, classes.

        Raises:
            SubmissionError: if it is none.
        """
        from mia_hub.splits.loading import load_split

        path = self.path(name)
        try:
            return replace(load_split(path), name=name, revision=_hash(path))
        except MiaHubError as error:
            raise SubmissionError(self.named(str(error))) from error

    def named(self, text: str) -> str:
        """A text with names in place of paths, which are nobody's business but ours."""
        return text.replace(f"{self.root}{os.sep}", LOCAL_PREFIX)

    def _paths(self, model: str) -> str:
        return ON_TOP.join(str(self.path(part)) for part in model.split(ON_TOP))


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{content} {path.relative_to(folder).as_posix()}\n".encode())
    return f"sha256:{digest.hexdigest()}"
