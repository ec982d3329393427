"""Notes of a split: sentences that the reader of a result must know, from a record that anyone may have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mia_hub.metrics.estimates import Estimate

MOST_NOTES, LONGEST_NOTE = 20, 1000


def split_notes(split: Mapping[str, Any]) -> list[str]:
    """Return the notes in the record of a split, as `mia_hub.auditing.preparation.describe_split` makes it; not escaped for HTML."""
    notes = split.get("notes")
    return [str(note)[:LONGEST_NOTE] for note in notes[:MOST_NOTES]] if isinstance(notes, list) else []


def blind_sample_note(blind: Estimate, split: Mapping[str, Any]) -> str:
    """Return how many images of a split the blind classifier saw, as a sentence after another one; "" if it saw all.

    Args:
        blind: its AUC.
        split: the record of the split.
    """
    sides = ((blind.n_members, split.get("n_members"), "members"), (blind.n_nonmembers, split.get("n_nonmembers"), "non-members"))
    drawn = [f"{seen:,} of the {total:,} {side}" for seen, total, side in sides if isinstance(total, int) and seen < total]
    return f" It saw {' and '.join(drawn)}, by a seeded draw." if drawn else ""
