"""Several images on the page, one by one or as a set."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from support.check_page import PROBLEM, ROUNDING, cell, expect_answer, figures, fold_out, press_check, sentence, upload

from mia_hub.checking.verdict_texts import SET_VERDICTS
from mia_hub.checking.verdicts import NOT_COMPARABLE


def test_several_images_are_judged_together_whatever_some_of_them_are(page, checker, images):
    good = [images.nonmembers[5], images.photo, images.nonmembers[6]]
    expected = checker.check(good)
    assert [check.verdict == NOT_COMPARABLE for check in expected] == [False, True, False]
    upload(page, images.nonmembers[3])
    expect(page.locator("#caveats li").first).to_be_visible()
    fold_out(page, "Several images at once")
    upload(page, [*good[:1], images.cut, *good[1:]], "several")

    expect(page.locator("#table [role=row][data-index]")).to_have_count(3)
    expect(page.locator("#verdict")).to_contain_text("3 images checked together")
    expect(page.locator(PROBLEM)).to_have_count(0)  # a part of the answer, not an alarm
    expect(page.locator("#verdict .mia-problem")).to_contain_text("cut.png: the file is damaged or cut short")
    expect(page.get_by_label("Remove Image")).to_have_count(0)
    expect(page.locator("#verdict")).to_contain_text("q is p adjusted for the 2 images judged together")
    headers = page.locator("#table [role=columnheader]").all_inner_texts()
    headers = [header.split("\n")[0].strip() for header in headers]
    assert headers[:4] == ["Verdict", "p", "q", "Image"]
    # The smallest p stands first, and the photograph, which has none, last.
    order = [*sorted((0, 2), key=lambda i: expected[i].p_value), 1]
    for row, i in enumerate(order):
        expect(cell(page, row, headers.index("Image"))).to_have_text(f"{i + 1} · {good[i].name}")
        for column, value in (("p", expected[i].p_value), ("q", expected[i].q_value)):
            shown = cell(page, row, headers.index(column)).inner_text().strip()
            assert shown == "—" if value is None else float(shown) == pytest.approx(value, rel=ROUNDING)

    # The first row's answer stands below; a click on another shows that.
    for row, i in enumerate(order):
        if row:
            cell(page, row, 0).click()
        expect(page.locator("#profile h3")).to_have_text(good[i].name)
        expect(page.locator("#profile .mia-answer")).to_contain_text(sentence(expected[i]))
        expect(page.locator("#profile .mia-curve svg > title")).to_contain_text(f"Membership score of {good[i].name}")
        expect(page.locator("#figures tr", has_text="Membership score")).to_contain_text(f"{expected[i].score:.4g}".replace("-", "−"))
        expect(page.locator("#caveats li").first).to_contain_text(expected[i].caveats[0][:40])
        expect(page.locator("#figures tr", has_text="q-value")).to_have_count(0 if expected[i].q_value is None else 1)

    # A single image, afterwards, is a single answer again.
    upload(page, images.nonmembers[3])
    expect_answer(page, checker.check([images.nonmembers[3]])[0])
    expect(page.locator("#table")).to_have_count(0)


@pytest.mark.slow
def test_a_set_gets_one_answer(page, checker, images):
    paths = images.nonmembers[:8]
    expected = checker.check_set(paths)
    assert expected.p_value is not None
    fold_out(page, "Several images at once")
    page.get_by_label("As a set").check()
    upload(page, paths, "several")
    expect(page.locator("#verdict .mia-sentence")).to_contain_text("s a set, the 8 images look")
    expect(page.locator("#verdict .mia-verdict")).to_have_text(f"{SET_VERDICTS[expected.verdict]}.")
    expect(page.locator("#table")).to_be_hidden()
    shown = figures(page)
    assert float(shown["p-value (permutation test)"]) == pytest.approx(expected.p_value, rel=ROUNDING)
    assert shown["Images in the set"] == "8"
    expect(page.locator("#caveats li").first).to_contain_text("not the probability of innocence")
    # The answer goes when the question changes, and comes back for the other one.
    page.get_by_label("One by one").check()
    expect(page.locator("#figures")).to_be_hidden()
    press_check(page)
    expect(page.locator("#verdict")).to_contain_text("8 images checked together")


def test_a_set_too_small_gets_a_message(page, images):
    fold_out(page, "Several images at once")
    page.get_by_label("As a set").check()
    upload(page, images.nonmembers[:3], "several")
    expect(page.locator(PROBLEM)).to_contain_text("3 different images are too few for a set; give at least 5 different ones")


@pytest.mark.slow
def test_a_sorted_table_still_shows_the_clicked_image(page, checker, images):
    paths = images.nonmembers[5:9]
    expected = checker.check(paths)
    fold_out(page, "Several images at once")
    upload(page, paths, "several")
    expect(page.locator("#table [role=row][data-index]")).to_have_count(4)
    rows = page.locator("#table [role=row][data-index]")
    header = page.get_by_role("columnheader", name="Score")
    header.hover()
    header.get_by_label("Open cell menu").click()
    page.get_by_role("menuitem", name="Sort descending").click()
    by_score = [paths[i].name for i in sorted(range(4), key=lambda i: -expected[i].score)]
    for row, name in enumerate(by_score):
        expect(rows.nth(row)).to_contain_text(name)
    for row in (3, 0):
        rows.nth(row).get_by_text(by_score[row]).click()
        expect(page.locator("#profile h3")).to_have_text(by_score[row])
