"""Captions and classes of one image after another, from the folders that it lies in; and the files that none of them used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from mia_hub.images.caption_folders import CaptionFolder
from mia_hub.images.metadata_files import Columns, MetadataRow
from mia_hub.images.text_files import read_text


class UnusedTexts(NamedTuple):
    """Text files of images that have a caption from elsewhere: from metadata, or from another text file."""

    for_metadata: list[Path]
    for_texts: list[Path]


class CaptionReader:
    """Reads the captions and classes of image files.

    Args:
        folders: those that hold the images.
        root: the folder up to which metadata above an image counts; None for its own folder only.
        columns: of the metadata.
        with_texts: whether text files count as captions.
    """

    def __init__(self, folders: set[Path], root: Path | None, columns: Columns, with_texts: bool) -> None:
        self.root, self._image_folders, self._columns, self._with_texts = root, folders, columns, with_texts
        self.folders: dict[Path, CaptionFolder] = {}
        self.used_rows: set[tuple[Path, int]] = set()
        self.shadowed_rows: set[tuple[Path, int]] = set()
        self.unused_texts = UnusedTexts([], [])
        self._way_up = lru_cache(maxsize=None)(self._find_way_up)

    def read(self, image: Path) -> tuple[str | None, str | None]:
        """Return the caption and the class of an image, None for a missing or empty one.

        Raises:
            SplitError: if a file that holds them can't be read.
        """
        row = self._row(image)
        caption, class_index = (None, None) if row is None else (row.caption, row.class_index)
        unused = self.unused_texts.for_metadata if caption is not None or not self._with_texts else self.unused_texts.for_texts
        for text in self.folder(image.parent).texts_of(image.name):
            if caption is not None or not self._with_texts:
                unused.append(text)
            else:
                caption = read_text(text).strip() or None
        return caption, class_index

    def folder(self, path: Path) -> CaptionFolder:
        """Return what is known of a folder."""
        if path not in self.folders:
            self.folders[path] = CaptionFolder(path, self._columns, must_name_files=path in self._image_folders)
        return self.folders[path]

    @cached_property
    def metadata_folders(self) -> list[CaptionFolder]:
        """The folders whose metadata counts for some image."""
        return [self.folder(path) for path in sorted({folder.path for own in self._image_folders for folder, _ in self._way_up(own)})]

    @cached_property
    def folders_below_root(self) -> list[CaptionFolder]:
        """All folders below the root, without hidden ones, and those of the images; none without a root."""
        if self.root is None:
            return []
        paths = set(self._image_folders)
        for parent, folders, _ in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths.add(Path(parent))
        return [self.folder(path) for path in sorted(paths)]

    def _row(self, image: Path) -> MetadataRow | None:
        """Return the row of an image in the nearest metadata that has one."""
        nearest = None
        for folder, below in self._way_up(image.parent):
            row = folder.metadata.by_name.get(below + image.name) if folder.metadata else None
            if row is not None:
                (self.used_rows if nearest is None else self.shadowed_rows).add((folder.path, row.line))
                nearest = nearest or row
        return nearest

    def _find_way_up(self, own: Path) -> Sequence[tuple[CaptionFolder, str]]:
        """Return the folders from that of an image up to the root, each with the path from it to the image's folder, ending in ``/``."""
        above = []
        if self.root is not None and own.is_relative_to(self.root):
            above = [path for path in (own, *own.parents) if path.is_relative_to(self.root)]
        return [(self.folder(path), f"{own.relative_to(path).as_posix()}/" if path != own else "") for path in above or [own]]
