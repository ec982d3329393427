"""A small stand-in for the Hugging Face Hub on 127.0.0.1, over real HTTP, so that tests run the real client and no network.

It speaks as much of the Hub's protocol as huggingface_hub, diffusers, datasets and evaluate need to look up, download and push
models and datasets. Everything is in memory. The token ``hf_<user>`` makes the caller that user.

    hub = LoopbackHub().start()                                 # then HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET=1
    commit = hub.add_repo("model", "alice/tiny", {"README.md": "hello"})
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from support.loopback_jobs import Jobs

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
LFS_EXTENSIONS = {".safetensors", ".parquet", ".arrow", ".bin", ".pt", ".ckpt", ".zip", ".npz", ".png", ".jpg", ".jpeg"}
# Entries of a listing, and discussions, that one answer holds.
PAGE = 1000
DISCUSSIONS = 10
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n"


class File(NamedTuple):
    """One file in a commit: ``sha256`` finds its content, ``oid`` is git's name for it."""

    sha256: str
    oid: str
    size: int
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


class Commit(NamedTuple):
    tree: dict[str, File]
    title: str
    date: str
    parent: str | None


@dataclass
class Repo:
    kind: str
    id: str
    private: bool = False
    gated: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    created: str = field(default_factory=lambda: _now())
    discussions: list[dict] = field(default_factory=list)
    takes_discussions: bool = True
    variables: dict[str, str] = field(default_factory=dict)
    hardware: str | None = None

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    def resolve(self, revision: str) -> str | None:
        """The commit hash of a branch, of a pull request's ref, or of itself."""
        return self.refs.get(revision) or (revision if revision in self.commits else None)


class Logged(NamedTuple):
    """One request as the Hub saw it."""

    method: str
    path: str
    query: str
    range: str | None


class _Hold(NamedTuple):
    requested: threading.Event
    released: threading.Event


class HubError(Exception):
    """An answer other than success, in the form from which the client makes its own error classes."""

    def __init__(self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})

    def response(self) -> Response:
        headers = self.headers | ({"X-Error-Code": self.code, "X-Error-Message": self.message} if self.code else {})
        return JSONResponse({"error": self.message}, self.status, headers=headers)


class LoopbackHub:
    """The Hub's content, and the server that shows it.

    Attributes:
        url: address for HF_ENDPOINT, once started.
        log: every request, oldest first.
        jobs: sent to it, see `loopback_jobs`.
        organisations: of each user, with their role in it ("admin", "write", "contributor" or "read").

    A repository is found by its name in any case, and by the names that it had before `rename_repo`. Either is answered by a redirect to
    its present name, as by the Hub.
    """

    def __init__(self):
        self.url = ""
        self.log: list[Logged] = []
        self.jobs = Jobs()
        self.organisations: dict[str, dict[str, str]] = {}
        self._repos: dict[tuple[str, str], Repo] = {}
        self._renamed: dict[tuple[str, str], str] = {}
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.RLock()
        self._broken: int | str | None = None
        self._held: dict[str, _Hold] = {}
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> LoopbackHub:
        """Serve on a free port, in a thread. Whoever connects before the server is up waits in the port's queue."""
        # Accepted connections take the protocol from here; asyncio turns Nagle's delay of 40 ms off only where it is named.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        methods = ["GET", "HEAD", "POST", "PUT", "DELETE"]
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        # On a busy machine a client may come back after uvicorn's 5 seconds, just as the server closes the connection.
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_keep_alive=3600))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(5)

    # Content, straight from Python

    def add_repo(self, kind: str, repo_id: str, files: Path | Mapping = (), *, private: bool = False, gated: bool = False) -> str:
        """Makes a repository of kind "model", "dataset" or "space".

        Args:
            files: a folder, or a mapping from paths to bytes, text, or a JSON-like value.
            private: seen by its owner only.
            gated: everyone sees what it holds; only its owner may download.

        Returns:
            The hash of its first commit.
        """
        with self._lock:
            if (kind, repo_id) in self._repos:
                raise ValueError(f"the loopback hub already has the {kind} {repo_id}")
            self._repos[kind, repo_id] = Repo(kind, repo_id, private=private, gated=gated)
        return self.commit(kind, repo_id, files, title="initial commit")

    def commit(self, kind: str, repo_id: str, files: Path | Mapping, *, branch: str = "main", title: str = "change") -> str:
        """Adds or replaces files on a branch, which is made if need be; returns the commit hash."""
        repo = self._repos[kind, repo_id]
        with self._lock:
            head = repo.refs.get(branch) or repo.refs.get("main")
            tree = dict(repo.commits[head].tree) if head else {}
            for path, content in _contents(files).items():
                tree[path] = self._store(content, Path(path).suffix in LFS_EXTENSIONS)
            return self._add_commit(repo, branch, tree, title, head)

    def delete_repo(self, kind: str, repo_id: str) -> None:
        del self._repos[kind, repo_id]

    def rename_repo(self, kind: str, repo_id: str, new_id: str) -> None:
        """Gives a repository another owner or name; its earlier name leads to it."""
        with self._lock:
            if (kind, new_id) in self._repos:
                raise ValueError(f"the loopback hub already has the {kind} {new_id}")
            repo = self._repos.pop((kind, repo_id))
            self._repos[kind, new_id], repo.id = repo, new_id
            self._renamed[kind, repo_id.lower()] = new_id

    def files_fetched(self, repo_id: str) -> list[str]:
        """Paths of a repository's files whose content was requested (HEAD excluded), in order."""
        pages = f"/{repo_id}/resolve/"
        paths = [entry.path for entry in self.log if entry.method == "GET" and pages in entry.path]
        return [path.split(pages)[1].split("/", 1)[1] for path in paths]

    @contextmanager
    def broken(self, how: int | str) -> Iterator[None]:
        """Answers everything with this status code, or with this text as a page of HTML."""
        self._broken = how
        try:
            yield
        finally:
            self._broken = None

    @contextmanager
    def held(self, repo_id: str) -> Iterator[threading.Event]:
        """Keep all who request something of a repository waiting; yields the event that somebody does."""
        hold = self._held[repo_id] = _Hold(threading.Event(), threading.Event())
        try:
            yield hold.requested
        finally:
            del self._held[repo_id]
            hold.released.set()

    def _store(self, content: bytes, lfs: bool) -> File:
        sha256 = hashlib.sha256(content).hexdigest()
        self._blobs[sha256] = content
        in_git = LFS_POINTER % (sha256.encode(), len(content)) if lfs else content
        oid = hashlib.sha1(b"blob %d\0" % len(in_git) + in_git).hexdigest()
        return File(sha256, oid, len(content), lfs)

    def _add_commit(self, repo: Repo, ref: str, tree: dict[str, File], title: str, parent: str | None) -> str:
        oid = hashlib.sha1(json.dumps([repo.id, tree, title, parent, time.time_ns()], sort_keys=True).encode()).hexdigest()
        repo.commits[oid] = Commit(tree, title, _now(), parent)
        repo.refs[ref] = oid
        return oid

    # HTTP

    async def _answer(self, request: Request) -> Response:
        # The raw path keeps a quoted revision such as refs%2Fpr%2F1 in one piece.
        raw = request.scope["raw_path"].decode().split("?")[0]
        parts = [unquote(part) for part in raw.strip("/").split("/")]
        self.log.append(Logged(request.method, unquote(raw), request.url.query, request.headers.get("range")))
        for hold in [hold for repo_id, hold in self._held.items() if f"/{repo_id}" in unquote(raw)]:
            hold.requested.set()
            await asyncio.to_thread(hold.released.wait)
        if isinstance(self._broken, int):
            return JSONResponse({"error": "broken on purpose"}, self._broken)
        if self._broken is not None:
            return HTMLResponse(self._broken)
        try:
            return await self._route(request, parts)
        except HubError as error:
            return error.response()

    async def _route(self, request: Request, parts: list[str]) -> Response:
        if parts[0] == "api":
            return await self._api(request, parts[1:])
        if parts[0] == "_lfs":
            return await self._lfs_object(request, parts[1])
        if parts[-4:] == ["info", "lfs", "objects", "batch"]:
            return await self._lfs_batch(request)
        kind, rest = (KINDS[parts[0]], parts[1:]) if parts[0] in KINDS else ("model", parts)
        if len(rest) >= 5 and rest[2] == "resolve":
            return self._resolve(request, self._find(request, kind, "/".join(rest[:2])), rest[3], "/".join(rest[4:]))
        raise HubError(404, None, f"The loopback hub has no page {request.url.path}")

    async def _api(self, request: Request, parts: list[str]) -> Response:
        if parts[0] == "whoami-v2":
            user = self._require_user(request)
            token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
            orgs = [{"type": "org", "name": org, "roleInOrg": role} for org, role in self.organisations.get(user, {}).items()]
            return JSONResponse({"type": "user", "id": user, "name": user, "fullname": user, "avatarUrl": "", "orgs": orgs, "auth": token})
        if parts[0] == "validate-yaml":
            return _validated((await request.json())["content"])
        if parts[0] == "jobs":
            return await self.jobs.answer(request, parts[1:], self._require_user(request))
        if parts == ["repos", "create"]:
            return await self._create_repo(request)
        if parts[0] not in KINDS or len(parts) < 3:
            raise HubError(404, None, f"The loopback hub has no API {request.url.path}")
        repo = self._find(request, KINDS[parts[0]], "/".join(parts[1:3]))
        action, *rest = parts[3:] or ["revision"]
        if action == "discussions":
            return self._merge(request, repo, f"refs/pr/{rest[0]}") if rest[1:] == ["merge"] else self._discussions(request, repo)
        revision = rest[0] if rest else "main"
        commit = self._commit_of(repo, revision)
        if action == "revision":
            return JSONResponse(self._info(repo, commit, with_blobs="blobs" in request.query_params))
        if action == "refs":
            return JSONResponse(_refs(repo))
        if action == "tree":
            recursive = request.query_params.get("recursive", "").lower() == "true"
            return self._page_of(request, _tree(repo.commits[commit].tree, "/".join(rest[1:]), recursive))
        if action == "paths-info":
            return JSONResponse(_paths_info(repo.commits[commit].tree, await _posted_paths(request)))
        if action == "preupload":
            self._require_right(request, repo)
            return JSONResponse(_preupload(repo.commits[commit].tree, (await request.json())["files"]))
        if action == "commit":
            return await self._push(request, repo, revision)
        if repo.kind == "space" and action in ("variables", "runtime", "hardware"):
            return await self._space_setting(request, repo, action)
        raise HubError(404, None, f"The loopback hub has no API {request.url.path}")

    def _page_of(self, request: Request, entries: list[dict]) -> Response:
        """One page of a listing, and in its header the address of the next, as the Hub gives them."""
        start = int(request.query_params.get("cursor", 0))
        links = {}
        if start + PAGE < len(entries):
            following = request.url.include_query_params(cursor=start + PAGE)
            links["Link"] = f'<{self.url}{following.path}?{following.query}>; rel="next"'
        return JSONResponse(entries[start : start + PAGE], headers=links)

    def _merge(self, request: Request, repo: Repo, ref: str) -> Response:
        """Brings a pull request's changes to the main branch."""
        if self._require_user(request) != repo.owner:
            raise HubError(403, None, "You don't have write access to this repository")
        with self._lock:
            proposed, head = repo.commits[self._commit_of(repo, ref)], repo.refs["main"]
            before = repo.commits[proposed.parent].tree
            changed = {path: file for path, file in proposed.tree.items() if before.get(path) != file}
            unchanged = {path: file for path, file in repo.commits[head].tree.items() if path in proposed.tree or path not in before}
            self._add_commit(repo, "main", unchanged | changed, f"{proposed.title} (#{ref.rpartition('/')[2]})", head)
        return JSONResponse({"success": True})

    def _find(self, request: Request, kind: str, repo_id: str) -> Repo:
        present = self._present_name(kind, repo_id)
        repo = self._repos.get((kind, present))
        if repo is None or (repo.private and _user(request) != repo.owner):
            # As the Hub does, which doesn't tell a stranger whether a repository exists.
            raise HubError(401 if _user(request) is None else 404, "RepoNotFound", "Repository not found")
        if present != repo_id:
            path = request.scope["raw_path"].decode().split("?")[0].replace(f"/{repo_id}", f"/{present}", 1)
            query = f"?{request.url.query}" if request.url.query else ""
            raise HubError(307, None, f"Temporary Redirect. Redirecting to {path}", {"Location": path + query})
        return repo

    def _present_name(self, kind: str, repo_id: str) -> str:
        """The name that a repository has now, by any spelling of it or of an earlier one; the given one if there is none."""
        name = repo_id
        while (kind, name) not in self._repos:
            recased = [other for known, other in self._repos if known == kind and other.lower() == name.lower()]
            if recased:
                return recased[0]
            if (kind, name.lower()) not in self._renamed:
                return repo_id
            name = self._renamed[kind, name.lower()]
        return name

    def _commit_of(self, repo: Repo, revision: str) -> str:
        commit = repo.resolve(revision)
        if commit is None:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _require_user(self, request: Request) -> str:
        user = _user(request)
        if user is None:
            raise HubError(401, None, "Invalid username or password.")
        return user

    def _info(self, repo: Repo, commit: str, with_blobs: bool) -> dict:
        tree = repo.commits[commit].tree
        card = self._card(tree)
        info = {
            "_id": hashlib.md5(repo.id.encode()).hexdigest()[:24],
            "id": repo.id,
            "author": repo.owner,
            "sha": commit,
            "private": repo.private,
            "gated": "manual" if repo.gated else False,
            "disabled": False,
            "lastModified": repo.commits[commit].date,
            "createdAt": repo.created,
            "downloads": 0,
            "likes": 0,
            "tags": list(card.get("tags") or []),
            "cardData": card,
            "siblings": [_sibling(path, file, with_blobs) for path, file in sorted(tree.items())],
        }
        if repo.kind == "model":
            info |= {"modelId": repo.id, "pipeline_tag": card.get("pipeline_tag"), "library_name": card.get("library_name")}
        return info

    def _card(self, tree: dict[str, File]) -> dict:
        if "README.md" not in tree:
            return {}
        _, *front = self._blobs[tree["README.md"].sha256].decode(errors="replace").split("---\n", 2)
        try:
            card = yaml.safe_load(front[0]) if len(front) == 2 else {}
        except yaml.YAMLError:
            card = {}
        return card if isinstance(card, dict) else {}

    def _resolve(self, request: Request, repo: Repo, revision: str, path: str) -> Response:
        commit = self._commit_of(repo, revision)
        if repo.gated and _user(request) != repo.owner:
            raise HubError(401 if _user(request) is None else 403, "GatedRepo", f"Access to {repo.kind} {repo.id} is restricted.")
        file = repo.commits[commit].tree.get(path)
        if file is None:
            raise HubError(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.etag}"'}
        if file.lfs:
            headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.etag}"'}
        # The Hub redirects to a CDN for LFS files; its clients take a direct answer as well.
        return _content(request, self._blobs[file.sha256], headers)

    # Pushing

    async def _create_repo(self, request: Request) -> Response:
        user, body = self._require_user(request), await request.json()
        kind, repo_id = body.get("type") or "model", f"{body.get('organization') or user}/{body['name']}"
        if repo_id.split("/")[0].lower() != user.lower():
            raise HubError(403, None, f"You don't have the rights to create a {kind} under the namespace {repo_id.split('/')[0]!r}")
        repo_id = f"{user}/{repo_id.split('/')[1]}"
        present = self._present_name(kind, repo_id)
        url = self._page(kind, present)
        if (kind, present) in self._repos:
            return JSONResponse({"error": "You already created this repo", "url": url}, 409)
        self.add_repo(kind, repo_id, {".gitattributes": ""}, private=bool(body.get("private") or body.get("visibility") == "private"))
        return JSONResponse({"url": url, "name": repo_id, "id": repo_id})

    def _discussions(self, request: Request, repo: Repo) -> Response:
        """One page of them, the newest first."""
        if not repo.takes_discussions:
            raise HubError(403, "DisabledDiscussions", "Discussions are disabled for this repo")
        query = request.query_params
        kind = {"pull_request": (True,), "discussion": (False,)}.get(query.get("type"), (True, False))
        states = {"open": ("open", "draft"), "closed": ("closed", "merged")}.get(query.get("status"), ("open", "draft", "closed", "merged"))
        matching = [each for each in reversed(repo.discussions) if each["isPullRequest"] in kind and each["status"] in states]
        matching = [each for each in matching if query.get("author") in (None, each["author"]["name"])]
        start = int(query.get("p", 0)) * DISCUSSIONS
        return JSONResponse({"discussions": matching[start : start + DISCUSSIONS], "count": len(matching), "start": start})

    def add_discussion(self, repo: Repo, author: str, title: str, description: str = "", *, pull_request: bool) -> int:
        """Opens a discussion or a pull request; they share their numbers."""
        number = len(repo.discussions) + 1
        repo.discussions.append(
            {
                "num": number,
                "title": title,
                "description": description,
                "author": {"name": author},
                "createdAt": _now(),
                "status": "open",
                "repo": {"name": repo.id, "type": repo.kind},
                "isPullRequest": pull_request,
            }
        )
        return number

    async def _space_setting(self, request: Request, repo: Repo, what: str) -> Response:
        if self._require_user(request) != repo.owner:
            raise HubError(403, None, "You don't have write access to this Space")
        if what == "variables":
            if request.method == "POST":
                body = await request.json()
                repo.variables[body["key"]] = body["value"]
            return JSONResponse({key: {"key": key, "value": value} for key, value in repo.variables.items()})
        if request.method == "POST":
            repo.hardware = (await request.json())["flavor"]
        return JSONResponse({"stage": "BUILDING", "hardware": {"current": None, "requested": repo.hardware}})

    def _require_right(self, request: Request, repo: Repo) -> tuple[str, bool]:
        """Who pushes, and whether it is a pull request, which everyone may make."""
        user, is_pull_request = self._require_user(request), request.query_params.get("create_pr") in ("1", "true", "True")
        if user != repo.owner and not is_pull_request:
            raise HubError(403, None, "You don't have write access to this repository")
        return user, is_pull_request

    async def _push(self, request: Request, repo: Repo, revision: str) -> Response:
        user, is_pull_request = self._require_right(request, repo)
        lines = [json.loads(line) for line in (await request.body()).decode().splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if is_pull_request and not repo.takes_discussions:
            raise HubError(403, "DisabledDiscussions", "Pull requests are disabled for this repo")
        with self._lock:
            head = self._commit_of(repo, revision)
            if header.get("parentCommit") not in (None, head):
                raise HubError(412, None, "A commit has happened since. Please refresh and try again.")
            tree = dict(repo.commits[head].tree)
            for line in lines:
                self._apply(tree, line["key"], line["value"])
            if is_pull_request:
                number = self.add_discussion(repo, user, header["summary"], header.get("description", ""), pull_request=True)
            commit = self._add_commit(repo, f"refs/pr/{number}" if is_pull_request else revision, tree, header["summary"], head)
        page = self._page(repo.kind, repo.id)
        answer = {"success": True, "commitOid": commit, "commitUrl": f"{page}/commit/{commit}", "hookOutput": ""}
        return JSONResponse(answer | ({"pullRequestUrl": f"{page}/discussions/{number}"} if is_pull_request else {}))

    def _apply(self, tree: dict[str, File], key: str, value: dict) -> None:
        """One line of a commit, applied to the tree in place."""
        if key == "file":
            content = base64.b64decode(value["content"]) if value.get("encoding") == "base64" else value["content"].encode()
            tree[value["path"]] = self._store(content, lfs=False)
        elif key == "lfsFile":
            if value["oid"] not in self._blobs:
                raise HubError(400, None, f"LFS pointer to a missing object: {value['path']}")
            tree[value["path"]] = self._store(self._blobs[value["oid"]], lfs=True)
        elif key == "deletedFile":
            tree.pop(value["path"], None)
        elif key == "deletedFolder":
            for path in [path for path in tree if path.startswith(value["path"].rstrip("/") + "/")]:
                del tree[path]

    async def _lfs_batch(self, request: Request) -> Response:
        objects = []
        for wanted in (await request.json())["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self._blobs:
                entry["actions"] = {"upload": {"href": f"{self.url}/_lfs/{wanted['oid']}"}}
            objects.append(entry)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def _lfs_object(self, request: Request, sha256: str) -> Response:
        if request.method != "PUT":
            raise HubError(404, None, "The loopback hub serves files by their names alone")
        content = await request.body()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise HubError(400, None, "the content doesn't have the announced hash")
        self._blobs[sha256] = content
        return Response()

    def _page(self, kind: str, repo_id: str) -> str:
        return f"{self.url}/{'' if kind == 'model' else kind + 's/'}{repo_id}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _validated(card: str) -> Response:
    """The Hub's answer about a card's metadata."""
    front = card.split("---\n", 2)[1:2] if card.startswith("---\n") else []
    try:
        metadata = yaml.safe_load(front[0]) if front else {}
        wrong = None if isinstance(metadata or {}, dict) else "the metadata is no mapping"
    except yaml.YAMLError as error:
        wrong = str(error)
    return JSONResponse({"errors": [{"message": wrong}] if wrong else [], "warnings": []}, 400 if wrong else 200)


def _user(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.removeprefix("hf_") if scheme.lower() == "bearer" and token.startswith("hf_") else None


def _contents(files: Path | Mapping) -> dict[str, bytes]:
    if isinstance(files, Path):
        return {path.relative_to(files).as_posix(): path.read_bytes() for path in sorted(files.rglob("*")) if path.is_file()}
    return {path: _as_bytes(value) for path, value in dict(files).items()}


def _as_bytes(value) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _lfs_entry(file: File) -> dict:
    return {"oid": file.sha256, "sha256": file.sha256, "size": file.size, "pointerSize": 134}


def _sibling(path: str, file: File, with_blobs: bool) -> dict:
    if not with_blobs:
        return {"rfilename": path}
    return {"rfilename": path, "size": file.size, "blobId": file.oid} | ({"lfs": _lfs_entry(file)} if file.lfs else {})


def _entry(path: str, file: File) -> dict:
    return {"type": "file", "oid": file.oid, "size": file.size, "path": path} | ({"lfs": _lfs_entry(file)} if file.lfs else {})


def _folder(path: str) -> dict:
    return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}


def _tree(tree: dict[str, File], under: str, recursive: bool) -> list[dict]:
    """Folders, then files, below a folder ("" for the root)."""
    prefix = f"{under}/" if under else ""
    below = {path: file for path, file in sorted(tree.items()) if path.startswith(prefix)}
    if under and not below:
        raise HubError(404, "EntryNotFound", f"{under} does not exist")
    folders = {parent.as_posix() for path in below for parent in Path(path).parents} - {".", under}
    folders = {folder for folder in folders if folder.startswith(prefix)}
    paths = list(below)
    if not recursive:
        folders = {folder for folder in folders if "/" not in folder[len(prefix) :]}
        paths = [path for path in paths if "/" not in path[len(prefix) :]]
    return [_folder(folder) for folder in sorted(folders)] + [_entry(path, below[path]) for path in paths]


def _paths_info(tree: dict[str, File], paths: list[str]) -> list[dict]:
    entries = []
    for path in (path.strip("/") for path in paths):
        if path in tree:
            entries.append(_entry(path, tree[path]))
        elif any(other.startswith(f"{path}/") for other in tree):
            entries.append(_folder(path))
    return entries


async def _posted_paths(request: Request) -> list[str]:
    if "json" in request.headers.get("content-type", ""):
        return (await request.json())["paths"]
    return parse_qs((await request.body()).decode()).get("paths", [])


def _preupload(tree: dict[str, File], files: list[dict]) -> dict:
    answers = []
    for file in files:
        mode = "lfs" if Path(file["path"]).suffix in LFS_EXTENSIONS else "regular"
        present = tree[file["path"]].etag if file["path"] in tree else None
        answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": present})
    return {"files": answers}


def _refs(repo: Repo) -> dict:
    branches = [{"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": oid} for ref, oid in repo.refs.items() if "/" not in ref]
    requests = [{"name": ref, "ref": ref, "targetCommit": oid} for ref, oid in repo.refs.items() if ref.startswith("refs/pr/")]
    return {"branches": branches, "tags": [], "converts": [], "pullRequests": requests}


def _content(request: Request, content: bytes, headers: dict[str, str]) -> Response:
    """A file, or the requested range of it."""
    headers, binary = headers | {"Accept-Ranges": "bytes"}, "application/octet-stream"
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(len(content))}, media_type=binary)
    span = request.headers.get("range", "")
    if not span.startswith("bytes="):
        return Response(content, headers=headers, media_type=binary)
    first, last = span.removeprefix("bytes=").split("-")
    start = int(first) if first else max(0, len(content) - int(last))
    stop = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= len(content):
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(content)}"})
    headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
    return Response(content[start:stop], 206, headers=headers, media_type=binary)
