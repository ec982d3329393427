"""A store in a data set repository on the Hub, read with few requests: one listing per version, and no file twice."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from leaderboard.errors import AccessDenied, BrokenFile, Conflict, StoreError
from leaderboard.stores.store import LARGEST_FILE, Changes, Store, View, as_json, check_path, is_path, too_large
from leaderboard.stores.submitter import Submitter
from mia_hub.system.hub import HUB_TIMEOUT, HubTask, hub_errors, status_of

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

# Roles in an organisation whose holders may change its models. A contributor may only change their own.
MAY_WRITE = ("admin", "write")
AT_ONCE = 8
# Bytes of one content, and of all, that are cached by their git names, and stored in the pack.
LARGEST_CACHED = 16 * 2**10
MOST_CACHED = 64 * 2**20
# Fewer files than this are fetched one by one; so many changes are worth a new pack.
WORTH_A_PACK = 50


class HubStore(Store):
    """A data set repository on the Hub.

    Contents are cached by their git names (hashes), which a listing gives for every file, so that only changed files are fetched again. For
    a process with an empty cache, a *pack* holds the small files of an earlier version together. A content from the pack is only used where
    it has the git name that the listing gives, so that an old pack, or one that was tampered with, does no harm.

    Args:
        repo_id: ``owner/name``.
        token: the login's own by default.
        private: whether a repository that is created is private.
        make: whether a repository that isn't there is created.

    Raises:
        StoreError: if it can't be reached, or isn't there and ``make`` is False.
    """

    MARK, PACK = ".store.json", ".pack.json"

    def __init__(self, repo_id: str, *, token: str | None = None, private: bool | None = None, make: bool = True):
        from huggingface_hub import HfApi

        self.repo_id, self.api = repo_id, HfApi(token=token)
        self.cache: dict[str, bytes] = {}
        self._cached_bytes = 0
        self.packed: frozenset[str] = frozenset()
        self._newest: HubView | None = None
        with self.errors():
            if not self.api.repo_exists(repo_id, repo_type="dataset"):
                if not make:
                    raise StoreError(
                        f"There is no data set {repo_id} on the Hub that you may see. Check the name; the worker makes it, and so does "
                        "'mia-hub publish space OWNER --stores --yes'."
                    )
                self.api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)

    def __str__(self) -> str:
        return f"the data set {self.repo_id}"

    def version(self) -> str:
        with self.errors():
            return str(self.api.dataset_info(self.repo_id, timeout=HUB_TIMEOUT).sha)

    def at(self, version: str | None = None) -> HubView:
        version, view = version or self.version(), self._newest
        if view is None or view.version != version:
            view = self._newest = HubView(self, version)
        return view

    def files(self, under: str = "") -> list[str]:
        return self.at().files(under)

    def read(self, path: str, *, largest: int = LARGEST_FILE) -> bytes:
        return self.at().read(path, largest=largest)

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes]:
        return self.at().read_many(paths)

    def commit(self, changes: Changes, message: str, *, parent: str) -> str:
        return str(self._commit(changes, message, parent_commit=parent).oid)

    def propose(self, changes: Changes, message: str, description: str = "") -> str:
        """Open a pull request with these changes, for those who may not write; return its address."""
        return str(self._commit(changes, message, create_pr=True, commit_description=description).pr_url)

    def user(self) -> Submitter:
        """Return who is logged in here; see `user_of`."""
        return user_of(self.api.token)

    def link(self, path: str) -> str:
        return f"{self.api.endpoint}/datasets/{self.repo_id}/blob/main/{check_path(path)}"

    def _commit(self, changes: Changes, message: str, **options: Any) -> CommitInfo:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        operations = [
            CommitOperationDelete(path) if content is None else CommitOperationAdd(check_path(path), content)
            for path, content in sorted(changes.items())
        ]
        if "parent_commit" in options:
            # The client drops files that are already there with the same content, and makes no commit without others: then the parent
            # would not be checked. So each commit contains something that no other has.
            operations.append(CommitOperationAdd(self.MARK, as_json({"commit": uuid.uuid4().hex, "message": message})))
            if self._newest and self._newest.version == options["parent_commit"] and (pack := self._newest.new_pack()):
                operations.append(CommitOperationAdd(self.PACK, pack))
        with self.errors():
            try:
                commit: CommitInfo = self.api.create_commit(
                    self.repo_id, operations, repo_type="dataset", commit_message=message, **options
                )
                return commit
            except HfHubHTTPError as error:
                if status_of(error) in (409, 412):
                    raise Conflict(f"{self} was written to since.") from error
                raise

    def fetch(self, path: str, version: str, largest: int) -> bytes:
        """Return a file's content, in one request; stop if the file is too large."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # imported there, and not listed
            build_hf_headers,
            hf_raise_for_status,
            http_stream_backoff,
        )

        url = hf_hub_url(self.repo_id, path, repo_type="dataset", revision=version, endpoint=self.api.endpoint)
        headers = build_hf_headers(token=self.api.token)
        options: dict[str, Any] = {"headers": headers, "timeout": HUB_TIMEOUT, "follow_redirects": True, "max_retries": 2}
        with self.errors():
            try:
                with http_stream_backoff("GET", url, **options) as response:
                    if response.is_error:
                        response.read()
                    hf_raise_for_status(response)
                    content = bytearray()
                    for part in response.iter_bytes():
                        content += part
                        if len(content) > largest:
                            raise too_large(path, self, max(len(content), int(response.headers.get("content-length", 0))), largest)
            except EntryNotFoundError:
                raise KeyError(path) from None
        return bytes(content)

    def remember(self, content: bytes) -> None:
        """Cache a small content by its git name."""
        if len(content) > LARGEST_CACHED:
            return
        if self._cached_bytes > MOST_CACHED:
            self.cache.clear()
            self._cached_bytes = 0
        self.cache[git_name(content)] = content
        self._cached_bytes += len(content)

    def errors(self) -> AbstractContextManager[None]:
        """Translate the client's errors into `StoreError`, or `AccessDenied` where the login has no right."""
        # Whoever denies access says how to get it: a visitor of the page can't log in by a command.
        task = HubTask("dataset", self.repo_id, writing=True, advise_login=False, failure=f"{self} can't be read or written")
        return hub_errors(task, StoreError, denied=AccessDenied)


class HubView(View):
    """A repository at one commit. Its files are listed once, if at all.

    Args:
        store: of the repository.
        version: the commit.
    """

    def __init__(self, store: HubStore, version: str):
        self.store, self.version, self._listed = store, version, False

    def __str__(self) -> str:
        return str(self.store)

    @cached_property
    def _tree(self) -> dict[str, tuple[str, int]]:
        """Return ``(git name, bytes)`` of each file by its path."""
        from huggingface_hub.hf_api import RepoFile

        with self.store.errors():
            entries = self.store.api.list_repo_tree(self.store.repo_id, recursive=True, revision=self.version, repo_type="dataset")
            tree = {entry.path: (entry.blob_id, entry.size) for entry in entries if isinstance(entry, RepoFile)}
        self._listed = True
        return tree

    def files(self, under: str = "") -> list[str]:
        prefix = f"{check_path(under)}/" if under else ""
        return sorted(path for path in self._tree if path.startswith(prefix) and is_path(path))

    def read(self, path: str, *, largest: int = LARGEST_FILE) -> bytes:
        check_path(path)
        if not self._listed:
            return self.store.fetch(path, self.version, largest)
        name, size = self._tree[path]
        if size > largest:
            raise too_large(path, self, size, largest)
        content = self.store.cache.get(name)
        if content is None:
            content = self.store.fetch(path, self.version, largest)
            self.store.remember(content)
        return content

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes]:
        present = [path for path in paths if path in self._tree]
        self.prefetch(present)
        with ThreadPoolExecutor(AT_ONCE) as several:
            return dict(zip(present, several.map(self.read, present)))

    def prefetch(self, paths: Iterable[str]) -> None:
        missing = self._missing(paths)
        if len(missing) >= WORTH_A_PACK and self.store.PACK in self._tree:
            self._unpack()
            missing = self._missing(missing)
        with ThreadPoolExecutor(AT_ONCE) as several:
            list(several.map(self.read, missing))

    def _missing(self, paths: Iterable[str]) -> list[str]:
        files = ((path, self._tree.get(path)) for path in paths)
        return [path for path, file in files if file and file[1] <= LARGEST_CACHED and file[0] not in self.store.cache]

    def _unpack(self) -> None:
        try:
            contents = [text.encode() for text in json.loads(self.store.fetch(self.store.PACK, self.version, MOST_CACHED))]
        except (BrokenFile, ValueError, TypeError, AttributeError, RecursionError):
            # A pack only saves time.
            return
        for content in contents:
            self.store.remember(content)
        self.store.packed = frozenset(map(git_name, contents))

    def new_pack(self) -> bytes | None:
        """Return a pack of all small files that were read at this version, if the present pack lacks many of them."""
        if not self._listed:
            return None
        small = {name for path, (name, size) in self._tree.items() if is_path(path) and path.endswith(".json") and size <= LARGEST_CACHED}
        cached = small & self.store.cache.keys()
        if len(cached - self.store.packed) < WORTH_A_PACK:
            return None
        self.store.packed = frozenset(cached)
        texts = [self.store.cache[name].decode("utf-8", "replace") for name in sorted(cached)]
        return json.dumps(texts, ensure_ascii=False).encode("utf-8", "replace")


def user_of(token: str | bool | None = None) -> Submitter:
    """Return the user or organisation that a token belongs to, and the organisations that they may write for; the login's own by default.

    Raises:
        AccessDenied: if there is none, or the Hub doesn't accept it.
        StoreError: if the Hub can't be reached.
    """
    from huggingface_hub import HfApi

    with hub_errors(HubTask("dataset", "", failure="The user can't be looked up on the Hub"), StoreError, denied=AccessDenied):
        user = HfApi(token=token).whoami()
        organisations = (each["name"] for each in user.get("orgs") or () if each.get("roleInOrg") in MAY_WRITE)
        return Submitter(user["name"], (user["name"], *organisations))


def git_name(content: bytes) -> str:
    """Return the hash by which git, and so a listing, names a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
