"""From the declared sources of a benchmark to its members and non-members."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mia_hub.auditing.published_settings.image_source import DEMO
from mia_hub.auditing.published_settings.setting import Benchmark
from mia_hub.auditing.published_settings.side import ImageDraw, Side
from mia_hub.errors import SplitError, integer_at_least
from mia_hub.images.sequences import SelectedSequence
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit


@dataclass(frozen=True)
class DrawnSplit:
    """A benchmark's split, and the draws behind it."""

    split: MemberSplit
    members: ImageDraw
    nonmembers: ImageDraw


class OpenBenchmark:
    """The data sets of a benchmark, opened at one commit each; what can be refused is refused before anything large is fetched.

    Args:
        benchmark: the setting.
        limit: at most this many members and this many non-members: the first of each draw.
        cache: folder for the drawn images; by default ``mia_hub/benchmarks`` in the Hub's own cache folder.

    Raises:
        SplitError: if a data set can't be read, has no such columns, or too few rows.
    """

    def __init__(self, benchmark: Benchmark, *, limit: int | None = None, cache: str | Path | None = None):
        self.benchmark, self.limit, self.cache = benchmark, limit, cache
        if limit is not None:
            integer_at_least("limit", limit, 2, SplitError)
        sources = () if benchmark.members.dataset == DEMO else (benchmark.members, benchmark.nonmembers)
        self._sides = [Side(source, benchmark.centre_crop, limit, cache) for source in sources]

    def draw(self, *, progress: bool = True) -> DrawnSplit:
        """Fetch what isn't in the cache yet, and return the split.

        Raises:
            SplitError: if a data set can't be read any more, or no image is left of one side.
        """
        if not self._sides:
            return self._draw_demo()
        members = self._sides[0].draw(progress=progress)
        # An image on both sides would be refused by every audit: on the Web the same placeholder stands behind many addresses.
        nonmembers = self._sides[1].draw(exclude=self._sides[0].ids(members), progress=progress)
        draws = (members, nonmembers)
        for name, draw in zip(("members", "non-members"), draws):
            if not draw.rows:
                raise SplitError(f"No image is left of the {name} of {self.benchmark.name}: {draw}.")
        (captions, classes), (other_captions, other_classes) = (side.conditions(draw) for side, draw in zip(self._sides, draws))
        split = MemberSplit(
            name=self._split_name(*draws),
            members=self._sides[0].images(members),
            nonmembers=self._sides[1].images(nonmembers),
            captions=None if captions is None or other_captions is None else captions + other_captions,
            revision=" + ".join(dict.fromkeys(f"{side.dataset}@{side.rows.commit}" for side in self._sides)),
            classes=None if classes is None or other_classes is None else classes + other_classes,
            origins=tuple(side.origin for side in self._sides),
        )
        return DrawnSplit(split, *draws)

    def _split_name(self, members: ImageDraw, nonmembers: ImageDraw) -> str:
        name = f"benchmark {self.benchmark.name}"
        if not members.missing and not nonmembers.missing:
            return name
        counts = [f"{len(draw.rows):,} of {draw.tried:,}" for draw in (members, nonmembers)]
        return f"{name}, with {counts[0]} members and {counts[1]} non-members that could be had"

    def _draw_demo(self) -> DrawnSplit:
        split = load_split(DEMO)
        for source, part in zip((self.benchmark.members, self.benchmark.nonmembers), (split.members, split.nonmembers)):
            if source.count > len(part):
                raise SplitError(f"The demo has {len(part):,} images in {source.split!r}, and {source.count:,} are needed.")
        split = split.limited(self.limit)
        rows = [part.rows if isinstance(part, SelectedSequence) else range(len(part)) for part in (split.members, split.nonmembers)]
        return DrawnSplit(split, *(ImageDraw("demo", None, tuple(map(int, part)), len(part)) for part in rows))
