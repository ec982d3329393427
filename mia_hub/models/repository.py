"""The files of a model: a folder, or a repository on the Hub at one commit, of which only the files needed are fetched."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mia_hub.errors import ModelError
from mia_hub.system.hub import HUB_TIMEOUT, HubTask, hub_errors, is_unreachable, why_unreachable
from mia_hub.system.sizes import size_text
from mia_hub.system.spellings import present_spelling, remember_spelling

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
LARGEST_UNTRUSTED = 2 * 2**30
# A smaller download is over before its announcement is read.
ANNOUNCED = 50 * 2**20
# Lists of shards are the largest of them.
LARGEST_JSON = 32 * 2**20
LARGEST_TEXT = 2**20
ASK_OWNER = "Download it again, or ask its owner to repair it."


@dataclass(frozen=True)
class Access:
    """Rights of the person who named a model.

    Attributes:
        trusted: False for a stranger: then folders are refused, our own token is not used, and large weights are not fetched.
        largest: the most bytes that are fetched at once for a stranger.
    """

    trusted: bool = True
    largest: int = LARGEST_UNTRUSTED


TRUSTED = Access()


class Folder:
    """A model in a folder.

    Attributes:
        name: for messages and results: of a folder as the user gave it, of a repository its id as the Hub spells it.
        given_name: as the user gave it.
        revision: the commit, where the folder is that of a commit in the Hub's cache; else None.
        sizes: bytes of each file by its path, 0 where unknown.
    """

    revision: str | None

    def __init__(self, folder: Path, name: str, revision: str | None = None, *, given_name: str = ""):
        self.root, self.name, self.revision, self.given_name = folder, name, revision, given_name or name
        self.sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}

    def read_json(self, path: str) -> dict[str, Any]:
        """The content of a small configuration file.

        Raises:
            ModelError: if it is not readable as a JSON object.
        """
        self._check_json_size(path)
        return _json_object(self.root / path, self.name)

    def read_text(self, path: str, largest: int = LARGEST_TEXT) -> str:
        """The content of a text file, such as a card; "" where there is none, or where it is larger than ``largest`` bytes.

        Raises:
            ModelError: if it is on the Hub, and can't be fetched.
        """
        if path not in self.sizes or self.sizes[path] > largest:
            return ""
        file = self.fetch([glob.escape(path)]) / path
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""

    def _check_json_size(self, path: str) -> None:
        if self.sizes.get(path, 0) > LARGEST_JSON:
            raise ModelError(
                f"{self.name} is refused: its {path} is {self.sizes[path] / 2**20:.0f} MiB, too large for a configuration. {ASK_OWNER}"
            )

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """Paths of the files that match any of the patterns, in order."""
        return sorted(path for path in self.sizes if any(fnmatch(path, pattern) for pattern in patterns))

    def fetch(self, patterns: Sequence[str]) -> Path:
        """Make sure that the matching files are on this machine; returns the folder that they lie in."""
        return self.root

    def check_size(self, patterns: Sequence[str]) -> None:
        """Refuse a download that is too large for a stranger; a folder needs none."""
        return

    def remember(self, path: str) -> None:
        """Make the Hub's cache note the commit of a branch, as far as that is a repository on the Hub."""
        return

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
        name: ``owner/name``, in any spelling that leads to it: in other case, or as it was before it was renamed.
        revision: branch, tag or commit; resolved to a commit before anything is read.
        access: rights of the person who named it.
    """

    def __init__(self, name: str, revision: str | None, access: Access):
        from huggingface_hub import HfApi

        self.given_name, self._revision_name, self._access = name, revision, access
        self._token = None if access.trusted else False
        with _model_errors(name, revision):
            try:
                info = HfApi(token=self._token).model_info(name, revision=revision, files_metadata=True, timeout=HUB_TIMEOUT)
            except Exception as error:
                if is_unreachable(error):
                    raise HubUnreachable(why_unreachable(error)) from error
                raise
        self.name, self.revision = info.id, info.sha
        self.sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}

    def read_json(self, path: str) -> dict[str, Any]:
        from huggingface_hub import hf_hub_download

        self._check_json_size(path)
        with _model_errors(self.name, self._revision_name):
            return _json_object(Path(hf_hub_download(self.name, path, revision=self.revision, token=self._token)), self.name)

    def fetch(self, patterns: Sequence[str]) -> Path:
        from huggingface_hub import snapshot_download

        self._announce(patterns)
        with _model_errors(self.name, self._revision_name):
            self.root = Path(snapshot_download(self.name, revision=self.revision, allow_patterns=list(patterns), token=self._token))
        return self.root

    def check_size(self, patterns: Sequence[str]) -> None:
        """Refuse a download that is too large for a stranger.

        Raises:
            ModelError: if the matching files are larger than `Access.largest`, and access is not trusted.
        """
        total, most = sum(self.sizes[path] for path in self.matching(patterns)), self._access.largest
        if not self._access.trusted and total > most:
            raise ModelError(
                f"The weights of {self.name} are {total / 2**30:.1f} GiB; here at most {size_text(most)} are fetched. "
                "Check such a model on a machine of your own, with the command line or a script."
            )

    def remember(self, path: str) -> None:
        """Make the Hub's cache note the commit of the branch, once all files are there; the cache then serves when there is no network."""
        from huggingface_hub import hf_hub_download

        with _model_errors(self.name, self._revision_name):
            hf_hub_download(self.name, path, revision=self._revision_name, token=self._token)
        if self._access.trusted:
            remember_spelling("model", self.given_name, self.name)

    def _announce(self, patterns: Sequence[str]) -> None:
        """Print the size of a large download to the standard error stream; refuse one that is too large for a stranger."""
        from huggingface_hub import try_to_load_from_cache

        self.check_size(patterns)
        needed = self.matching(patterns)
        missing = [path for path in needed if not isinstance(try_to_load_from_cache(self.name, path, revision=self.revision), str)]
        size = sum(self.sizes[path] for path in missing)
        if size >= ANNOUNCED:
            shown = f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
            print(f"Downloading {self.name}: {shown} in {len(missing)} files.", file=sys.stderr)


class CachedRepository(Folder):
    """A repository on the Hub as it is in the Hub's cache: its list of files is that of the Hub where the cache has it.

    Args:
        folder: of its files at one commit.
        name: as the Hub spells it.
        given_name: as the user gave it.
        unreachable: why only the cache serves.
    """

    def __init__(self, folder: Path, name: str, given_name: str, unreachable: Exception):
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        super().__init__(folder, name, folder.name, given_name=given_name)
        self._unreachable = unreachable
        # Otherwise other weights than with a network could be chosen, of those that happen to be here.
        with suppress(CachedRepoTreeNotFoundError):
            self.sizes |= {file.path: file.size or 0 for file in get_cached_repo_tree(name, revision=self.revision)}

    def read_json(self, path: str) -> dict[str, Any]:
        self.fetch([glob.escape(path)])
        return super().read_json(path)

    def fetch(self, patterns: Sequence[str]) -> Path:
        missing = [path for path in self.matching(patterns) if not (self.root / path).is_file()]
        if missing:
            files = "1 file" if len(missing) == 1 else f"{len(missing)} files"
            raise ModelError(
                f"The Hub can't be reached ({self._unreachable}), and the local cache lacks {files} of {self.name}, such as {missing[0]}. "
                f"Connect to the network and load the model once, or run 'hf download {self.name} --revision {self.revision}'."
            ) from self._unreachable
        return self.root


def open_repository(name: str, revision: str | None = None, access: Access = TRUSTED) -> Folder:
    """The repository of a name: a folder, or a Hub id, for which the Hub's local cache serves when there is no network.

    Args:
        name: of a folder, or ``owner/name``.
        revision: branch, tag or commit on the Hub.
        access: rights of the person who named it.

    Raises:
        ModelError: if there is none of that name, or it can't be reached.
    """
    if access.trusted and os.path.isdir(name):
        refuse_revision(revision, name)
        return Folder(Path(name), name)
    if not HUB_ID.fullmatch(name):
        raise ModelError(
            f"There is no model {name!r}: it is neither 'demo', nor an existing folder, nor a Hub id of the form 'owner/name' "
            f"(such as {_id_in_address(name) or 'google/ddpm-cifar10-32'!r})."
        )
    try:
        return HubRepository(name, revision, access)
    except HubUnreachable as error:
        if not access.trusted:
            # The files in the cache may be private, and of any size.
            raise ModelError(f"The Hub can't be reached ({error}); try again later, or give 'demo'.") from error
        return _cached(name, revision, error)


def is_hub_id(name: str) -> bool:
    """Whether a name stands for a repository on the Hub: it looks like one, and there is no such folder."""
    return HUB_ID.fullmatch(name) is not None and not os.path.isdir(name)


def refuse_revision(revision: str | None, name: str) -> None:
    """Refuse a revision of a local model.

    Raises:
        ModelError: if there is one.
    """
    if revision is not None:
        raise ModelError(f"revision={revision!r} is for models on the Hub; {name} is a local one and has none. Leave it out.")


class HubUnreachable(ModelError):
    """There is no network, or no Hub at its end."""


def _cached(name: str, revision: str | None, error: HubUnreachable) -> Folder:
    for spelling in dict.fromkeys((present_spelling("model", name), name)):
        folder = _snapshot(spelling, revision)
        if folder is not None:
            return CachedRepository(folder, spelling, name, error)
    at = f" at revision {revision!r}" if revision else ""
    raise ModelError(
        f"The Hub can't be reached ({error}), and {name}{at} is not in the local cache. Connect to the network, or give a "
        "folder, or 'demo'."
    ) from error


def _snapshot(name: str, revision: str | None) -> Path | None:
    """The folder of a repository's files in the Hub's cache; only those that were needed may be there. None if there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except IncompleteSnapshotError as error:
        return Path(error.snapshot_path)
    except LocalEntryNotFoundError:
        return None


def _id_in_address(name: str) -> str | None:
    """The Hub id in the address of a model's page."""
    match = re.match(r"https?://[^/]+/(?!datasets/|spaces/)([\w.-]+/[\w.-]+)", name)
    return match and match[1]


def _json_object(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of the model ``name``.

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
