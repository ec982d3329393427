"""Shared output of the commands: exit statuses, the folder of their results, and messages."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mia_hub.system.files import make_output_folder, write_output

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


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write a comparison for people: ``comparison.md``, ``.html`` and ``.svg``.

    Raises:
        MiaHubError: if they can't be written.
    """
    for ending, text in (("md", comparison.to_markdown()), ("html", comparison.to_html()), ("svg", comparison.plot_svg())):
        write_output(folder / f"comparison.{ending}", text)
