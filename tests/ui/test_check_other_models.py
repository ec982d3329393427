"""Other models than the demo on the page: of the Hub, with a LoRA, with known non-members."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from support.check_page import (
    CHANGED,
    EMPTY,
    PROBLEM,
    check_with,
    expect_answer,
    figures,
    fold_out,
    marked,
    model_box,
    original,
    press_check,
    remove_image,
    upload,
)
from support.tiny_pipelines import save, save_lora

from mia_hub.checking.checker import Checker
from mia_hub.checking.verdicts import NO_NULL
from mia_hub.models.loading import load_model


def test_an_answer_goes_when_what_it_answers_changes(page, checker, images):
    fold_out(page, "Another model")
    box = model_box(page)
    thumbnail = page.locator("#examples-member img").first
    expected = checker.check([original(page, thumbnail)])[0]
    changes = (
        lambda: box.fill("app-tests/tiny"),  # all at once, as it is pasted
        lambda: (box.focus(), page.keyboard.press("End"), page.keyboard.press("Backspace")),
        lambda: upload(page, images.nonmembers[1:26], "nonmembers"),
    )
    for change in changes:
        thumbnail.click()
        expect_answer(page, expected)
        expect(page.locator("#model-line")).to_contain_text("Model: demo, a small model")
        change()
        expect(page.locator("#verdict")).to_have_text(CHANGED)
        for part in ("#profile .mia-curve svg", "#figures table", "#caveats li", "#download a"):
            expect(page.locator(part)).to_have_count(0)
    expect(page.locator("#null-size")).to_contain_text("With 25 known non-members no image can get evidence")
    expect(page.locator("#model-line")).to_contain_text("with your non-members")

    # An example is of the demo and its own non-members, so both are set back; the answer is as it was.
    thumbnail.click()
    expect_answer(page, expected)
    expect(page.locator("#nonmembers tr.file")).to_have_count(0)
    expect(page.locator("#null-size .mia-problem")).to_have_count(0)
    remove_image(page)
    box.fill("app-tests/tiny")
    expect(page.locator("#model-line")).to_have_text(
        "Model: app-tests/tiny from the Hub; without a reference or non-members it gives a curve and no verdict."
    )
    expect(page.locator("#verdict")).to_have_text(EMPTY)
    box.fill("")
    box.blur()
    expect(box).to_have_value("demo")
    expect(page.locator("#model-line")).to_contain_text("Model: demo")
    box.press("Enter")
    expect(page.locator("#verdict")).to_have_text(EMPTY)


@pytest.fixture(scope="module")
def lora(loopback_hub, tmp_path_factory):
    """A base model and a LoRA on the Hub, as the page names them."""
    folder = tmp_path_factory.mktemp("hub")
    loopback_hub.add_repo("model", "app-tests/draws", save("sd1", folder / "base"))
    loopback_hub.add_repo("model", "app-tests/lora", save_lora("sd1", folder / "lora"))
    return "app-tests/draws + app-tests/lora"


@pytest.mark.slow
def test_a_lora_is_checked_with_a_caption(page, lora, images):
    upload(page, images.nonmembers[0])
    expect(page.locator("#caveats li").first).to_be_visible()
    fold_out(page, "Another model")
    upload(page, images.nonmembers[1:26], "nonmembers")
    expect(page.locator("#nonmembers tr.file")).to_have_count(25)
    model_box(page).fill(lora)
    model = load_model(lora)
    expect(page.locator("#model-line")).to_contain_text("Model: app-tests/draws + app-tests/lora from the Hub, with your non-members.")
    for caption in ("a red cat", ""):
        page.locator("#caption textarea, #caption input").fill(caption)
        expect(page.locator("#verdict .mia-answer")).to_have_count(0)  # an answer to another question went
        press_check(page)
        expected = Checker(model, nonmembers=images.nonmembers[1:26], nonmember_captions=caption or None, progress=False)
        expect_answer(page, expected.check([images.nonmembers[0]], captions=caption or None, progress=False)[0])
        expect(page.locator("#figures .mia-notes")).to_have_text(re.compile("queried without" if not caption else "^((?!queried).)*$"))


def test_another_model_gets_a_curve_and_with_known_non_members_a_verdict(page, hub_models, images):
    upload(page, images.nonmembers[0])
    expect(page.locator("#caveats li").first).to_be_visible()
    fold_out(page, "Another model")
    model_box(page).fill("app-tests/tiny")
    model_box(page).press("Enter")
    verdict = page.locator("#verdict .mia-verdict")
    expect(verdict).to_have_text("No verdict is possible.")
    expect(page.locator("#profile .mia-curve svg")).to_be_visible()
    bare = Checker("app-tests/tiny").check([images.nonmembers[0]], progress=False)[0]
    assert bare.verdict == NO_NULL and marked(page) == f"t = {bare.timestep}: score given here"
    assert "p-value" not in figures(page)
    expect(page.locator("#caveats li").first).to_have_text(bare.caveats[0])

    upload(page, [*images.nonmembers[1:26], images.cut], "nonmembers")
    expect(page.locator("#nonmembers tr.file")).to_have_count(26)
    press_check(page)
    expect(page.locator("#verdict .mia-problem")).to_contain_text("Left out of the non-members: cut.png: the file is damaged")
    known = Checker("app-tests/tiny", nonmembers=images.nonmembers[1:26], progress=False)
    expected = known.check([images.nonmembers[0]], progress=False)[0]
    expect_answer(page, expected)
    assert expected.n_null == 25
    expect(page.locator("#caveats")).to_contain_text("p can't fall below 0.038")

    # An example is of the demo, and is answered by it.
    page.locator("#examples-member img").first.click()
    expect(model_box(page)).to_have_value("demo")


def test_too_few_known_non_members_are_refused(page, images):
    fold_out(page, "Another model")
    upload(page, images.nonmembers[1:6], "nonmembers")
    expect(page.locator("#nonmembers tr.file")).to_have_count(5)
    upload(page, images.nonmembers[0])
    expect(page.locator(PROBLEM)).to_contain_text("known non-members are too few to compare images with; give at least 20")


@pytest.mark.slow
def test_a_model_that_cannot_be_used_gets_a_message(page, hub_models, images):
    upload(page, images.nonmembers[0])
    expect(page.locator("#caveats li").first).to_be_visible()
    fold_out(page, "Another model")
    problem = page.locator(PROBLEM)
    for model, message in {
        "app-tests/nowhere": "app-tests/nowhere",
        "app-tests/pickled": "only pickled weights",
        "three/part/name": "not a model that can be checked here",
        "<img src=x onerror=alert(1)>": "'<img src=x onerror=alert(1)>' is not a model that can be checked here",
    }.items():
        check_with(page, model)
        expect(problem).to_have_count(1)
        expect(problem).to_contain_text(message)
    for there, missing in (("/etc", "/nowhere"), ("tests", "nowhere"), ("mia_hub/demo", "mia_hub/nowhere"), ("../main", "../nowhere")):
        answers = []
        for model in (there, missing):
            check_with(page, model)
            expect(problem).to_have_count(1)
            expect(problem).to_contain_text(model)
            answers.append(problem.inner_text().replace(model, "it"))
        assert answers[0] == answers[1], "the message tells which folders the server has"
    # The rest of the page is as before.
    check_with(page, "demo")
    expect(page.locator("#verdict .mia-verdict")).to_be_visible()
