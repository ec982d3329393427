"""Refusals of parameters that several attacks share."""

from __future__ import annotations

from mia_hub.errors import AttackError


def check_choice(what: str, value: str, accepted: tuple[str, ...]) -> None:
    """Refuses a value that is not one of those accepted.

    Raises:
        AttackError: naming the parameter, ``what``, and what it takes.
    """
    if value not in accepted:
        raise AttackError(f"{what} must be one of {', '.join(map(repr, accepted))}; got {value!r}.")


def check_norm(p: float) -> None:
    """Refuses what is no order of a norm.

    Raises:
        AttackError: unless ``p`` is a number above 0.
    """
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not p > 0:
        raise AttackError(f"p, the order of the norm, must be a number above 0 (the paper finds 4 best); got {p!r}.")
