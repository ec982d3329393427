"""Which attacks there are, by name, and how one is made."""

from __future__ import annotations

from difflib import get_close_matches

from mia_hub.attacks.base import Attack
from mia_hub.attacks.conditional import Conditional
from mia_hub.errors import AttackError

# Filled by `mia_hub.attacks`.
ATTACKS: dict[str, type[Attack]] = {}


def list_attacks() -> list[str]:
    """The registered names, sorted."""
    return sorted(ATTACKS)


def get_attack(name: str | Attack, **parameters) -> Attack:
    """An attack by name, with its parameters; an Attack is returned as it is.

    ``given=("complexity", "mirror", …)`` makes a conditional one of any attack (`mia_hub.attacks.conditional`): its statistic is
    judged against non-members of the same difficulty.

    Raises:
        AttackError: for an unknown name or parameter (the nearest known one is suggested), or a value it can't take.
    """
    if isinstance(name, Attack):
        if parameters:
            raise AttackError(f"{name!r} has its parameters already; give a name to set {', '.join(parameters)}.")
        return name
    attack = ATTACKS.get(str(name))
    if attack is None:
        raise AttackError(f"There is no attack {name!r}.{_nearest(str(name), list(ATTACKS))} Known are: {', '.join(list_attacks())}.")
    known = list(attack.parameters())
    if "given" in parameters and "given" not in known and not attack.needs_training:
        given = parameters.pop("given")
        return Conditional(attack=get_attack(name, **parameters), given=given)
    for parameter in parameters:
        if parameter not in known:
            raise AttackError(
                f"The attack {attack.name!r} has no parameter {parameter!r}.{_nearest(parameter, known)} It takes: {', '.join(known)}."
            )
    return attack(**parameters)


def _nearest(given: str, known: list[str]) -> str:
    close = get_close_matches(given.lower(), known, n=1, cutoff=0.4)
    return f" Did you mean {close[0]!r}?" if close else ""
