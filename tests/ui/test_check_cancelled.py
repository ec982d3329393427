"""Checks that are stopped, superseded, or whose question changes before they are answered.

A check of a model of the Hub runs for as long as the Hub holds that model back, so that no test depends on how fast one is.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from playwright.sync_api import expect
from support.check_page import CHANGED, EMPTY, all_ended, fold_out, model_box, press_check, upload

NEXT_HELD = "app-tests/held-{}"
SUPERSEDE = "**/gradio_api/run/predict*"


@pytest.fixture
def slow_check(loopback_hub, tiny_pixel_repo):
    """``slow_check(page, press) -> release``: start a check, by default with the button, that runs until it is released."""
    with ExitStack() as held:

        def start(page, press=press_check):
            name = NEXT_HELD.format(len(loopback_hub.log))
            loopback_hub.add_repo("model", name, tiny_pixel_repo())
            holding = ExitStack()
            held.callback(holding.close)
            requested = holding.enter_context(loopback_hub.held(name))
            model_box(page).fill(name)
            press(page)
            assert requested.wait(60)
            return holding.close

        yield start


@pytest.fixture
def page(page, images):
    """With an image that is answered, and all fields in view."""
    fold_out(page, "Several images at once")
    fold_out(page, "Another model")
    upload(page, images.nonmembers[0])
    expect(page.locator("#verdict .mia-sentence")).to_be_visible()
    return page


@pytest.mark.slow
@pytest.mark.parametrize("arrives", [True, False], ids=["cancelled", "on its way"])
def test_an_answer_that_comes_too_late_is_not_shown(page, images, slow_check, arrives):
    if not arrives:
        # The server learns too late that the question has changed, and answers it.
        page.route(SUPERSEDE, lambda route: route.fulfill(json={"data": [], "is_generating": False, "duration": 0}))
    answered = page.locator("#answered input")
    before, release = answered.input_value(), slow_check(page)
    number = page.locator("#latest input").input_value()
    expect(page.locator("#stop")).to_be_visible()
    page.get_by_label("As a set").check()
    expect(page.locator("#verdict")).to_have_text(CHANGED, use_inner_text=True)
    expect(page.locator("#stop")).to_be_hidden()
    release()
    all_ended(page)
    expect(answered).to_have_value(before if arrives else number)
    expect(page.locator("#verdict")).to_have_text(CHANGED, use_inner_text=True)
    for part in ("#profile .mia-curve svg", "#figures table", "#caveats li", "#download a"):
        expect(page.locator(part)).to_have_count(0)
    # Nothing stands in the way of the new question.
    model_box(page).fill("demo")
    press_check(page)
    expect(page.locator("#verdict .mia-sentence")).to_be_visible()


@pytest.mark.slow
def test_every_change_of_the_question_takes_its_answer_along(page, images):
    upload(page, images.nonmembers[:3], "several")
    for change in (
        lambda: page.get_by_label("As a set").check(),
        lambda: page.get_by_label("One by one").check(),
        lambda: page.locator("#several").get_by_label("Remove this file").first.click(),
        lambda: page.locator("#caption textarea, #caption input").fill("a shirt"),
        lambda: upload(page, images.nonmembers[3:5], "nonmembers"),
        lambda: page.locator("#nonmembers").get_by_label("Remove this file").first.click(),
        lambda: model_box(page).fill("somebody/another"),
    ):
        expect(page.locator("#verdict .mia-empty")).to_have_count(0)
        change()
        expect(page.locator("#verdict")).to_have_text(CHANGED, use_inner_text=True)
        expect(page.locator("#table")).to_be_hidden()
        press_check(page)


def test_an_answer_goes_with_its_image(page, slow_check):
    release = slow_check(page)
    expect(page.locator("#stop")).to_be_visible()
    page.get_by_label("Remove Image").click()
    expect(page.locator("#verdict")).to_have_text(EMPTY, use_inner_text=True)
    expect(page.locator("#stop")).to_be_hidden()
    release()
    all_ended(page)
    expect(page.locator("#verdict")).to_have_text(EMPTY, use_inner_text=True)


def test_of_two_checks_the_last_is_answered(page, images, slow_check):
    """Started while the first is still running, in the same way and in another."""
    release = slow_check(page, lambda page: upload(page, images.nonmembers[:2], "several"))
    page.locator("#examples-member img").first.click()
    expect(page.locator("#verdict")).to_contain_text("This one was in the training set")
    expect(page.locator("#stop")).to_be_hidden()
    release()
    all_ended(page)
    expect(page.locator("#verdict")).to_contain_text("This one was in the training set")

    release = slow_check(page)
    model_box(page).fill("demo")
    page.get_by_label("Remove Image").click()
    upload(page, images.nonmembers[3:6], "several")
    expect(page.locator("#verdict")).to_contain_text("3 images checked together")
    press_check(page)
    upload(page, images.nonmembers[2])
    expect(page.locator("#profile .mia-curve svg > title")).to_contain_text(f"Membership score of {images.nonmembers[2].name}")
    release()
    all_ended(page)
    expect(page.locator("#profile .mia-curve svg > title")).to_contain_text(f"Membership score of {images.nonmembers[2].name}")
    expect(page.locator("#several tr.file")).to_have_count(0)
    expect(page.locator("#stop")).to_be_hidden()


@pytest.mark.slow
def test_a_long_check_can_be_stopped(page, slow_check):
    stop = page.locator("#stop")
    expect(stop).to_be_hidden()
    release = slow_check(page)
    stop.click()
    expect(page.locator("#verdict")).to_have_text("Stopped. Press Check to run it again.", use_inner_text=True)
    expect(stop).to_be_hidden()
    release()
    all_ended(page)
    expect(page.locator("#verdict")).to_have_text("Stopped. Press Check to run it again.", use_inner_text=True)
    # An answer that came in time can't be stopped any more.
    model_box(page).fill("demo")
    press_check(page)
    expect(page.locator("#verdict .mia-sentence")).to_be_visible()
    expect(stop).to_be_hidden()
