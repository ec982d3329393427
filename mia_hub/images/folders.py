"""The images in a folder, and what else of it was meant as images: nothing is left out without being named."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mia_hub.errors import ImageError
from mia_hub.images.formats import (
    FOREIGN_IMAGES,
    HEAD,
    KNOWN_MAGIC,
    OTHER_SUFFIXES,
    Foreign,
    accepted_suffixes,
    foreign_by_name,
    is_heif,
    not_readable,
    reads_heif,
    suffix_of,
)
from mia_hub.images.messages import failure_reason, printable

# Files that a sentence names; it counts the others.
MOST_NAMED = 3
# A BMP file: its two reserved fields are zero.
_BITMAP = re.compile(rb"(?s)BM....\0\0\0\0")


class Reason(NamedTuple):
    """Why something is left out.

    Attributes:
        noun, nouns: for one such thing, and for several.
        why: it is left out.
        advice: the next step, for one.
    """

    noun: str
    nouns: str
    why: str
    advice: str


_NOWHERE = Reason("link", "links", "as nothing is where it leads", "Repair or remove it")
_ABOVE = Reason("link", "links", "as it leads to a folder that holds this one", "Remove it, or link to a part of that folder")
_MISNAMED = Reason("image", "images", "as its name has no suffix of an image that is read", "Rename it, to end in .png or .jpg for example")


class LeftOut(NamedTuple):
    """A thing in a folder that is not among its images: its path below the folder, and the reason."""

    path: Path
    reason: Reason


@dataclass(frozen=True)
class FolderListing:
    """The images in a folder and its subfolders.

    Attributes:
        folder: as it was given.
        images: paths of the image files, sorted.
        left_out: image files of other formats, links that lead nowhere, and folders that can't be read; sorted by path.
    """

    folder: Path
    images: list[Path]
    left_out: tuple[LeftOut, ...] = ()

    def sentences(self, owner: str = "") -> tuple[str, ...]:
        """Return what is left out, one sentence for each kind of thing, with their number, names and the next step.

        Args:
            owner: what the folder holds, such as "members", for a record that others may read: no path is named in it. By default the
                sentences name the path of the folder, and the paths of files below it.
        """
        paths: dict[Reason, list[Path]] = {}
        for path, reason in self.left_out:
            paths.setdefault(reason, []).append(Path(path.name) if owner else path)
        place = f"of the {owner}" if owner else f"in {printable(self.folder)}"
        return tuple(_sentence(reason, affected, place) for reason, affected in paths.items())


def list_folder(folder: str | os.PathLike[str]) -> FolderListing:
    """List the image files in a folder and its subfolders, by suffix; hidden files and folders are skipped.

    Links to folders are followed. A folder that is reached in several ways is read once: under its own name if it lies in the folder, else
    by the first link to it, so that links in a circle end. A link to a folder above the given one is left out. Links to files are files.

    Raises:
        ImageError: if there is no such folder, or no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file, not a folder: pass it as an image" if root.is_file() else "doesn't exist: check the path of the folder"
        raise ImageError(f"{printable(root)} {what}.")
    walk = _Walk(root)
    listing = FolderListing(root, sorted(walk.images), tuple(sorted(walk.left_out)))
    if not listing.images:
        raise ImageError(_no_images(listing))
    return listing


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images of `list_folder`; what it leaves out becomes a warning.

    Raises:
        ImageError: if there is no such folder, or no image in it.
    """
    listing = list_folder(folder)
    warn_of(listing.sentences())
    return listing.images


def warn_of(sentences: Iterable[str]) -> None:
    """Warn the caller of a public function of what was left out."""
    for sentence in sentences:
        warnings.warn(sentence, stacklevel=3)


def _no_images(listing: FolderListing) -> str:
    reasons = " ".join(listing.sentences())
    if reasons:
        return f"{printable(listing.folder)} has no images that can be read. {reasons}"
    accepted = ", ".join(accepted_suffixes())
    return f"{printable(listing.folder)} has no images; accepted are {accepted}. Check the folder, or convert its files."


def _sentence(reason: Reason, paths: list[Path], place: str) -> str:
    several, others = len(paths) > 1, len(paths) - MOST_NAMED
    names = ", ".join(printable(path) for path in paths[:MOST_NAMED])
    if others > 0:
        names += f" and {others:,} more"
    what, verb = (reason.nouns, "are") if several else (reason.noun, "is")
    why, advice = (_in_plural(text) if several else text for text in (reason.why, reason.advice))
    return f"{len(paths):,} {what} {place} {verb} left out, {why} ({names}). {advice}."


def _in_plural(text: str) -> str:
    for one, several in (
        (r"it leads", "they lead"),
        (r"\bit is\b", "they are"),
        (r"\bits name has\b", "their names have"),
        (r"\bit\b", "them"),
    ):
        text = re.sub(one, several, text)
    return text


def _reason_of(foreign: Foreign) -> Reason:
    noun = foreign.kind.removeprefix("an ").removeprefix("a ")
    return Reason(noun, foreign.plural, "as this format is not read", re.sub(" and pass that", "", foreign.advice))


class _Walk:
    """One walk through a folder: its own subfolders first, then those that links lead to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: list[Path] = []
        self.left_out: list[LeftOut] = []
        self._suffixes = accepted_suffixes()
        self._visited: set[tuple[int, int] | str] = set()
        self._above: set[tuple[int, int] | str] = set()
        for folder in Path(os.path.realpath(root)).parents:
            with suppress(OSError):  # a folder may be open to its owner, and those above it closed
                self._above.add(_identity(folder))
        links = list(self._folder(root))
        while links:
            links += self._folder(links.pop(0))

    def _folder(self, top: Path) -> Iterator[Path]:
        """Read a folder with its own subfolders; yield the links to folders in them, sorted."""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                if not self._is_new(folder):
                    continue
                with os.scandir(folder) as entries:
                    ordered = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                reason = Reason("folder", "folders", f"as it can't be read: {failure_reason(error)}", "Check its permissions")
                self._leave_out(folder, reason)
                continue
            for entry in ordered:
                path = folder / entry.name
                if entry.name.startswith("."):
                    continue
                if not entry.is_symlink() and entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif entry.is_symlink() and os.path.isdir(path):
                    if _identity(path) in self._above:
                        self._leave_out(path, _ABOVE)
                    else:
                        yield path
                else:
                    self._file(path, entry.is_symlink())

    def _is_new(self, folder: Path) -> bool:
        """Whether a folder was not visited, under whatever name; it then counts as visited."""
        identity = _identity(folder)
        new = identity not in self._visited
        self._visited.add(identity)
        return new

    def _file(self, path: Path, is_link: bool) -> None:
        suffix = suffix_of(path.name)
        if suffix in OTHER_SUFFIXES:
            return
        if is_link and not os.path.exists(path):
            self._leave_out(path, _NOWHERE)
        elif suffix in self._suffixes:
            self.images.append(path)
        else:
            reason = _unknown_suffix(path)
            if reason is not None:
                self._leave_out(path, reason)

    def _leave_out(self, path: Path, reason: Reason) -> None:
        self.left_out.append(LeftOut(path.relative_to(self.root), reason))


def _identity(folder: Path) -> tuple[int, int] | str:
    """Return what is the same for a folder under all of its names."""
    status = os.stat(folder)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def _unknown_suffix(path: Path) -> Reason | None:
    """Return why a file whose suffix is not that of an image is left out; None if it is no image by its name and its content."""
    foreign = foreign_by_name(path.name)
    if foreign is None:
        head = _head(path)
        if KNOWN_MAGIC.match(head) or _BITMAP.match(head) or (is_heif(head) and reads_heif()):
            return _MISNAMED
        foreign = not_readable(head)
    return _reason_of(foreign) if foreign in FOREIGN_IMAGES else None


def _head(path: Path) -> bytes:
    """Return the first bytes of a file; none if it can't be read."""
    try:
        if path.is_file():
            with path.open("rb") as stream:
                return stream.read(HEAD)
    except OSError:
        pass
    return b""
