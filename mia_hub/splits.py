"""Members and non-members of a model's training set: the ground truth that an attack is measured against."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mia_hub.captioned import complete, rows_of
from mia_hub.errors import AttackError, SplitError, whole_number
from mia_hub.images import Picture, as_pictures
from mia_hub.lazy import Chosen, Joined

MEMBER_NAMES = ("member", "members")
NONMEMBER_NAMES = ("nonmember", "nonmembers", "non-member", "non-members", "non_member", "non_members")
CAPTION_SOURCES = ("split", "empty")
# A content id, a blank, a label and a line break.
LINE_BYTES = 35


@dataclass(frozen=True, eq=False)
class MemberSplit:
    """Pictures known to be in a training set, and pictures known not to be.

    Attributes:
        name: "demo", a folder, or a Hub id.
        members, nonmembers: lazy sequences of `Picture`; nothing is decoded before it is needed.
        captions: one per image, members first, or None.
        revision: commit hash on the Hub, or None.
        classes: class index of each image, members first, or None.
        notes: what the reader of a result must know of the split, one sentence each.
    """

    name: str
    members: Sequence[Picture]
    nonmembers: Sequence[Picture]
    captions: Sequence[str] | None = None
    revision: str | None = None
    classes: Sequence[int] | None = None
    notes: tuple[str, ...] = ()

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
        return Joined(self.members, self.nonmembers)

    @cached_property
    def is_member(self) -> np.ndarray:
        """int8 ``[N]``, 1 = member, in the order of `images`."""
        return np.repeat(np.array([1, 0], dtype=np.int8), [len(self.members), len(self.nonmembers)])

    @cached_property
    def hash(self) -> str:
        """Identity of the split by content: it doesn't depend on order, names or storage. Decodes every picture once."""
        return split_hash((picture.id for picture in self.images), self.is_member)

    def limited(self, limit: int | None, seed: int = 0) -> MemberSplit:
        """At most ``limit`` members and as many non-members, by a seeded draw.

        Raises:
            SplitError: if ``limit`` is below 2.
        """
        if limit is None:
            return self
        keep = drawn_rows([len(part) for part in (self.members, self.nonmembers)], limit, seed)
        members, nonmembers = (Chosen(part, rows) for part, rows in zip((self.members, self.nonmembers), keep))
        rows = np.concatenate([keep[0], keep[1] + len(self.members)])
        captions, classes = (rows_of(given, rows) for given in (self.captions, self.classes))
        return replace(self, members=members, nonmembers=nonmembers, captions=captions, classes=classes)


def drawn_rows(sizes: Sequence[int], limit: int, seed: int = 0) -> list[np.ndarray]:
    """Which rows of each of several parts a seeded draw of at most ``limit`` takes, increasing.

    Raises:
        SplitError: if ``limit`` is below 2, or ``seed`` below 0.
    """
    whole_number("limit", limit, 2, SplitError)
    whole_number("seed", seed, 0, SplitError)
    rng = np.random.default_rng(seed)
    return [np.sort(rng.permutation(size)[:limit]) for size in sizes]


def split_hash(ids: Iterable[str], is_member: Iterable[int]) -> str:
    """``sha256:…`` over the sorted (id, label) pairs."""
    lines = (f"{sample} {int(label)}\n".encode() for sample, label in zip(ids, is_member))
    # As one array: a million Python strings would take three times the memory.
    ordered = np.sort(np.fromiter(_no_longer(lines), dtype=f"S{LINE_BYTES}"))
    digest = hashlib.sha256()
    for line in ordered:
        digest.update(line)
    return "sha256:" + digest.hexdigest()


def captions_hash(ids: Iterable[str], captions: Iterable) -> str:
    """``sha256:…`` over the sorted (id, caption) pairs: which picture a model is told what of."""
    told = sorted(f"{sample}\t{caption}\n" for sample, caption in zip(ids, captions))
    return "sha256:" + hashlib.sha256("".join(told).encode()).hexdigest()


def _no_longer(lines: Iterable[bytes]) -> Iterable[bytes]:
    for line in lines:
        if len(line) > LINE_BYTES:
            raise SplitError(f"{line.decode()!r} begins with no content id, which is at most 32 characters long.")
        yield line


def distinct(pictures: Sequence[Picture], captions=None) -> tuple[Sequence[Picture], Any, int]:
    """The pictures without copies, with their captions, and how many copies: one tells nothing new, and would make p-values too small.

    Args:
        captions: one per picture, one for all, or None.

    Raises:
        AttackError: for another number of captions.
    """
    first: dict[str, int] = {}
    for row, picture in enumerate(pictures):
        first.setdefault(picture.id, row)
    if captions is not None and not isinstance(captions, (str, int)):
        if len(captions) != len(pictures):
            raise AttackError(f"There are {len(captions)} captions for {len(pictures)} images; one per image is needed.")
        captions = rows_of(captions, first.values())
    return Chosen(pictures, list(first.values())), captions, len(pictures) - len(first)


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
    fetch: bool = False,
) -> MemberSplit:
    """Loads members and non-members. Pictures and captions are read when they are needed, so that a large split needs no more memory.

    Args:
        id_or_path: "demo"; a folder that holds ``member/`` and ``nonmember/`` folders of images, or Parquet files of such splits;
            a Parquet file; a data set on the Hub with splits ``member`` and ``nonmember`` (or ``members`` and ``nonmembers``), or one
            split with a label column that says which value means member; or a MemberSplit, which is returned as it is.
        config: configuration of the Hub data set.
        revision: branch, tag or commit of the Hub data set.
        image_column: the column of images, where it isn't called ``image``; or of their addresses, where it isn't called ``url``.
        caption_column: the column of captions, where it isn't called ``caption``, ``text`` or ``prompt``; beside picture files also a text
            file each will do (see `mia_hub.captioned`).
        class_column: the column of class indices, where it isn't called ``class``.
        limit: at most so many members and so many non-members, by a seeded draw.
        seed: of that draw.
        fetch: whether the pictures of a data set that has only their addresses may be fetched from there. Only public hosts are asked; what
            can't be had is counted in the split's ``notes``, and warned of.

    Raises:
        SplitError: if it can't be found, has no images, or doesn't say which images are members.
    """
    given = {"config": config, "revision": revision}
    named = {"image_column": image_column, "caption_column": caption_column, "class_column": class_column}
    if isinstance(id_or_path, MemberSplit):
        _refuse_useless(given | named, id_or_path.name)
        return id_or_path.limited(limit, seed)
    name = str(id_or_path).strip()
    if name == "demo" or Path(name).exists():
        _refuse_useless(given, name)
    split = _loaded(name, given, named, {"allowed": fetch, "limit": limit, "seed": seed})
    for part, pictures in (("members", split.members), ("non-members", split.nonmembers)):
        if not len(pictures):
            raise SplitError(f"The split {name!r} has no {part}; both members and non-members are needed.")
    for note in split.notes:
        warnings.warn(note, stacklevel=2)
    return split.limited(limit, seed)


def _loaded(name: str, given: dict, named: dict, fetching: dict) -> MemberSplit:
    from mia_hub.split_reading import Columns, Fetching, read_folder, read_hub, read_parquet

    path, how = Path(name), (Columns(**named), Fetching(**fetching))
    if name == "demo":
        from mia_hub.models.loading import DEMO_FOLDER

        return read_parquet(DEMO_FOLDER, sorted(DEMO_FOLDER.glob("data/*.parquet")), "demo", *how)
    if path.is_dir():
        return read_folder(path, *how)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return read_parquet(path.parent, [path], name, *how)
    if name.count("/") == 1 and not path.exists():
        return read_hub(name, given["config"], given["revision"], *how)
    raise SplitError(
        f"There is no split {name!r}: it is neither 'demo', nor an existing folder or Parquet file, nor a data set on the Hub of the form "
        "'owner/name'."
    )


def _refuse_useless(options: dict, name: str) -> None:
    """An option that would be ignored without a word is an error."""
    for option, value in options.items():
        if value is not None:
            raise SplitError(f"{option}={value!r} is for data sets on the Hub, and {name} is none; leave it out.")
