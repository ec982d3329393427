"""The pages of a comparison: escaped, whole, cautious, and readable on a phone."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from markupsafe import escape
from support.compared_attacks import N, compared, members_and_others, split_of
from support.unsure_memory import memory_of

from mia_hub.auditing.comparison import Comparison, SkippedAttack

NASTY = "<script>alert('x')</script> & \"`|*_[a](http://evil.example/) $x$"


@pytest.fixture(scope="module")
def images():
    return members_and_others()


@pytest.fixture(scope="module")
def model(images):
    return memory_of(images[:N])


@pytest.fixture(scope="module")
def split(images):
    return split_of(images)


@pytest.fixture(scope="module")
def comparison(model, split):
    return compared(model, split)


@pytest.fixture(scope="module")
def nasty(comparison):
    """What comes from outside, at its worst: names of the model, of the split, of an attack, and the reason of one left out."""
    rows = []
    for row in comparison.rows:
        model, split = row.report.model | {"id": NASTY}, row.report.split | {"name": NASTY}
        rows.append(replace(row, label=NASTY + row.label, report=replace(row.report, model=model, split=split, attack=NASTY)))
    return Comparison(tuple(rows), (SkippedAttack(NASTY, NASTY),))


def test_what_comes_from_outside_is_escaped(nasty):
    page, text, figure = nasty.to_html(), nasty.to_markdown(), nasty.plot_svg()
    assert "<script" not in page and "<script" not in figure
    assert escape(NASTY) in page
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 11), line
    assert "](http://evil.example/)" not in text.replace("`", "").replace(r"]\(", "") or r"]\(http" in text
    assert not re.search(r"(?<!\\)<script", re.sub(r"`[^`\n]*`", "", text))
    ElementTree.fromstring(figure)
    assert ElementTree.fromstring(figure).attrib["role"] == "img"


def test_the_page_is_whole_and_asks_for_nothing(comparison):
    page = comparison.to_html()
    assert page.startswith("<!DOCTYPE html>") and "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page.replace('xlink:href="#', ""))
    for row in comparison.rows:
        assert escape(row.label) in page and str(row.report.auc) in page and escape(row.report.attack) in page
    assert comparison.plot_svg() in page
    assert "one score" in page and "+ 6 once" in page
    assert "sima-cn:timesteps=50,100 chose given = complexity" in comparison.to_markdown()


def test_the_headline_begins_with_the_caution(comparison):
    from mia_hub.auditing.comparison_pages import comparison_headline

    best = max(comparison.rows, key=lambda row: row.report.auc.value)
    assert comparison_headline(comparison).startswith(f"The highest AUC among 7 attacks is {best.report.auc} ({best.label})")
    shifted = replace(comparison.rows[0].report.blind_auc, value=0.8, low=0.7, high=0.9)
    rows = tuple(replace(row, report=replace(row.report, blind_auc=shifted)) for row in comparison.rows)
    assert comparison_headline(Comparison(rows)).startswith("Not evidence of memorisation: a classifier that never sees the model")
    assert comparison_headline(Comparison(comparison.rows[:1])).startswith("No attack can be told from guessing")


def test_flags_that_only_some_attacks_raise_say_which(comparison):
    from mia_hub.flags import flag

    raised = flag("duplicates", "3 copies")
    rows = [replace(row, report=replace(row.report, flags=(raised,) if i in (1, 2) else ())) for i, row in enumerate(comparison.rows)]
    (found,) = Comparison(tuple(rows)).flags
    assert found.raised_by == "sima:timesteps=50,200: 3 copies; and so for 1 more of the 7 attacks"


def test_the_figure_can_be_read_on_a_phone(comparison, nasty, browser, tmp_path):
    """At 390 pixels nothing is cut off at the sides, nothing is smaller than small print, and no name covers another."""
    for one in (comparison, nasty):
        file = tmp_path / "page.html"
        file.write_text(one.to_html(), encoding="utf-8")
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        box = page.evaluate("(b => [b.left, b.right, b.top, b.bottom])(document.querySelector('figure svg').getBoundingClientRect())")
        texts = page.evaluate(
            "[...document.querySelectorAll('figure svg text')].map(t => [t.textContent, ...(b => [b.left, b.right, b.top, b.bottom])"
            "(t.getBoundingClientRect()), parseFloat(getComputedStyle(t).fontSize)])"
        )
        scale = (box[1] - box[0]) / 360
        assert len(texts) > 20
        for said, left, right, top, bottom, size in texts:
            assert box[0] - 1 <= left and right <= box[1] + 1 and box[2] - 1 <= top and bottom <= box[3] + 1, said
            assert size * scale >= 10, said
        for i, a in enumerate(texts):
            for b in texts[:i]:
                overlap = min(a[2], b[2]) - max(a[1], b[1]), min(a[4], b[4]) - max(a[3], b[3])
                assert min(overlap) < 3, (a[0], b[0])
        page.close()
