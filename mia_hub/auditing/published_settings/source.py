"""Where the members, or the non-members, of a benchmark come from, as its file states it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mia_hub.auditing.published_settings.reading import BenchmarkError

# Images that come with the package, in place of a data set on the Hub.
DEMO = "demo"
SMALLEST = 2


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a row must fulfil to be drawn.

    Attributes:
        column: the column that is looked at; of several names, the first that the data set has.
        above, below: bounds of a number, both excluded.
        ascii: whether a text must be plain ASCII.
    """

    column: tuple[str, ...]
    above: float | None = None
    below: float | None = None
    ascii: bool = False

    def __post_init__(self) -> None:
        if not self.column or (self.above is None and self.below is None and not self.ascii):
            raise BenchmarkError("a condition needs a column, and above, below or ascii.")

    def __str__(self) -> str:
        bounds = [f"> {self.above:g}" if self.above is not None else "", f"< {self.below:g}" if self.below is not None else ""]
        said = " and ".join(filter(None, [*bounds, "in plain ASCII" if self.ascii else ""]))
        return f"{self.column[0]} {said}"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A seeded draw of rows of one split of a data set on the Hub.

    The n rows (or the first ``pool`` of them) are put in the order ``numpy.random.default_rng(seed).permutation(n)``. Those that don't
    fulfil every condition of ``where`` are taken out, then those beyond the first ``per_class`` of their class. The draw is
    ``[first : first + count]`` of what is left: it depends on this file and on the order of the data set's rows alone, a smaller draw
    is the beginning of a larger one, and two sources of the same order are disjoint where their ranges are.

    Attributes:
        dataset: id on the Hub, or "demo".
        split: its split.
        count: images drawn.
        config: its configuration.
        revision: branch, ref, tag or commit; the newest commit of main where None. Resolved to a commit before anything is read.
        files: patterns of the files of the split, where the data set's own metadata doesn't name them.
        image_column: column of images, or
        url_column: of their addresses, from which they are fetched.
        caption_column, class_column: of captions (the first, where a row has a list), and of class indices. Of several names of a
            column, the first that the data set has is used.
        class_pattern: a regular expression whose one group is the class index in a text of ``class_column``.
        rows: how many rows the split has; other numbers are refused, since another permutation would be drawn.
        pool: only the first so many rows are drawn from, so that not all of a huge split must be read.
        seed: of the permutation.
        first: place in the permutation where the draw begins.
        per_class: at most so many rows of each class.
        where: conditions that a row must fulfil.
        replace_missing: whether a image that can't be had is replaced by the next of the permutation, or is missing from the count.
        min_bytes: smaller files behind an address count as missing: they are placeholders more often than images.
    """

    dataset: str
    split: str
    count: int
    config: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = ()
    image_column: tuple[str, ...] = ()
    url_column: tuple[str, ...] = ()
    caption_column: tuple[str, ...] = ()
    class_column: tuple[str, ...] = ()
    class_pattern: str | None = None
    rows: int | None = None
    pool: int | None = None
    seed: int = 0
    first: int = 0
    per_class: int | None = None
    where: tuple[Condition, ...] = ()
    replace_missing: bool = False
    min_bytes: int = 0

    def __post_init__(self) -> None:
        least = {"count": SMALLEST, "rows": 1, "pool": 1, "per_class": 1, "seed": 0, "first": 0, "min_bytes": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise BenchmarkError(f"{name} must be a whole number from {low} up; got {value}.")
        if self.dataset == DEMO:
            return
        if self.dataset.count("/") != 1:
            raise BenchmarkError(f"dataset must be 'demo' or an id on the Hub of the form 'owner/name'; got {self.dataset!r}.")
        if bool(self.image_column) == bool(self.url_column):
            raise BenchmarkError("either image_column or url_column must be given, and not both.")
        if self.per_class is not None and not self.class_column:
            raise BenchmarkError("per_class needs a class_column.")
        if self.class_pattern is not None:
            self._check_pattern()
        most = min((n for n in (self.rows, self.pool) if n is not None), default=None)
        if most is not None and self.first + self.count > most:
            raise BenchmarkError(f"{self.count:,} rows from {self.first:,} on are more than the {most:,} that there are.")

    def _check_pattern(self) -> None:
        try:
            groups = re.compile(self.class_pattern).groups
        except re.error as error:
            raise BenchmarkError(f"class_pattern {self.class_pattern!r} is no regular expression ({error}).") from None
        if groups != 1 or not self.class_column:
            raise BenchmarkError(f"class_pattern {self.class_pattern!r} must have one group, and go with a class_column.")

    @property
    def drawn_from(self) -> tuple:
        """What two sources share if their rows are places in one and the same permutation."""
        return (self.dataset, self.config, self.revision, self.split, self.files, self.pool, self.seed, self.per_class, self.where)

    @property
    def rows_from(self) -> tuple:
        """What two sources share if they number the same rows."""
        return (self.dataset, self.config, self.revision, self.split, self.files)

    def check_apart(self, other: Source) -> None:
        """Refuses two sources that could draw the same row.

        Raises:
            BenchmarkError: for one data set with two seeds or rules, or overlapping ranges.
        """
        if self.dataset == DEMO or self.rows_from != other.rows_from:
            return
        if self.drawn_from != other.drawn_from:
            raise BenchmarkError("members and non-members of one split must share seed, pool, per_class and where, or they may overlap.")
        if self.first < other.first + other.count and other.first < self.first + self.count:
            raise BenchmarkError("members and non-members are overlapping ranges of one permutation.")
        if self.replace_missing or other.replace_missing:
            raise BenchmarkError("replace_missing would draw members and non-members of one split from each other's ranges.")
