"""A data set on the Hub at one commit: its files and its splits, also as they were written down here when the Hub can't be reached.

The Hub's cache holds files, and not which files there are. So whatever is learned of a commit is stored beside it, in ``mia_hub/datasets``:
without a network, a split that was used is read from the cache, and is never half of what it was.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mia_hub.errors import SplitError
from mia_hub.system.files import write_text
from mia_hub.system.hub import HUB_TIMEOUT, is_unreachable, why_unreachable
from mia_hub.system.spellings import present_spelling, remember_spelling

COMMIT = re.compile(r"[0-9a-f]{40}")
SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=[.-])")
DEFAULT_REVISION = "main"
MOST_NAMED = 5


@dataclass(frozen=True)
class Configuration:
    """A configuration, as the data set's own metadata describes it.

    Attributes:
        splits: the files of each split.
        features: types of the columns in the card, as `datasets.Features.to_dict` returns them; None for none.
    """

    splits: dict[str, list[str]]
    features: dict[str, Any] | None


@dataclass
class Listing:
    """A data set at one commit.

    Attributes:
        name: ``owner/name``, as the Hub spells it.
        commit: hash.
        sizes: bytes of every file, by path.
        license: in its card, or None.
        configurations: those that were read, by name; "" for the default.
        tables: paths of the Arrow files that `datasets` made of other formats, by `table_key`.
        unreachable: the error by which the Hub couldn't be reached; None if it could.
    """

    name: str
    commit: str
    sizes: dict[str, int]
    license: str | None = None
    configurations: dict[str, Configuration] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)
    unreachable: BaseException | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what is written down, as plain JSON-ready values."""
        configurations = {name: asdict(each) for name, each in self.configurations.items()}
        known = {"name": self.name, "commit": self.commit, "sizes": self.sizes, "license": self.license}
        return known | {"configurations": configurations, "tables": self.tables}

    def save(self) -> None:
        """Write down what is known. It is a convenience: where nothing can be written, nothing is."""
        stored, values = _stored(self.name, self.commit), self.to_dict()
        if stored is not None:
            # Another run may have read another configuration.
            for part in ("configurations", "tables"):
                values[part] = stored.to_dict()[part] | values[part]
            if values == stored.to_dict():
                return
        _write(_folder(self.name) / f"{self.commit}.json", json.dumps(values))

    def cached(self, path: str) -> str | None:
        """Return the place of a file in the Hub's cache; None if it is not there whole."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.name, path, revision=self.commit, repo_type="dataset")
        return found if isinstance(found, str) else None

    def snapshot(self, paths: Sequence[str]) -> Path:
        """Return the folder in the Hub's cache that holds these files, when the Hub can't be reached.

        Raises:
            SplitError: if any is missing; it names the command that fetches them.
        """
        places = {path: self.cached(path) for path in paths}
        if missing := [path for path, place in places.items() if place is None]:
            named = ", ".join(missing[:MOST_NAMED]) + (", …" if len(missing) > MOST_NAMED else "")
            count = "1 file" if len(missing) == 1 else f"{len(missing):,} files"
            reason = "" if self.unreachable is None else f" ({why_unreachable(self.unreachable)})"
            raise SplitError(
                f"The Hub can't be reached{reason}, and the local cache lacks {count} of the data set {self.name} at commit "
                f"{self.commit}: {named}. It holds files that were fetched whole, and no parts of files. Connect to the network and run "
                f"'hf download {self.name} --repo-type dataset --revision {self.commit}', or give a folder, or 'demo'."
            ) from self.unreachable
        return snapshot_folder(self.name, self.commit)


def table_key(config: str | None, split: str, files: Sequence[str]) -> str:
    """Return the key of a split's Arrow files in `Listing.tables`."""
    return json.dumps([config, split, *files])


def snapshot_folder(name: str, commit: str) -> Path:
    """Return the folder in the Hub's cache of a data set's files at a commit."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    return Path(os.path.abspath(HF_HUB_CACHE), repo_folder_name(repo_id=name, repo_type="dataset"), "snapshots", commit)


def open_listing(name: str, revision: str | None) -> Listing:
    """Return a data set's files as the Hub lists them, or if it can't be reached as they were when the data set was last used here.

    Args:
        name: ``owner/name``, in any spelling that leads to it.
        revision: branch, ref, tag or commit; None for the newest of main.

    Raises:
        SplitError: if the Hub can't be reached, and the data set was not used or downloaded here.
    """
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(name, revision=revision, timeout=HUB_TIMEOUT, files_metadata=True)
    except Exception as error:
        if not is_unreachable(error):
            raise
        return _without_network(name, revision, error)
    assert info.sha is not None  # the Hub always states it for one repository
    card = dict(info.card_data.to_dict()) if info.card_data else {}  # type: ignore[no-untyped-call]  # of huggingface_hub
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
    listing = Listing(info.id, info.sha, sizes, _license_in(card))
    listing.save()
    remember_spelling("dataset", name, listing.name)
    if revision != listing.commit:
        _write(_reference(listing.name, revision), listing.commit)
    return listing


def _license_in(card: dict[str, Any]) -> str | None:
    return card["license"] if isinstance(card.get("license"), str) else None


def _without_network(name: str, revision: str | None, error: Exception) -> Listing:
    spellings = dict.fromkeys((present_spelling("dataset", name), name))
    for find in (_stored, _downloaded):
        for spelling in spellings:
            listing = find(spelling, revision)
            if listing is not None:
                listing.unreachable = error
                return listing
    at = f" at revision {revision!r}" if revision else ""
    further = f" --revision {revision}" if revision else ""
    raise SplitError(
        f"The data set {name}{at} could not be read ({why_unreachable(error)}): the Hub can't be reached, and it is not in the local "
        f"cache. Connect to the network and run 'hf download {name} --repo-type dataset{further}', or give a folder, or 'demo'."
    ) from error


def _stored(name: str, revision: str | None) -> Listing | None:
    """Return what was written down about a data set; None if nothing was."""
    try:
        commit = revision or DEFAULT_REVISION
        if not COMMIT.fullmatch(commit):
            commit = _reference(name, revision).read_text(encoding="utf-8")
        values = json.loads((_folder(name) / f"{commit}.json").read_text(encoding="utf-8"))
        values["configurations"] = {key: Configuration(**value) for key, value in values["configurations"].items()}
        return Listing(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _downloaded(name: str, revision: str | None) -> Listing | None:
    """Return a data set that another program, such as ``hf download``, has put into the Hub's cache; None if there is none."""
    from huggingface_hub import DatasetCard, get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True))
    except IncompleteSnapshotError as incomplete:
        folder = Path(incomplete.snapshot_path)
    except LocalEntryNotFoundError:
        return None
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    try:
        sizes |= {file.path: file.size or 0 for file in get_cached_repo_tree(name, repo_type="dataset", revision=folder.name)}
    except CachedRepoTreeNotFoundError:
        sizes = dict.fromkeys(_all_shards(sizes), 0) | sizes
    card = DatasetCard.load(folder / "README.md").data.to_dict() if "README.md" in sizes and (folder / "README.md").is_file() else {}
    return Listing(name, folder.name, sizes, _license_in(card))


def _all_shards(paths: Sequence[str] | dict[str, int]) -> list[str]:
    """Return the paths of all parts that numbered parts such as ``train-00000-of-00002.parquet`` state."""
    return [
        SHARD.sub(f"-{number:05}-of-{match[2]}", path) for path in paths if (match := SHARD.search(path)) for number in range(int(match[2]))
    ]


def _folder(name: str) -> Path:
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "mia_hub" / "datasets" / name.replace("/", "--")


def _reference(name: str, revision: str | None) -> Path:
    """Return the file that holds the commit of a branch or tag."""
    return _folder(name) / "refs" / quote(revision or DEFAULT_REVISION, safe="")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError:
        return
