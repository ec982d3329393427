"""The text form of an attack: "sima-mc:draws=30,timesteps=50,100" to the attack, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.base import Attack
from mia_hub.attacks.combination import Combination
from mia_hub.attacks.learning import FittedAttack
from mia_hub.attacks.registry import decomposed, get_attack, list_attacks
from mia_hub.errors import MiaHubError

# Of a longer list, a label shows the first and the last entry; the attack's identity beside it has them all.
MAX_ENTRIES_SHOWN = 4


def spell(attack: Attack, *, without: Sequence[str] = ()) -> str:
    """Return an attack's name, and its parameters that differ from the defaults: "sima-mc:draws=30,timesteps=50,100".

    Args:
        attack: the attack; the parts of a combination are joined by "+".
        without: parameters that are left out.
    """
    if isinstance(attack, Combination):
        return "+".join(spell(part, without=without) for part in attack.attacks)
    if isinstance(attack, FittedAttack):
        return f"{spell(attack.attack, without=without)} (fitted)"
    named, further = decomposed(attack)
    settings = [*_settings(named, without), *(f"{name}={_value_text(name, further[name])}" for name in reversed(further))]
    return f"{named.name}:{','.join(settings)}" if settings else named.name


def _settings(attack: Attack, without: Sequence[str]) -> Iterator[str]:
    authors = attack.authors_defaults if isinstance(attack, HasAuthorsVariant) and attack.by_authors else {}
    for parameter in fields(attack):
        value, default = getattr(attack, parameter.name), authors.get(parameter.name, parameter.default)
        if parameter.repr and parameter.name not in without and value != default:
            yield f"{parameter.name}={_value_text(parameter.name, value)}"


def _value_text(name: str, value: Any) -> str:
    if isinstance(value, (tuple, list)):
        entries = [_value_text("", entry) for entry in value]
        if len(entries) > MAX_ENTRIES_SHOWN:
            return f"{entries[0]},…,{entries[-1]}"
        # A comma marks a list of one entry, except for timesteps, which are always a list.
        return ",".join(entries) + "," * (len(entries) == 1 and name != "timesteps")
    return str(value).lower() if isinstance(value, bool) else getattr(value, "__name__", str(value))


def parse_attack(text: str) -> Attack:
    """Return the attack of a text such as "sima-mc:draws=30,timesteps=50,100".

    Raises:
        MiaHubError: if the text has another form, or names no attack or parameter.
    """
    name, parameters = parse_name_and_parameters(text)
    return get_attack(name, **parameters)


def parse_parts(text: str) -> list[Attack]:
    """Return the attacks of a text such as "sima+pia:timesteps=200".

    A plus sign inside a value, as in ``given=mirror+shift-right``, belongs to the value.

    Raises:
        MiaHubError: see `parse_attack`.
    """
    texts: list[str] = []
    for piece in text.split("+"):
        if texts and ":" in texts[-1] and piece.partition(":")[0] not in list_attacks():
            texts[-1] += f"+{piece}"
        else:
            texts.append(piece)
    return [parse_attack(part) for part in texts]


def parse_name_and_parameters(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the parameters of an attack's text, unchecked; "name=" after a comma begins a new parameter.

    Raises:
        MiaHubError: if the text has another form.
    """
    name, colon, rest = text.partition(":")
    settings = re.split(r",(?=[\w-]+=)", rest) if colon else []
    if colon and not all("=" in setting.strip("=") for setting in settings):
        raise MiaHubError(f"An attack is written as NAME:PARAMETER=VALUE,…, such as sima-mc:draws=30,timesteps=50,100; got {text!r}.")
    return name, parse_parameters(settings)


def parse_parameters(settings: Sequence[str]) -> dict[str, Any]:
    """Return the keyword arguments of settings such as ["p=2", "timesteps=50,100", "form=norm-mean"].

    Values are numbers, lists of numbers, true or false, or text.

    Raises:
        MiaHubError: if a setting has another form.
    """
    parameters: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name or not text:
            raise MiaHubError(f"--set takes NAME=VALUE, such as p=2 or timesteps=50,100; got {setting!r}.")
        values = [_value(part) for part in text.split(",") if part]
        parameters[name.replace("-", "_")] = tuple(values) if "," in text or name == "timesteps" else values[0]
    return parameters


def _value(text: str) -> int | float | bool | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
