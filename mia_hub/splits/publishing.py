"""Push a written split to the Hub, in one commit."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mia_hub.errors import SplitError
from mia_hub.splits.record_beside import RECORD
from mia_hub.splits.writing import foreign_data, read_record
from mia_hub.system.hub import HUB_TIMEOUT, LOG_IN_TO_WRITE, HubTask, hub_errors

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo

# Files that the Hub itself makes in a new repository.
MADE_BY_THE_HUB = {".gitattributes", "README.md"}


@dataclass(frozen=True)
class PushTarget:
    """A data set repository that the present login may write to.

    Attributes:
        name: ``owner/name``, as the Hub spells it.
        private: whether a new repository is made private.
        exists: whether it exists, with an earlier version of a split.
    """

    name: str
    private: bool
    exists: bool


def find_target(name: str, *, private: bool = False) -> PushTarget:
    """Check everything that could refuse a push, before the split is made.

    Raises:
        SplitError: without a token, for somebody else's name, or for a repository that holds something other than a split.
    """
    name, info = writable_dataset(name, private=private)
    if info is None:
        return PushTarget(name, private, exists=False)
    files = {sibling.rfilename for sibling in info.siblings or []}
    if files - MADE_BY_THE_HUB:
        other = foreign_data(files) or ([] if RECORD in files else sorted(files - MADE_BY_THE_HUB))
        if other or not _is_written_split(name, info.sha):
            raise SplitError(
                f"The data set {name} exists and holds something other than a split ({(other or [RECORD])[0]!r}, …); choose another name."
            )
    return PushTarget(name, private, exists=True)


class WritableDataset(NamedTuple):
    """A data set that the present login may write to: its name as the Hub spells it, and what the Hub says of it; None if it is new."""

    name: str
    info: DatasetInfo | None


def writable_dataset(name: str, *, private: bool = False) -> WritableDataset:
    """Return a data set that the present login may write to; it need not exist yet.

    Raises:
        SplitError: without a token, for somebody else's name, or for a public data set where a private one is wanted.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented there, and not listed

    try:
        validate_repo_id(name)
    except HFValidationError:
        name_is_valid = False
    else:
        name_is_valid = name.count("/") == 1
    if not name_is_valid:
        raise SplitError(f"--push takes a name on the Hub of the form 'owner/name'; got {name!r:.120}.")
    if not get_token():
        raise SplitError(f"Pushing to {name} needs a token: {LOG_IN_TO_WRITE}.")
    with push_errors(name):
        user = HfApi().whoami()
        owners: list[str] = [user["name"], *(org["name"] for org in user.get("orgs", []))]
        try:
            info = HfApi().dataset_info(name, timeout=HUB_TIMEOUT)
        except RepositoryNotFoundError:
            info = None
        given_owner, _, rest = (name if info is None else info.id).partition("/")
        owner = next((owner for owner in owners if owner.lower() == given_owner.lower()), None)
        if owner is None:
            raise SplitError(f"You are logged in as {user['name']} and can't write to {name}; you can to {', '.join(owners)}.")
    if info is None:
        return WritableDataset(f"{owner}/{rest}", None)
    if private and not info.private:
        raise SplitError(f"The data set {name} exists and is public; make it private in its settings, or choose another name.")
    return WritableDataset(f"{owner}/{rest}", info)


def _is_written_split(name: str, commit: str | None) -> bool:
    """Whether a data set holds the record of a split that mia_hub wrote."""
    from huggingface_hub import hf_hub_download

    with push_errors(name):
        path = hf_hub_download(name, RECORD, revision=commit, repo_type="dataset")
    try:
        read_record(Path(path))
    except SplitError:
        return False
    return True


def push_folder(folder: str | Path, target: PushTarget) -> str:
    """Publish a folder that `mia_hub.splits.writing.write_split` wrote; return the commit.

    Raises:
        SplitError: if the Hub refuses the push or can't be reached.
    """
    from huggingface_hub import HfApi

    with push_errors(target.name):
        api = HfApi()
        if not target.exists:
            api.create_repo(target.name, repo_type="dataset", private=target.private, exist_ok=True)
        # Files of an earlier version would be read as part of this one.
        commit = api.upload_folder(
            repo_id=target.name, folder_path=folder, repo_type="dataset", commit_message="Add members and non-members",
            delete_patterns=["data/member-*.parquet", "data/nonmember-*.parquet"],
        )  # fmt: skip
    return commit.oid


def push_errors(name: str) -> AbstractContextManager[None]:
    """Translate the errors of writing a data set on the Hub into `SplitError`."""
    failure = f"The data set {name} could not be pushed"
    return hub_errors(HubTask("dataset", name, writing=True, failure=failure, retry="Nothing was published; try again"), SplitError)
