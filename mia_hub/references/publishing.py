"""References on the Hub: a data set with the two files of a reference and a card. Nothing in it is an image."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mia_hub.errors import SplitError
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.p_values import CriticalScore
from mia_hub.references.card import card_text
from mia_hub.references.kept import BUILT, FETCHED, KeptReferences
from mia_hub.references.record import ReferenceRecord, SourceRecord
from mia_hub.references.storing import LARGEST_NUMBERS, LARGEST_RECORD, NUMBERS, RECORD, Arrays, read_files, record_text
from mia_hub.splits.hub_rows import dataset_errors
from mia_hub.splits.publishing import MADE_BY_THE_HUB, push_errors, writable_dataset
from mia_hub.system.files import write_text
from mia_hub.system.hub import HUB_TIMEOUT, is_temporary

# Sources that others can open, too.
HUB_SOURCE = re.compile(r"benchmark:[\w.-]+|[\w][\w.-]*/[\w][\w.-]*(:[\w.-]+)?")


def push_reference(
    name: str, record: ReferenceRecord, numbers: bytes, *, power: Estimate | None, critical: CriticalScore | None, private: bool = False
) -> str:
    """Publish a reference in one commit, and return the commit.

    Args:
        name: ``owner/name``.
        record, numbers: as `mia_hub.Reference.encoded` returns them.
        power: share of known members that get evidence, or None.
        critical: score above which an image gets evidence, or None.
        private: makes a new repository private.

    Raises:
        SplitError: if the login may not write there, the repository holds something else, or the model is not on the Hub.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    check_publishable(record.model)
    record = record.model_copy(update={"source": public_source(record.source), "members": public_source(record.members)})
    name, info = writable_dataset(name, private=private)
    others = sorted({file.rfilename for file in (info.siblings if info else None) or []} - MADE_BY_THE_HUB - {RECORD, NUMBERS})
    if others:
        raise SplitError(f"The data set {name} exists and holds something other than a reference ({others[0]!r}, …); choose another name.")
    files = {RECORD: record_text(record).encode(), NUMBERS: numbers, "README.md": card_text(name, record, power, critical).encode()}
    with push_errors(name):
        api = HfApi()
        if info is None:
            api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        commit = api.create_commit(name, operations, repo_type="dataset", commit_message=f"Reference of {record.model['id']}")
    return commit.oid


def check_publishable(model: Mapping[str, Any]) -> None:
    """Refuse to publish the reference of a model that only exists on this machine: nobody could use it, and its path is private.

    Args:
        model: as `mia_hub.attacks.identity.recorded_model` gives it, with what the reference's attack compares it with.

    Raises:
        SplitError: for such a model, base or reference model.
    """
    others = [("reference model", each) for each in model.get("reference_models", ())]
    for what, each in (("model", model), ("base", model.get("base")), *others):
        revisions = [] if each is None else str(each.get("revision") or "sha256:").split(" + ")
        if each is not None and each["id"] != "demo" and any(revision.startswith("sha256:") for revision in revisions):
            raise SplitError(
                f"The {what} {Path(each['id']).name} is on this machine alone, at least in part, so that nobody else could use the "
                "reference. Publish it on the Hub, and build a reference with that."
            )


def public_source(source: SourceRecord | None) -> SourceRecord | None:
    """Return a source without what is of this machine: the path of a folder or a file."""
    if source is None or source.spelling == "demo" or (source.revision and HUB_SOURCE.fullmatch(source.spelling)):
        return source
    return source.model_copy(update={"spelling": ""})


@dataclass(frozen=True, eq=False)
class FetchedReference:
    """A published reference on this machine, read and checked.

    Attributes:
        folder: where it lies.
        record, arrays: what `mia_hub.references.storing.read_files` returns.
    """

    folder: Path
    record: ReferenceRecord
    arrays: Arrays


def fetch_reference(name: str, revision: str | None = None, *, keep: bool = True, for_a_stranger: bool = False) -> FetchedReference:
    """Fetch a published reference, check it, and keep it on this machine.

    Without a network, it is the kept copy.

    Args:
        name: ``owner/name``.
        revision: branch, tag or commit.
        keep: whether it answers for its model on this machine from then on.
        for_a_stranger: whether it is fetched without a login, so that nothing private is shown.

    Raises:
        SplitError: if it can't be fetched, or anything in it is wrong.
    """
    from huggingface_hub import HfApi, hf_hub_download

    store, token = KeptReferences.of_this_machine(), False if for_a_stranger else None
    with dataset_errors(name, revision):
        try:
            info = HfApi(token=token).dataset_info(name, revision=revision, timeout=HUB_TIMEOUT, files_metadata=True)
        except Exception as error:
            earlier = None if for_a_stranger else fetched_before(store, name, revision)
            if earlier is None or not (is_temporary(error) or _is_offline(error)):
                raise
            return FetchedReference(earlier, *read_files(earlier))
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        for file, largest in ((RECORD, LARGEST_RECORD), (NUMBERS, LARGEST_NUMBERS)):
            if file not in sizes:
                raise SplitError(f"The data set {name} is no reference: it has no {file}. Check the name.")
            if sizes[file] > largest:
                raise SplitError(f"{file} of {name} has {sizes[file]:,} bytes; at most {largest:,} are read.")
        paths = [Path(hf_hub_download(name, file, revision=info.sha, repo_type="dataset", token=token)) for file in (RECORD, NUMBERS)]
    record, arrays = read_files(paths[0].parent)
    if not keep:
        return FetchedReference(paths[0].parent, record, arrays)
    folder = store.keep(f"{name.replace('/', '--')}-{(info.sha or '')[:12]}", record, paths[1].read_bytes(), BUILT)
    write_text(folder / FETCHED, json.dumps({"name": name, "commit": info.sha, "revision": revision}) + "\n")
    return FetchedReference(folder, record, arrays)


def fetched_before(store: KeptReferences, name: str, revision: str | None) -> Path | None:
    """Return the kept copy of a published reference; None if there is none."""
    for reference in store.all():
        path = reference.folder / FETCHED
        with suppress(OSError, ValueError, AttributeError):  # not fetched, or damaged
            fetched = json.loads(path.read_text(encoding="utf-8"))
            if fetched.get("name") == name and revision in (None, fetched.get("commit"), fetched.get("revision")):
                return reference.folder
    return None


def _is_offline(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled)
