"""Reading of settings: JSON, validated by pydantic; whatever doesn't fit is an error that names the file and the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict

from mia_hub.errors import MiaHubError
from mia_hub.system.validation import FROM_LIST, InvalidData, parsed

SUBJECT = "the setting"


class BenchmarkError(MiaHubError):
    """A benchmark that doesn't exist, whose file is wrong, or that can't be run as requested."""


class Stated(BaseModel):
    """Base of all parts of a setting: every field has exactly its type, unknown ones are refused, and nothing changes afterwards."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


T = TypeVar("T", bound=Stated)


def _one_text(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


# Texts, which a file may state as one text.
Texts = Annotated[tuple[str, ...], FROM_LIST, BeforeValidator(_one_text)]


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
        BenchmarkError: naming the file, the field, what is accepted and what the file has.
    """
    values = read_json(path)
    try:
        if isinstance(values, dict):
            for name in further.keys() & values.keys():
                raise InvalidData(f"{SUBJECT} has no field {name!r}.")
            values |= further
        return parsed(cls, values, SUBJECT)
    except InvalidData as error:
        raise BenchmarkError("\n".join(f"{path.name}: {problem}" for problem in str(error).splitlines())) from None
