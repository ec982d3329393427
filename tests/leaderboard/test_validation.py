"""Validators of what strangers write: bounds, and messages that name the field, the value and what is accepted."""

from typing import Annotated

import pytest

from leaderboard.errors import SubmissionError
from leaderboard.requests.naming import check_local
from leaderboard.validation import NonNegative, at_most, checked, line_up_to, text_up_to
from mia_hub.system.validation import Closed, InvalidData, parsed


class Form(Closed):
    line: Annotated[str, line_up_to(5)] = "x"
    remark: Annotated[str, line_up_to(5, empty=True)] = ""
    text: Annotated[str, text_up_to(5)] = ""
    items: Annotated[list[str], at_most(2)] = []  # noqa: RUF012
    number: NonNegative = 0
    local: Annotated[str, checked(check_local)] = "local:x"


@pytest.mark.parametrize(
    "values", [{"line": "x" * 5}, {"text": "a\nb"}, {"items": ["a", "b"]}, {"number": 3}, {"number": 0.5}, {"number": float("inf")}]
)
def test_what_is_within_bounds_stays_as_it_is(values):
    (name,) = values
    form = parsed(Form, values, "The form")
    assert getattr(form, name) == values[name] and type(getattr(form, name)) is type(values[name])


@pytest.mark.parametrize(
    "values, message",
    [
        ({"line": ""}, "line must be text that isn't empty; got ''."),
        ({"line": 7}, "line must be text; got 7."),
        ({"line": "x" * 6}, "line is 6 characters long; at most 5 are accepted."),
        ({"remark": "a\nb"}, "remark contains control characters or line breaks; remove them."),
        ({"remark": "\u202e"}, "remark contains control characters or line breaks; remove them."),
        ({"text": "x" * 6}, "text is 6 characters long; at most 5 are accepted."),
        ({"items": ["a"] * 3}, "items has 3 items; at most 2 are accepted."),
        ({"number": -1}, "number must be a number, at least 0; got -1."),
        ({"number": True}, "number must be a number, at least 0; got True."),
        ({"number": float("nan")}, "number must be a number, at least 0; got nan."),
    ],
)
def test_a_message_names_the_field_the_value_and_what_is_accepted(values, message):
    with pytest.raises(InvalidData) as refused:
        parsed(Form, values, "The form")
    assert str(refused.value) == message


def test_a_message_of_ours_is_passed_on():
    with pytest.raises(SubmissionError) as ours:
        check_local("local:..")
    with pytest.raises(InvalidData) as refused:
        parsed(Form, {"local": "local:.."}, "The form")
    assert str(refused.value) == str(ours.value)


def test_every_problem_has_its_line():
    with pytest.raises(InvalidData) as refused:
        parsed(Form, {"line": 7, "number": "x", "other": 1}, "The form")
    assert [line.split()[0] for line in str(refused.value).splitlines()] == ["line", "number", "The"]
