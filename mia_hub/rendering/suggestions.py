"""Suggestions for a mistyped name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

# Of difflib's similarity in [0, 1]; below it a suggestion is more often wrong than right.
SIMILARITY = 0.4
Kind = TypeVar("Kind")


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


def look_up(what: str, name: object, registered: Mapping[str, Kind], error: type[Exception]) -> Kind:
    """Return what is registered under a name.

    Args:
        what: what it is, for the message, such as "attack".
        name: what was given.
        registered: by name.
        error: that is raised for an unknown name, with the nearest known one.
    """
    kind = registered.get(str(name))
    if kind is None:
        raise error(f"There is no {what} {name!r}.{did_you_mean(name, registered)} Known are: {', '.join(sorted(registered))}.")
    return kind


def check_parameters(what: str, given: Iterable[str], known: Iterable[str], error: type[Exception]) -> None:
    """Refuse a parameter that something doesn't have.

    Args:
        what: has the parameters, for the message, such as "attack 'sima'".
        given: names of parameters.
        known: those that it has.
        error: that is raised for an unknown name, with the nearest known one.
    """
    accepted = list(known)
    for name in given:
        if name not in accepted:
            raise error(f"The {what} has no parameter {name!r}.{did_you_mean(name, accepted)} It takes: {', '.join(accepted)}.")
