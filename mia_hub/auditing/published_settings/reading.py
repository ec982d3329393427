"""From JSON to frozen dataclasses by their type hints; whatever doesn't fit is an error that names the file and the field."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from mia_hub.errors import MiaHubError

T = TypeVar("T")
KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object"}


class BenchmarkError(MiaHubError):
    """A benchmark that isn't there, whose file is wrong, or that can't be run as it was asked for."""


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        BenchmarkError: if it can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path} can't be read as JSON ({error}).") from error


def build(cls: type[T], values: Any, where: str, **given: Any) -> T:
    """A dataclass from a JSON object.

    Args:
        cls: every field without a default is required, and unknown ones are refused.
        values: the JSON object. A tuple of texts may be written as one text.
        where: the file, and the place in it, for messages.
        given: fields that come from elsewhere than the file.

    Raises:
        BenchmarkError: naming the place, the field, what is expected and what was found.
    """
    if not isinstance(values, dict):
        raise BenchmarkError(f"{where} must be an object; got {values!r}.")
    known = {field.name: field for field in fields(cls) if field.name not in given}
    for name in values:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise BenchmarkError(f"{where} has no field {name!r}.{hint} It takes: {', '.join(known)}.")
    hints, found = get_type_hints(cls), {}
    for name, field in known.items():
        if name in values:
            found[name] = _as(hints[name], values[name], where, name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise BenchmarkError(f"{where} lacks the field {name!r}.")
    try:
        return cls(**given, **found)
    except BenchmarkError as error:
        raise BenchmarkError(f"{where}: {error}") from None


def _as(hint: Any, value: Any, where: str, name: str) -> Any:
    if isinstance(hint, UnionType):
        if value is None and NoneType in get_args(hint):
            return None
        return _as(next(part for part in get_args(hint) if part is not NoneType), value, where, name)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise BenchmarkError(f"{where}: {name} must be one of {', '.join(map(repr, get_args(hint)))}; got {value!r}.")
        return value
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        if isinstance(value, str) and item is str:
            return (value,)
        if not isinstance(value, list):
            raise BenchmarkError(f"{where}: {name} must be a list; got {value!r}.")
        return tuple(_as(item, entry, where, f"{name}[{i}]") for i, entry in enumerate(value))
    if is_dataclass(hint):
        return build(hint, value, f"{where}, {name}")
    accepted = (int, float) if hint is float else hint
    # True is an int to Python, and never one to a reader.
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise BenchmarkError(f"{where}: {name} must be {KINDS[hint]}; got {value!r}.")
    return value
