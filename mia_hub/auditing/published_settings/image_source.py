"""Where the members, or the non-members, of a benchmark come from, as its file states."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, model_validator

from mia_hub.auditing.published_settings.validation import Stated, Texts
from mia_hub.system.validation import FROM_LIST

# Images that come with the package, in place of a data set on the Hub.
DEMO = "demo"

FromZero = Annotated[int, Field(ge=0)]
FromOne = Annotated[int, Field(ge=1)]
FromTwo = Annotated[int, Field(ge=2)]


class RowCondition(Stated):
    """A condition that a row must fulfil to be drawn.

    Attributes:
        column: the column; of several names, the first that the data set has.
        above, below: bounds of a number, both excluded.
        ascii: whether a text must be plain ASCII.
    """

    column: Texts
    above: float | None = None
    below: float | None = None
    ascii: bool = False

    @model_validator(mode="after")
    def _check(self) -> RowCondition:
        if not self.column or (self.above is None and self.below is None and not self.ascii):
            raise ValueError("a condition needs a column, and above, below or ascii.")
        return self

    def __str__(self) -> str:
        bounds = [f"> {self.above:g}" if self.above is not None else "", f"< {self.below:g}" if self.below is not None else ""]
        return f"{self.column[0]} {' and '.join(filter(None, [*bounds, 'in plain ASCII' if self.ascii else '']))}"


class ImageSource(Stated):
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
        pool: rows are drawn from the first ``pool`` ones alone, so that not all of a huge split must be read.
        seed: of the permutation.
        first: place in the permutation where the draw begins.
        per_class: most rows of each class.
        where: conditions that a row must fulfil.
        replace_missing: whether an image that can't be had is replaced by the next of the permutation, or is missing from the count.
        min_bytes: smaller files behind an address count as missing: they are placeholders more often than images.
    """

    dataset: str
    split: str
    count: FromTwo
    config: str | None = None
    revision: str | None = None
    files: Texts = ()
    image_column: Texts = ()
    url_column: Texts = ()
    caption_column: Texts = ()
    class_column: Texts = ()
    class_pattern: str | None = None
    rows: FromOne | None = None
    pool: FromOne | None = None
    seed: FromZero = 0
    first: FromZero = 0
    per_class: FromOne | None = None
    where: Annotated[tuple[RowCondition, ...], FROM_LIST] = ()
    replace_missing: bool = False
    min_bytes: FromZero = 0

    @model_validator(mode="after")
    def _check(self) -> ImageSource:
        if self.dataset == DEMO:
            return self
        if self.dataset.count("/") != 1:
            raise ValueError(f"dataset must be 'demo' or an id on the Hub of the form 'owner/name'; got {self.dataset!r}.")
        if bool(self.image_column) == bool(self.url_column):
            raise ValueError("either image_column or url_column must be given, and not both.")
        if self.per_class is not None and not self.class_column:
            raise ValueError("per_class needs a class_column.")
        if self.class_pattern is not None:
            self._check_pattern(self.class_pattern)
        most = min((n for n in (self.rows, self.pool) if n is not None), default=None)
        if most is not None and self.first + self.count > most:
            raise ValueError(f"{self.count:,} rows from {self.first:,} on are more than the {most:,} that there are.")
        return self

    def _check_pattern(self, pattern: str) -> None:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"class_pattern {pattern!r} is no regular expression ({error}).") from None
        if groups != 1 or not self.class_column:
            raise ValueError(f"class_pattern {pattern!r} must have one group, and go with a class_column.")

    @property
    def order_key(self) -> tuple[Any, ...]:
        """A key that two sources share if their rows are places in the same permutation."""
        return (*self.rows_key, self.pool, self.seed, self.per_class, self.where)

    @property
    def rows_key(self) -> tuple[Any, ...]:
        """A key that two sources share if they number the same rows."""
        return (self.dataset, self.config, self.revision, self.split, self.files)

    def check_disjoint(self, other: ImageSource) -> None:
        """Refuse two sources that could draw the same row.

        Raises:
            ValueError: for one data set with two seeds or rules, or overlapping ranges.
        """
        if self.dataset == DEMO or self.rows_key != other.rows_key:
            return
        if self.order_key != other.order_key:
            raise ValueError("members and non-members of one split must share seed, pool, per_class and where, or they may overlap.")
        if self.first < other.first + other.count and other.first < self.first + self.count:
            raise ValueError("members and non-members are overlapping ranges of one permutation.")
        if self.replace_missing or other.replace_missing:
            raise ValueError("replace_missing would draw members and non-members of one split from each other's ranges.")
