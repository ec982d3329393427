"""Pushes a repository to the Hub. The same content twice makes no second commit."""

from __future__ import annotations

import re
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mia_hub import __version__
from mia_hub.cli.publishing.repositories import PublishedRepository, PublishError
from mia_hub.system.hub import HubTask, Kind, hub_errors

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OWNER = re.compile(r"[A-Za-z0-9][\w-]*(\.[\w-]+)*")
STORES = {"MIA_HUB_REQUESTS": "requests", "MIA_HUB_RESULTS": "results"}


@dataclass(frozen=True)
class Pushed:
    """The state of a repository after a push: its address, its commit, and whether that commit is new."""

    url: str
    commit: str
    new: bool


def check_names(owner: str, *names: str) -> None:
    """Check an owner and the names of repositories.

    Raises:
        PublishError: for what can't be one on the Hub.
    """
    for what, value in (("owner", owner), *(("name", name) for name in names)):
        if not OWNER.fullmatch(value) or "--" in value or len(f"{owner}/{value}") > 96:
            raise PublishError(
                f"{value!r} is no {what} on the Hub. Letters, digits, '-', '_' and '.' are allowed, such as 'alice' for an owner (your "
                "user name or an organisation of yours) and 'mia_hub' for a name."
            )


def push(repository: PublishedRepository, *, private: bool = False) -> Pushed:
    """Create the repository if it doesn't exist, and update its files.

    Other files in it are left alone.

    Args:
        repository: what is published.
        private: makes a new repository private.

    Raises:
        PublishError: if nobody is logged in, the login may not write there, or the Hub can't be reached.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.utils.logging import set_verbosity_error

    # It warns of empty commits; here they are the usual case, and reported in a line of our own.
    set_verbosity_error()  # type: ignore[no-untyped-call]  # huggingface_hub leaves it untyped
    api, repo_id, kind = _api(), repository.repo_id, repository.kind
    with _publish_errors(kind, repo_id):
        api.whoami()
        repo_id = _present_id(api, kind, repo_id)
        url = api.create_repo(repo_id, repo_type=kind, private=private or None, exist_ok=True, space_sdk=repository.sdk)
        info = api.repo_info(repo_id, repo_type=kind)
        if private and not info.private:
            raise PublishError(f"{repo_id} exists and is public; make it private in its settings first, or give another --name.")
        files = [
            CommitOperationAdd(path, file if isinstance(file, bytes) else str(file)) for path, file in sorted(repository.files.items())
        ]
        with warnings.catch_warnings():
            # The client warns of data files in a Space; the demo's belong there.
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file", category=UserWarning)
            commit = api.create_commit(
                repo_id, repo_type=kind, operations=files, commit_message=f"mia_hub {__version__}", parent_commit=info.sha
            )
    return Pushed(str(url), commit.oid, commit.oid != info.sha)


def configure(space: str, *, hardware: str | None, variables: dict[str, str]) -> list[str]:
    """Set the hardware and the variables of a Space; values that are set already are left alone, since a change restarts it.

    Returns:
        One line per change.
    """
    api, changes = _api(), []
    with _publish_errors("space", space):
        present = {key: variable.value for key, variable in api.get_space_variables(space).items()} if variables else {}
        for key, value in variables.items():
            if present.get(key) != value:
                api.add_space_variable(space, key, value)
                changes.append(f"variable {key} = {value}")
        if hardware and hardware not in _hardware(api, space):
            api.request_space_hardware(space, hardware)  # type: ignore[arg-type]  # the Hub may have more than the client knows
            changes.append(f"hardware {hardware} requested")
    return changes


def _present_id(api: HfApi, kind: Kind, repo_id: str) -> str:
    """Return the name of a repository as the Hub spells it now; the given one if there is none, so that it can be created."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return str(api.repo_info(repo_id, repo_type=kind).id)
    except RepositoryNotFoundError:
        return repo_id


def _hardware(api: HfApi, space: str) -> tuple[str | None, str | None]:
    runtime = api.get_space_runtime(space)
    return runtime.hardware, runtime.requested_hardware


def make_stores(space: str, *, private: bool = False) -> dict[str, str]:
    """Create the data sets that store a Space's requests and results, unless they exist.

    Returns:
        Addresses by the variable that names them to the Space.
    """
    api, addresses = _api(), {}
    for variable, name in STORES.items():
        repo_id = f"{space}-{name}"
        with _publish_errors("dataset", repo_id):
            repo_id = _present_id(api, "dataset", repo_id)
            api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True)
        addresses[variable] = f"hub:{repo_id}"
    return addresses


def endpoint() -> str:
    """Return the Hub's address."""
    address: str = _api().endpoint
    return address


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(library_name="mia_hub", library_version=__version__)


def _publish_errors(kind: Kind, repo_id: str) -> AbstractContextManager[None]:
    return hub_errors(HubTask(kind, repo_id, writing=True, retry="Run the same command again later: it resumes"), PublishError)
