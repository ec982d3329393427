"""The registered attacks, by name."""

from __future__ import annotations

from typing import Any

from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.base import Attack
from mia_hub.attacks.conditional import Conditional
from mia_hub.attacks.delegating import DerivedAttack
from mia_hub.attacks.filtered import Filtered
from mia_hub.errors import AttackError
from mia_hub.rendering.suggestions import check_parameters, look_up

# Filled by `mia_hub.attacks`.
ATTACKS: dict[str, type[Attack]] = {}


def list_attacks() -> list[str]:
    """Return the registered names, sorted."""
    return sorted(ATTACKS)


def get_attack(name: str | Attack, **parameters: Any) -> Attack:
    """Return an attack by name, with its parameters; an Attack is returned as it is.

    ``given=("complexity", "mirror", …)`` makes a conditional attack of any attack (`mia_hub.attacks.conditional`): its statistic is
    compared with that of non-members of the same difficulty. ``filtered=(5, 0.2)`` filters the frequencies of what an attack takes the
    length of (`mia_hub.attacks.filtered`). ``variant="authors"`` is the attack as its authors' public code computes it,
    where that differs (`mia_hub.attacks.authors`).

    Args:
        name: one of `list_attacks`, or an Attack.
        parameters: the attack's fields.

    Raises:
        AttackError: for an unknown name or parameter (the nearest known one is suggested), or a value that the parameter can't take.
    """
    if isinstance(name, Attack):
        if parameters:
            raise AttackError(f"{name!r} has its parameters already; give a name to set {', '.join(parameters)}.")
        return name
    attack = look_up("attack", name, ATTACKS, AttackError)
    known = list(attack.parameters())
    if "given" in parameters and "given" not in known and not attack.needs_training:
        given = parameters.pop("given")
        return Conditional(attack=get_attack(name, **parameters), given=given)
    if "filtered" in parameters:
        filtered = parameters.pop("filtered")
        plain: Any = get_attack(name, **parameters)
        return plain if filtered is False else Filtered(attack=plain, filtered=filtered)
    check_parameters(f"attack {attack.name!r}", parameters, known, AttackError)
    if issubclass(attack, HasAuthorsVariant) and parameters.get("variant") == "authors":
        parameters = {**attack.authors_defaults, **parameters}
    return attack(**parameters)


def decomposed(attack: Attack) -> tuple[Attack, dict[str, Any]]:
    """Return the registered attack that an attack was made of by `get_attack`, and the parameters beside its own, the outermost first."""
    further: dict[str, Any] = {}
    while isinstance(attack, DerivedAttack) and attack.parameter:
        further[attack.parameter] = getattr(attack, attack.parameter)
        attack = attack.base
    return attack, further
