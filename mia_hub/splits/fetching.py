"""Splits that hold addresses in place of images, such as LAION-mi: fetched, kept on disk, and what is missing counted."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from mia_hub.errors import SplitError
from mia_hub.images.image import InputImage
from mia_hub.images.sources import as_images
from mia_hub.splits.image_store import COPY, StoredImages, StoredRows, stored_row
from mia_hub.splits.parts import FetchOptions, SplitPart
from mia_hub.system.web import fetch_all

ON_BOTH_SIDES = "the same image on the other side"
# Shares of missing images that differ more than chance would make them, at this level, are pointed out.
LEVEL = 0.01


def fetch_parts(
    name: str, parts: list[SplitPart], columns: Sequence[str], fetching: FetchOptions, revision: str | None
) -> tuple[list[Sequence[InputImage]], list[SplitPart], tuple[str, tuple[str, ...]]]:
    """Fetches the images of members and of non-members.

    Returns:
        The images; the parts without the rows whose image is missing; and the name and the notes of the split, which count them.

    Raises:
        SplitError: if it wasn't allowed, or no image of one side can be had.
    """
    if not fetching.allowed:
        raise SplitError(
            f"{name} holds no images, but their addresses (in the column {columns[0]!r}), and nothing is fetched from them unasked. Ask "
            "with load_split(…, fetch=True), or 'mia-hub make-split … --fetch', which makes a split of those that can still be had."
        )
    stores = [_fetched(name, part, column, fetching, revision) for part, column in zip(parts, columns)]
    kept, missing = _sifted(parts, stores)
    for side, part, rows, lacking in zip(("members", "non-members"), parts, kept, missing):
        if not len(rows):
            raise SplitError(f"None of the {len(part):,} images of the {side} of {name} can be had: {_reasons(lacking)}.")
    images = [
        as_images(StoredImages(store, part.chosen[rows] if part.chosen is not None else rows, f"{name} {part.name}"))
        for store, part, rows in zip(stores, parts, kept)
    ]
    return images, [part.only(rows) for part, rows in zip(parts, kept)], (_name(name, parts, kept), _notes(parts, kept, missing))


def _fetched(name: str, part: SplitPart, column: str, fetching: FetchOptions, revision: str | None) -> StoredRows:
    """The store in which all rows of a part are, as far as they can be had."""
    store = StoredRows(_folder(name, part, column, revision))
    chosen = np.arange(len(part)) if part.chosen is None else part.chosen
    places = np.array([place for place, row in enumerate(chosen) if int(row) not in store], dtype=np.int64)
    addresses = part.lazy(column)
    came = fetch_all(str(addresses[int(place)] or "") for place in places)
    rows = (stored_row(int(chosen[places[number]]), file) for number, file in came)
    with tqdm(total=len(places), desc=f"fetching {part.name}", unit="image", delay=1.0, disable=not fetching.progress) as bar:
        store.add_all(rows, bar.update)
    return store


def _folder(name: str, part: SplitPart, column: str, revision: str | None) -> Path:
    """Where the fetched images of these very addresses lie."""
    from huggingface_hub.constants import HF_HOME

    digest = None if revision else _digest(part, column)
    identity = json.dumps([name, revision, part.rows.made_of, part.name, column, len(part.rows), digest])
    label = re.sub(r"[^\w-]+", "-", f"{name}-{part.name}")[-80:].strip("-")
    return Path(HF_HOME) / "mia_hub" / "fetched" / label / hashlib.sha256(identity.encode()).hexdigest()[:16]


def _digest(part: SplitPart, column: str) -> str:
    """Of the addresses of files that no commit identifies."""
    digest = hashlib.sha256()
    for address in part.rows.lazy(column):
        digest.update(f"{address}\n".encode())
    return digest.hexdigest()


def _sifted(parts: list[SplitPart], stores: list[StoredRows]) -> tuple[list[np.ndarray], list[Counter]]:
    """Of each side the places that have an image of their own, and why the others are left out.

    One image behind many addresses is most often a site's "not found": within a side it counts once, and on both sides not at all.
    """
    ids: list[list[str | None]] = []
    for part, store in zip(parts, stores):
        chosen = range(len(part)) if part.chosen is None else part.chosen
        ids.append([store[int(row)].id for row in chosen])
    shared = set(filter(None, ids[0])) & set(filter(None, ids[1]))
    kept, missing = [], []
    for part, store, own in zip(parts, stores, ids):
        places, lacking, seen = [], Counter(), set()
        for place, id in enumerate(own):
            row = place if part.chosen is None else int(part.chosen[place])
            reason = store[row].missing if id is None else ON_BOTH_SIDES if id in shared else COPY if id in seen else ""
            if reason:
                lacking[reason] += 1
            else:
                seen.add(id)
                places.append(place)
        kept.append(np.array(places, dtype=np.int64))
        missing.append(lacking)
    return kept, missing


def _name(name: str, parts: list[SplitPart], kept: list[np.ndarray]) -> str:
    if all(len(part) == len(rows) for part, rows in zip(parts, kept)):
        return name
    found = [f"{len(rows):,} of {len(part):,}" for part, rows in zip(parts, kept)]
    return f"{name}, with {found[0]} members and {found[1]} non-members that could be had"


def _reasons(lacking: Counter) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(lacking.items()))


def _notes(parts: list[SplitPart], kept: list[np.ndarray], missing: list[Counter]) -> tuple[str, ...]:
    """What the reader must know of the missing images."""
    from scipy.stats import fisher_exact

    notes = [
        f"{len(part) - len(rows):,} of the {len(part):,} {side} are missing: {_reasons(lacking)}."
        for side, part, rows, lacking in zip(("members", "non-members"), parts, kept, missing)
        if lacking
    ]
    table = [[len(part) - len(rows), len(rows)] for part, rows in zip(parts, kept)]
    if fisher_exact(table).pvalue < LEVEL:
        shares = [100 * lacking / (lacking + found) for lacking, found in table]
        notes.append(
            f"The share of missing images differs between members ({shares[0]:.1f} %) and non-members ({shares[1]:.1f} %): what is left "
            "of the two may differ for this reason alone, so an attack's figures on them need the shift check beside them."
        )
    return tuple(notes)
