"""Reading of settings: JSON, validated by pydantic; whatever doesn't fit is an error that names the file and the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from mia_hub.errors import MiaHubError

KINDS = {
    "string_type": "text",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "tuple_type": "a list",
}


class BenchmarkError(MiaHubError):
    """A benchmark that doesn't exist, whose file is wrong, or that can't be run as requested."""


class Stated(BaseModel):
    """What a file states: every field has exactly its type, unknown ones are refused, and nothing changes afterwards."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


T = TypeVar("T", bound=Stated)

# Texts, which a file may state as one text.
Texts = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else _as_tuple(value))]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        BenchmarkError: if it can't be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{path} can't be read as JSON ({error}).") from error


def validate(cls: type[T], path: Path, **further: Any) -> T:
    """Return what a file states.

    Args:
        cls: its kind.
        path: a JSON file with one object.
        further: fields that don't come from the file, and must not be in it.

    Raises:
        BenchmarkError: naming the file, the place in it, the field, what is accepted and what was found.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise BenchmarkError(f"{path.name} must be an object; got {values!r}.")
    for name in further.keys() & values.keys():
        raise BenchmarkError(_unknown_field(path.name, name, cls, further))
    try:
        # From text, where a list may stand for a tuple.
        return cls.model_validate_json(json.dumps(values | further))
    except ValidationError as error:
        raise BenchmarkError(_message(error.errors(include_url=False)[0], path.name, cls, further)) from None


def _message(error: Mapping[str, Any], file: str, cls: type[Stated], further: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors as a sentence of ours."""
    *parents, name = error["loc"] or ("",)
    while isinstance(name, int) and parents:
        name = f"{parents.pop()}[{name}]"
    kind, where, value = error["type"], _place(file, parents), error["input"]
    if kind == "missing":
        return f"{where} lacks the field {name!r}."
    if kind == "extra_forbidden":
        return _unknown_field(where, str(name), _model_at(cls, error["loc"][:-1]), further)
    if kind == "value_error":
        return f"{_place(file, error['loc'])}: {error['ctx']['error']}"
    if kind == "literal_error":
        accepted = f"one of {error['ctx']['expected'].replace(' or ', ', ')}"
    elif kind == "greater_than_equal":
        accepted = f"an integer ≥ {error['ctx']['ge']}"
    elif kind in ("dict_type", "model_type"):
        return f"{_place(file, error['loc'])} must be an object; got {value!r}."
    else:
        accepted = KINDS.get(kind, f"what its description says ({error['msg']})")
    return f"{where}: {name} must be {accepted}; got {value!r}."


def _place(file: str, location: Any) -> str:
    """Return a file and a place in it: "own.json, members, where[0]"."""
    text = file
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f", {part}"
    return text


def _unknown_field(where: str, name: str, cls: type[Stated], further: Mapping[str, Any]) -> str:
    known = [field.alias or own for own, field in cls.model_fields.items() if own not in further]
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{where} has no field {name!r}.{hint} It takes: {', '.join(known)}."


def _model_at(cls: type[Stated], location: Any) -> type[Stated]:
    """Return the class of the object at a place."""
    for part in location:
        if isinstance(part, str):
            cls = _nested(cls.model_fields[part].annotation)
    return cls


def _nested(annotation: Any) -> Any:
    """Return the class of ours in an annotation such as ``tuple[Class, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, Stated):
        return annotation
    return next(filter(None, map(_nested, getattr(annotation, "__args__", ()))), None)
