"""The page as it opens, on a large screen and on a phone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect
from support.check_page import EMPTY, cell, fold_out, upload
from support.running_app import ROOT, loaded

from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE


@pytest.mark.slow
def test_the_first_question_is_answered_while_the_demo_model_is_still_loading(images):
    # Two threads want it then, and diffusers must not be imported by both at once.
    code = """
import sys
from mia_hub.ui import build_app
check = next(function.fn for function in build_app().fns.values() if function.api_name == "check")
answer, *_, results = check(sys.argv[1], None, "demo", None, None)
print(results["images"][0]["verdict"] if results else answer.value)
"""
    done = subprocess.run([sys.executable, "-c", code, images.nonmembers[3]], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() in (EVIDENCE, CANNOT_TELL), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_as_it_opens(open_page):
    page = open_page()
    loaded(page)
    assert "was this image in the training set?" in page.title()
    expect(page.get_by_role("heading", level=1)).to_have_text("Was this image in the training set?")
    expect(page.locator("#model-line")).to_have_text("Model: demo, a small model trained on 512 greyscale images of clothing.")
    expect(page.locator("#verdict")).to_have_text(EMPTY)
    for hidden in ("#table", "#profile .mia-curve svg", "#figures table", "#caveats li", "#download a"):
        expect(page.locator(hidden)).to_have_count(0)
    expect(page.get_by_role("button", name="Check", exact=True)).to_be_enabled()
    expect(page.get_by_text("never stored by it, logged, or sent anywhere else")).to_be_visible()


def _fits(page, shot: Path) -> None:
    page.screenshot(path=shot, full_page=True)
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, shot.name
    button = page.get_by_role("button", name="Check", exact=True).bounding_box()
    assert button["x"] >= 0 and button["x"] + button["width"] <= width and button["height"] >= 36, shot.name


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_the_answer_comes_into_view(open_page, images, tmp_path, theme):
    page = open_page(390, theme)
    _fits(page, tmp_path / "empty.png")
    page.locator("#examples-member img").nth(1).click()
    expect(page.locator("#caveats li").first).to_be_visible()
    expect(page.locator("#verdict .mia-verdict")).to_be_in_viewport()
    _fits(page, tmp_path / "one.png")
    assert page.locator("#profile .mia-curve svg").bounding_box()["width"] > 300
    fold_out(page, "Several images at once")
    fold_out(page, "Another model")
    upload(page, [images.nonmembers[5], images.photo, images.cut], "several")
    expect(page.locator("#table [role=row][data-index]")).to_have_count(2)
    boxes = [cell(page, 0, column).bounding_box() for column in range(4)]
    assert all(box["x"] >= 0 and box["x"] + 40 <= 390 for box in boxes)  # verdict, p, q and which image, without scrolling
    cell(page, 1, 0).click()
    expect(page.locator("#profile h3")).to_have_text("photo.jpg")
    _fits(page, tmp_path / "several.png")
