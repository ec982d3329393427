"""Validators of what the leaderboard reads; see `mia_hub.system.validation`."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Annotated, Any

from pydantic import AfterValidator, PlainValidator

from mia_hub.errors import MiaHubError
from mia_hub.system.validation import must_be, predicate, sentence


def line_up_to(longest: int, *, empty: bool = False) -> AfterValidator:
    """Accept one line of text of at most ``longest`` characters, all of them printable."""

    def check(text: str) -> str:
        if not text and not empty:
            raise must_be("text that isn't empty")
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


# Integers stay integers, so that what was read is written alike.
NonNegative = Annotated[float, PlainValidator(_non_negative)]
