"""A store in a data set repository on the Hub, read with few requests: one listing per version, and no file twice."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property

from leaderboard.errors import AccessDenied, BrokenFile, Conflict, StoreError
from leaderboard.stores.store import LARGEST_FILE, Changes, Store, View, as_json, check_path, is_path, too_large
from leaderboard.stores.submitter import Submitter
from mia_hub.system.hub import HUB_TIMEOUT, HubTask, hub_errors, status_of

# Roles in an organisation whose holders may change its models. A contributor may change their own alone.
MAY_WRITE = ("admin", "write")
AT_ONCE = 8
# Contents that are kept in memory by their git name, and in the pack.
LARGEST_KEPT = 16 * 2**10
MOST_KEPT = 64 * 2**20
# Fewer files than this are fetched one by one; so many changes are worth a new pack.
WORTH_A_PACK = 50


class HubStore(Store):
    """A data set repository on the Hub.

    What is read is remembered by its git name (the hash of its content), which a listing gives for every file, so that only what changed is
    fetched again. For those who come new, a *pack* holds the small files of a former version together. It is only believed where a content
    has the git name that the listing gives, so that it may be old, or tampered with, and nothing wrong is read from it.

    Args:
        repo_id: ``owner/name``.
        token: the login's own by default.
        private: of a repository that is made.
        make: whether a repository that isn't there is made.

    Raises:
        StoreError: if it can't be reached, or isn't there and shall not be made.
    """

    MARK, PACK = ".store.json", ".pack.json"

    def __init__(self, repo_id: str, *, token: str | None = None, private: bool | None = None, make: bool = True):
        from huggingface_hub import HfApi

        self.repo_id, self.api = repo_id, HfApi(token=token)
        self.kept: dict[str, bytes] = {}
        self._kept_bytes = 0
        self.packed: frozenset[str] = frozenset()
        self._seen: HubView | None = None
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
            return self.api.dataset_info(self.repo_id, timeout=HUB_TIMEOUT).sha

    def at(self, version: str | None = None) -> HubView:
        version, seen = version or self.version(), self._seen
        if seen is None or seen.version != version:
            seen = self._seen = HubView(self, version)
        return seen

    def files(self, under: str = "") -> list[str]:
        return self.at().files(under)

    def read(self, path: str, *, largest: int = LARGEST_FILE) -> bytes:
        return self.at().read(path, largest=largest)

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes]:
        return self.at().read_many(paths)

    def commit(self, changes: Changes, message: str, *, parent: str) -> str:
        return self._commit(changes, message, parent_commit=parent).oid

    def propose(self, changes: Changes, message: str, description: str = "") -> str:
        """Opens a pull request with these changes, for those who may not write; returns its address."""
        return self._commit(changes, message, create_pr=True, commit_description=description).pr_url

    def user(self) -> Submitter:
        """Who is logged in here; see `user_of`."""
        return user_of(self.api.token)

    def link(self, path: str) -> str:
        return f"{self.api.endpoint}/datasets/{self.repo_id}/blob/main/{check_path(path)}"

    def _commit(self, changes: Changes, message: str, **options):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        operations = [
            CommitOperationDelete(path) if content is None else CommitOperationAdd(check_path(path), content)
            for path, content in sorted(changes.items())
        ]
        if "parent_commit" in options:
            # The client drops files that are there already with the same content, and a commit without any others is not made: then the
            # parent would not be looked at. So each commit brings something that no other has.
            operations.append(CommitOperationAdd(self.MARK, as_json({"commit": uuid.uuid4().hex, "message": message})))
            if self._seen and self._seen.version == options["parent_commit"] and (pack := self._seen.new_pack()):
                operations.append(CommitOperationAdd(self.PACK, pack))
        with self.errors():
            try:
                return self.api.create_commit(self.repo_id, operations, repo_type="dataset", commit_message=message, **options)
            except HfHubHTTPError as error:
                if status_of(error) in (409, 412):
                    raise Conflict(f"{self} was written to since.") from error
                raise

    def fetch(self, path: str, version: str, largest: int) -> bytes:
        """A file's content, in one request; it breaks off where the file is too large."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

        url = hf_hub_url(self.repo_id, path, repo_type="dataset", revision=version, endpoint=self.api.endpoint)
        headers = build_hf_headers(token=self.api.token)
        asked = {"headers": headers, "timeout": HUB_TIMEOUT, "follow_redirects": True, "max_retries": 2}
        with self.errors():
            try:
                with http_stream_backoff("GET", url, **asked) as response:
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

    def keep(self, content: bytes) -> None:
        """Remembers a small content by its git name."""
        if len(content) > LARGEST_KEPT:
            return
        if self._kept_bytes > MOST_KEPT:
            self.kept.clear()
            self._kept_bytes = 0
        self.kept[git_name(content)] = content
        self._kept_bytes += len(content)

    def errors(self) -> AbstractContextManager[None]:
        """Translate the client's errors into `StoreError`, or `AccessDenied` where the login has no right."""
        # Whoever denies access says how to get it: a visitor of the page can't log in by a command.
        task = HubTask("dataset", self.repo_id, writing=True, advise_login=False, failure=f"{self} can't be read or written")
        return hub_errors(task, StoreError, denied=AccessDenied)


class HubView(View):
    """A repository at one commit. Its files are listed once, where they are listed at all.

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
        """``(git name, bytes)`` of each file by its path."""
        from huggingface_hub.hf_api import RepoFile

        with self.store.errors():
            found = self.store.api.list_repo_tree(self.store.repo_id, recursive=True, revision=self.version, repo_type="dataset")
            tree = {entry.path: (entry.blob_id, entry.size) for entry in found if isinstance(entry, RepoFile)}
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
        kept = self.store.kept.get(name)
        if kept is None:
            kept = self.store.fetch(path, self.version, largest)
            self.store.keep(kept)
        return kept

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
        wanted = ((path, self._tree.get(path)) for path in paths)
        return [path for path, found in wanted if found and found[1] <= LARGEST_KEPT and found[0] not in self.store.kept]

    def _unpack(self) -> None:
        try:
            contents = [text.encode() for text in json.loads(self.store.fetch(self.store.PACK, self.version, MOST_KEPT))]
        except (BrokenFile, ValueError, TypeError, AttributeError, RecursionError):
            # A pack saves time, and is never needed.
            return
        for content in contents:
            self.store.keep(content)
        self.store.packed = frozenset(map(git_name, contents))

    def new_pack(self) -> bytes | None:
        """All small files that were read at this version, where the pack lacks many of them; it lists their contents."""
        if not self._listed:
            return None
        small = {name for path, (name, size) in self._tree.items() if is_path(path) and path.endswith(".json") and size <= LARGEST_KEPT}
        known = small & self.store.kept.keys()
        if len(known - self.store.packed) < WORTH_A_PACK:
            return None
        self.store.packed = frozenset(known)
        texts = [self.store.kept[name].decode("utf-8", "replace") for name in sorted(known)]
        return json.dumps(texts, ensure_ascii=False).encode("utf-8", "replace")


def user_of(token: str | bool | None = None) -> Submitter:
    """The user or organisation that a token belongs to, and the organisations for which they may write; of the login's own by default.

    Raises:
        AccessDenied: if there is none, or the Hub doesn't accept it.
        StoreError: if the Hub can't be asked.
    """
    from huggingface_hub import HfApi

    with hub_errors(HubTask("dataset", "", failure="The user can't be looked up on the Hub"), StoreError, denied=AccessDenied):
        said = HfApi(token=token).whoami()
        for_these = (each["name"] for each in said.get("orgs") or () if each.get("roleInOrg") in MAY_WRITE)
        return Submitter(said["name"], (said["name"], *for_these))


def git_name(content: bytes) -> str:
    """The hash by which git, and so a listing, names a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
