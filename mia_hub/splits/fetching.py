"""Splits that hold addresses in place of images, such as LAION-mi: images are fetched and stored on disk, missing ones counted."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from mia_hub.errors import SplitError
from mia_hub.images.image import InputImage
from mia_hub.images.sources import as_images
from mia_hub.splits.image_store import COPY, StoredImages, StoredRows, stored_row
from mia_hub.splits.split_part import FetchOptions, SplitPart
from mia_hub.system.web import fetch_all

ON_BOTH_SIDES = "the same image on the other side"
# Significance level of the test whether shares of missing images differ between the sides.
LEVEL = 0.01


@dataclass(frozen=True)
class FetchedSplit:
    """Members and non-members whose images were fetched.

    Attributes:
        images: of the members and of the non-members.
        parts: both, without the rows whose image is missing.
        name: of the split, with the counts of the images that it has.
        notes: on missing images, one sentence each.
    """

    images: list[Sequence[InputImage]]
    parts: list[SplitPart]
    name: str
    notes: tuple[str, ...]


def fetch_parts(name: str, parts: list[SplitPart], columns: Sequence[str], fetching: FetchOptions, revision: str | None) -> FetchedSplit:
    """Fetch the images of members and of non-members.

    Raises:
        SplitError: if fetching wasn't allowed, or no image of one side is available.
    """
    if not fetching.allowed:
        raise SplitError(
            f"{name} holds no images, but their addresses (in the column {columns[0]!r}), and nothing is fetched unless you ask for it. "
            "Ask with load_split(…, fetch=True), or 'mia-hub make-split … --fetch', which makes a split of the images still available."
        )
    stores = [_fetch_part(name, part, column, fetching, revision) for part, column in zip(parts, columns)]
    available, missing = _available_places(parts, stores)
    for side, part, places, reasons in zip(("members", "non-members"), parts, available, missing):
        if not len(places):
            raise SplitError(f"None of the {len(part):,} images of the {side} of {name} is available: {_counts(reasons)}.")
    left = [part.only(places) for part, places in zip(parts, available)]
    images = [as_images(StoredImages(store, part.row_numbers.tolist(), f"{name} {part.name}")) for store, part in zip(stores, left)]
    return FetchedSplit(images, left, _name(name, parts, available), _notes(parts, available, missing))


def _fetch_part(name: str, part: SplitPart, column: str, fetching: FetchOptions, revision: str | None) -> StoredRows:
    """Return the store that holds all rows of a part, as far as they are available."""
    store = StoredRows(_folder(name, part, column, revision))
    numbers = part.row_numbers
    places = np.array([place for place, row in enumerate(numbers) if int(row) not in store], dtype=np.int64)
    addresses = part.lazy(column)
    results = fetch_all(str(addresses[int(place)] or "") for place in places)
    rows = (stored_row(int(numbers[places[index]]), file) for index, file in results)
    with tqdm(total=len(places), desc=f"fetching {part.name}", unit="image", delay=1.0, disable=not fetching.progress) as bar:
        store.add_all(rows, bar.update)
    return store


def _folder(name: str, part: SplitPart, column: str, revision: str | None) -> Path:
    """Return the folder for the images of exactly these addresses."""
    from huggingface_hub.constants import HF_HOME

    digest = None if revision else _digest(part, column)
    identity = json.dumps([name, revision, part.rows.sources, part.name, column, len(part.rows), digest])
    label = re.sub(r"[^\w-]+", "-", f"{name}-{part.name}")[-80:].strip("-")
    return Path(HF_HOME) / "mia_hub" / "fetched" / label / hashlib.sha256(identity.encode()).hexdigest()[:16]


def _digest(part: SplitPart, column: str) -> str:
    """Return the hash of addresses in files that no commit identifies."""
    digest = hashlib.sha256()
    for address in part.rows.lazy(column):
        digest.update(f"{address}\n".encode())
    return digest.hexdigest()


def _available_places(parts: list[SplitPart], stores: list[StoredRows]) -> tuple[list[npt.NDArray[np.int64]], list[Counter[str]]]:
    """Return the places of each side that have an image of their own, and the reasons why the others are left out.

    One image behind many addresses is most often a site's "not found": within a side it counts once, and on both sides not at all.
    """
    ids = [[store[int(row)].id for row in part.row_numbers] for part, store in zip(parts, stores)]
    shared = set(filter(None, ids[0])) & set(filter(None, ids[1]))
    available, missing = [], []
    for part, store, own in zip(parts, stores, ids):
        numbers, reasons, seen = part.row_numbers, Counter[str](), set[str]()
        places: list[int] = []
        for place, id in enumerate(own):
            if id is None:
                reasons[store[int(numbers[place])].missing] += 1
            elif id in shared or id in seen:
                reasons[ON_BOTH_SIDES if id in shared else COPY] += 1
            else:
                seen.add(id)
                places.append(place)
        available.append(np.array(places, dtype=np.int64))
        missing.append(reasons)
    return available, missing


def _name(name: str, parts: list[SplitPart], available: list[npt.NDArray[np.int64]]) -> str:
    if all(len(part) == len(places) for part, places in zip(parts, available)):
        return name
    counts = [f"{len(places):,} of {len(part):,}" for part, places in zip(parts, available)]
    return f"{name}, with {counts[0]} members and {counts[1]} non-members that could be had"


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))


def _notes(parts: list[SplitPart], available: list[npt.NDArray[np.int64]], missing: list[Counter[str]]) -> tuple[str, ...]:
    """Return what the reader must know of the missing images."""
    from scipy.stats import fisher_exact

    notes = [
        f"{len(part) - len(places):,} of the {len(part):,} {side} are missing: {_counts(reasons)}."
        for side, part, places, reasons in zip(("members", "non-members"), parts, available, missing)
        if reasons
    ]
    table = [[len(part) - len(places), len(places)] for part, places in zip(parts, available)]
    if fisher_exact(table).pvalue < LEVEL:
        shares = [100 * lacking / (lacking + present) for lacking, present in table]
        notes.append(
            f"The share of missing images differs between members ({shares[0]:.1f} %) and non-members ({shares[1]:.1f} %): the remaining "
            "images may differ for this reason alone, so an attack's figures on them need the shift check beside them."
        )
    return tuple(notes)
