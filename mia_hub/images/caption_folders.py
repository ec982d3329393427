"""One folder that may hold captions: its text files and its metadata."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from mia_hub.errors import SplitError
from mia_hub.images.file_names import ByFileName, uniform_name, whole_path
from mia_hub.images.formats import accepted_suffixes
from mia_hub.images.messages import failure_reason
from mia_hub.images.metadata_files import METADATA_FILES, Columns, Metadata, NoFileNamesError, is_metadata, read_metadata

# Of text files that hold a caption, the preferred ones first: cat.txt and cat.caption for cat.png; then cat.png.txt and cat.png.caption.
TEXT_SUFFIXES = (".txt", ".caption")
# Files that may be meant as metadata.
TABLE_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".xlsx")


class CaptionFolder:
    """A folder that may hold captions. Each of its files is read once, and not before it is needed.

    Args:
        path: of the folder.
        columns: of its metadata.
        must_name_files: whether metadata without file names is refused, rather than left out.
    """

    def __init__(self, path: Path, columns: Columns, must_name_files: bool = False) -> None:
        self.path, self._columns, self._must_name_files = path, columns, must_name_files

    @cached_property
    def names(self) -> list[str]:
        """Names of its files, sorted, without hidden ones.

        Raises:
            SplitError: if the folder can't be listed.
        """
        try:
            with os.scandir(self.path) as entries:
                return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())
        except OSError as error:
            raise SplitError(f"The folder {whole_path(self.path)} can't be listed ({failure_reason(error)}). Make it readable.") from error

    @cached_property
    def metadata_names(self) -> list[str]:
        """Names of its metadata files, of which the first is read."""
        names = [name for name in self.names if is_metadata(name)]
        return sorted(names, key=lambda name: (METADATA_FILES.index(name.lower()), name != name.lower()))

    @cached_property
    def metadata(self) -> Metadata | None:
        """The metadata, or None.

        Raises:
            SplitError: if it can't be read.
        """
        if not self.metadata_names:
            return None
        try:
            return read_metadata(self.path / self.metadata_names[0], self._columns)
        except NoFileNamesError:
            if self._must_name_files:
                raise
            return None

    def texts_of(self, image_name: str) -> list[Path]:
        """Return the text files of an image in the folder, the preferred one first."""
        stem = image_name.rpartition(".")[0]
        return [self.path / name for key in (stem, image_name) for name in self._texts.get(key) or ()]

    def texts_without_image(self) -> list[Path]:
        """Return the text files for which no image file is in the folder."""
        images = {key for name in self.names if name.lower().endswith(accepted_suffixes()) for key in (name, name.rpartition(".")[0])}
        uniform = {uniform_name(key) for key in images}
        return [self.path / name for name in self.names if _is_text(name) and uniform_name(name.rpartition(".")[0]) not in uniform]

    def tables_not_read(self) -> list[Path]:
        """Return the files that may be meant as metadata, and have no name that is read."""
        return [self.path / name for name in self.names if name.lower().endswith(TABLE_SUFFIXES) and not is_metadata(name)]

    @property
    def has_images(self) -> bool:
        """Whether an image file is in the folder itself."""
        return any(name.lower().endswith(accepted_suffixes()) for name in self.names)

    @cached_property
    def _texts(self) -> ByFileName[list[str]]:
        """Names of text files by their names without the suffix."""
        texts: dict[str, list[str]] = {}
        for name in sorted(filter(_is_text, self.names), key=lambda name: (TEXT_SUFFIXES.index(_suffix(name)), name)):
            texts.setdefault(name.rpartition(".")[0], []).append(name)
        by_name = ByFileName[list[str]]()
        for stem, names in texts.items():
            by_name.add(stem, names)
        return by_name


def _suffix(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}"


def _is_text(name: str) -> bool:
    return _suffix(name) in TEXT_SUFFIXES
