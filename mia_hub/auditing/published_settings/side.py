"""One side of a benchmark, its members or its non-members: the rows of a data set, drawn, fetched and stored."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from mia_hub.auditing.published_settings.draw_order import draw_order, eligible_rows
from mia_hub.auditing.published_settings.image_source import ImageSource
from mia_hub.errors import SplitError
from mia_hub.images.image import InputImage
from mia_hub.images.metadata_files import first_value
from mia_hub.images.sources import as_images
from mia_hub.splits.hub_rows import HubDataset, Rows, dataset_errors, file_bytes
from mia_hub.splits.image_store import COPY, NO_IMAGE, ROWS_AT_ONCE, StoredImages, StoredRow, StoredRows, stored_row
from mia_hub.splits.origins import Origin
from mia_hub.system.web import FetchResult, fetch_all

ON_BOTH_SIDES = "also among the members"


@dataclass(frozen=True)
class ImageDraw:
    """The rows that were drawn from one source.

    Attributes:
        source: its data set and split.
        commit: at which it was read; None for what comes with the package.
        rows: the rows that are used, increasing.
        tried: how many rows were tried; more than ``rows`` where some images are missing.
        missing: number of rows without a usable image, by reason.
    """

    source: str
    commit: str | None
    rows: tuple[int, ...]
    tried: int
    missing: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; of the rows only their number and a hash."""
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
        missing = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.missing.items()))
        return f"{len(self.rows):,} of {self.tried:,} tried" + (f" ({missing})" if missing else "")


class Side:
    """The members, or the non-members, of a benchmark. What can be refused is refused before anything large is fetched.

    Args:
        source: where its images come from.
        crop: side in pixels of the square that is cut out of an image's middle; None for no such cut.
        limit: at most this many images; None for as many as the source states.
        cache: folder for the images; by default ``mia_hub/benchmarks`` in the Hub's own cache folder.

    Raises:
        SplitError: if the data set can't be read, has no such columns, or too few rows.
    """

    def __init__(self, source: ImageSource, crop: int | None, limit: int | None, cache: str | Path | None):
        self.source, self.crop = source, crop
        self.dataset, self.rows = _open_rows(source)
        self.image = self._column(source.image_column or source.url_column)
        self.caption = self._column(source.caption_column) if source.caption_column else None
        self.label = self._column(source.class_column) if source.class_column else None
        self.order = self._order()
        self.count = source.count if limit is None else min(limit, source.count)
        self.store = StoredRows(self._folder(cache))

    def _column(self, names: Sequence[str]) -> str:
        """Return the first of several names of a column that the data set has."""
        for name in names:
            if name in self.rows.columns:
                return name
        raise SplitError(
            f"The data set {self.source.dataset} has no column {' or '.join(map(repr, names))} in its split {self.source.split!r}; it "
            f"has {', '.join(self.rows.columns)}."
        )

    def _order(self) -> npt.NDArray[np.int64]:
        source, conditions = self.source, [(condition, self._column(condition.column)) for condition in self.source.where]
        with dataset_errors(source.dataset, source.revision):
            classes = None
            if source.per_class is not None and self.label is not None:
                classes = [self._class(value) for value in self.rows.column(self.label)]
            checks = [eligible_rows(condition, self.rows.column(column)) for condition, column in conditions]
        return draw_order(source, len(self.rows), classes=classes, eligible=np.all(checks, axis=0) if checks else None)

    @property
    def origin(self) -> Origin:
        """The data set, its split, configuration and commit."""
        return Origin(self.dataset, self.source.split, self.source.config, self.rows.commit)

    def _folder(self, cache: str | Path | None) -> Path:
        """Return a folder of its own for everything that the stored rows depend on."""
        from huggingface_hub.constants import HF_HOME

        source = self.source
        parts = [self.dataset, self.rows.commit, source.config, source.split, source.files, source.pool, source.class_pattern]
        parts += [self.image, self.caption, self.label, self.crop, bool(source.url_column) and source.min_bytes]
        root = Path(cache) if cache is not None else Path(HF_HOME) / "mia_hub" / "benchmarks"
        name = f"{self.dataset.replace('/', '--')}-{source.split}"
        return root / re.sub(r"[^\w.-]+", "-", name) / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def draw(self, *, exclude: Set[str] = frozenset(), progress: bool = True) -> ImageDraw:
        """Fetch rows in the order of the draw, until there are enough images, or, without replacement, as many rows as images are needed.

        Args:
            exclude: content ids of images that are on the other side.
            progress: shows a progress bar.
        """
        source, tried = self.source, 0
        rows: list[int] = []
        missing: Counter[str] = Counter()
        ids: set[str] = set()
        with tqdm(total=self.count, desc=source.dataset, unit="image", delay=1.0, disable=not progress) as bar:
            while tried < len(self.order) and len(rows) < self.count and (source.replace_missing or not tried):
                batch = self.order[tried : tried + self.count - len(rows)]
                tried += len(batch)
                self._fetch(batch.tolist(), bar.update)
                for row in map(self.store.__getitem__, batch.tolist()):
                    reason = row.missing
                    if row.id is not None and not reason:
                        # The image behind a dead address is often the site's placeholder.
                        copy = bool(source.url_column) and row.id in ids
                        reason = COPY if copy else ON_BOTH_SIDES if row.id in exclude else ""
                    if row.id is None or reason:
                        missing[reason] += 1
                        continue
                    ids.add(row.id)
                    rows.append(row.row)
        return ImageDraw(f"{self.dataset}, {source.split}", self.rows.commit, tuple(sorted(rows)), tried, dict(missing))

    def _fetch(self, rows: list[int], count: Callable[[int], object]) -> None:
        """Store all rows that aren't stored; ``count`` is called with numbers of rows that are there."""
        absent = sorted(row for row in rows if row not in self.store)
        count(len(rows) - len(absent))
        columns = list(dict.fromkeys(filter(None, (self.image, self.caption, self.label))))
        values = self._read(absent, columns)
        self.store.add_all(self._behind_addresses(values) if self.source.url_column else self._with_images(values), count)

    def _read(self, rows: list[int], columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        with dataset_errors(self.source.dataset, self.source.revision):
            yield from self.rows.take(rows, columns)

    def _behind_addresses(self, rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[StoredRow]:
        while part := list(islice(rows, ROWS_AT_ONCE)):
            for place, file in fetch_all(str(values[self.image] or "") for _, values in part):
                yield self._row(*part[place], file)

    def _with_images(self, rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[StoredRow]:
        for number, values in rows:
            content = file_bytes(values[self.image])
            yield self._row(number, values, FetchResult(content, "" if content else NO_IMAGE))

    def _row(self, number: int, values: dict[str, Any], file: FetchResult) -> StoredRow:
        caption = _caption(values[self.caption]) if self.caption else ""
        label = self._class(values[self.label]) if self.label else None
        least = self.source.min_bytes if self.source.url_column else 0
        prepare = partial(centre_square, side=self.crop)
        return stored_row(number, file, prepare=prepare, min_bytes=least, caption=caption, label=label)

    def _class(self, value: Any) -> int:
        pattern = self.source.class_pattern
        try:
            return int(re.findall(pattern, value)[0] if pattern else value)
        except (TypeError, ValueError, IndexError) as error:
            raise SplitError(
                f"The column {self.label!r} of {self.source.dataset} holds {value!r}, which is no class index"
                + (f" by the pattern {pattern!r}." if pattern else "; integers are needed.")
            ) from error

    def ids(self, draw: ImageDraw) -> frozenset[str]:
        """Return the content ids of the drawn images."""
        return frozenset(id for id in (self.store[row].id for row in draw.rows) if id is not None)

    def conditions(self, draw: ImageDraw) -> tuple[list[str] | None, list[int] | None]:
        """Return captions and classes of the drawn rows, where the source has them."""
        rows = [self.store[row] for row in draw.rows]
        captions = [row.caption for row in rows] if self.caption else None
        return captions, [row.label for row in rows if row.label is not None] if self.label else None

    def images(self, draw: ImageDraw) -> Sequence[InputImage]:
        """Return the drawn images, lazily."""
        images = as_images(StoredImages(self.store, draw.rows, f"{self.source.dataset} {self.source.split}"))
        return images if self.crop is None else as_images(_CroppedImages(images, self.crop))


def _open_rows(source: ImageSource) -> tuple[str, Rows]:
    """Resolve the revision of a source, and open its split at that commit.

    Returns:
        The data set's name as the Hub spells it, and the rows.

    Raises:
        SplitError: if the data set can't be found or reached, is gated, has no such split or files, or another number of rows than stated.
    """
    dataset = HubDataset(source.dataset, source.config, source.revision)
    files = _matching_files(source, dataset) if source.files else dataset.files_of(source.split)
    rows = dataset.open(source.split, files, stated=not source.files, pool=source.pool)
    if source.rows is not None and len(rows) != min(source.rows, source.pool or source.rows):
        raise SplitError(
            f"The split {source.split!r} of {source.dataset} has {len(rows):,} rows at commit {rows.commit!s:.12}, and {source.rows:,} are "
            "expected: another number of rows gives another draw. Name a revision that has as many, in a copy of the benchmark's file."
        )
    return dataset.name, rows


def _matching_files(source: ImageSource, dataset: HubDataset) -> list[str]:
    files = sorted(path for path in dataset.sizes if any(fnmatch(path, pattern) for pattern in source.files))
    if not files:
        raise SplitError(f"The data set {source.dataset} has no file {' or '.join(map(repr, source.files))} at this revision.")
    return files


def _caption(value: Any) -> str:
    """Return the first of several captions; "" for none."""
    first = first_value(value)
    return "" if first is None else str(first)


def centre_square(image: InputImage, side: int | None) -> InputImage:
    """Return the square in the middle of an image; an image that is smaller along an axis keeps its length there.

    Args:
        image: uint8 ``[height, width, channels]``.
        side: of the square, in pixels; None for the whole image.
    """
    if side is None:
        return image
    top, left = (max(0, round((length - side) / 2)) for length in (image.height, image.width))
    pixels = image.pixels[top : top + side, left : left + side]
    return InputImage(np.ascontiguousarray(pixels), image.name, (*image.notes, f"The middle {side} x {side} pixels were cut out."))


class _CroppedImages(Sequence[InputImage]):
    def __init__(self, images: Sequence[InputImage], side: int):
        self.images, self.side = images, side

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return centre_square(self.images[index], self.side)
