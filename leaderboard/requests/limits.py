"""Limits of a public queue, and who is excluded from it. They are configured in one place: ``limits.json`` in the store of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic.dataclasses import dataclass

from leaderboard.errors import StoreError, SubmissionError
from leaderboard.requests.naming import repositories_of
from leaderboard.validation import NonNegative
from mia_hub.system.validation import CLOSED, FROM_LIST, InvalidData, parsed

if TYPE_CHECKING:
    from leaderboard.requests.request import Request
    from leaderboard.stores.store import View

FILE = "limits.json"


@dataclass(frozen=True, config=CLOSED)
class Limits:
    """Limits of a queue.

    Attributes:
        model_gib: largest weights of a model, in GiB.
        split_gib: largest data set, in GiB of Parquet files.
        images: most images of a split.
        hours: longest time that one request may take.
        per_day: most requests of one user in 24 hours.
        banned: users whose requests are refused, and models, data sets or owners that are not audited, as Hub ids or owners, in any case.
            A repository that was renamed may be banned by its earlier name.
    """

    model_gib: NonNegative = 30.0
    split_gib: NonNegative = 20.0
    images: NonNegative = 100_000
    hours: NonNegative = 12.0
    per_day: NonNegative = 10
    banned: Annotated[tuple[str, ...], FROM_LIST] = ()

    @classmethod
    def of(cls, store: View) -> Limits:
        """Return the limits of a store; the defaults where it names none.

        Raises:
            StoreError: if they can't be understood: a queue without its limits accepts nothing.
        """
        try:
            return parsed(cls, store.read_json(FILE), FILE)
        except KeyError:
            return cls()
        except InvalidData as error:
            raise StoreError(f"{FILE} in {store} can't be understood: {error}") from error

    def check_request(self, request: Request, today: int) -> None:
        """Refuse what can be refused before anything is loaded.

        Args:
            request: the request.
            today: how many its submitter has made in the last 24 hours.

        Raises:
            SubmissionError: with the reason.
        """
        self.check_names(request.submitter, request.split, *repositories_of(request.model))
        if today >= self.per_day:
            submitter = request.submitter or "Somebody"
            raise SubmissionError(f"{submitter} has made {today} requests in 24 hours; at most {self.per_day} are accepted.")

    def check_names(self, *names: str) -> None:
        """Refuse users, models and data sets that are banned, themselves or by their owner; names in any case are the same.

        Raises:
            SubmissionError: if one is.
        """
        owners = {name.partition("/")[0] for name in names if "/" in name}
        if {name.lower() for name in self.banned} & {name.lower() for name in owners.union(names) if name}:
            raise SubmissionError("Requests of this user, or about this model or data set, are not accepted here.")

    def check_images(self, count: int) -> None:
        """Refuse a split that is too large.

        Raises:
            SubmissionError: with the limit.
        """
        if count > self.images:
            raise SubmissionError(f"The split has {count:,} images; at most {self.images:,} are evaluated here.")

    def check_bytes(self, size: int) -> None:
        """Refuse a data set that is too large to be fetched.

        Raises:
            SubmissionError: with the limit.
        """
        if size > self.split_gib * 2**30:
            raise SubmissionError(
                f"The data set has {size / 2**30:,.3g} GiB of Parquet files; at most {self.split_gib:g} GiB are accepted here. "
                "Publish a draw of it: 'mia-hub make-split … --members N --nonmembers N --push OWNER/NAME'."
            )
