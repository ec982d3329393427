"""The answers about a folder of images, as for the enquiry of someone who holds their rights: each image, and all as a set."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_hub.checking.image_answers import ImageCheck
from mia_hub.checking.image_pages import SHORT_VERDICTS, shared_caveats, short_verdict, together_text
from mia_hub.checking.set_answers import SetCheck
from mia_hub.checking.verdict_texts import q_value_text
from mia_hub.checking.verdicts import EVIDENCE
from mia_hub.errors import MiaHubError
from mia_hub.images.messages import printable
from mia_hub.metrics.set_tests import FEWEST_IN_SET
from mia_hub.rendering.terminal import bullets, columns, paragraph
from mia_hub.rendering.text import Rows, without_formula
from mia_hub.system.files import sha256_of

if TYPE_CHECKING:
    from mia_hub.checking.checker import Checker

UNREADABLE = "unreadable"
# Names that the findings give of one kind of answer; the table has all.
MOST_NAMED = 6
COLUMNS = ("file", "verdict", "p", "q", "score", "share_of_nonmembers_below", "sha256_of_file", "content_id", "remarks")


@dataclass(frozen=True)
class CheckedFile:
    """A file of a folder.

    Attributes:
        path: of the file.
        name: its path below the folder, as one printable line.
        sha256: of its bytes, in hexadecimal digits.
        check: the answer; None for a file that can't be read.
        problem: what is wrong with a file that can't be read.
    """

    path: Path
    name: str
    sha256: str
    check: ImageCheck | None
    problem: str = ""

    @property
    def verdict(self) -> str:
        """The verdict in a word or two."""
        return UNREADABLE if self.check is None else short_verdict(self.check)


@dataclass(frozen=True)
class Batch:
    """The answers about the images in a folder.

    Attributes:
        folder: as it was given.
        files: those with the smallest p-value first, then those without one, then those that can't be read.
        values: what `mia_hub.Checker.to_dict` returns.
        together: the answer about the images as a set; None where there is none.
        no_set: why there is none; "" where there is one.
        left_out: sentences on what else in the folder was left out.
    """

    folder: str
    files: tuple[CheckedFile, ...]
    values: dict[str, Any]
    together: SetCheck | None = None
    no_set: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def checks(self) -> list[ImageCheck]:
        """The answers, those with the smallest p-value first."""
        return [file.check for file in self.files if file.check is not None]

    def of_verdict(self, verdict: str) -> list[CheckedFile]:
        """Return the files of a verdict, as `CheckedFile.verdict` has it."""
        return [file for file in self.files if file.verdict == verdict]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values: those of the checker, with the files and the answer about the set."""
        listed = [
            {"file": file.name, "sha256": file.sha256, "id": None if file.check is None else file.check.id, "problem": file.problem or None}
            for file in self.files
        ]
        together = None if self.together is None else self.together.to_dict()
        return self.values | {"files": listed, "set": together, "no_set": self.no_set or None, "left_out": list(self.left_out)}

    def to_csv(self) -> str:
        """Return the table with a row for each file; a text that a spreadsheet would run as a formula begins with an apostrophe."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(_csv_row, self.files))
        return buffer.getvalue().rstrip("\n")


def check_batch(
    checker: Checker,
    folder: str,
    images: Sequence[Path],
    problems: Sequence[tuple[Path, str]] = (),
    left_out: Sequence[str] = (),
    **options: Any,
) -> Batch:
    """Check images one by one, together at a false-discovery rate of 5 %, and as a set.

    Args:
        checker: of the model.
        folder: that holds the files.
        images: those that can be read; each is decoded when it is scored, and none is stored.
        problems: files that can't be read, and what is wrong with each.
        left_out: sentences on what else was left out.
        options: of `mia_hub.Checker.check`.
    """
    checks = checker.check(list(images), **options)
    together, no_set = _as_a_set(checker, images, checks, options)
    files = [CheckedFile(path, _name(path, folder), _sha256(path), check) for path, check in zip(images, checks)]
    files.sort(key=lambda file: _order(file.check))
    files += [CheckedFile(path, _name(path, folder), _sha256(path), None, problem) for path, problem in problems]
    return Batch(folder, tuple(files), checker.to_dict(checks), together, no_set, tuple(left_out))


def _order(check: ImageCheck | None) -> tuple[bool, float]:
    p_value = None if check is None else check.p_value
    return p_value is None, p_value or 0.0


def _as_a_set(
    checker: Checker, images: Sequence[Path], checks: Sequence[ImageCheck], options: dict[str, Any]
) -> tuple[SetCheck | None, str]:
    """Return the answer about the images as a set, or why there is none."""
    different = len({check.id for check in checks})
    if checker.reference is None:
        return None, "No non-members are known that the images could be compared with."
    if different < FEWEST_IN_SET:
        return None, f"A set needs at least {FEWEST_IN_SET} different images, and there are {different}."
    try:
        return checker.check_set(list(images), **options), ""
    except MiaHubError as error:  # the answers about single images stand without it
        return None, str(error)


def _name(path: Path, folder: str) -> str:
    path = Path(path)
    return printable(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""


def _csv_row(file: CheckedFile) -> list[str]:
    check = file.check
    if check is None:
        return [without_formula(file.name), UNREADABLE, "", "", "", "", file.sha256, "", without_formula(file.problem)]
    numbers = ["" if value is None else f"{value:.10g}" for value in (check.p_value, check.q_value, check.score, check.share_below)]
    return [without_formula(file.name), file.verdict, *numbers, file.sha256, check.id, without_formula(" ".join(check.notes))]


# The findings in words, which the terminal and the document share.


def findings(batch: Batch) -> list[str]:
    """Return the findings in sentences, the most important first."""
    checks = batch.checks
    texts = [together_text(checks) if len(checks) > 1 else checks[0].sentence]
    judged = sum(check.q_value is not None for check in checks)
    if judged:
        texts.append(q_value_text(judged))
    if batch.together is not None:
        texts.append(f"All of them as one set. {batch.together.sentence}")
    return texts


def counts(batch: Batch) -> Rows:
    """Return rows of each kind of answer: its name, the number of files, and the names of the first ones."""
    tally = Counter(file.verdict for file in batch.files)
    order = [SHORT_VERDICTS[EVIDENCE], "cannot tell", *list(SHORT_VERDICTS.values())[1:], UNREADABLE]
    always = order[:2] if any(check.p_value is not None for check in batch.checks) else []
    return [[verdict, f"{tally[verdict]:,}", _names(batch, verdict)] for verdict in order if tally[verdict] or verdict in always]


def _names(batch: Batch, verdict: str) -> str:
    named = [file.name for file in batch.of_verdict(verdict)]
    more = f" and {len(named) - MOST_NAMED:,} more, in the table" if len(named) > MOST_NAMED else ""
    return ", ".join(named[:MOST_NAMED]) + more


def findings_text(batch: Batch) -> str:
    """Return the findings as text for a terminal."""
    lines = [line for text in findings(batch) for line in [*paragraph(text), ""]]
    lines += columns([[verdict, f"{count}  {names}"] for verdict, count, names in counts(batch)])
    lines += ["", *paragraph(f"The images were not tested as a set. {batch.no_set}")] if batch.no_set else []
    return "\n".join([*lines, "", "What this does not mean", *bullets(shared_caveats(batch.checks))]) + "\n"
