"""From the declared sources of a benchmark to its members and non-members."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mia_hub.auditing.published_settings.draw import candidates, fulfilled
from mia_hub.auditing.published_settings.opening import open_rows
from mia_hub.auditing.published_settings.setting import Benchmark
from mia_hub.auditing.published_settings.source import DEMO, Source
from mia_hub.errors import SplitError, whole_number
from mia_hub.images.captions import first_value
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import SelectedSequence
from mia_hub.images.sources import as_images
from mia_hub.splits.hub_rows import dataset_errors, file_bytes
from mia_hub.splits.image_store import COPY, NO_IMAGE, ROWS_AT_ONCE, StoredImages, StoredRow, StoredRows, stored_row
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit
from mia_hub.system.web import FetchResult, fetch_all

ON_BOTH_SIDES = "also among the members"


@dataclass(frozen=True)
class Draw:
    """What was drawn from one source.

    Attributes:
        source: its data set and split.
        commit: at which it was read; None for what comes with the package.
        rows: the rows that are used, increasing.
        tried: how many were tried; more than ``rows`` where some are missing.
        missing: how many have no image that can be used, by reason.
    """

    source: str
    commit: str | None
    rows: tuple[int, ...]
    tried: int
    missing: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        numbers = ",".join(map(str, self.rows))
        return {
            "source": self.source,
            "commit": self.commit,
            "found": len(self.rows),
            "tried": self.tried,
            "missing": dict(sorted(self.missing.items())),
            "rows_hash": "sha256:" + hashlib.sha256(numbers.encode()).hexdigest(),
        }

    def __str__(self) -> str:
        lacking = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.missing.items()))
        return f"{len(self.rows):,} of {self.tried:,} tried" + (f" ({lacking})" if lacking else "")


@dataclass(frozen=True)
class Drawn:
    """A benchmark's split, and what was drawn for it."""

    split: MemberSplit
    members: Draw
    nonmembers: Draw


class Opened:
    """The data sets of a benchmark, opened at one commit each: what can be refused is refused here, before anything large is fetched.

    Args:
        benchmark: the setting.
        limit: at most so many members and so many non-members: the first of each draw.
        cache: folder for the drawn images; by default ``mia_hub/benchmarks`` in the Hub's own cache folder.

    Raises:
        SplitError: if a data set can't be read, has no such columns, or fewer rows than are asked for.
    """

    def __init__(self, benchmark: Benchmark, *, limit: int | None = None, cache: str | Path | None = None):
        self.benchmark, self.limit, self.cache = benchmark, limit, cache
        if limit is not None:
            whole_number("limit", limit, 2, SplitError)
        parts = (benchmark.members, benchmark.nonmembers)
        self._parts = [] if benchmark.members.dataset == DEMO else [_Part(source, benchmark.centre_crop, limit, cache) for source in parts]

    def draw(self, *, progress: bool = True) -> Drawn:
        """Fetches what isn't in the cache yet, and gives the split.

        Raises:
            SplitError: if a data set can't be read any more, or no image is left of one side.
        """
        if not self._parts:
            return self._demo()
        members = self._parts[0].collect(exclude=frozenset(), progress=progress)
        # A image that is on both sides would be refused by every audit: on the Web the same placeholder stands behind many addresses.
        nonmembers = self._parts[1].collect(exclude=self._parts[0].ids(members), progress=progress)
        for part, draw in zip(("members", "non-members"), (members, nonmembers)):
            if not draw.rows:
                raise SplitError(f"No image is left of the {part} of {self.benchmark.name}: {draw}.")
        both = [part.told(draw) for part, draw in zip(self._parts, (members, nonmembers))]
        captions, classes = ([*first, *second] if first is not None and second is not None else None for first, second in zip(*both))
        images = [part.images(draw) for part, draw in zip(self._parts, (members, nonmembers))]
        commits = dict.fromkeys(f"{part.source.dataset}@{part.rows.commit}" for part in self._parts)
        name = f"benchmark {self.benchmark.name}"
        if members.missing or nonmembers.missing:
            found = [f"{len(draw.rows):,} of {draw.tried:,}" for draw in (members, nonmembers)]
            name += f", with {found[0]} members and {found[1]} non-members that could be had"
        return Drawn(MemberSplit(name, *images, captions, " + ".join(commits), classes), members, nonmembers)

    def _demo(self) -> Drawn:
        split = load_split(DEMO)
        for source, part in zip((self.benchmark.members, self.benchmark.nonmembers), (split.members, split.nonmembers)):
            if source.count > len(part):
                raise SplitError(f"The demo has {len(part):,} images in {source.split!r}, and {source.count:,} are asked for.")
        split = split.limited(self.limit)
        rows = [part.rows if isinstance(part, SelectedSequence) else range(len(part)) for part in (split.members, split.nonmembers)]
        return Drawn(split, *(Draw("demo", None, tuple(map(int, part)), len(part)) for part in rows))


class _Part:
    """One side of a benchmark."""

    def __init__(self, source: Source, crop: int | None, limit: int | None, cache: str | Path | None):
        self.source, self.crop = source, crop
        self.rows = open_rows(source)
        self.image = self._column(source.image_column or source.url_column)
        self.caption, self.label = self._column(source.caption_column), self._column(source.class_column)
        self.order = self._order()
        self.count = source.count if limit is None else min(limit, source.count)
        self.store = StoredRows(self._folder(cache))

    def _column(self, names: Sequence[str]) -> str | None:
        found = next((name for name in names if name in self.rows.columns), None)
        if names and found is None:
            raise SplitError(
                f"The data set {self.source.dataset} has no column {' or '.join(map(repr, names))} in its split {self.source.split!r}; it "
                f"has {', '.join(self.rows.columns)}."
            )
        return found

    def _order(self) -> np.ndarray:
        source, conditions = self.source, [(condition, self._column(condition.column)) for condition in self.source.where]
        with dataset_errors(source.dataset, source.revision):
            classes = None if source.per_class is None else [self._class(value) for value in self.rows.column(self.label)]
            checks = [fulfilled(condition, self.rows.column(column)) for condition, column in conditions]
        return candidates(source, len(self.rows), classes=classes, fulfils=np.all(checks, axis=0) if checks else None)

    def _folder(self, cache: str | Path | None) -> Path:
        """One folder for everything that the kept rows depend on."""
        from huggingface_hub.constants import HF_HOME

        source = self.source
        parts = [source.dataset, self.rows.commit, source.config, source.split, source.files, source.pool, source.class_pattern]
        parts += [self.image, self.caption, self.label, self.crop, bool(source.url_column) and source.min_bytes]
        root = Path(cache) if cache is not None else Path(HF_HOME) / "mia_hub" / "benchmarks"
        name = f"{source.dataset.replace('/', '--')}-{source.split}"
        return root / re.sub(r"[^\w.-]+", "-", name) / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def collect(self, *, exclude: Set[str], progress: bool) -> Draw:
        """Rows in the order of the draw until there are enough, or, without replacement, as many as were asked for.

        Args:
            exclude: content ids of images that are on the other side.
            progress: shows a progress bar.
        """
        source, found, missing, seen, tried = self.source, [], Counter(), set(), 0
        with tqdm(total=self.count, desc=source.dataset, unit="image", delay=1.0, disable=not progress) as bar:
            while tried < len(self.order) and len(found) < self.count and (source.replace_missing or not tried):
                batch = self.order[tried : tried + self.count - len(found)]
                tried += len(batch)
                self._fetch(batch, bar)
                for row in map(self.store.__getitem__, map(int, batch)):
                    reason = row.missing
                    if not reason:
                        # The image behind a dead address is often the site's placeholder.
                        copy = bool(source.url_column) and row.id in seen
                        reason = COPY if copy else ON_BOTH_SIDES if row.id in exclude else ""
                    if reason:
                        missing[reason] += 1
                        continue
                    seen.add(row.id)
                    found.append(row.row)
        return Draw(f"{source.dataset}, {source.split}", self.rows.commit, tuple(sorted(found)), tried, dict(missing))

    def _fetch(self, rows: Sequence[int], bar: tqdm) -> None:
        """Makes sure that all rows are in the store."""
        lacking = sorted(int(row) for row in rows if int(row) not in self.store)
        bar.update(len(rows) - len(lacking))
        columns = list(dict.fromkeys(filter(None, (self.image, self.caption, self.label))))
        taken = self._taken(lacking, columns)
        self.store.add_all(self._behind_addresses(taken) if self.source.url_column else self._with_images(taken), bar.update)

    def _taken(self, rows: list[int], columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        with dataset_errors(self.source.dataset, self.source.revision):
            yield from self.rows.take(rows, columns)

    def _behind_addresses(self, taken: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[StoredRow]:
        while part := list(islice(taken, ROWS_AT_ONCE)):
            for place, file in fetch_all(str(values[self.image] or "") for _, values in part):
                yield self._row(*part[place], file)

    def _with_images(self, taken: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[StoredRow]:
        for number, values in taken:
            content = file_bytes(values[self.image])
            yield self._row(number, values, FetchResult(content, "" if content else NO_IMAGE))

    def _row(self, number: int, values: dict[str, Any], file: FetchResult) -> StoredRow:
        told = {
            "caption": _caption(values[self.caption]) if self.caption else "",
            "label": self._class(values[self.label]) if self.label else None,
        }
        least = self.source.min_bytes if self.source.url_column else 0
        return stored_row(number, file, prepare=lambda image: cropped(image, self.crop), min_bytes=least, **told)

    def _class(self, value: Any) -> int:
        pattern = self.source.class_pattern
        try:
            return int(re.search(pattern, value)[1] if pattern else value)
        except (TypeError, ValueError) as error:
            raise SplitError(
                f"The column {self.label!r} of {self.source.dataset} holds {value!r}, which is no class index"
                + (f" by the pattern {pattern!r}." if pattern else "; whole numbers are needed.")
            ) from error

    def ids(self, draw: Draw) -> frozenset[str]:
        return frozenset(self.store[row].id for row in draw.rows)

    def told(self, draw: Draw) -> tuple[list[str] | None, list[int] | None]:
        """Captions and classes of the drawn rows, where the source has them."""
        rows = [self.store[row] for row in draw.rows]
        return [row.caption for row in rows] if self.caption else None, [row.label for row in rows] if self.label else None

    def images(self, draw: Draw) -> Sequence[InputImage]:
        images = as_images(StoredImages(self.store, draw.rows, f"{self.source.dataset} {self.source.split}"))
        return images if self.crop is None else as_images(_Cropped(images, self.crop))


def _caption(value: Any) -> str:
    """The first of several captions; "" for none."""
    first = first_value(value)
    return "" if first is None else str(first)


def cropped(image: InputImage, side: int | None) -> InputImage:
    """The square in the middle of a image; a image that is smaller on a side keeps that side."""
    if side is None:
        return image
    top, left = (max(0, round((length - side) / 2)) for length in (image.height, image.width))
    pixels = image.pixels[top : top + side, left : left + side]
    return InputImage(np.ascontiguousarray(pixels), image.name, (*image.notes, f"The middle {side} x {side} pixels were cut out."))


class _Cropped(Sequence):
    def __init__(self, images: Sequence[InputImage], side: int):
        self.images, self.side = images, side

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> InputImage:
        return cropped(self.images[index], self.side)
