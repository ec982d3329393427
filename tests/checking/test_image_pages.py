"""Answers about images, as text, as a table and as fragments of a page."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from scipy.stats import false_discovery_control
from support.made_reports import ATTACK, NASTY, Text, a_check, doubtful, evidence

from mia_hub.checking.image_answers import ImageCheck
from mia_hub.checking.image_pages import answer_html, caveats_html, check_text, checks_table, counted_notes, figures_html, image_number
from mia_hub.checking.verdict_texts import TREATMENT, VERDICTS
from mia_hub.checking.verdicts import EVIDENCE, NO_NULL, NOT_COMPARABLE


def check_html(check: ImageCheck) -> str:
    return answer_html(check) + figures_html(check) + caveats_html(check)


def test_text_from_outside_never_becomes_markup():
    answer = Text(check_html(replace(evidence(), name=NASTY, sentence=NASTY, caveats=(NASTY,), notes=(NASTY,))))
    assert {"script", "a"}.isdisjoint(answer.tags) and answer.text.count("<script>alert('x')</script>") == 3


def test_the_text_of_one_answer():
    check = evidence()
    text = check_text([check], model="demo", attack=ATTACK)
    flat = " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 88
    for part in (VERDICTS[EVIDENCE], check.sentence, *check.caveats, *check.notes, "image.png"):
        assert part in flat, part
    figures = dict(re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if re.match(r"  \w.*\S\s{2,}\S", line))
    assert figures["Timestep"] == "t = 80" and float(figures["p-value"]) == pytest.approx(check.p_value, rel=0.05)
    score = figures["Membership score (higher = more like a training image)"].replace("−", "-")
    assert float(score) == pytest.approx(check.score, rel=1e-3)
    assert "400 of the demo's non-members, greyscale images of clothing" in flat
    assert (figures["Model"], figures["Attack"], figures["Known non-members with a lower score"]) == ("demo", "sima", "100.0 %")


@pytest.mark.parametrize("verdict", [NO_NULL, NOT_COMPARABLE])
def test_an_answer_without_a_verdict_gives_no_p_value(verdict):
    check = a_check(3, verdict=verdict, bands=verdict != NO_NULL)
    flat = " ".join(check_text([check], model="demo", attack=ATTACK).split())
    assert flat.count(VERDICTS[verdict].rstrip(".")) == 1 and check.sentence in flat
    page = Text(check_html(check)).text
    for text in (flat, page):
        assert not re.search(r"p-value \d|\bp = |\b(nan|None)\b|lower score", text)
        assert all(caveat in text for caveat in check.caveats)


def several() -> list[ImageCheck]:
    adjusted = false_discovery_control([evidence().p_value, doubtful().p_value])
    return [
        evidence(name="a" * 60 + "-first.png", q_value=float(adjusted[0])),
        doubtful(name="b.png", q_value=float(adjusted[1])),
        a_check(3, name="c.png", verdict=NOT_COMPARABLE),
    ]


def test_the_text_of_several_answers_has_one_row_each_and_each_caveat_once():
    checks = several()
    text = check_text(checks, model="demo", attack=ATTACK)
    flat = " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 88
    assert "Model: demo" in flat and f"Attack: {ATTACK}" in flat
    lines = text.splitlines()
    rows = lines[2:5]
    assert lines[0].split() == ["image", "verdict", "p", "q", "score"]
    assert [re.split(r"\s{2,}", row)[1] for row in rows] == ["evidence", "cannot tell", "not comparable"]
    assert rows[0].startswith("aaa") and "…" in rows[0] and "-first.png" in rows[0] and rows[2].count("—") == 2
    assert re.split(r"\s{2,}", rows[0])[2:4] == ["0.00249", "0.00499"]
    assert "3 images: 1 evidence, 1 cannot tell, 1 not comparable." in flat
    assert "the 2 images judged together" in flat and "at most 5 % are expected to be false discoveries (FDR)" in flat
    assert flat.count("The p-value is not the probability of innocence") == 1 and flat.count(TREATMENT) == 1
    assert "(all 3 images)" in flat


@pytest.mark.parametrize(("noted", "ending"), [([0], "(a.png)"), ([0, 2], "(a.png, c.png)"), ([1, 2, 3, 4], "(4 images)")])
def test_a_note_names_its_images_or_counts_them(noted, ending):
    checks = [replace(several()[0], name=f"{letter}.png", notes=("Scaled.",) * (row in noted)) for row, letter in enumerate("abcdef")]
    assert counted_notes(checks) == [f"Scaled. {ending}"]


def test_an_empty_list_of_answers_is_said():
    assert check_text([], model="demo", attack=ATTACK) == "No images were checked.\n"


def test_the_table_of_answers_holds_numbers_that_json_takes():
    headers, rows = checks_table(several())
    assert all(len(row) == len(headers) for row in rows) and len(rows) == 3
    assert rows[0][headers.index("p")] == pytest.approx(1 / 401, rel=0.05) and rows[0][headers.index("Verdict")] == "evidence"
    assert rows[2][headers.index("p")] == "—" and rows[1][headers.index("Score")] == pytest.approx(doubtful().score, rel=1e-3)
    assert json.loads(json.dumps(rows)) == rows


def test_the_table_of_answers_has_what_matters_first_and_leads_back_to_the_image():
    checks = several()[::-1]
    headers, rows = checks_table(checks)
    assert headers[:4] == ["Verdict", "p", "q", "Image"]
    assert [image_number(row) for row in rows] == [2, 1, 0]  # by p, and last what has none
    assert [row[3][:3] for row in rows] == ["3 ·", "2 ·", "1 ·"]
    assert all(len(row[3]) <= 32 for row in rows) and rows[0][3].endswith("rst.png")


def test_the_fragment_of_one_answer_is_in_order_and_carries_its_verdict():
    for check in (evidence(), doubtful(), *(a_check(3, verdict=verdict) for verdict in (NO_NULL, NOT_COMPARABLE))):
        page = check_html(check)
        assert page == answer_html(check) + figures_html(check) + caveats_html(check)
        assert f'class="mia-answer mia-{check.verdict}"' in page and Text(page).open == []
        assert VERDICTS[check.verdict].rstrip(".") in Text(answer_html(check)).text
        assert len(re.findall(r"no verdict|not comparable", Text(answer_html(check)).text, re.I)) == (check.p_value is None)
    text = Text(check_html(evidence())).text
    sentence = evidence().sentence.removeprefix(f"{VERDICTS[EVIDENCE]}: i")
    parts = (VERDICTS[EVIDENCE], sentence, "p-value 0.00249", "What this does not mean", evidence().caveats[-1])
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
