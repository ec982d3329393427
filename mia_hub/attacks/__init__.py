"""The attacks, by their registered names."""

from __future__ import annotations

from difflib import get_close_matches

from mia_hub.attacks.base import Attack
from mia_hub.attacks.sima import SimA, SimAMC
from mia_hub.errors import AttackError

ATTACKS: dict[str, type[Attack]] = {
    attack.name: attack
    for attack in (
        SimA,
        SimAMC,
    )
}


def list_attacks() -> list[str]:
    """The registered names, sorted."""
    return sorted(ATTACKS)


def get_attack(name: str | Attack, **parameters) -> Attack:
    """An attack by name, with its parameters; an Attack is returned as it is.

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
    for parameter in parameters:
        if parameter not in known:
            raise AttackError(
                f"The attack {attack.name!r} has no parameter {parameter!r}.{_nearest(parameter, known)} It takes: {', '.join(known)}."
            )
    return attack(**parameters)


def _nearest(given: str, known: list[str]) -> str:
    close = get_close_matches(given.lower(), known, n=1, cutoff=0.4)
    return f" Did you mean {close[0]!r}?" if close else ""
