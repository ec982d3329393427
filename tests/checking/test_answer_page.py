"""An answer as a page of its own: whole, escaped, cautious, and readable on a phone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.made_reports import NASTY, Text, a_check, doubtful, evidence

from mia_hub.checking.answer_page import images_page, set_page
from mia_hub.checking.set_answers import SetCheck
from mia_hub.checking.verdict_texts import SET_VERDICTS
from mia_hub.checking.verdicts import CANNOT_TELL, NO_NULL, NOT_COMPARABLE


def a_set(**fields) -> SetCheck:
    values = {
        "verdict": CANNOT_TELL, "sentence": f"{SET_VERDICTS[CANNOT_TELL]}: the set is like the others.", "caveats": ("A caveat.",), "n": 6,
        "n_null": 400, "p_value": None, "p_welch": None, "fraction": None, "more_needed": None, "scores": (0.1, -0.2, 1.0, 0.4, 0.0, 2.0),
        "ids": tuple("abcdef"), "model": "demo", "attack": "SimACN()", "attack_name": "sima-cn", "timestep": 100,
        "known_scores": evidence().known_scores,
    }  # fmt: skip
    return SetCheck(**values | fields)


PAGES = {
    "evidence": lambda: images_page([evidence()]),
    "cannot tell": lambda: images_page([doubtful()]),
    "not comparable": lambda: images_page([a_check(3, verdict=NOT_COMPARABLE)]),
    "no null": lambda: images_page([a_check(3, verdict=NO_NULL, bands=False)], ["broken.png: damaged."]),
    "several": lambda: images_page([evidence(q_value=0.004), a_check(3, verdict=NOT_COMPARABLE), doubtful(q_value=1.0)]),
    "set": lambda: set_page(a_set()),
    "set without a null": lambda: set_page(a_set(verdict=NO_NULL, known_scores=None)),
}
PLOTS = {"evidence": 2, "cannot tell": 2, "not comparable": 1, "no null": 1, "several": 1, "set": 1, "set without a null": 0}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_plots_and_what_it_does_not_mean(name):
    page = PAGES[name]()
    assert page.count("<svg") == PLOTS[name] and "What this does not mean" in page and "<script" not in page
    assert ("broken.png: damaged." in page) == (name == "no null")
    # Without a comparison there is no plot of one.
    assert ("evidence begins here" in page) == (name in ("evidence", "cannot tell")) and ("q ≤ 0.05, too" in page) == (name == "several")


@pytest.mark.parametrize(
    "make",
    [
        lambda: images_page([replace(evidence(), name=NASTY, model=NASTY, sentence=NASTY, caveats=(NASTY,), notes=(NASTY,))], [NASTY]),
        lambda: images_page([replace(evidence(q_value=0.01), name=NASTY), replace(doubtful(q_value=1.0), name=NASTY, notes=(NASTY,))]),
        lambda: set_page(a_set(sentence=NASTY, caveats=(NASTY,), notes=(NASTY,), model=NASTY)),
    ],
)
def test_text_from_outside_never_becomes_markup(make):
    assert {"script", "a"}.isdisjoint(Text(make()).tags)


def test_it_can_be_read_on_a_phone(browser, tmp_path):
    for name, make in PAGES.items():
        file = tmp_path / "page.html"
        file.write_text(make(), encoding="utf-8")
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name
        page.close()
