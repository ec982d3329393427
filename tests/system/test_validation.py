"""Errors of pydantic, in words that name the field, what it has and what is accepted."""

from typing import Annotated

import pytest
from pydantic import Field, model_validator

from mia_hub.system.validation import FROM_LIST, Closed, InvalidData, parsed


class Part(Closed):
    count: Annotated[int, Field(ge=2)]
    kind: str = ""


class Whole(Closed):
    parts: Annotated[tuple[Part, ...], FROM_LIST] = ()
    title: str = Field(alias="name")

    @model_validator(mode="after")
    def _check(self) -> "Whole":
        if self.title == "wrong":
            raise ValueError("A name can't be wrong.")
        return self


def test_what_fits_is_read():
    assert parsed(Whole, {"name": "x", "parts": [{"count": 2}]}, "The whole").parts == (Part(count=2),)


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ([1], ["The whole must be a JSON object; got [1]."]),
        ({}, ["The whole lacks the field 'name'."]),
        ({"nam": "x", "name": "x"}, ["The whole has no field 'nam'; it has name, parts. Did you mean 'name'?"]),
        ({"name": "x", "parts": [{"count": 2, "knd": ""}]}, ["parts[0] has no field 'knd'. Did you mean 'kind'?"]),
        ({"name": "x", "parts": [{"count": 1}]}, ["parts[0].count must be at least 2; got 1."]),
        ({"name": 3, "parts": "x"}, ["parts must be a list; got 'x'.", "name must be text; got 3."]),
        ({"name": "wrong"}, ["A name can't be wrong."]),
        ({"name": "x", "parts": [{}] * 9}, [*(f"parts[{i}] lacks the field 'count'." for i in range(5)), "4 more problems are left out."]),
    ],
)
def test_each_problem_is_a_sentence(values, problems):
    with pytest.raises(InvalidData) as caught:
        parsed(Whole, values, "The whole")
    assert str(caught.value).splitlines() == problems
