"""The files of a model: a folder, or a repository on the Hub at one commit, of which only what is asked for is fetched."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mia_hub.errors import ModelError
from mia_hub.system.hub import HUB_TIMEOUT, HubTask, hub_errors, is_unreachable

LARGEST_UNTRUSTED = 2 * 2**30
# A smaller download is over before its announcement is read.
ANNOUNCED = 50 * 2**20
# Lists of shards are the largest of them.
LARGEST_JSON = 32 * 2**20
ASK_OWNER = "Download it again, or ask its owner to repair it."


class Folder:
    """A model in a folder.

    Attributes:
        name: how it was asked for, for messages and results.
        revision: the commit, where the folder is that of a commit in the Hub's cache; else None.
        sizes: bytes of each file by its path, 0 where unknown.
    """

    def __init__(self, folder: Path, name: str, revision: str | None = None):
        self.root, self.name, self.revision = folder, name, revision
        self.sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}

    def read_json(self, path: str) -> dict[str, Any]:
        """A small configuration file.

        Raises:
            ModelError: if it is not readable as a JSON object.
        """
        self._check_small(path)
        return read_json(self.root / path, self.name)

    def _check_small(self, path: str) -> None:
        if self.sizes.get(path, 0) > LARGEST_JSON:
            raise ModelError(f"{self.name} is refused: its {path} is {self.sizes[path] / 2**20:.0f} MiB, and no configuration. {ASK_OWNER}")

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """Paths of the files that match any of the patterns, in order."""
        return sorted(path for path in self.sizes if any(fnmatch(path, pattern) for pattern in patterns))

    def fetch(self, patterns: Sequence[str]) -> Path:
        """Makes sure that the matching files are here; returns the folder that they lie in."""
        return self.root

    def hash(self, paths: Iterable[str]) -> str:
        """``sha256:…`` over the contents of some files, in this order."""
        digest = hashlib.sha256()
        for path in paths:
            with open(self.root / path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return "sha256:" + digest.hexdigest()


class HubRepository(Folder):
    """A repository on the Hub at one commit.

    Args:
        name: ``owner/name``.
        revision: branch, tag or commit; resolved to a commit before anything is read.
        trusted: False for a name that comes from a stranger: then our own token is not used, and large weights are not fetched.
        largest: the most bytes that are then fetched at once.
    """

    def __init__(self, name: str, revision: str | None, trusted: bool, largest: int = LARGEST_UNTRUSTED):
        from huggingface_hub import HfApi

        self.name, self.asked, self.trusted, self.largest = name, revision, trusted, largest
        self._token = None if trusted else False
        with _model_errors(name, revision):
            try:
                info = HfApi(token=self._token).model_info(name, revision=revision, files_metadata=True, timeout=HUB_TIMEOUT)
            except Exception as error:
                if is_unreachable(error):
                    raise HubUnreachable(type(error).__name__) from error
                raise
        self.revision = info.sha
        self.sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}

    def read_json(self, path: str) -> dict[str, Any]:
        from huggingface_hub import hf_hub_download

        self._check_small(path)
        with _model_errors(self.name, self.asked):
            return read_json(Path(hf_hub_download(self.name, path, revision=self.revision, token=self._token)), self.name)

    def fetch(self, patterns: Sequence[str]) -> Path:
        from huggingface_hub import snapshot_download

        self._announce(patterns)
        with _model_errors(self.name, self.asked):
            self.root = Path(snapshot_download(self.name, revision=self.revision, allow_patterns=list(patterns), token=self._token))
        return self.root

    def check_size(self, patterns: Sequence[str]) -> None:
        """Refuses a large download that a stranger asks for.

        Raises:
            ModelError: if the matching files are larger than what is then fetched.
        """
        in_all = sum(self.sizes[path] for path in self.matching(patterns))
        if not self.trusted and in_all > self.largest:
            raise ModelError(
                f"The weights of {self.name} are {in_all / 2**30:.1f} GiB; here at most {self.largest / 2**30:.3g} GiB are fetched. "
                "Check such a model on a machine of your own, with the command line or a script."
            )

    def remember(self, path: str) -> None:
        """Makes the cache note which commit the branch is, once all is there: it then serves when there is no network."""
        from huggingface_hub import hf_hub_download

        with _model_errors(self.name, self.asked):
            hf_hub_download(self.name, path, revision=self.asked, token=self._token)

    def _announce(self, patterns: Sequence[str]) -> None:
        """Says how large a download is, on the standard error stream; refuses a large one that a stranger asks for."""
        from huggingface_hub import try_to_load_from_cache

        self.check_size(patterns)
        asked = self.matching(patterns)
        wanted = [path for path in asked if not isinstance(try_to_load_from_cache(self.name, path, revision=self.revision), str)]
        size = sum(self.sizes[path] for path in wanted)
        if size >= ANNOUNCED:
            shown = f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
            print(f"Downloading {self.name}: {shown} in {len(wanted)} files.", file=sys.stderr)


def open_repository(name: str, revision: str | None = None, *, trusted: bool = True, largest: int = LARGEST_UNTRUSTED) -> Folder:
    """A folder, or a Hub id; what is in the Hub's local cache serves when there is no network.

    Raises:
        ModelError: if there is none of that name, or it can't be reached.
    """
    if trusted and os.path.isdir(name):
        no_revision(revision, name)
        return Folder(Path(name), name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ModelError(
            f"There is no model {name!r}: it is neither 'demo', nor an existing folder, nor a Hub id of the form 'owner/name' "
            f"(such as {_id_in_address(name) or 'google/ddpm-cifar10-32'!r})."
        )
    try:
        return HubRepository(name, revision, trusted, largest)
    except HubUnreachable as error:
        if not trusted:
            # What lies in the cache may be private, and is of any size.
            raise ModelError(f"The Hub can't be reached ({error}); try again later, or give 'demo'.") from error
        return _cached(name, revision, error)


def no_revision(revision: str | None, name: str) -> None:
    """For a local model.

    Raises:
        ModelError: if a revision was asked for.
    """
    if revision is not None:
        raise ModelError(f"revision={revision!r} is for models on the Hub; {name} is a local one and has none. Leave it out.")


class HubUnreachable(ModelError):
    """There is no network, or no Hub at its end."""


def _cached(name: str, revision: str | None, error: HubUnreachable) -> Folder:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        at = f" at revision {revision!r}" if revision else ""
        raise ModelError(
            f"The Hub can't be reached ({error}), and {name}{at} is not in the local cache. Connect to the network, or give a "
            "folder, or 'demo'."
        ) from error
    return Folder(folder, name, folder.name)


def _id_in_address(name: str) -> str | None:
    """The Hub id in the address of a model's page."""
    found = re.match(r"https?://[^/]+/(?!datasets/|spaces/)([\w.-]+/[\w.-]+)", name)
    return found and found[1]


def read_json(path: Path, name: str) -> dict[str, Any]:
    """A JSON object in a file of the model ``name``.

    Raises:
        ModelError: if it is not readable as one.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{name} is broken: {path.name} is not readable JSON. {ASK_OWNER}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{name} is broken: {path.name} should hold a JSON object. {ASK_OWNER}")
    return value


def _model_errors(name: str, revision: str | None) -> AbstractContextManager[None]:
    return hub_errors(HubTask("model", name, revision, retry="Try again: a download resumes where it stopped"), ModelError)
