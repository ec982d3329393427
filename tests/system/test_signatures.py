"""Options that are declared once and shown as parameters of each function that takes them."""

from __future__ import annotations

import inspect
import pydoc
from typing import Annotated, TypedDict, Unpack

import pytest

from mia_hub.system.signatures import Default, with_options


class Base(TypedDict, total=False):
    seed: Annotated[int, Default(0)]


class Options(Base, total=False):
    limit: Annotated[int | None, Default(None)]


@with_options
def scored(image: str, *, captions: str | None = None, **options: Unpack[Options]) -> tuple:
    """Score an image."""
    return image, captions, options


def test_the_body_gets_every_option():
    assert scored("a") == ("a", None, {"seed": 0, "limit": None})
    assert scored(image="a", limit=3, captions="b") == ("a", "b", {"seed": 0, "limit": 3})


def test_help_shows_every_option_with_its_type_and_default():
    assert list(inspect.signature(scored).parameters) == ["image", "captions", "seed", "limit"]
    limit = inspect.signature(scored).parameters["limit"]
    assert (limit.kind, limit.default, limit.annotation) == (inspect.Parameter.KEYWORD_ONLY, None, int | None)
    text = pydoc.plain(pydoc.render_doc(scored))
    assert "seed: int = 0, limit: int | None = None) -> 'tuple'" in text and "Score an image." in text


@pytest.mark.parametrize(
    ("args", "keywords", "message"),
    [
        (("a",), {"sed": 1}, r"scored\(\) got an unexpected keyword argument 'sed'"),
        ((), {}, r"scored\(\) missing a required argument: 'image'"),
        (("a", "b"), {}, r"scored\(\) too many positional arguments"),
        (("a",), {"image": "b"}, r"scored\(\) multiple values for argument 'image'"),
    ],
)
def test_wrong_arguments_are_refused_as_those_of_any_function(args, keywords, message):
    with pytest.raises(TypeError, match=message):
        scored(*args, **keywords)


class WithoutDefault(TypedDict):
    seed: int


def bare(**options: Unpack[WithoutDefault]): ...


def untyped(**options): ...


def no_options(seed: int): ...


def nothing(): ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (bare, "'seed' of WithoutDefault needs a default"),
        *((function, f"{function.__name__} must end in ") for function in (untyped, no_options, nothing)),
    ],
)
def test_options_without_a_default_or_a_declaration_are_refused(function, message):
    with pytest.raises(TypeError, match=message):
        with_options(function)
