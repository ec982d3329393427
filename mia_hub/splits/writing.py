"""Write a split as a folder that the Hub shows and `load_split` reads: Parquet files of members and of non-members, and a card."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mia_hub.errors import SplitError
from mia_hub.images.image import InputImage, encoded_file
from mia_hub.metrics.estimates import Estimate
from mia_hub.splits.card import LABELS, SplitRecord, card_text, split_features
from mia_hub.splits.drawing import DecodedSplit, decode_split
from mia_hub.splits.member_split import MemberSplit, split_hash
from mia_hub.splits.notes import split_notes
from mia_hub.splits.origins import Origin
from mia_hub.splits.record_beside import RECORD
from mia_hub.system.provenance import provenance

# As the Hub advises for images: row groups that its viewer can fetch, in files that its clients can fetch.
ROWS_PER_GROUP = 100
GROUP_BYTES = 16 * 2**20
SHARD_BYTES = 256 * 2**20
OURS = {"README.md", RECORD, "data"}
PARTS = re.compile(r"(non)?member-\d{5}-of-\d{5}\.parquet")
HASH = re.compile(r"sha256:[0-9a-f]{64}")


def write_split(
    split: MemberSplit | DecodedSplit,
    folder: str | Path,
    *,
    origins: tuple[Origin, ...] = (),
    seed: int | None = None,
    license: str | None = None,
    model: str | None = None,
    name: str | None = None,
    shift_check: bool = True,
    progress: bool = True,
) -> SplitRecord:
    """Write a split as a folder that can be published on the Hub: ``data/member-*.parquet``, ``data/nonmember-*.parquet``, ``README.md``.

    Each row has the image's unchanged file, including metadata such as EXIF (PNG for an array), so that its content and the split's hash
    stay the same; the label, a class with the names nonmember (0) and member (1); and caption and class if the split has them. Rows are
    written one by one: a large split needs no more memory than a small one, except for 16 bytes for each image.

    Args:
        split: to write. Images that can't be read are left out, and counted.
        folder: made if it doesn't exist. A split that was written to it before is replaced; a folder with anything else is refused.
        origins: of the images: one source, or that of the members and that of the non-members.
        seed: of the draw, if there was one; a split that coins drew states its own.
        license: of the images, as the Hub names it, such as "cc-by-4.0"; None for "unknown".
        model: the model trained on the members, or None.
        name: the id on the Hub under which it will be published, for the card.
        shift_check: whether a blind classifier is trained to tell members from non-members.
        progress: shows progress bars.

    Returns:
        The record that the card is made of.

    Raises:
        SplitError: if the folder can't be written to, or an image is on both sides.
    """
    check_folder(folder)
    decoded = split if isinstance(split, DecodedSplit) else decode_split(split, progress=progress)
    record = split_record(decoded, origins=origins, seed=seed, license=license, model=model, shift_check=shift_check, progress=progress)
    write_decoded(decoded, record, folder, name=name, progress=progress)
    return record


def split_record(
    decoded: DecodedSplit,
    *,
    origins: tuple[Origin, ...] = (),
    seed: int | None = None,
    license: str | None = None,
    model: str | None = None,
    shift_check: bool = True,
    progress: bool = True,
) -> SplitRecord:
    """Return the record that the card of a split is made of; the arguments are those of `write_split`."""
    from mia_hub.splits.shift import shift_flags

    split = decoded.split
    hash = split_hash((id.decode() for id in decoded.ids), split.is_member)
    coins = split.coins if split.coins is not None and split.coins.hash == hash else None
    seed = seed if coins is None else coins.seed
    blind = _blind(split, seed or 0, progress) if shift_check else None
    return SplitRecord(
        hash=hash,
        n_members=len(split.members),
        n_nonmembers=len(split.nonmembers),
        origins=origins,
        seed=seed,
        coins=coins is not None,
        license=license or "unknown",
        model=model,
        has_captions=split.captions is not None,
        has_classes=split.classes is not None,
        left_out=dict(sorted(decoded.left_out.items())),
        copies=decoded.copies,
        notes=split.notes,
        blind_auc=blind,
        flags=shift_flags(blind),
        provenance=provenance(),
    )


def _blind(split: MemberSplit, seed: int, progress: bool) -> Estimate | None:
    """Return the blind classifier's AUC, on the largest sample that it is trained on."""
    from mia_hub.images.features import blind_features
    from mia_hub.splits.shift import MOST_FOR_BLIND, blind_auc

    rng = np.random.default_rng(seed)
    sizes = (len(split.members), len(split.nonmembers))
    places = [np.sort(rng.permutation(size)[:MOST_FOR_BLIND]) for size in sizes]
    rows = np.concatenate([places[0], places[1] + sizes[0]])
    features = [
        blind_features(split.images[int(row)]) for row in tqdm(rows, desc="shift check", unit="image", delay=1.0, disable=not progress)
    ]
    return blind_auc(np.array(features), split.is_member[rows], seed=seed)


def earlier_record(source: str | Path) -> SplitRecord | None:
    """Return the record of a split that was written to a folder, for when it is written again; None for other sources."""
    path = Path(source) / RECORD
    if not path.is_file():
        return None
    return read_record(path)


def read_record(path: Path) -> SplitRecord:
    """Read the record of a split from ``split.json``.

    Raises:
        SplitError: if mia_hub did not write it.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not HASH.fullmatch(stored["hash"]):
            raise ValueError(f"its hash is {stored['hash']!r:.80}")
        return SplitRecord(
            hash=stored["hash"],
            n_members=int(stored["n_members"]),
            n_nonmembers=int(stored["n_nonmembers"]),
            origins=tuple(Origin(**origin) for origin in stored["origins"]),
            seed=None if stored["seed"] is None else int(stored["seed"]),
            coins=stored.get("coins", False) is True,
            license=stored["license"],
            model=stored["model"],
            left_out={str(reason): int(count) for reason, count in stored["left_out"].items()},
            notes=tuple(split_notes(stored)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SplitError) as error:
        raise SplitError(f"{path} can't be read as the record of a split ({error!r:.200}); delete it if you don't need it.") from error


def foreign_data(paths: Iterable[str]) -> list[str]:
    """Return the paths below ``data/`` that are no files of a written split, sorted."""
    return sorted(path for path in paths if path.startswith("data/") and not PARTS.fullmatch(path.removeprefix("data/")))


def check_folder(folder: str | Path) -> None:
    """Refuse a folder that holds anything but a written split, or whose name isn't text.

    Raises:
        SplitError: if it does.
    """
    folder = Path(folder)
    if os.fsencode(folder).decode("utf-8", "replace") != str(folder):
        raise SplitError(f"The name of the folder {str(folder)!r} isn't text in UTF-8; name another folder.")
    if folder.is_file():
        raise SplitError(f"{folder} is a file; name a folder to write the split to.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not names:
        return
    if RECORD in names and names <= OURS:
        other = foreign_data(path.relative_to(folder).as_posix() for path in (folder / "data").rglob("*"))
        other += ["data"] if (folder / "data").is_file() else []
    else:
        other = sorted(names - OURS) or sorted(names)
    if other:
        raise SplitError(
            f"The folder {folder} has other files in it, such as {other[0]!r}, and is left unchanged; name a new or an empty one."
        )
    try:
        read_record(folder / RECORD)
    except SplitError as error:
        raise SplitError(
            f"The folder {folder} has a {RECORD} that mia_hub didn't write, and is left unchanged; name a new or an empty one."
        ) from error


def write_decoded(
    decoded: DecodedSplit, record: SplitRecord, folder: str | Path, *, name: str | None = None, progress: bool = True
) -> None:
    """Write the files of a split; they appear under their names once they are complete.

    Raises:
        SplitError: if the folder can't be written to.
    """
    check_folder(folder)
    folder = Path(folder).resolve()
    incomplete, earlier = (folder.with_name(f".{folder.name}.{state}") for state in ("incomplete", "replaced"))
    try:
        _finish_replacing(folder, earlier)  # after an earlier kill
        shutil.rmtree(incomplete, ignore_errors=True)
        (incomplete / "data").mkdir(parents=True)
        bytes_of = dict(_write_parts(decoded.split, incomplete / "data", progress))
        (incomplete / RECORD).write_text(json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (incomplete / "README.md").write_text(card_text(record, bytes_of, name=name), encoding="utf-8")
        if folder.is_dir():
            folder.rename(earlier)
        incomplete.rename(folder)
    except OSError as error:
        raise SplitError(f"The folder {folder} can't be written to ({error.strerror}); name another one.") from error
    finally:
        with suppress(OSError):  # the next attempt finishes it
            _finish_replacing(folder, earlier)
        shutil.rmtree(incomplete, ignore_errors=True)


def _finish_replacing(folder: Path, earlier: Path) -> None:
    """Leave one of a folder's earlier content and its replacement: the replacement if it is in place."""
    if not earlier.is_dir():
        return
    if folder.exists():
        shutil.rmtree(earlier, ignore_errors=True)
    else:
        earlier.rename(folder)


def _write_parts(split: MemberSplit, folder: Path, progress: bool) -> Iterator[tuple[str, int]]:
    """Write members and non-members; yield each split's name and the bytes of its rows."""
    start, columns = 0, split_features(captions=split.captions is not None, classes=split.classes is not None)
    for label, images in ((1, split.members), (0, split.nonmembers)):
        with _Shards(folder, LABELS[label], columns) as shards:
            for place in tqdm(range(len(images)), desc=f"writing {LABELS[label]}s", unit="image", delay=1.0, disable=not progress):
                shards.add(_row(split, images, place, start + place, label))
        yield LABELS[label], shards.written
        start += len(images)


def _row(split: MemberSplit, images: Sequence[InputImage], place: int, row: int, label: int) -> dict[str, Any]:
    values: dict[str, Any] = {"image": {"bytes": encoded_file(images, place) or _png(images[place]), "path": None}, "label": label}
    if split.captions is not None:
        caption = split.captions[row]
        values["caption"] = None if caption is None else str(caption)
    if split.classes is not None:
        values["class"] = _class(split.classes[row], split.name)
    return values


def _class(value: Any, name: str) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError) as error:
        raise SplitError(f"The classes of {name} must be integers, indices of the model's classes; got {value!r:.60}.") from error


def _png(image: InputImage) -> bytes:
    """Return the file of an image that did not come as one.

    Raises:
        SplitError: for values that no 8-bit file can hold.
    """
    if image.pixels.dtype != np.uint8:
        raise SplitError(f"{image.name} is an array of floats that aren't multiples of 1/255, which no 8-bit file holds; round it first.")
    buffer = io.BytesIO()
    image.to_pil().save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class _OpenShard:
    writer: Any
    path: Path
    size: int = 0


class _Shards:
    """Parquet files of bounded size, to which rows are added.

    Attributes:
        written: bytes of images and captions in all files.
    """

    def __init__(self, folder: Path, name: str, features: Any):
        self.folder, self.name, self.features, self.written = folder, name, features, 0
        self._rows: list[dict[str, Any]] = []
        self._held = 0
        self._paths: list[Path] = []
        self._shard: _OpenShard | None = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._flush()
        self._close()
        if kind is None:
            for number, path in enumerate(self._paths):
                path.rename(self.folder / f"{self.name}-{number:05}-of-{len(self._paths):05}.parquet")

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._held += len(row["image"]["bytes"]) + len((row.get("caption") or "").encode())
        if len(self._rows) >= ROWS_PER_GROUP or self._held >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        if self._shard is not None and self._shard.size + self._held > SHARD_BYTES:
            self._close()
        if self._shard is None:
            self._shard = self._open()
        self._shard.writer.write_table(pa.Table.from_pylist(self._rows, schema=self.features.arrow_schema))
        self._shard.size += self._held
        self.written += self._held
        self._rows, self._held = [], 0

    def _open(self) -> _OpenShard:
        import pyarrow.parquet as pq

        path = self.folder / f"{self.name}-{len(self._paths)}.tmp"
        self._paths.append(path)
        # Images are compressed already, and their minimum and maximum are of no use.
        columns = [name for name in self.features if name != "image"]
        compression = {"image.bytes": "none", "image.path": "none"} | dict.fromkeys(columns, "snappy")
        return _OpenShard(pq.ParquetWriter(path, self.features.arrow_schema, compression=compression, write_statistics=columns), path)

    def _close(self) -> None:
        if self._shard is not None:
            self._shard.writer.close()
            self._shard = None
