"""Checks of parameters that several attacks share."""

from __future__ import annotations

from mia_hub.errors import AttackError


def check_choice(what: str, value: str, accepted: tuple[str, ...]) -> None:
    """Refuse a value that is not one of those accepted.

    Args:
        what: the parameter's name, for the message.
        value: what was given.
        accepted: the values that the parameter takes.

    Raises:
        AttackError: if ``value`` is none of them.
    """
    if value not in accepted:
        raise AttackError(f"{what} must be one of {', '.join(map(repr, accepted))}; got {value!r}.")


def check_norm(p: float) -> None:
    """Refuse a value that is not the order of a norm.

    Raises:
        AttackError: unless ``p`` is a number above 0.
    """
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not p > 0:
        raise AttackError(f"p, the order of the norm, must be a number above 0 (the paper finds 4 best); got {p!r}.")
