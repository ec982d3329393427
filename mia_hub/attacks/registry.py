"""The registered attacks, by name."""

from __future__ import annotations

from typing import Any

from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.base import Attack
from mia_hub.attacks.conditional import Conditional
from mia_hub.errors import AttackError
from mia_hub.rendering.suggestions import did_you_mean

# Filled by `mia_hub.attacks`.
ATTACKS: dict[str, type[Attack]] = {}


def list_attacks() -> list[str]:
    """Return the registered names, sorted."""
    return sorted(ATTACKS)


def get_attack(name: str | Attack, **parameters: Any) -> Attack:
    """Return an attack by name, with its parameters; an Attack is returned as it is.

    ``given=("complexity", "mirror", …)`` makes a conditional attack of any attack (`mia_hub.attacks.conditional`): its statistic is
    compared with that of non-members of the same difficulty. ``variant="authors"`` is the attack as its authors' public code computes it,
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
    attack = ATTACKS.get(str(name))
    if attack is None:
        raise AttackError(f"There is no attack {name!r}.{did_you_mean(name, ATTACKS)} Known are: {', '.join(list_attacks())}.")
    known = list(attack.parameters())
    if "given" in parameters and "given" not in known and not attack.needs_training:
        given = parameters.pop("given")
        return Conditional(attack=get_attack(name, **parameters), given=given)
    for parameter in parameters:
        if parameter not in known:
            raise AttackError(
                f"The attack {attack.name!r} has no parameter {parameter!r}.{did_you_mean(parameter, known)} It takes: {', '.join(known)}."
            )
    if issubclass(attack, HasAuthorsVariant) and parameters.get("variant") == "authors":
        parameters = {**attack.authors_defaults, **parameters}
    return attack(**parameters)
