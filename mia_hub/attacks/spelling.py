"""How an attack is written: "sima-mc:draws=30,timesteps=50,100" to the attack, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from mia_hub.attacks import Attack
from mia_hub.attacks.combination import Combination
from mia_hub.attacks.conditional import Conditional
from mia_hub.attacks.learning import FittedAttack
from mia_hub.errors import MiaHubError

# A label names so many entries of a list, and of a longer one the first and the last; the identity beside it has them all.
NAMED_ENTRIES = 4


def spelled(attack: Attack, *, without: Sequence[str] = ()) -> str:
    """An attack's name, and the parameters that differ from its defaults: "sima-mc:draws=30,timesteps=50,100"."""
    if isinstance(attack, Combination):
        return "+".join(spelled(part, without=without) for part in attack.parts)
    if isinstance(attack, FittedAttack):
        return f"{spelled(attack.attack, without=without)} (fitted)"
    name, settings = attack.name, list(_settings(attack, without))
    if isinstance(attack, Conditional):
        name, settings = attack.attack.name, [*_settings(attack.attack, without), *_settings(attack, ("timesteps", "attack"))]
    return f"{name}:{','.join(settings)}" if settings else name


def _settings(attack: Attack, without: Sequence[str]) -> Iterator[str]:
    for parameter in fields(attack):
        value = getattr(attack, parameter.name)
        if parameter.repr and parameter.name not in without and value != parameter.default:
            yield f"{parameter.name}={_spelled_value(parameter.name, value)}"


def _spelled_value(name: str, value: Any) -> str:
    if isinstance(value, (tuple, list)):
        entries = [_spelled_value("", entry) for entry in value]
        if len(entries) > NAMED_ENTRIES:
            return f"{entries[0]},…,{entries[-1]}"
        # The comma says that it is a list, which of timesteps is known.
        return ",".join(entries) + "," * (len(entries) == 1 and name != "timesteps")
    return str(value).lower() if isinstance(value, bool) else getattr(value, "__name__", str(value))


def attack_parameters(settings: list[str]) -> dict:
    """``["p=2", "timesteps=50,100", "form=norm-mean"]`` to keyword arguments; numbers, lists of numbers, true/false, or text."""
    parameters = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name or not text:
            raise MiaHubError(f"--set takes NAME=VALUE, such as p=2 or timesteps=50,100; got {setting!r}.")
        values = [_value(part) for part in text.split(",") if part]
        parameters[name.replace("-", "_")] = tuple(values) if "," in text or name == "timesteps" else values[0]
    return parameters


def attack_from(text: str):
    """``"sima-mc:draws=30,timesteps=50,100"`` to the attack; see `attack_words`."""
    from mia_hub.attacks import get_attack

    name, parameters = attack_words(text)
    return get_attack(name, **parameters)


def attack_words(text: str) -> tuple[str, dict]:
    """Name and parameters of an attack as it is written, unchecked; a new parameter begins where ``name=`` follows a comma."""
    name, colon, rest = text.partition(":")
    settings = re.split(r",(?=[\w-]+=)", rest) if colon else []
    if colon and not all("=" in setting.strip("=") for setting in settings):
        raise MiaHubError(f"An attack is written as NAME:PARAMETER=VALUE,…, such as sima-mc:draws=30,timesteps=50,100; got {text!r}.")
    return name, attack_parameters(settings)


def parts_from(text: str) -> list:
    """``"sima+pia:timesteps=200"`` to its attacks; a plus sign inside a value, as in ``given=mirror+shift-right``, belongs to it."""
    from mia_hub.attacks import list_attacks

    texts: list[str] = []
    for piece in text.split("+"):
        if texts and ":" in texts[-1] and piece.partition(":")[0] not in list_attacks():
            texts[-1] += f"+{piece}"
        else:
            texts.append(piece)
    return [attack_from(part) for part in texts]


def _value(text: str):
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
