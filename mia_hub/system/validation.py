"""Validation of JSON that others wrote: pydantic models, and their errors in plain English.

A model is strict and refuses extra fields. A message names the field, the value and what is accepted; there is one line per problem.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from mia_hub.errors import MiaHubError
from mia_hub.rendering.suggestions import did_you_mean

CLOSED = ConfigDict(strict=True, extra="forbid")
# For what describes itself: the fields that are used are checked, and further ones are allowed.
OPEN = ConfigDict(strict=True, extra="ignore")
LONGEST_VALUE = 60
MOST_PROBLEMS = 5
T = TypeVar("T")
Text = Annotated[str, Field(max_length=2000)]

# Accepted values by the type of pydantic's error; braces are filled from the error's context.
ACCEPTED = {
    "string_type": "text",
    "string_pattern_mismatch": "of the form {pattern}",
    "bool_type": "true or false",
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a JSON object",
    "model_type": "a JSON object",
    "must_be": "{accepted}",
}
UNKNOWN_FIELD = ("extra_forbidden", "unexpected_keyword_argument")


class InvalidData(MiaHubError):
    """Data that a model refuses: the message has one line per problem."""


class Closed(BaseModel):
    """Base of models that refuse fields of other names."""

    model_config = CLOSED


class Open(BaseModel):
    """Base of models that allow further fields."""

    model_config = OPEN


def parsed(schema: Callable[..., T], values: Any, subject: str) -> T:
    """Return an instance of a pydantic model or dataclass made from plain values.

    Args:
        schema: the model or dataclass.
        values: a JSON object.
        subject: name of the object for messages, such as "The request".

    Raises:
        InvalidData: if the model refuses them.
    """
    if not isinstance(values, Mapping):
        raise InvalidData(f"{subject} must be a JSON object; got {shortened(values)}.")
    try:
        return schema(**values)
    except ValidationError as error:
        lines = [_problem(details, subject, schema) for details in error.errors(include_url=False)]
        if len(lines) > MOST_PROBLEMS:
            lines[MOST_PROBLEMS:] = [f"{len(lines) - MOST_PROBLEMS} more problems are left out."]
        raise InvalidData("\n".join(lines)) from error


def _problem(error: ErrorDetails, subject: str, schema: Any) -> str:
    """Return one problem as a sentence."""
    place, context, kind = list(error["loc"]), error.get("ctx", {}), error["type"]
    if kind == "sentence":
        return str(context["text"])
    if kind == "missing":
        name = place.pop()
        return f"{_path(place) or subject} lacks the field {str(name)[:40]!r}."
    if kind in UNKNOWN_FIELD:
        name = str(place.pop())[:40]
        known = _fields(schema, place)
        accepted = "" if place else f"; it has {', '.join(known)}"
        return f"{_path(place) or subject} has no field {name!r}{accepted}.{did_you_mean(name, known)}"
    where = _path(place) or subject
    if kind == "predicate":
        return f"{where} {context['text']}."
    if kind == "value_error":
        return f"{_path(place)}: {context['error']}" if place else str(context["error"])
    accepted = ACCEPTED[kind].format(**context) if kind in ACCEPTED else error["msg"]
    return f"{where} must be {accepted}; got {shortened(error['input'])}."


def _fields(schema: Any, place: list[int | str]) -> list[str]:
    """Return the names of the fields that the object at a place has; none where they aren't known."""
    for part in place:
        if isinstance(part, str):
            fields = getattr(schema, "__pydantic_fields__", {})
            schema = _schema_in(fields[part].annotation) if part in fields else None
    return sorted(field.alias or name for name, field in getattr(schema, "__pydantic_fields__", {}).items())


def _schema_in(annotation: Any) -> Any:
    """Return the model in an annotation such as ``tuple[Model, ...]``; None where there is none."""
    if hasattr(annotation, "__pydantic_fields__"):
        return annotation
    return next(filter(None, map(_schema_in, getattr(annotation, "__args__", ()))), None)


def _path(place: list[int | str]) -> str:
    """Return where a value is, as "rows[3].auc.value"."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part[:40]}" if text else part[:40]
    return text


def shortened(value: Any) -> str:
    """Return a value as Python writes it, cut where it is long."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = LONGEST_VALUE
    return short.repr(value)[:LONGEST_VALUE]


# Errors that validators raise.


def must_be(accepted: str) -> PydanticCustomError:
    """Return the error "FIELD must be ACCEPTED; got VALUE."."""
    return PydanticCustomError("must_be", "must be {accepted}", {"accepted": accepted})


def predicate(text: str) -> PydanticCustomError:
    """Return the error "FIELD TEXT."."""
    return PydanticCustomError("predicate", "{text}", {"text": text})


def sentence(text: str) -> PydanticCustomError:
    """Return an error whose message is complete, and names the field itself."""
    return PydanticCustomError("sentence", "{text}", {"text": text})


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# JSON has lists alone.
FROM_LIST = BeforeValidator(_as_tuple)
