"""The tab "Check an image" as a visitor uses and reads it."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from mia_hub.checking.verdict_texts import VERDICTS

# p- and q-values are shown with two significant digits or more.
ROUNDING = 0.05
PROBLEM = ".mia-problem[role=alert]"
EMPTY = "Upload or paste an image, or click one of the examples."
CHANGED = "Your question has changed. Press Check for the answer."


def upload(page, path, field="image"):
    page.locator(f"#{field} input[type=file]").set_input_files(path)


def remove_image(page):
    page.get_by_label("Remove Image").click()
    expect(page.get_by_label("Remove Image")).to_have_count(0)


def fold_out(page, accordion):
    """Open an accordion. Gradio makes its fields then, and what is filled in before they are ready would be lost."""
    page.get_by_role("button", name=accordion).click()
    expect(
        page.locator({"Several images at once": "#question input", "Another model": "#caption textarea, #caption input"}[accordion]).first
    ).to_be_visible()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))")


def press_check(page):
    page.get_by_role("button", name="Check", exact=True).click()


def model_box(page):
    return page.locator("#model textarea, #model input")


def check_with(page, model):
    model_box(page).fill(model)
    press_check(page)


def all_ended(page):
    """Wait until the answers to all checks that the page has started have arrived."""
    page.wait_for_function("window.miaChecks.running === 0")


def sentence(check) -> str:
    """The answer's sentence as the page has it, where the verdict stands in a line above."""
    return check.sentence.removeprefix(f"{VERDICTS[check.verdict]}: ")[1:]


def expect_answer(page, check):
    """The answer in view is this one, for one image."""
    answer = page.locator("#verdict .mia-answer")
    expect(answer).to_contain_text(sentence(check))
    expect(answer.locator(".mia-verdict")).to_have_text(f"{VERDICTS[check.verdict]}.")
    expect(page.locator("#figures table")).to_be_visible()
    shown = figures(page)
    assert (shown["Model"], shown["Attack"]) == (check.model, check.attack)
    if check.p_value is None:
        assert "p-value" not in shown
    else:
        assert float(shown["p-value"]) == pytest.approx(check.p_value, rel=ROUNDING)
        assert shown["Compared with"] == f"{check.n_null:,} of {check.source}"


def figures(page) -> dict[str, str]:
    names = page.locator("#figures th").all_inner_texts()
    return dict(zip(names, page.locator("#figures td").all_inner_texts(), strict=True))


def cell(page, row, column):
    """A cell of the table of several images."""
    return page.get_by_test_id(f"cell-{row}-{column}")


def top(locator) -> float:
    return locator.bounding_box()["y"]


def marked(page) -> str:
    """The label of the marked timestep in the figure."""
    return page.locator("#profile svg text", has_text=re.compile("^t = ")).text_content()


def pixels_of(page, image) -> np.ndarray:
    """The pixels of an image element."""
    return np.asarray(Image.open(io.BytesIO(page.request.get(image.get_attribute("src")).body())))


def original(page, thumbnail) -> np.ndarray:
    """The pixels that a thumbnail enlarges."""
    shown = pixels_of(page, thumbnail)
    factor = shown.shape[0] // 28
    pixels = shown[::factor, ::factor]
    assert factor > 1 and (pixels.repeat(factor, 0).repeat(factor, 1) == shown).all()
    return pixels
