"""Members and non-members of a model's training set: the ground truth that an attack is measured against."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mia_hub.captioned import CAPTION_COLUMNS, CLASS_COLUMNS, captions_beside, classes_beside, complete, first_of, rows_of
from mia_hub.errors import SplitError, first_line, whole_number
from mia_hub.images import Picture, as_pictures, find_images

MEMBER_NAMES = ("member", "members")
NONMEMBER_NAMES = ("nonmember", "nonmembers", "non-member", "non-members", "non_member", "non_members")
LABEL_COLUMNS = ("label", "is_member", "membership")
IMAGE_COLUMNS = ("image", "img", "images")
CAPTION_SOURCES = ("split", "empty")


class Columns(NamedTuple):
    """The columns of a data set that were asked for by name; the usual ones where None."""

    image_column: str | None
    caption_column: str | None
    class_column: str | None


class _Joined(Sequence):
    """Two lazy sequences, one after the other."""

    def __init__(self, first: Sequence, second: Sequence):
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


@dataclass(frozen=True, eq=False)
class MemberSplit:
    """Pictures known to be in a training set, and pictures known not to be.

    Attributes:
        name: "demo", a folder, or a Hub id.
        members, nonmembers: lazy sequences of `Picture`; nothing is decoded before it is needed.
        captions: one per image, members first, or None.
        revision: commit hash on the Hub, or None.
        classes: class index of each image, members first, or None.
    """

    name: str
    members: Sequence[Picture]
    nonmembers: Sequence[Picture]
    captions: Sequence[str] | None = None
    revision: str | None = None
    classes: Sequence[int] | None = None

    def told(self, conditioning: str, source: str = "split") -> MemberSplit:
        """The split whose `captions` are what a model is to be told beside each image.

        Args:
            conditioning: the model's: with "text" they are the captions, with "class" the classes, with "none" there are none.
            source: "split" (those of the split, if it has any) or "empty".

        Raises:
            SplitError: for another source; if some images have a caption and others none, which could give away what is asked; or if
                classes are no whole numbers.
        """
        if source not in CAPTION_SOURCES:
            raise SplitError(f"captions must be {' or '.join(map(repr, CAPTION_SOURCES))}; got {source!r}.")
        given = {"text": self.captions, "class": self.classes}.get(conditioning) if source == "split" else None
        if given is not None:
            given = complete(given, "caption" if conditioning == "text" else "class", self.name)
        return replace(self, captions=given)

    @cached_property
    def images(self) -> Sequence[Picture]:
        """All pictures, members first."""
        return _Joined(self.members, self.nonmembers)

    @cached_property
    def is_member(self) -> np.ndarray:
        """int8 ``[N]``, 1 = member, in the order of `images`."""
        return np.repeat(np.array([1, 0], dtype=np.int8), [len(self.members), len(self.nonmembers)])

    @cached_property
    def hash(self) -> str:
        """Identity of the split by content: it doesn't depend on order, names or storage. Decodes every picture once."""
        return split_hash([picture.id for picture in self.images], self.is_member)

    def limited(self, limit: int | None, seed: int = 0) -> MemberSplit:
        """At most ``limit`` members and as many non-members, by a seeded draw.

        Raises:
            SplitError: if ``limit`` is below 2.
        """
        if limit is None:
            return self
        whole_number("limit", limit, 2, SplitError)
        whole_number("seed", seed, 0, SplitError)
        rng = np.random.default_rng(seed)
        keep = [np.sort(rng.permutation(len(part))[:limit]) for part in (self.members, self.nonmembers)]
        members, nonmembers = (Chosen(part, rows) for part, rows in zip((self.members, self.nonmembers), keep))
        rows = np.concatenate([keep[0], keep[1] + len(self.members)])
        captions, classes = (rows_of(given, rows) for given in (self.captions, self.classes))
        return replace(self, members=members, nonmembers=nonmembers, captions=captions, classes=classes)


class Chosen(Sequence):
    """Some rows of a lazy sequence."""

    def __init__(self, items: Sequence, rows: Sequence[int]):
        self.items, self.rows = items, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Chosen(self.items, self.rows[index])
        return self.items[int(self.rows[index])]


def split_hash(ids: Iterable[str], is_member: Iterable[int]) -> str:
    """``sha256:…`` over the sorted (id, label) pairs."""
    lines = sorted(f"{sample} {int(label)}\n" for sample, label in zip(ids, is_member))
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def calibration_mask(ids: Sequence[str], *, fraction: float = 0.5, seed: int = 0) -> np.ndarray:
    """Which samples belong to the calibration part, on which everything that is chosen is chosen; figures come from the rest.

    Ranks samples by a hash of (seed, id), so that the part doesn't depend on their order. Call it per class.

    Args:
        ids: content ids, N of them.
        fraction: share of the calibration part, in (0, 1).

    Returns:
        bool ``[N]`` with round(fraction·N) True (some more where copies of a picture stand at the border).
    """
    keys = np.array([_key("calibration", seed, sample) for sample in ids], dtype=object)
    count = round(fraction * len(keys))
    # By comparison and not by place in the order, so that copies of a picture fall on one side.
    return keys <= np.sort(keys)[count - 1] if count else np.zeros(len(keys), bool)


def _key(use: str, seed: int, sample: str) -> bytes:
    return hashlib.sha256(f"{use}:{seed}:{sample}".encode()).digest()


def calibration_part(ids: Sequence[str], is_member: np.ndarray, *, fraction: float = 0.5, seed: int = 0) -> np.ndarray:
    """bool ``[N]``: `calibration_mask`, drawn within members (1), non-members (0) and unknowns (-1) each."""
    mask = np.zeros(len(ids), bool)
    for label in np.unique(is_member):
        rows = np.flatnonzero(is_member == label)
        mask[rows] = calibration_mask([ids[i] for i in rows], fraction=fraction, seed=seed)
    return mask


def folds(ids: Sequence[str], is_member: np.ndarray, k: int, *, seed: int = 0) -> np.ndarray:
    """int ``[N]``: the fold, 0 … k-1, of each sample, balanced within each label; copies of a picture share a fold."""
    fold = np.zeros(len(ids), int)
    for label in np.unique(is_member):
        rows = np.flatnonzero(is_member == label)
        keys = np.array([_key("fold", seed, ids[i]) for i in rows], dtype=object)
        fold[rows] = np.unique(keys, return_inverse=True)[1] % k
    return fold


def make_split(members, nonmembers, *, captions=None, classes=None, name: str = "custom") -> MemberSplit:
    """A split of pictures at hand.

    Args:
        members, nonmembers: anything `mia_hub.images.as_pictures` takes.
        captions, classes: one per picture, members first; for models conditioned on text, or on classes.
        name: as recorded in results.

    Raises:
        SplitError: if there are not as many captions or classes as pictures.
    """
    split = MemberSplit(name, as_pictures(members), as_pictures(nonmembers), captions, None, classes)
    for what, given in (("captions", captions), ("classes", classes)):
        if given is not None and len(given) != len(split.images):
            raise SplitError(f"{what} has {len(given)} entries for {len(split.images)} images; one per image is needed, members first.")
    return split


def load_split(
    id_or_path="demo",
    *,
    config: str | None = None,
    revision: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    class_column: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> MemberSplit:
    """Loads members and non-members.

    Args:
        id_or_path: "demo"; a folder that holds ``member/`` and ``nonmember/`` folders of images, or Parquet files of such splits;
            a data set on the Hub with splits ``member`` and ``nonmember``, or one split with a label column whose class
            names are those; or a MemberSplit, which is returned as it is.
        config: configuration of the Hub data set.
        revision: branch, tag or commit of the Hub data set.
        image_column: the column of images, where it isn't called ``image``.
        caption_column: the column of captions, where it isn't called ``caption``, ``text`` or ``prompt``; beside picture files also a text
            file each will do (see `mia_hub.captioned`).
        class_column: the column of class indices, where it isn't called ``class``.
        limit: at most so many members and so many non-members, by a seeded draw.
        seed: of that draw.

    Raises:
        SplitError: if it can't be found, has no images, or doesn't say which images are members.
    """
    columns = Columns(image_column, caption_column, class_column)
    given = {"config": config, "revision": revision, **columns._asdict()}
    if isinstance(id_or_path, MemberSplit):
        _refuse_useless(given, id_or_path.name)
        return id_or_path.limited(limit, seed)
    name = str(id_or_path).strip()
    if name == "demo" or Path(name).is_dir():
        _refuse_useless({"config": config, "revision": revision}, name)
    if name == "demo":
        from mia_hub.models.loading import DEMO_FOLDER

        split = _from_data_files(DEMO_FOLDER, "demo", columns)
    elif Path(name).is_dir():
        split = _from_folder(Path(name), columns)
    elif name.count("/") == 1:
        split = _from_hub(name, config, revision, columns)
    else:
        raise SplitError(
            f"There is no split {name!r}: it is neither 'demo', nor an existing folder, nor a data set on the Hub of the form 'owner/name'."
        )
    for part, pictures in (("members", split.members), ("non-members", split.nonmembers)):
        if not len(pictures):
            raise SplitError(f"The split {name!r} has no {part}; both members and non-members are needed.")
    return split.limited(limit, seed)


def _refuse_useless(options: dict, name: str) -> None:
    """An option that would be ignored without a word is an error."""
    for option, value in options.items():
        if value is not None:
            raise SplitError(f"{option}={value!r} is for data sets on the Hub, and {name} is none; leave it out.")


def _from_folder(folder: Path, columns: Columns) -> MemberSplit:
    named = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    parts = [next((named[n] for n in names if n in named), None) for names in (MEMBER_NAMES, NONMEMBER_NAMES)]
    if all(parts):
        files = [find_images(part) for part in parts]
        both = [*files[0], *files[1]]
        captions, classes = captions_beside(both, column=columns.caption_column), classes_beside(both, column=columns.class_column)
        return MemberSplit(str(folder), *map(as_pictures, files), captions, None, classes)
    if any(parts):
        raise SplitError(f"The folder {folder} has a {'member' if parts[0] else 'nonmember'} folder but not the other; both are needed.")
    if any(folder.glob("**/*.parquet")):
        return _from_data_files(folder, str(folder), columns)
    raise SplitError(
        f"The folder {folder} doesn't say which images are members: it needs a folder 'member' and a folder 'nonmember' of images "
        "(or Parquet files of two such splits, data/member-*.parquet and data/nonmember-*.parquet)."
    )


def _from_data_files(folder: Path, name: str, columns: Columns) -> MemberSplit:
    """Splits published as ``data/member-*.parquet`` and ``data/nonmember-*.parquet``, read without copying them to a cache."""
    import pyarrow.parquet as pq

    parts, said = [], []
    for kind in ("member", "nonmember"):
        files = sorted(folder.glob(f"**/{kind}*-*.parquet"))
        if not files:
            raise SplitError(f"The folder {folder} has no data/{kind}-*.parquet; both splits are needed.")
        names = pq.read_schema(files[0]).names
        parts.append(as_pictures(_ParquetColumn(files, _image_column(names, columns.image_column, name))))
        said.append([found and _ParquetColumn(files, found) for found in _further_columns(names, columns, name)])
    return _split_of(name, parts, said, None)


class _ParquetColumn(Sequence):
    """A column of Parquet files, one Python value at a time; of its row groups only the few last used are in memory."""

    def __init__(self, files: Sequence[Path], column: str):
        import pyarrow.parquet as pq

        self.column = column
        self.groups = [(file, group) for file in files for group in range(pq.read_metadata(file).num_row_groups)]
        sizes = [pq.read_metadata(file).row_group(group).num_rows for file, group in self.groups]
        self.ends = np.cumsum(sizes)
        self._read = lru_cache(maxsize=4)(self._read_group)

    def _read_group(self, number: int):
        import pyarrow.parquet as pq

        file, group = self.groups[number]
        return pq.ParquetFile(file).read_row_group(group, columns=[self.column])[self.column]

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index):
        number = int(np.searchsorted(self.ends, index, side="right"))
        rows = self._read(number)
        return rows[int(index - self.ends[number]) + len(rows)].as_py()


def _image_column(columns: Sequence[str], asked: str | None, name: str) -> str:
    found = next((c for c in ((asked,) if asked else IMAGE_COLUMNS) if c in columns), None)
    if found is None:
        raise SplitError(f"{name} has no column {asked or 'image'!r}; it has {', '.join(columns)}. Name one with image_column=….")
    return found


def _further_columns(names: Sequence[str], columns: Columns, what: str) -> list[str | None]:
    """The columns of captions and of classes, if there are any."""
    found = []
    for asked, usual in ((columns.caption_column, CAPTION_COLUMNS), (columns.class_column, CLASS_COLUMNS)):
        if asked and asked not in names:
            raise SplitError(f"{what} has no column {asked!r}; it has {', '.join(names)}.")
        found.append(next((c for c in ((asked,) if asked else usual) if c in names), None))
    return found


def _split_of(name: str, parts: Sequence[Sequence], said: Sequence[Sequence], revision: str | None) -> MemberSplit:
    """The split of two parts, each with its captions and its classes, or None for such."""

    def both(which: int) -> list | None:
        columns = [found[which] for found in said]
        if columns == [None, None]:
            return None
        given = [value for part, column in zip(parts, columns) for value in ([None] * len(part) if column is None else column)]
        return [first_of(value) for value in given]

    return MemberSplit(name, *parts, both(0), revision, both(1))


def _from_hub(name: str, config: str | None, revision: str | None, columns: Columns) -> MemberSplit:
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    from mia_hub.models.repository import HUB_TIMEOUT

    try:
        # Pinned before anything is read, so that what is recorded is what was used.
        commit = HfApi().dataset_info(name, revision=revision, timeout=HUB_TIMEOUT).sha
        loaded = datasets.load_dataset(name, config, revision=commit)
    except GatedRepoError as error:
        raise SplitError(f"The data set {name} is gated: accept its terms on its page, then log in with 'hf auth login'.") from error
    except RevisionNotFoundError as error:
        raise SplitError(f"The data set {name} has no revision {revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise SplitError(
            f"The Hub has no data set {name!r} that you may see. Check the spelling, or log in with 'hf auth login'."
        ) from error
    except Exception as error:  # the clients raise many kinds for an unreachable Hub or a broken data set
        raise SplitError(f"The data set {name} could not be loaded ({type(error).__name__}: {first_line(error)[:200]}).") from error

    parts = [next((n for n in names if n in loaded), None) for names in (MEMBER_NAMES, NONMEMBER_NAMES)]
    if all(parts):
        members, nonmembers = (loaded[part] for part in parts)
    elif len(loaded) == 1:
        members, nonmembers = _by_label(next(iter(loaded.values())), name)
    else:
        raise SplitError(f"The data set {name} has the splits {', '.join(loaded)}; needed are 'member' and 'nonmember'.")
    column = _image_column(members.column_names, columns.image_column, name)
    # Undecoded, so that our own safe decoder opens every picture.
    undecoded = datasets.Image(decode=False)
    both = [as_pictures(part.cast_column(column, undecoded)[column]) for part in (members, nonmembers)]
    said = [[found and part[found] for found in _further_columns(part.column_names, columns, name)] for part in (members, nonmembers)]
    return _split_of(name, both, said, commit)


def _by_label(rows, name: str):
    """Members and non-members of one split by its label column; which value means member must be said by the data set itself."""
    import datasets

    for column in LABEL_COLUMNS:
        feature = rows.features.get(column)
        if not isinstance(feature, datasets.ClassLabel):
            continue
        values = [next((i for i, n in enumerate(feature.names) if n.lower() in names), None) for names in (MEMBER_NAMES, NONMEMBER_NAMES)]
        if None not in values:
            labels = np.asarray(rows[column])
            return tuple(rows.select(np.flatnonzero(labels == value)) for value in values)
    raise SplitError(
        f"The data set {name} doesn't say which images are members. It needs two splits, 'member' and 'nonmember', or a column 'label' of "
        "type ClassLabel with the names 'nonmember' and 'member'; which of two unnamed values means member is not guessed."
    )
