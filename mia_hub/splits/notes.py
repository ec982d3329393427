"""Results with their uncertainty and provenance. No bare number leaves as a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


# Of what is said of a split, which anyone may have written.
MOST_NOTES, LONGEST_NOTE = 20, 1000


def split_notes(split: Mapping[str, Any]) -> list[str]:
    """What the reader must know of a split, as `mia_hub.auditing.preparation.describe_split` records it; not yet escaped."""
    notes = split.get("notes")
    return [str(note)[:LONGEST_NOTE] for note in notes[:MOST_NOTES]] if isinstance(notes, list) else []
