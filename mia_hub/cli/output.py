"""What the commands of ``mia-hub`` share: exit statuses, and files that they write."""

from __future__ import annotations

from pathlib import Path

from mia_hub.system.files import write_output

EXIT_ERROR = 2
INTERRUPTED = 130


def write_comparison(folder: Path, comparison) -> None:
    """Writes a `mia_hub.Comparison` for people: ``comparison.md``, ``.html`` and ``.svg``.

    Raises:
        MiaHubError: if they can't be written.
    """
    for ending, text in (("md", comparison.to_markdown()), ("html", comparison.to_html()), ("svg", comparison.plot_svg())):
        write_output(folder / f"comparison.{ending}", text)
