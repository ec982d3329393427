"""Where images come from, as the card and the record of a split state it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIELDS = ("name", "split", "config", "revision", "license")


@dataclass(frozen=True)
class Origin:
    """The origin of images, as the card of a split states it.

    Attributes:
        name: id on the Hub, or the last part of a path; the rest of a path is private.
        split: of the data set, or None.
        config: of the data set, or None.
        revision: commit on the Hub, or None.
        license: in the source's own card, or None.
    """

    name: str
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    license: str | None = None

    def __str__(self) -> str:
        """Return "owner/name, split train"."""
        return self.name + (f", split {self.split}" if self.split else "")


def stated_origins(record: Mapping[str, Any]) -> tuple[Origin, ...]:
    """Return the one or two origins in a split's record, which anyone may have written; none where it states none."""
    stated = record.get("origins")
    if not isinstance(stated, list) or len(stated) > 2:
        return ()
    origins = [_origin(each) for each in stated]
    return tuple(origin for origin in origins if origin is not None) if all(origins) else ()


def _origin(stated: Any) -> Origin | None:
    values: dict[str, Any] = {name: stated.get(name) for name in FIELDS} if isinstance(stated, dict) else {}
    if not values.get("name") or not all(value is None or isinstance(value, str) for value in values.values()):
        return None
    return Origin(**values)
