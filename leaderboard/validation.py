"""Validation of JSON from strangers: pydantic models, and their errors in plain English.

A model is strict and refuses extra fields. A message names the field, the value and what is accepted; there is one line per problem.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sized
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from mia_hub.errors import MiaHubError

CLOSED = ConfigDict(strict=True, extra="forbid")
# For what describes itself: the fields that are used are checked, and further ones are allowed.
OPEN = ConfigDict(strict=True, extra="ignore")
LONGEST_VALUE = 60
MOST_PROBLEMS = 5
T = TypeVar("T")

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
        known = sorted(field.alias or name for name, field in getattr(schema, "__pydantic_fields__", {}).items())
        lines = [_problem(details, subject, known) for details in error.errors(include_url=False)]
        if len(lines) > MOST_PROBLEMS:
            lines[MOST_PROBLEMS:] = [f"{len(lines) - MOST_PROBLEMS} more problems are left out."]
        raise InvalidData("\n".join(lines)) from error


def _problem(error: ErrorDetails, subject: str, known: list[str]) -> str:
    """Return one problem as a sentence."""
    place, context, kind = list(error["loc"]), error.get("ctx", {}), error["type"]
    if kind == "sentence":
        return str(context["text"])
    if kind == "missing":
        name = place.pop()
        return f"{_path(place) or subject} lacks the field {str(name)[:40]!r}."
    if kind in UNKNOWN_FIELD:
        name = place.pop()
        accepted = "" if place else f"; it has {', '.join(known)}"
        return f"{_path(place) or subject} has no field {str(name)[:40]!r}{accepted}."
    where = _path(place) or subject
    if kind == "predicate":
        return f"{where} {context['text']}."
    accepted = ACCEPTED[kind].format(**context) if kind in ACCEPTED else error["msg"]
    return f"{where} must be {accepted}; got {shortened(error['input'])}."


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


# Validators.


def line_up_to(longest: int, *, empty: bool = False) -> AfterValidator:
    """Accept one line of text of at most ``longest`` characters, all of them printable."""

    def check(text: str) -> str:
        if not text and not empty:
            raise must_be("text")
        if len(text) > longest:
            raise predicate(f"is {len(text):,} characters long; at most {longest:,} are accepted")
        if not text.isprintable():
            raise predicate("contains control characters or line breaks; remove them")
        return text

    return AfterValidator(check)


def text_up_to(longest: int) -> AfterValidator:
    """Accept text of at most ``longest`` characters."""

    def check(text: str) -> str:
        if len(text) > longest:
            raise predicate(f"is {len(text):,} characters long; at most {longest:,} are accepted")
        return text

    return AfterValidator(check)


def at_most(most: int, items: str = "items") -> AfterValidator:
    """Accept a list of at most ``most`` items."""

    def check(value: Sized) -> Sized:
        if len(value) > most:
            raise predicate(f"has {len(value):,} {items}; at most {most:,} are accepted")
        return value

    return AfterValidator(check)


def checked(check: Callable[[str], None]) -> AfterValidator:
    """Accept a value that ``check`` doesn't refuse; its MiaHubError becomes the message."""

    def apply(value: str) -> str:
        try:
            check(value)
        except MiaHubError as error:
            raise sentence(str(error)) from error
        return value

    return AfterValidator(apply)


def _non_negative(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise must_be("a number, at least 0")
    return value


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# Integers stay integers, so that what was read is written alike.
NonNegative = Annotated[float, PlainValidator(_non_negative)]
# JSON has lists alone.
FROM_LIST = BeforeValidator(_as_tuple)
