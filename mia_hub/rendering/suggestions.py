"""Suggestions for a mistyped name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# Of difflib's similarity in [0, 1]; below it a suggestion is more often wrong than right.
SIMILARITY = 0.4


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the sentence that suggests the nearest known name, to be appended to an error message.

    Args:
        name: what was given. Letter case is ignored.
        known: the accepted names.

    Returns:
        " Did you mean 'sima'?" with a leading blank, or "" if no known name is similar.
    """
    by_folded = {each.casefold(): each for each in known}
    nearest = get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=SIMILARITY)
    return f" Did you mean {by_folded[nearest[0]]!r}?" if nearest else ""
