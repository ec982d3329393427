"""``mia-hub check --batch FOLDER``: answers about many images, as a report to be filed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_hub.cli.output import hashes_of, output_folder, report_files, write_pdf
from mia_hub.errors import MiaHubError
from mia_hub.system.files import write_output

if TYPE_CHECKING:
    from mia_hub.checking.batch import Batch
    from mia_hub.checking.checker import Checker


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Add ``--batch``."""
    parser.add_argument(
        "--batch",
        metavar="FOLDER",
        help="in place of IMAGE: the images of a folder, hundreds of them, one by one and as a set; --out gets check.html, a report to be "
        "filed, check.pdf (with the extra 'pdf'), check.csv and check.json",
    )


def check_batch_options(args: argparse.Namespace) -> None:
    """Refuse ``--batch`` with other images, without ``--out`` or without a folder, before the model is loaded.

    Raises:
        MiaHubError: with the reason.
    """
    if args.batch is None:
        if not args.images:
            raise MiaHubError("No image was given; name image files or folders, or a folder of many with --batch.")
        return
    if args.images:
        raise MiaHubError(f"--batch {args.batch} takes the images of that folder alone; leave out {args.images[0]}, or put it there.")
    if not args.out:
        raise MiaHubError(f"--batch {args.batch} writes a report; name a folder for it with --out.")
    if not Path(args.batch).is_dir():
        raise MiaHubError(f"--batch {args.batch} is not a folder; name the one that holds the images, or pass an image without --batch.")


def answer_batch(
    args: argparse.Namespace,
    checker: Checker,
    images: Sequence[Path],
    problems: Sequence[tuple[Path, str]],
    left_out: Sequence[str],
    **options: Any,
) -> int:
    """Check the images, print the findings, and write the report into the folder of ``--out``.

    Args:
        args: of the command.
        checker: of the model.
        images: those that can be read.
        problems: files that can't be read, and what is wrong with each; they are part of the report, and no failure.
        left_out: sentences on what else was left out.
        options: of `mia_hub.Checker.check`.
    """
    from mia_hub.checking.batch import check_batch, findings_text

    out = Path(args.out)
    with output_folder(out):
        batch = check_batch(checker, args.batch, images, problems, left_out, **options)
    values = json.dumps(batch.to_dict(), indent=2)
    names = _write(out, batch, values)
    report_files(out, names)
    if args.json:
        write_output(args.json, values)
    if args.json != "-":
        print(findings_text(batch))
    return 0


def _write(out: Path, batch: Batch, values: str) -> list[str]:
    from mia_hub.checking.batch_filing import batch_filing

    names = ["check.json", "check.csv"]
    for name, text in zip(names, (values, batch.to_csv())):
        write_output(out / name, text)
    document = batch_filing(batch, hashes_of(out, names))
    write_output(out / "check.html", document)
    written = write_pdf(out, "check.pdf", document, page="check.html")
    return list(dict.fromkeys([*names, "check.html", *written]))
