"""Models and splits in a folder of whoever runs a board, named ``local:NAME``: evaluated and shown like those on the Hub.

Only the worker and ``mia-hub submit`` know the folder, and nothing that strangers reach. A name never leads out of it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard.errors import StoreError, SubmissionError
from leaderboard.requests.naming import LOCAL_PREFIX, ON_TOP, check_local
from mia_hub.errors import MiaHubError

if TYPE_CHECKING:
    from mia_hub.models.protocol import DiffusionModel
    from mia_hub.splits.member_split import MemberSplit


class LocalFolder:
    """A folder of models and splits.

    Args:
        folder: holds in ``NAME`` the model or split named ``local:NAME``.

    Raises:
        StoreError: if it isn't there, or its own name looks like that of a model with an overlay.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.root = Path(folder).resolve()
        if not self.root.is_dir():
            raise StoreError(f"There is no folder {os.fspath(folder)!r} of local models.")
        if ON_TOP.strip() in str(self.root).split():
            raise StoreError(f"The folder {str(self.root)!r} of local models has ' + ' in its name; rename it.")

    def path(self, name: str) -> Path:
        """Return the folder of ``local:NAME``.

        Raises:
            SubmissionError: for a name of another form, if there is no such folder, and if anything in it links out of the local folder,
                or to a folder.
        """
        check_local(name)
        path = self.root / name.removeprefix(LOCAL_PREFIX)
        if not path.is_dir():
            raise SubmissionError(f"There is no {name}: the folder of local models has no folder of that name.")
        inside = (Path(parent) / each for parent, folders, files in os.walk(path) for each in (*folders, *files))
        for each in (path, *inside):
            link = self.public_text(str(each))
            if each != path and each.is_symlink() and each.is_dir():
                # The hash would leave out the files behind it.
                raise SubmissionError(f"{link} is a link to a folder, which is not followed. Copy the files there.")
            if each.is_symlink() and not each.resolve().is_relative_to(self.root):
                raise SubmissionError(f"{link} is a link out of the folder of local models, which is not followed. Copy the files there.")
        return path

    def revision(self, model: str) -> str:
        """Return the hash of the weights of a model and of its overlays, as reports state it; the weights are not loaded.

        Raises:
            SubmissionError: if it is no model that can be audited.
        """
        from mia_hub.models.lookup import local_revision

        paths = self._paths(model)
        try:
            return local_revision(paths)
        except MiaHubError as error:
            raise SubmissionError(self.public_text(str(error))) from error

    def load_model(self, model: str, **options: Any) -> DiffusionModel:
        """Load the model, named by its local name and not by its path; ``options`` as for `mia_hub.load_model`.

        Raises:
            MiaHubError: if it can't be loaded.
        """
        from mia_hub.models.loading import load_model

        loaded = load_model(self._paths(model), **options)
        loaded.info = replace(loaded.info, id=self.public_text(loaded.info.id))
        return loaded

    def load_split(self, name: str) -> MemberSplit:
        """Load the split; its `revision` is a hash over the paths and contents of all files in its folder: images, captions, classes.

        Raises:
            SubmissionError: if it is none.
        """
        from mia_hub.splits.loading import load_split

        path = self.path(name)
        try:
            return replace(load_split(path), name=name, revision=_hash(path))
        except MiaHubError as error:
            raise SubmissionError(self.public_text(str(error))) from error

    def public_text(self, text: str) -> str:
        """Return a text with local names in place of paths, which are private."""
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
