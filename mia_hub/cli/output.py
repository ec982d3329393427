"""Shared output of the commands: exit statuses, the folder of their results, and messages."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mia_hub.system.files import make_output_folder, sha256_of, write_output, write_output_bytes

if TYPE_CHECKING:
    from mia_hub.auditing.comparison import Comparison

EXIT_ERROR = 2
EXIT_ABOVE_LIMIT = 3
EXIT_INTERRUPTED = 130


def message(text: str) -> None:
    """Print a message of ``mia-hub`` itself, beside its results, to standard error."""
    print(f"mia-hub: {text}", file=sys.stderr)


def report_interruption(saved: str) -> int:
    """Say that a command was interrupted and can be resumed, and return its exit status.

    Args:
        saved: a clause that says what is saved, and where.
    """
    print(file=sys.stderr)
    message(f"interrupted; {saved}. The same command resumes it.")
    return EXIT_INTERRUPTED


def report_files(folder: Path, names: Iterable[str]) -> None:
    """Say which files were written into a folder."""
    print(f"\nWritten to {folder}: {', '.join(names)}", file=sys.stderr)


@contextmanager
def output_folder(folder: Path | None) -> Iterator[None]:
    """Create the folder before hours of compute, not after, and remove it if they fail and leave nothing in it.

    Raises:
        MiaHubError: if it can't be created.
    """
    created = [] if folder is None else [part for part in (folder, *folder.parents) if not part.exists()]
    if folder is not None:
        make_output_folder(folder)
    try:
        yield
    except BaseException:
        for part in created:
            with suppress(OSError):  # it isn't empty
                part.rmdir()
        raise


def hashes_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files in a folder by their names, without those that aren't there."""
    return {name: sha256_of(folder / name) for name in names if (folder / name).is_file()}


def write_pdf(folder: Path, name: str, html: str, *, page: str) -> list[str]:
    """Write a document as a PDF; where the converter is missing, say what to install.

    Args:
        folder: the folder of ``--out``.
        name: of the PDF.
        html: the document.
        page: name of the file that gets the document as HTML where the PDF can't be made.

    Returns:
        The names of the files that were written.

    Raises:
        MiaHubError: if a file can't be written.
    """
    from mia_hub.rendering.pdf import NoConverter, to_pdf

    try:
        content = to_pdf(html)
    except NoConverter as error:
        message(f"{name} was not written. {error} A browser prints {page}, which has the same content.")
        if (folder / name).exists():
            message(f"{folder / name} is of an earlier run; remove it.")
        write_output(folder / page, html)
        return [page]
    write_output_bytes(folder / name, content)
    return [name]


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write a comparison for people: ``comparison.md``, ``.html`` and ``.svg``.

    Raises:
        MiaHubError: if they can't be written.
    """
    for ending, text in (("md", comparison.to_markdown()), ("html", comparison.to_html()), ("svg", comparison.plot_svg())):
        write_output(folder / f"comparison.{ending}", text)
