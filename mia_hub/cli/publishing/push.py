"""Puts a part on the Hub. The same content twice makes no second commit."""

from __future__ import annotations

import re
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mia_hub import __version__
from mia_hub.cli.publishing.parts import Part, PublishError
from mia_hub.system.hub import HubTask, Kind, hub_errors

OWNER = re.compile(r"[A-Za-z0-9][\w-]*(\.[\w-]+)*")
STORES = {"MIA_HUB_REQUESTS": "requests", "MIA_HUB_RESULTS": "results"}


@dataclass(frozen=True)
class Pushed:
    """What became of a part: its address, the commit that it is at, and whether that commit is new."""

    url: str
    commit: str
    new: bool


def check_names(owner: str, *names: str) -> None:
    """Refuses what can't be an owner or a name on the Hub.

    Raises:
        PublishError: with what was given.
    """
    for what, value in (("owner", owner), *(("name", name) for name in names)):
        if not OWNER.fullmatch(value) or "--" in value or len(f"{owner}/{value}") > 96:
            raise PublishError(
                f"{value!r} is no {what} on the Hub. It has letters, digits, '-', '_' and '.', such as 'alice' for an owner (your user "
                "name or an organisation of yours) and 'mia_hub' for a name."
            )


def push(part: Part, *, private: bool = False) -> Pushed:
    """Makes the repository if it isn't there, and brings its files to what the part says.

    Files that are there and belong to no part are left alone.

    Args:
        part: what is published.
        private: makes a new repository private.

    Raises:
        PublishError: if nobody is logged in, the login may not write there, or the Hub can't be reached.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.utils.logging import set_verbosity_error

    # It warns of commits that would be empty; here they are the usual case, and said in a line of our own.
    set_verbosity_error()
    api = _api()
    where = {"repo_id": part.repo_id, "repo_type": part.kind}
    with _publish_errors(part.kind, part.repo_id):
        api.whoami()
        url = api.create_repo(**where, private=private or None, exist_ok=True, space_sdk=part.sdk)
        info = api.repo_info(**where)
        if private and not info.private:
            raise PublishError(f"{part.repo_id} exists and is public; make it private in its settings first, or give another --name.")
        files = [CommitOperationAdd(path, kept if isinstance(kept, bytes) else str(kept)) for path, kept in sorted(part.files.items())]
        with warnings.catch_warnings():
            # The client is surprised by data files in a Space; the demo's belong there.
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file", category=UserWarning)
            done = api.create_commit(**where, operations=files, commit_message=f"mia_hub {__version__}", parent_commit=info.sha)
    return Pushed(str(url), done.oid, done.oid != info.sha)


def configure(space: str, *, hardware: str | None, variables: dict[str, str]) -> list[str]:
    """Sets what a Space runs on, and its variables; what is so already is left alone, since a change restarts it.

    Returns:
        One line per change.
    """
    api, said = _api(), []
    with _publish_errors("space", space):
        present = {key: variable.value for key, variable in api.get_space_variables(space).items()} if variables else {}
        for key, value in variables.items():
            if present.get(key) != value:
                api.add_space_variable(space, key, value)
                said.append(f"variable {key} = {value}")
        if hardware and hardware not in _hardware(api, space):
            api.request_space_hardware(space, hardware)
            said.append(f"hardware {hardware} asked for")
    return said


def _hardware(api, space: str) -> tuple:
    runtime = api.get_space_runtime(space)
    return runtime.hardware, runtime.requested_hardware


def make_stores(space: str, *, private: bool = False) -> dict[str, str]:
    """Makes the data sets in which a Space keeps requests and results, unless they are there.

    Returns:
        Addresses by the variable that names them to the Space.
    """
    api, made = _api(), {}
    for variable, name in STORES.items():
        repo_id = f"{space}-{name}"
        with _publish_errors("dataset", repo_id):
            api.create_repo(repo_id, repo_type="dataset", private=private or None, exist_ok=True)
        made[variable] = f"hub:{repo_id}"
    return made


def endpoint() -> str:
    """The Hub's address."""
    return _api().endpoint


def _api():
    from huggingface_hub import HfApi

    return HfApi(library_name="mia_hub", library_version=__version__)


def _publish_errors(kind: Kind, repo_id: str) -> AbstractContextManager[None]:
    return hub_errors(HubTask(kind, repo_id, writing=True, retry="Run the same command again later: it resumes"), PublishError)
