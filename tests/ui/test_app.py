"""The web page in a real browser: the app as a process of its own, with a Hub of our own, and Chromium without a screen."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import subprocess
import sys
import time
import urllib.request
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from support.running_app import loaded, running_app, watched_pages
from support.tiny_pipelines import save, save_lora

from mia_hub.checking.checker import Checker, demo_reference, get_checker
from mia_hub.checking.image_answers import CANNOT_TELL, EVIDENCE, NO_NULL, NOT_COMPARABLE, VERDICTS
from mia_hub.checking.set_answers import SET_VERDICTS
from mia_hub.images.sources import open_image
from mia_hub.rendering.numbers import in_five
from mia_hub.splits.loading import load_split

ROOT = Path(__file__).parents[2]
# p- and q-values are shown with two significant digits or more.
ROUNDING = 0.05
PROBLEM = ".mia-problem[role=alert]"

# The app, the browser, and a page that is watched.


@pytest.fixture(scope="module")
def app(tmp_path_factory, loopback_hub):
    """The running app: ``url``, and ``log()``, what it has printed."""
    with running_app(tmp_path_factory.mktemp("app")) as running:
        yield running


@pytest.fixture(scope="module")
def hub_models(loopback_hub, tiny_pixel_repo, tmp_path_factory):
    """Small models, which the app finds on the Hub."""
    loopback_hub.add_repo("model", "app-tests/tiny", tiny_pixel_repo())
    loopback_hub.add_repo("model", "app-tests/pickled", tiny_pixel_repo(weights="bin"))
    folder = tmp_path_factory.mktemp("hub")
    loopback_hub.add_repo("model", "app-tests/draws", save("sd1", folder / "base"))
    loopback_hub.add_repo("model", "app-tests/lora", save_lora("sd1", folder / "lora"))


@pytest.fixture
def open_page(app, context):
    """``open_page(width, theme) -> Page``. When the test ends, no page of it may have gone wrong or asked another server for anything."""
    with watched_pages(app, context) as open_:

        def open_check(width=1280, theme="light"):
            page = open_(width, theme)
            expect(page.locator(".mia-examples img")).to_have_count(12)
            return page

        yield open_check


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture(scope="module")
def checker() -> Checker:
    """What the page should say, without the page."""
    return get_checker("demo", progress=False)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> SimpleNamespace:
    """Files to upload."""
    folder = tmp_path_factory.mktemp("images")
    nonmembers = load_split("demo").nonmembers
    files = SimpleNamespace(folder=folder, nonmembers=[folder / f"{i}.png" for i in range(28)])
    for path, image in zip(files.nonmembers, nonmembers):
        image.to_pil().save(path)
    y, x = np.mgrid[:240, :320] / 320
    noise = np.random.default_rng(0).normal(0, 0.04, (240, 320, 3))
    files.photo = folder / "photo.jpg"
    Image.fromarray((np.clip(np.stack([x, y, 1 - (x + y) / 2], -1) + noise, 0, 1) * 255).astype(np.uint8)).save(files.photo)
    files.cut = folder / "cut.png"
    files.cut.write_bytes(files.nonmembers[0].read_bytes()[:-120])
    return files


def upload(page, path, field="image"):
    page.locator(f"#{field} input[type=file]").set_input_files(path)


def remove_image(page):
    page.get_by_label("Remove Image").click()
    expect(page.get_by_label("Remove Image")).to_have_count(0)


def fold_out(page, accordion):
    page.get_by_role("button", name=accordion).click()


def said(check) -> str:
    """The answer's sentence as the page has it, where the verdict stands in a line above."""
    return check.sentence.removeprefix(f"{VERDICTS[check.verdict]}: ")[1:]


def expect_answer(page, check):
    """The answer in view is this one, for one image."""
    answer = page.locator("#verdict .mia-answer")
    expect(answer).to_contain_text(said(check))
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
    rows = page.locator("#figures tr").all()
    return {row.locator("th").inner_text(): row.locator("td").inner_text() for row in rows}


def top(locator) -> float:
    return locator.bounding_box()["y"]


def marked(page) -> str:
    """The label of the marked timestep in the figure."""
    return page.locator("#profile svg text", has_text=re.compile("^t = ")).text_content()


# Opening.


def test_the_first_question_is_answered_while_the_demo_model_is_still_loading(images):
    # Two threads want it then, and diffusers must not be imported by both at once.
    code = """
import sys
from mia_hub.ui import build_app
ask = next(function.fn for function in build_app().fns.values() if function.api_name == "check")
answer, *_, found = ask(sys.argv[1], None, "demo", None, None)
print(found["images"][0]["verdict"] if found else answer.value)
"""
    asked = subprocess.run([sys.executable, "-c", code, images.nonmembers[3]], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert asked.stdout.strip() in (EVIDENCE, CANNOT_TELL), asked.stdout + asked.stderr
    assert "Traceback" not in asked.stderr


def test_the_page_as_it_opens(open_page):
    page = open_page()
    loaded(page)
    assert "was this image in the training set?" in page.title()
    expect(page.get_by_role("heading", level=1)).to_have_text("Was this image in the training set?")
    expect(page.locator("#asking")).to_have_text("Now asking: demo, a small model trained on 512 greyscale images of clothing.")
    expect(page.locator("#verdict")).to_have_text("Upload or paste a image, or click one of the examples.")
    for hidden in ("#table", "#profile svg", "#figures table", "#caveats li", "#download a"):
        expect(page.locator(hidden)).to_have_count(0)
    expect(page.get_by_role("button", name="Check", exact=True)).to_be_enabled()
    expect(page.get_by_text("never stored by it, logged, or sent anywhere else")).to_be_visible()


def _original(page, thumbnail) -> np.ndarray:
    """The pixels that a thumbnail enlarges."""
    shown = np.asarray(Image.open(io.BytesIO(page.request.get(thumbnail.get_attribute("src")).body())))
    factor = shown.shape[0] // 28
    pixels = shown[::factor, ::factor]
    assert factor > 1 and (pixels.repeat(factor, 0).repeat(factor, 1) == shown).all()
    return pixels


def test_the_examples_are_what_their_headings_say_and_chose_nothing(page):
    table = demo_reference().profiles
    label_of = dict(zip(table.ids, table.is_member.tolist()))
    for kind, heading, label in (("member", "In the demo's training set", 1), ("nonmember", "Not in the demo's training set", 0)):
        shown = page.locator(f"#examples-{kind} img")
        expect(shown).to_have_count(6)
        ids = {open_image(_original(page, shown.nth(i))).id for i in range(6)}
        assert len(ids) == 6 and [label_of.get(sample) for sample in ids] == [label] * 6, kind
        title = page.get_by_text(heading, exact=True)
        assert 0 < top(page.locator(f"#examples-{kind}")) - top(title) < 60
        boxes = [shown.nth(i).bounding_box() for i in range(6)]
        assert all(abs(box["width"] - box["height"]) < 2 for box in boxes) and len({box["y"] for box in boxes}) == 1
        assert all(heading in shown.nth(i).get_attribute("alt") for i in range(6))


# One image.


def test_a_click_on_a_member_answers_in_order_and_again_after_check(page, checker):
    thumbnail = page.locator("#examples-member img").nth(1)
    expected = checker.check([_original(page, thumbnail)])[0]
    thumbnail.click()
    expect_answer(page, expected)

    parts = [page.locator(part) for part in ("#verdict .mia-answer", "#profile svg", "#figures table", "#caveats h3", "#download a")]
    assert parts[3].text_content() == "What this does not mean"
    assert [top(part) for part in parts] == sorted(top(part) for part in parts) and parts[1].bounding_box()["height"] > 200
    expect(page.locator("#caveats li")).to_have_count(len(expected.caveats))
    assert marked(page) == f"t = {expected.timestep}: verdict made here"
    name = page.locator("#profile svg > title").text_content()
    assert "Higher is more like a training image" in name and page.locator("#profile svg").get_attribute("aria-label") == name

    # What stands in the field is the image itself: another look at it gives the same answer.
    shown = page.locator("#image .image-frame img")
    expect(shown).to_be_visible()
    assert (np.asarray(Image.open(io.BytesIO(page.request.get(shown.get_attribute("src")).body()))) == _original(page, thumbnail)).all()
    before = page.locator("#verdict").inner_text()
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator("#profile svg > title")).to_contain_text("image.png")  # by its new name, the second answer has come
    expect_answer(page, expected)
    assert page.locator("#verdict").inner_text() == before


def test_beside_an_examples_answer_stands_the_truth(page, checker, images):
    missed = in_five(1 - checker.reference.power.value)
    for kind, truth in (("member", "was in the training set"), ("nonmember", "was not in the training set")):
        thumbnail = page.locator(f"#examples-{kind} img").nth(3)
        expected = checker.check([_original(page, thumbnail)])[0]
        thumbnail.click()
        expect_answer(page, expected)
        expect(page.locator("#verdict .mia-truth")).to_contain_text(truth)
        if kind == "member":
            expect(page.locator("#verdict .mia-truth")).to_contain_text(f"misses {missed} such images")
            wrong = expected.verdict != EVIDENCE
            expect(page.locator("#verdict .mia-truth", has_text="this is one of them")).to_have_count(int(wrong))
        else:
            expect(page.locator("#verdict .mia-truth", has_text="a false alarm")).to_have_count(int(expected.verdict == EVIDENCE))
    upload(page, images.photo)
    expect(page.locator("#verdict .mia-not-comparable")).to_be_visible()
    expect(page.locator(".mia-truth")).to_have_count(0)


def test_an_example_can_be_chosen_with_the_keyboard(page, checker):
    thumbnail = page.locator("#examples-nonmember button").nth(2)
    thumbnail.focus()
    page.keyboard.press("Enter")
    expect_answer(page, checker.check([_original(page, thumbnail.locator("img"))])[0])


def test_an_upload_gets_its_p_value_and_a_file_to_keep(page, checker, images, tmp_path):
    path = images.nonmembers[3]
    expected = checker.check([path])[0]
    assert expected.verdict in (EVIDENCE, CANNOT_TELL)
    upload(page, path)
    expect_answer(page, expected)

    link = page.get_by_role("link", name="Download as JSON")
    kept = json.loads(base64.b64decode(link.get_attribute("href").removeprefix("data:application/json;base64,")))
    [image] = kept["images"]
    assert image["p_value"] == pytest.approx(expected.p_value, rel=1e-9) and image["name"] == path.name and image["id"] == expected.id
    settled = "SimACN(timesteps=(100,), given=('complexity', 'shift-left', 'shift-right'), p=2)"
    assert kept["attack"] == settled and kept["higher_score_means"] == "more likely a member"
    assert kept["model"]["id"] == "demo" and {"created", "versions"} <= set(kept["provenance"])
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "kept.json")
    assert download.value.suggested_filename == "membership-check.json" and json.loads((tmp_path / "kept.json").read_text()) == kept


def test_a_removed_image_takes_its_answer_along(page, checker, images):
    for show in (lambda: upload(page, images.nonmembers[3]), page.locator("#examples-member img").first.click):
        show()
        expect(page.locator("#caveats li").first).to_be_visible()
        remove_image(page)
        expect(page.locator("#verdict")).to_have_text("Upload or paste a image, or click one of the examples.")
        expect(page.locator("#profile svg")).to_have_count(0)
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator(PROBLEM)).to_have_text("Upload or paste a image first, or click one of the examples.")


def test_a_image_from_the_clipboard_is_answered(page, checker, images):
    # Mirrored, so that it isn't one of the reference images; the clipboard hands over colours.
    buffer = io.BytesIO()
    mirrored = Image.open(images.nonmembers[4]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).convert("RGB")
    mirrored.save(buffer, "PNG")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(
        """async data => {
            const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
            await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})]);
        }""",
        base64.b64encode(buffer.getvalue()).decode(),
    )
    page.get_by_label("Paste from clipboard").click()
    expect_answer(page, checker.check([mirrored])[0])


def test_a_colour_photograph_is_not_comparable(page, checker, images):
    expected = checker.check([images.photo])[0]
    assert expected.verdict == NOT_COMPARABLE
    upload(page, images.photo)
    expect_answer(page, expected)
    text = page.locator("#answer").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "greyscale images of clothing" in text and "name the model that you suspect" in text
    assert not re.search(r"\b[pq] [=<≤]", text) and not [name for name in figures(page) if "-value" in name]
    expect(page.locator("#profile svg text", has_text="known")).to_have_count(0)  # no bands that it could be held against
    assert marked(page) == f"t = {expected.timestep}: score given here"
    expect(page.locator("#figures")).to_contain_text("scaled from 320×240")


# Several images.


def cell(page, row, column):
    return page.get_by_test_id(f"cell-{row}-{column}")


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
        expect(page.locator("#profile .mia-answer")).to_contain_text(said(expected[i]))
        expect(page.locator("#profile svg > title")).to_contain_text(f"Membership score of {good[i].name}")
        expect(page.locator("#figures tr", has_text="Membership score")).to_contain_text(f"{expected[i].score:.4g}".replace("-", "−"))
        expect(page.locator("#caveats li").first).to_contain_text(expected[i].caveats[0][:40])
        expect(page.locator("#figures tr", has_text="q-value")).to_have_count(0 if expected[i].q_value is None else 1)

    # A single image, afterwards, is a single answer again.
    upload(page, images.nonmembers[3])
    expect_answer(page, checker.check([images.nonmembers[3]])[0])
    expect(page.locator("#table")).to_have_count(0)


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
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator("#verdict")).to_contain_text("8 images checked together")


def test_an_answer_that_comes_too_late_is_not_shown(page, images):
    fold_out(page, "Several images at once")
    upload(page, images.nonmembers, "several")
    started = time.monotonic()
    expect(page.locator("#verdict")).to_contain_text("28 images checked together")
    took = time.monotonic() - started
    changed = "What is asked has changed. Press Check for the answer."
    page.get_by_role("button", name="Check", exact=True).click()
    page.get_by_label("As a set").check()
    expect(page.locator("#verdict")).to_have_text(changed)
    page.wait_for_timeout(1000 * took + 2000)
    expect(page.locator("#verdict")).to_have_text(changed, timeout=1)
    # Nothing stands in the way of the new question.
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator("#verdict .mia-sentence")).to_contain_text("s a set, the 28 images look")
    page.get_by_role("button", name="Check", exact=True).click()
    page.locator("#several").get_by_label("Remove this file").first.click()
    expect(page.locator("#verdict")).to_have_text(changed)
    page.wait_for_timeout(1000 * took + 2000)
    expect(page.locator("#verdict")).to_have_text(changed, timeout=1)


def test_an_answer_to_a_question_under_way_goes_with_its_image_or_model(page, images):
    """Whatever was changed while it was being worked on."""
    fold_out(page, "Several images at once")
    fold_out(page, "Another model")
    upload(page, images.nonmembers[0])
    page.get_by_label("Remove Image").click()
    page.wait_for_timeout(3000)
    expect(page.locator("#verdict")).to_contain_text("Upload or paste a image", timeout=1)
    expect(page.locator("#stop")).to_be_hidden()
    upload(page, images.nonmembers, "several")
    expect(page.locator("#stop")).to_be_visible()
    page.locator("#model textarea, #model input").fill("somebody/another")
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#verdict")).to_contain_text("What is asked has changed")
    expect(page.locator("#table")).to_be_hidden()


def test_of_two_questions_the_last_is_answered(page, checker, images):
    """Asked while the first is still being worked on."""
    last = page.locator("#profile svg > title")
    fold_out(page, "Several images at once")
    upload(page, images.nonmembers[0])
    page.get_by_label("Remove Image").click()
    upload(page, images.nonmembers[1])
    expect(last).to_contain_text(f"Membership score of {images.nonmembers[1].name}")
    upload(page, images.nonmembers, "several")
    expect(page.locator("#stop")).to_be_visible()
    page.locator("#examples-member img").first.click()
    expect(page.locator("#verdict")).to_contain_text("This one was in the training set")
    page.wait_for_timeout(3000)
    expect(page.locator("#verdict")).to_contain_text("This one was in the training set", timeout=1)
    page.get_by_label("Remove Image").click()
    upload(page, images.nonmembers[2])
    expect(page.get_by_label("Remove Image")).to_be_visible()
    page.wait_for_timeout(500)  # until it is asked
    upload(page, images.nonmembers[3:6], "several")
    expect(page.locator("#verdict")).to_contain_text("3 images checked together")
    page.wait_for_timeout(3000)
    expect(page.locator("#verdict")).to_contain_text("3 images checked together", timeout=1)
    expect(page.get_by_label("Remove Image")).to_have_count(0)
    expect(page.locator("#stop")).to_be_hidden()


def test_a_long_question_can_be_stopped(page, images):
    fold_out(page, "Several images at once")
    stop = page.locator("#stop")
    expect(stop).to_be_hidden()
    upload(page, images.nonmembers * 6, "several")
    expect(stop).to_be_visible()
    expect(page.locator("#verdict")).to_contain_text("Upload or paste a image", timeout=1)
    stop.click()
    expect(page.locator("#verdict")).to_contain_text("Stopped. Press Check to ask again.")
    expect(stop).to_be_hidden()
    page.wait_for_timeout(3000)
    expect(page.locator("#verdict")).to_contain_text("Stopped.", timeout=1)
    # What comes in time can't be stopped any more.
    upload(page, images.nonmembers[0])
    expect(page.locator("#verdict .mia-sentence")).to_be_visible()
    expect(stop).to_be_hidden()


def test_a_set_too_small_gets_a_message(page, images):
    fold_out(page, "Several images at once")
    page.get_by_label("As a set").check()
    upload(page, images.nonmembers[:3], "several")
    expect(page.locator(PROBLEM)).to_contain_text("3 different images are too few for a set; give at least 5 different ones")


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


# Bad files, and strange ones.


def _bomb() -> bytes:
    """A valid PNG header that promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="28" height="28"><script>alert(1)</script><rect width="28" height="28"/></svg>'


def test_a_file_that_is_no_usable_image_gets_a_message_and_the_next_one_its_answer(page, checker, images, tmp_path):
    one_pixel = io.BytesIO()
    Image.new("L", (1, 1)).save(one_pixel, "PNG")
    bad = {
        "text.png": (b"not a image\n" * 20, "this is not an image file, whatever its name says"),
        "empty.png": (b"", "the file is empty (0 bytes)"),
        "cut.png": (images.cut.read_bytes(), "the file is damaged or cut short"),
        "bomb.png": (_bomb(), "3,600,000,000 pixels are too many"),
        "drawing.svg": (SVG, "this is an SVG drawing"),
        "dot.png": (one_pixel.getvalue(), "1 x 1 pixels are too few"),
    }
    page.on("dialog", lambda dialog: pytest.fail(f"a script of the image ran: {dialog.message}"))
    for name, (data, message) in bad.items():
        (tmp_path / name).write_bytes(data)
        upload(page, tmp_path / name)
        expect(page.locator(PROBLEM)).to_contain_text(f"{name}: {message}")
        expect(page.locator("#profile svg")).to_have_count(0)
        expect(page.locator("#download a")).to_have_count(0)
        # No broken image is shown.
        expect(page.get_by_label("Remove Image")).to_have_count(0)
        expect(page.locator("#image .image-frame img")).to_have_count(0)

    upload(page, images.nonmembers[7])
    expect_answer(page, checker.check([images.nonmembers[7]])[0])

    fold_out(page, "Several images at once")
    upload(page, [tmp_path / name for name in bad], "several")
    expect(page.locator(PROBLEM)).to_have_count(len(bad))
    for problem, (name, (_, message)) in zip(page.locator(PROBLEM).all(), bad.items()):
        expect(problem).to_contain_text(f"{name}: {message}")


def test_unusual_images_are_taken_and_what_was_changed_is_said(page, checker, images, tmp_path):
    image = Image.open(images.nonmembers[8])
    strange = {"moving.gif": "only the first was used", "print.jpg": "CMYK colours were converted to RGB", "turned.jpg": "turned upright"}
    image.save(tmp_path / "moving.gif", save_all=True, append_images=[image.rotate(90), image.rotate(180)], duration=100)
    image.convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.rotate(90).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    for name, note in strange.items():
        expected = checker.check([tmp_path / name])[0]
        assert any(note in said for said in expected.notes), name
        upload(page, tmp_path / name)
        expect(page.locator("#profile svg > title")).to_contain_text(f"Membership score of {name}")
        expect(page.locator("#figures .mia-notes")).to_contain_text(note)
        expect_answer(page, expected)
        remove_image(page)


# Other models.


def _ask_about(page, model):
    page.locator("#model textarea, #model input").fill(model)
    page.get_by_role("button", name="Check", exact=True).click()


def test_an_answer_goes_when_what_it_answers_changes(page, checker, images):
    fold_out(page, "Another model")
    box = page.locator("#model textarea, #model input")
    thumbnail = page.locator("#examples-member img").first
    expected = checker.check([_original(page, thumbnail)])[0]
    changes = (
        lambda: box.fill("app-tests/tiny"),  # all at once, as it is pasted
        lambda: (box.focus(), page.keyboard.press("End"), page.keyboard.press("Backspace")),
        lambda: upload(page, images.nonmembers[1:26], "nonmembers"),
    )
    for change in changes:
        thumbnail.click()
        expect_answer(page, expected)
        expect(page.locator("#asking")).to_contain_text("Now asking: demo, a small model")
        change()
        expect(page.locator("#verdict")).to_have_text("What is asked has changed. Press Check for the answer.")
        for part in ("#profile svg", "#figures table", "#caveats li", "#download a"):
            expect(page.locator(part)).to_have_count(0)
    expect(page.locator("#enough")).to_contain_text("With 25 known non-members no image can get evidence")
    expect(page.locator("#asking")).to_contain_text("with your non-members")

    # An example is of the demo and its own non-members, so both are set back; the answer is as it was.
    thumbnail.click()
    expect_answer(page, expected)
    expect(page.locator("#nonmembers tr.file")).to_have_count(0)
    expect(page.locator("#enough .mia-problem")).to_have_count(0)
    remove_image(page)
    box.fill("app-tests/tiny")
    expect(page.locator("#asking")).to_have_text(
        "Now asking: app-tests/tiny from the Hub; without known non-members it gives a curve and no verdict."
    )
    expect(page.locator("#verdict")).to_have_text("Upload or paste a image, or click one of the examples.")
    box.fill("")
    box.blur()
    expect(box).to_have_value("demo")
    expect(page.locator("#asking")).to_contain_text("Now asking: demo")
    box.press("Enter")
    expect(page.locator("#verdict")).to_have_text("Upload or paste a image, or click one of the examples.")


def test_a_lora_is_asked_with_a_caption(page, hub_models, images):
    upload(page, images.nonmembers[0])
    expect(page.locator("#caveats li").first).to_be_visible()
    fold_out(page, "Another model")
    upload(page, images.nonmembers[1:26], "nonmembers")
    expect(page.locator("#nonmembers tr.file")).to_have_count(25)
    page.locator("#model textarea, #model input").fill("app-tests/draws + app-tests/lora")
    expect(page.locator("#asking")).to_contain_text("Now asking: app-tests/draws + app-tests/lora from the Hub, with your non-members.")
    for caption in ("a red cat", ""):
        page.locator("#caption textarea, #caption input").fill(caption)
        expect(page.locator("#verdict .mia-answer")).to_have_count(0)  # an answer to another question went
        page.get_by_role("button", name="Check", exact=True).click()
        told = caption or None
        asked = Checker("app-tests/draws + app-tests/lora", nonmembers=images.nonmembers[1:26], nonmember_captions=told, progress=False)
        expect_answer(page, asked.check([images.nonmembers[0]], captions=told, progress=False)[0])
        expect(page.locator("#figures .mia-notes")).to_have_text(re.compile("queried without" if not caption else "^((?!queried).)*$"))


def test_another_model_gets_a_curve_and_with_known_non_members_a_verdict(page, hub_models, images):
    upload(page, images.nonmembers[0])
    expect(page.locator("#caveats li").first).to_be_visible()
    fold_out(page, "Another model")
    page.locator("#model textarea, #model input").fill("app-tests/tiny")
    page.locator("#model textarea, #model input").press("Enter")
    verdict = page.locator("#verdict .mia-verdict")
    expect(verdict).to_have_text("No verdict is possible.")
    expect(page.locator("#profile svg")).to_be_visible()
    bare = Checker("app-tests/tiny").check([images.nonmembers[0]], progress=False)[0]
    assert bare.verdict == NO_NULL and marked(page) == f"t = {bare.timestep}: score given here"
    assert "p-value" not in figures(page)
    expect(page.locator("#caveats li").first).to_have_text(bare.caveats[0])

    upload(page, [*images.nonmembers[1:26], images.cut], "nonmembers")
    expect(page.locator("#nonmembers tr.file")).to_have_count(26)
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.locator("#verdict .mia-problem")).to_contain_text("Left out of the non-members: cut.png: the file is damaged")
    known = Checker("app-tests/tiny", nonmembers=images.nonmembers[1:26], progress=False)
    expected = known.check([images.nonmembers[0]], progress=False)[0]
    expect_answer(page, expected)
    assert expected.n_null == 25
    expect(page.locator("#caveats")).to_contain_text("p can't get below 0.038")

    # An example is of the demo, and is answered by it.
    page.locator("#examples-member img").first.click()
    expect(page.locator("#model textarea, #model input")).to_have_value("demo")


def test_too_few_known_non_members_are_refused(page, images):
    fold_out(page, "Another model")
    upload(page, images.nonmembers[1:6], "nonmembers")
    expect(page.locator("#nonmembers tr.file")).to_have_count(5)
    upload(page, images.nonmembers[0])
    expect(page.locator(PROBLEM)).to_contain_text("known not to be in the training set are too few; give at least 20")


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
        _ask_about(page, model)
        expect(problem).to_have_count(1)
        expect(problem).to_contain_text(message)
    for there, missing in (("/etc", "/nowhere"), ("tests", "nowhere"), ("mia_hub/demo", "mia_hub/nowhere"), ("../main", "../nowhere")):
        answers = []
        for model in (there, missing):
            _ask_about(page, model)
            expect(problem).to_have_count(1)
            expect(problem).to_contain_text(model)
            answers.append(problem.inner_text().replace(model, "it"))
        assert answers[0] == answers[1], "the message tells which folders the server has"
    # The rest of the page is as before.
    _ask_about(page, "demo")
    expect(page.locator("#verdict .mia-verdict")).to_be_visible()


# On a phone.


def _fits(page, shot: Path) -> None:
    page.screenshot(path=shot, full_page=True)
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, shot.name
    button = page.get_by_role("button", name="Check", exact=True).bounding_box()
    assert button["x"] >= 0 and button["x"] + button["width"] <= width and button["height"] >= 36, shot.name


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_the_answer_comes_into_view(open_page, images, tmp_path, theme):
    page = open_page(390, theme)
    _fits(page, tmp_path / "empty.png")
    page.locator("#examples-member img").nth(1).click()
    expect(page.locator("#caveats li").first).to_be_visible()
    expect(page.locator("#verdict .mia-verdict")).to_be_in_viewport()
    _fits(page, tmp_path / "one.png")
    assert page.locator("#profile svg").bounding_box()["width"] > 300
    fold_out(page, "Several images at once")
    fold_out(page, "Another model")
    upload(page, [images.nonmembers[5], images.photo, images.cut], "several")
    expect(page.locator("#table [role=row][data-index]")).to_have_count(2)
    boxes = [cell(page, 0, column).bounding_box() for column in range(4)]
    assert all(box["x"] >= 0 and box["x"] + 40 <= 390 for box in boxes)  # verdict, p, q and which image, without scrolling
    cell(page, 1, 0).click()
    expect(page.locator("#profile h3")).to_have_text("photo.jpg")
    _fits(page, tmp_path / "several.png")


# Without a browser.


def test_the_api_gives_the_same_answer(app, checker, images):
    from gradio_client import Client, handle_file

    client = Client(app.url, verbose=False)
    described = client.view_api(return_format="dict")["named_endpoints"]["/check"]
    assert "in the model's training set?" in described["description"] and "JSON" in described["description"]
    asked = {"several": None, "model": "demo", "nonmembers": None, "api_name": "/check"}
    expected = checker.check([images.nonmembers[3]])[0]
    *_, found = client.predict(handle_file(images.nonmembers[3]), **asked)
    assert found["images"][0]["p_value"] == pytest.approx(expected.p_value, rel=1e-9)
    assert found["images"][0]["verdict"] == expected.verdict and found["reference"]["n_nonmembers"] > 20
    several = [handle_file(path) for path in images.nonmembers[:6]]
    *_, found = client.predict(None, **asked | {"several": several, "question": "As a set"})
    assert found["set"]["p_value"] == pytest.approx(checker.check_set(images.nonmembers[:6]).p_value, rel=1e-9)
    answer, *_, nothing = client.predict(handle_file(images.cut), **asked)
    assert "damaged or cut short" in str(answer) and nothing is None


def test_a_page_whose_connection_broke_off_is_still_answered(app, images):
    from gradio_client import Client, handle_file

    client = Client(app.url, verbose=False)
    with urllib.request.urlopen(f"{app.url}gradio_api/heartbeat/{client.session_hash}", timeout=30) as heartbeat:
        assert heartbeat.read(11) == b"data: ALIVE"
    time.sleep(2)  # for the server to see that it ended
    *_, found = client.predict(handle_file(images.nonmembers[3]), None, "demo", None, api_name="/check")
    assert found["images"][0]["verdict"] in (EVIDENCE, CANNOT_TELL)
