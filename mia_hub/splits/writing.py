"""A split as a folder in the form that the Hub shows and `load_split` reads: Parquet files of members and of non-members, and a card."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mia_hub.errors import SplitError
from mia_hub.images.image import encoded_file
from mia_hub.metrics.estimates import Estimate
from mia_hub.splits.card import LABELS, SplitRecord, card_text, split_features
from mia_hub.splits.drawing import DecodedSplit, decode_split
from mia_hub.splits.member_split import MemberSplit, split_hash
from mia_hub.splits.notes import split_notes
from mia_hub.splits.sources import Origin
from mia_hub.system.provenance import provenance

# As the Hub advises for images: row groups that its viewer can fetch, in files that clients can.
ROWS_PER_GROUP = 100
GROUP_BYTES = 16 * 2**20
SHARD_BYTES = 256 * 2**20
RECORD = "split.json"
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
    """Writes a split as a folder that can be published on the Hub: ``data/member-*.parquet``, ``data/nonmember-*.parquet``, ``README.md``.

    Each row has the image's file as it came, metadata such as EXIF included (PNG where it came as an array), so that its content and the
    split's hash stay the same; the label, as a class with the names nonmember (0) and member (1); and caption and class where the split
    has them. Rows are written one by one: a large split needs no more memory than a small one, but for 16 bytes for each image.

    Args:
        split: what is written. Images that can't be read are left out, and counted.
        folder: made if it isn't there. A split that was written to it before is replaced; a folder with anything else is refused.
        origins: where the images come from: one source, or that of the members and that of the non-members.
        seed: of the draw, if there was one.
        license: of the images, as the Hub names it, such as "cc-by-4.0"; "unknown" where None.
        model: whose training images the members are, or None.
        name: id on the Hub under which it will be published, for the card.
        shift_check: whether a blind classifier is trained to tell members from non-members.
        progress: shows progress bars.

    Returns:
        What the card says.

    Raises:
        SplitError: if the folder can't be written to, or an image is on both sides.
    """
    check_folder(folder)
    drawn = split if isinstance(split, DecodedSplit) else decode_split(split, progress=progress)
    described = {"origins": origins, "seed": seed, "license": license, "model": model, "shift_check": shift_check, "progress": progress}
    record = split_record(drawn, **described)
    write_decoded(drawn, record, folder, name=name, progress=progress)
    return record


def split_record(
    drawn: DecodedSplit,
    *,
    origins: tuple[Origin, ...] = (),
    seed: int | None = None,
    license: str | None = None,
    model: str | None = None,
    shift_check: bool = True,
    progress: bool = True,
) -> SplitRecord:
    """What the card of a split says; the arguments are those of `write_split`."""
    from mia_hub.splits.shift import shift_flags

    split = drawn.split
    blind = _blind(split, seed or 0, progress) if shift_check else None
    return SplitRecord(
        hash=split_hash((id.decode() for id in drawn.ids), split.is_member),
        n_members=len(split.members),
        n_nonmembers=len(split.nonmembers),
        origins=origins,
        seed=seed,
        license=license or "unknown",
        model=model,
        has_captions=split.captions is not None,
        has_classes=split.classes is not None,
        left_out=dict(sorted(drawn.left_out.items())),
        copies=drawn.copies,
        notes=split.notes,
        blind_auc=blind,
        flags=shift_flags(blind),
        provenance=provenance(),
    )


def _blind(split: MemberSplit, seed: int, progress: bool) -> Estimate | None:
    """The blind classifier's AUC, on a sample: it is trained on no more."""
    from mia_hub.images.features import blind_features
    from mia_hub.splits.shift import MOST_FOR_BLIND, blind_auc

    rng = np.random.default_rng(seed)
    sizes = (len(split.members), len(split.nonmembers))
    places = [np.sort(rng.permutation(size)[:MOST_FOR_BLIND]) for size in sizes]
    rows = np.concatenate([places[0], places[1] + sizes[0]])
    seen = [blind_features(split.images[int(row)]) for row in tqdm(rows, desc="shift check", unit="image", delay=1.0, disable=not progress)]
    return blind_auc(np.array(seen), split.is_member[rows], seed=seed)


def earlier_record(source: str | Path) -> SplitRecord | None:
    """What a split that was written to a folder says of where it comes from, for when it is written again; None for other sources."""
    path = Path(source) / RECORD
    if not path.is_file():
        return None
    return read_record(path)


def read_record(path: Path) -> SplitRecord:
    """What ``split.json`` says of where a split comes from.

    Raises:
        SplitError: if it is not of a split that was written here.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if not HASH.fullmatch(said["hash"]):
            raise ValueError(f"its hash is {said['hash']!r:.80}")
        kept = {name: said[name] for name in ("hash", "license", "model")}
        kept |= {name: int(said[name]) for name in ("n_members", "n_nonmembers")}
        kept["seed"] = None if said["seed"] is None else int(said["seed"])
        kept["left_out"] = {str(reason): int(count) for reason, count in said["left_out"].items()}
        kept["notes"] = tuple(split_notes(said))
        return SplitRecord(**kept, origins=tuple(Origin(**origin) for origin in said["origins"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SplitError) as error:
        raise SplitError(f"{path} can't be read as what is known of the split ({error!r:.200}); delete it if it isn't wanted.") from error


def foreign_data(paths: Iterable[str]) -> list[str]:
    """Those of some paths below ``data/`` that no split is written to, sorted."""
    return sorted(path for path in paths if path.startswith("data/") and not PARTS.fullmatch(path.removeprefix("data/")))


def check_folder(folder: str | Path) -> None:
    """Refuses a folder that holds anything but a split that was written there.

    Raises:
        SplitError: if it does.
    """
    folder = Path(folder)
    if folder.is_file():
        raise SplitError(f"{folder} is a file; name a folder to write the split to.")
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not found:
        return
    if RECORD in found and found <= OURS:
        other = foreign_data(path.relative_to(folder).as_posix() for path in (folder / "data").rglob("*"))
        other += ["data"] if (folder / "data").is_file() else []
    else:
        other = sorted(found - OURS) or sorted(found)
    if other:
        raise SplitError(
            f"The folder {folder} has other files in it, such as {other[0]!r}, and is left as it is; name a new or an empty one."
        )
    try:
        read_record(folder / RECORD)
    except SplitError as error:
        raise SplitError(
            f"The folder {folder} has a {RECORD} that mia_hub didn't write, and is left as it is; name a new or an empty one."
        ) from error


def write_decoded(drawn: DecodedSplit, record: SplitRecord, folder: str | Path, *, name: str | None = None, progress: bool = True) -> None:
    """Writes the files. They appear under their names once they are complete.

    Raises:
        SplitError: if the folder can't be written to.
    """
    check_folder(folder)
    folder = Path(folder).resolve()
    made, earlier = (folder.with_name(f".{folder.name}.{state}") for state in ("incomplete", "replaced"))
    try:
        _settle(folder, earlier)  # where it was killed before
        shutil.rmtree(made, ignore_errors=True)
        (made / "data").mkdir(parents=True)
        bytes_of = dict(_write_parts(drawn.split, made / "data", progress))
        (made / RECORD).write_text(json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (made / "README.md").write_text(card_text(record, bytes_of, name=name), encoding="utf-8")
        if folder.is_dir():
            folder.rename(earlier)
        made.rename(folder)
    except OSError as error:
        raise SplitError(f"The folder {folder} can't be written to ({error.strerror}); name another one.") from error
    finally:
        with suppress(OSError):  # the next attempt settles it
            _settle(folder, earlier)
        shutil.rmtree(made, ignore_errors=True)


def _settle(folder: Path, earlier: Path) -> None:
    """Of what was in a folder before and what replaces it, one is left: the new one where it is in place."""
    if not earlier.is_dir():
        return
    if folder.exists():
        shutil.rmtree(earlier, ignore_errors=True)
    else:
        earlier.rename(folder)


def _write_parts(split: MemberSplit, folder: Path, progress: bool) -> Iterator[tuple[str, int]]:
    """Writes members and non-members; gives each split's name and the bytes of its rows."""
    start, columns = 0, split_features(captions=split.captions is not None, classes=split.classes is not None)
    for label, images in ((1, split.members), (0, split.nonmembers)):
        with _Shards(folder, LABELS[label], columns) as shards:
            for place in tqdm(range(len(images)), desc=f"writing {LABELS[label]}s", unit="image", delay=1.0, disable=not progress):
                shards.add(_row(split, images, place, start + place, label))
        yield LABELS[label], shards.written
        start += len(images)


def _row(split: MemberSplit, images, place: int, row: int, label: int) -> dict[str, Any]:
    values: dict[str, Any] = {"image": {"bytes": encoded_file(images, place) or _png(images[place]), "path": None}, "label": label}
    if split.captions is not None:
        caption = split.captions[row]
        values["caption"] = None if caption is None else str(caption)
    if split.classes is not None:
        values["class"] = _class(split.classes[row], split.name)
    return values


def _class(value, name: str) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError) as error:
        raise SplitError(f"The classes of {name} must be whole numbers, indices of the model's classes; got {value!r:.60}.") from error


def _png(image) -> bytes:
    """An image that came without a file.

    Raises:
        SplitError: for one whose values no 8-bit file can hold.
    """
    if image.pixels.dtype != np.uint8:
        raise SplitError(f"{image.name} is an array of floats that aren't multiples of 1/255, which no 8-bit file holds; round it first.")
    buffer = io.BytesIO()
    image.to_pil().save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class _Open:
    writer: Any
    path: Path
    size: int = 0


class _Shards:
    """Rows into Parquet files of bounded size.

    Attributes:
        written: bytes of images and captions, of all files.
    """

    def __init__(self, folder: Path, name: str, features):
        self.folder, self.name, self.features, self.written = folder, name, features, 0
        self._rows: list[dict[str, Any]] = []
        self._held, self._paths = 0, []
        self._now: _Open | None = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, kind, *_) -> None:
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
        if self._now is not None and self._now.size + self._held > SHARD_BYTES:
            self._close()
        if self._now is None:
            self._now = self._opened()
        self._now.writer.write_table(pa.Table.from_pylist(self._rows, schema=self.features.arrow_schema))
        self._now.size += self._held
        self.written += self._held
        self._rows, self._held = [], 0

    def _opened(self) -> _Open:
        import pyarrow.parquet as pq

        path = self.folder / f"{self.name}-{len(self._paths)}.tmp"
        self._paths.append(path)
        # Images are compressed already; and the least and the greatest of them say nothing.
        columns = [name for name in self.features if name != "image"]
        compression = {"image.bytes": "none", "image.path": "none"} | dict.fromkeys(columns, "snappy")
        return _Open(pq.ParquetWriter(path, self.features.arrow_schema, compression=compression, write_statistics=columns), path)

    def _close(self) -> None:
        if self._now is not None:
            self._now.writer.close()
            self._now = None
