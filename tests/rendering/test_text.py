"""Wording of texts, in Markdown and for a terminal."""

import pytest

from mia_hub.rendering.markdown import code_span, escape_markdown, markdown_table
from mia_hub.rendering.terminal import bullets, columns, paragraph
from mia_hub.rendering.text import one_line, sentence_case, shorten, value_text


@pytest.mark.parametrize(
    ("text", "longest", "end", "short"),
    [
        ("short", 5, 0, "short"),
        ("a  b\nc", 5, 0, "a b c"),
        ("abcdefgh", 5, 0, "abcd…"),
        ("holiday-0001.png", 12, 8, "hol…0001.png"),
    ],
)
def test_a_long_text_is_cut_to_its_length(text, longest, end, short):
    assert shorten(text, longest, end=end) == short and len(short) <= longest


def test_a_strangers_text_is_one_printable_line():
    assert one_line("a\x1b[31mb\tc\u2028d") == "a [31mb c d"
    assert len(one_line("x" * 900)) == 500


def test_recorded_values_become_text():
    assert value_text({"a": [1, 2], "b": None}) == "a 1 × 2, b not recorded"
    assert (value_text(12_345), value_text(True), value_text("")) == ("12,345", "True", "not recorded")
    assert (sentence_case("it is"), sentence_case("t = 5 is")) == ("It is", "t = 5 is")


def test_markdown_shows_text_as_it_is():
    assert escape_markdown("a|b\n<i> [x](y) `c`") == r"a\|b \<i\> [x]\(y) \`c\`"
    assert code_span("a`b|c") == r"`a'b\|c`"
    assert markdown_table(["a", "b", "c"], [["1", "2", "|"]]) == "| a | b | c |\n| --- | --: | --: |\n| 1 | 2 | \\| |"


def test_lines_for_a_terminal_fit_it():
    text = "word " * 60
    for lines in (paragraph(text, "  "), bullets([text]), columns([["name", text], ["longer name", "x"]])):
        assert len(lines) > 1 and max(map(len, lines)) <= 88
    assert paragraph("") == [""]
