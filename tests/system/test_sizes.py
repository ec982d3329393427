"""Sizes as a person writes and reads them."""

from __future__ import annotations

import pytest

from mia_hub.system.sizes import parse_size, size_text

SIZES = {
    "4GiB": 4 * 2**30,
    "4gib": 4 * 2**30,
    " 1.5 GB ": 1_500_000_000,
    "500MB": 500_000_000,
    "1000TiB": 1000 * 2**40,
    "1 KB": 1000,
}
NONE = (
    "",
    "4",
    "4G",
    "GiB",
    "-4GiB",
    "0GiB",
    "0.5KIB",
    "nanGiB",
    "1e3GiB",
    "4GiB/s",
    "4  GiB",
    "4,5GiB",
    "٤GiB",
    "9" * 400 + "GiB",
    "4Kib B",
)


@pytest.mark.parametrize("text", SIZES)
def test_a_size_is_read(text):
    assert parse_size(text) == SIZES[text]


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="a size such as 4GiB or 500MB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"), [(2 * 2**30, "2 GiB"), (2**30, "1 GiB"), (500 * 2**20, "500 MiB"), (1_500_000_000, "1.4 GiB"), (10**6, "0.954 MiB")]
)
def test_a_size_in_words(size, text):
    assert size_text(size) == text
