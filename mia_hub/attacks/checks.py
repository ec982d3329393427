"""Checks of parameters that several attacks share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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


def check_companions_used(base: object, reference_models: object, attacks: Iterable[Any]) -> None:
    """Refuse a base, or reference models, that none of the attacks uses.

    Args:
        base, reference_models: as given; None for none.
        attacks: that are run.

    Raises:
        AttackError: with the attacks that use them.
    """
    attacks = list(attacks)
    names = ", ".join(repr(attack.name) for attack in attacks)
    compare = "compares" if len(attacks) == 1 else "compare"
    if base is not None and not any(attack.uses_base for attack in attacks):
        raise AttackError(
            f"A base was given, and {names} {compare} the model with none. Choose 'sima-lpb', "
            "'sima-b' or 'loss-b', or another attack with given=('base', 'complexity'), or leave the base out."
        )
    if reference_models is not None and not any(attack.uses_reference_models for attack in attacks):
        raise AttackError(
            f"Reference models were given, and {names} {compare} the model with none. Choose 'lira', 'rmia' or 'bavaria', or leave the "
            "reference models out."
        )
