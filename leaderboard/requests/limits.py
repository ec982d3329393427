"""What a public queue takes, and from whom: one place to change it, ``limits.json`` in the store of requests."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from leaderboard.errors import StoreError, SubmissionError
from leaderboard.requests.naming import repositories_of

if TYPE_CHECKING:
    from leaderboard.requests.submission import Request
    from leaderboard.stores.store import View

FILE = "limits.json"


@dataclass(frozen=True)
class Limits:
    """Limits of a queue.

    Attributes:
        model_gib: largest weights of a model, in GiB.
        split_gib: largest data set, in GiB of Parquet files.
        images: most images of a split.
        hours: longest time that one request may take.
        per_day: most requests of one user in 24 hours.
        banned: users whose requests are refused, and models or owners that are not audited, as Hub ids or owners.
    """

    model_gib: float = 30.0
    split_gib: float = 20.0
    images: int = 100_000
    hours: float = 12.0
    per_day: int = 10
    banned: tuple[str, ...] = ()

    @classmethod
    def of(cls, store: View) -> Limits:
        """Those of a store; the defaults where it says nothing.

        Raises:
            StoreError: if they can't be understood: a queue without its limits takes nothing.
        """
        try:
            values = store.read_json(FILE)
        except KeyError:
            return cls()
        unknown = set(values) - {field.name for field in fields(cls)}
        numbers = [values.get(name, 1) for name in ("model_gib", "split_gib", "images", "hours", "per_day")]
        banned = values.get("banned", [])
        sound = all(isinstance(number, (int, float)) and not isinstance(number, bool) and number >= 0 for number in numbers)
        if unknown or not sound or not isinstance(banned, list) or not all(isinstance(name, str) for name in banned):
            known = "numbers for model_gib, split_gib, images, hours and per_day, and a list banned"
            raise StoreError(f"{FILE} in {store} can't be understood: {known}.")
        return cls(**values | {"banned": tuple(banned)})

    def check_request(self, request: Request, today: int) -> None:
        """Refuses what can be refused before anything is loaded.

        Args:
            request: the request.
            today: how many its submitter has made in the last 24 hours.

        Raises:
            SubmissionError: with the reason.
        """
        barred = {name.lower() for name in self.banned}
        asked = {request.submitter, request.split, *repositories_of(request.model)}
        asked |= {name.partition("/")[0] for name in asked if "/" in name}
        if barred & {name.lower() for name in asked if name}:
            raise SubmissionError("Requests of this user, or about this model or data set, are not taken here.")
        if today >= self.per_day:
            who = request.submitter or "Somebody"
            raise SubmissionError(f"{who} has made {today} requests in 24 hours; at most {self.per_day} are taken.")

    def check_images(self, count: int) -> None:
        """Refuses a split that is too large.

        Raises:
            SubmissionError: with the limit.
        """
        if count > self.images:
            raise SubmissionError(f"The split has {count:,} images; at most {self.images:,} are evaluated here.")

    def check_bytes(self, size: int) -> None:
        """Refuses a data set that is too large to be fetched.

        Raises:
            SubmissionError: with the limit.
        """
        if size > self.split_gib * 2**30:
            raise SubmissionError(
                f"The data set has {size / 2**30:,.3g} GiB of Parquet files; at most {self.split_gib:g} GiB are taken here. "
                "Publish a draw of it: 'mia-hub make-split … --members N --nonmembers N --push OWNER/NAME'."
            )
