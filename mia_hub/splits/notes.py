"""Notes of a split: sentences that the reader of a result must know, from a record that anyone may have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_NOTES, LONGEST_NOTE = 20, 1000


def split_notes(split: Mapping[str, Any]) -> list[str]:
    """Return the notes in the record of a split, as `mia_hub.auditing.preparation.describe_split` makes it; not escaped for HTML."""
    notes = split.get("notes")
    return [str(note)[:LONGEST_NOTE] for note in notes[:MOST_NOTES]] if isinstance(notes, list) else []
