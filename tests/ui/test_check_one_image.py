"""One image on the page: its answer, whatever way it comes in, and a message where it can't be used."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from support.check_page import (
    CHANGED,
    EMPTY,
    PROBLEM,
    expect_answer,
    figures,
    fold_out,
    marked,
    original,
    press_check,
    remove_image,
    top,
    upload,
)

from mia_hub.attacks import get_attack
from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, NOT_COMPARABLE
from mia_hub.defaults import VERDICT_ATTACK
from mia_hub.images.sources import open_image
from mia_hub.references.demo_reference import demo_reference
from mia_hub.rendering.numbers import in_ten


@pytest.fixture
def page(cleared_page):
    """The same page for all tests that don't look at what it opens with, and leave nothing but an image behind."""
    return cleared_page


def test_the_examples_are_what_their_headings_say_and_chose_nothing(open_page):
    page = open_page()
    table = demo_reference().profiles
    label_of = dict(zip(table.ids, table.is_member.tolist()))
    for kind, heading, label in (("member", "In the demo's training set", 1), ("nonmember", "Not in the demo's training set", 0)):
        shown = page.locator(f"#examples-{kind} img")
        expect(shown).to_have_count(6)
        ids = {open_image(original(page, shown.nth(i))).id for i in range(6)}
        assert len(ids) == 6 and [label_of.get(sample) for sample in ids] == [label] * 6, kind
        title = page.get_by_text(heading, exact=True)
        assert 0 < top(page.locator(f"#examples-{kind}")) - top(title) < 60
        boxes = [shown.nth(i).bounding_box() for i in range(6)]
        assert all(abs(box["width"] - box["height"]) < 2 for box in boxes) and len({box["y"] for box in boxes}) == 1
        assert all(heading in shown.nth(i).get_attribute("alt") for i in range(6))


def test_a_click_on_a_member_answers_in_order_and_again_after_check(page, checker):
    thumbnail = page.locator("#examples-member img").nth(1)
    expected = checker.check([original(page, thumbnail)])[0]
    thumbnail.click()
    expect_answer(page, expected)

    parts = [
        page.locator(part) for part in ("#verdict .mia-answer", "#profile .mia-curve svg", "#figures table", "#caveats h3", "#download a")
    ]
    assert parts[3].text_content() == "What this does not mean"
    assert [top(part) for part in parts] == sorted(top(part) for part in parts) and parts[1].bounding_box()["height"] > 200
    expect(page.locator("#caveats li")).to_have_count(len(expected.caveats))
    assert marked(page) == f"t = {expected.timestep}: verdict made here"
    name = page.locator("#profile .mia-curve svg > title").text_content()
    expect(page.locator("#profile .mia-verdict-scores svg > title")).to_contain_text("Evidence (p ≤ 0.01) begins above")
    assert "Higher is more like a training image" in name and page.locator("#profile .mia-curve svg").get_attribute("aria-label") == name

    # What stands in the field is the image itself: another look at it gives the same answer.
    shown = page.locator("#image .image-frame img")
    expect(shown).to_be_visible()
    assert (np.asarray(Image.open(io.BytesIO(page.request.get(shown.get_attribute("src")).body()))) == original(page, thumbnail)).all()
    before = page.locator("#verdict").inner_text()
    press_check(page)
    expect(page.locator("#profile .mia-curve svg > title")).to_contain_text("image.png")  # by its new name, the second answer has come
    expect_answer(page, expected)
    assert page.locator("#verdict").inner_text() == before


def test_beside_an_examples_answer_stands_the_truth(page, checker, images):
    missed = in_ten(1 - checker.reference.power.value)
    for kind, truth in (("member", "was in the training set"), ("nonmember", "was not in the training set")):
        thumbnail = page.locator(f"#examples-{kind} img").nth(3)
        expected = checker.check([original(page, thumbnail)])[0]
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


@pytest.mark.slow
def test_copies_are_searched_where_the_switch_is_set(page, checker, images):
    """The switch changes the question; an example is checked as it is, and resets the switch."""
    import mia_hub

    switch, path = page.locator("#copies input"), images.nonmembers[3]
    upload(page, path)
    expect_answer(page, checker.check([path])[0])
    switch.check()
    expect(page.locator("#verdict")).to_contain_text(CHANGED)
    press_check(page)
    searched = mia_hub.check_image(path, copies=True, progress=False)
    expect_answer(page, searched)
    assert figures(page)["Most like a training image"] == searched.candidate
    page.locator("#examples-nonmember img").nth(1).click()
    expect(page.locator("#verdict .mia-truth")).to_be_visible()
    expect(switch).not_to_be_checked()


def test_an_example_can_be_chosen_with_the_keyboard(page, checker):
    thumbnail = page.locator("#examples-nonmember button").nth(2)
    thumbnail.focus()
    page.keyboard.press("Enter")
    expect_answer(page, checker.check([original(page, thumbnail.locator("img"))])[0])


def test_an_upload_gets_its_p_value_and_a_file_to_keep(page, checker, images, tmp_path):
    path = images.nonmembers[3]
    expected = checker.check([path])[0]
    assert expected.verdict in (EVIDENCE, CANNOT_TELL)
    upload(page, path)
    expect_answer(page, expected)

    link = page.get_by_role("link", name="Download as JSON")
    saved = json.loads(base64.b64decode(link.get_attribute("href").removeprefix("data:application/json;base64,")))
    [image] = saved["images"]
    assert image["p_value"] == pytest.approx(expected.p_value, rel=1e-9) and image["name"] == path.name and image["id"] == expected.id
    attack = repr(get_attack(VERDICT_ATTACK, timesteps=(100,)))
    assert saved["attack"] == attack and saved["higher_score_means"] == "more likely a member"
    assert saved["model"]["id"] == "demo" and {"created", "versions"} <= set(saved["provenance"])
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "saved.json")
    assert download.value.suggested_filename == "membership-check.json" and json.loads((tmp_path / "saved.json").read_text()) == saved


def test_a_removed_image_takes_its_answer_along(page, checker, images):
    for show in (lambda: upload(page, images.nonmembers[3]), page.locator("#examples-member img").first.click):
        show()
        expect(page.locator("#caveats li").first).to_be_visible()
        remove_image(page)
        expect(page.locator("#verdict")).to_have_text(EMPTY)
        expect(page.locator("#profile svg")).to_have_count(0)
    press_check(page)
    expect(page.locator(PROBLEM)).to_have_text("Upload or paste an image first, or click one of the examples.")


def test_an_image_from_the_clipboard_is_answered(open_page, checker, images):
    page = open_page()
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
    expect(page.locator("#profile .mia-curve svg text", has_text="known")).to_have_count(0)  # no bands that it could be held against
    assert marked(page) == f"t = {expected.timestep}: score given here"
    expect(page.locator("#figures")).to_contain_text("scaled from 320×240")


def _bomb() -> bytes:
    """A valid PNG header that promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="28" height="28"><script>alert(1)</script><rect width="28" height="28"/></svg>'


def test_a_file_that_is_no_usable_image_gets_a_message_and_the_next_one_its_answer(open_page, checker, images, tmp_path):
    page = open_page()
    one_pixel = io.BytesIO()
    Image.new("L", (1, 1)).save(one_pixel, "PNG")
    bad = {
        "text.png": (b"not an image\n" * 20, "this is not an image file, whatever its name says"),
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


@pytest.mark.slow
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
        assert any(note in text for text in expected.notes), name
        upload(page, tmp_path / name)
        expect(page.locator("#profile .mia-curve svg > title")).to_contain_text(f"Membership score of {name}")
        expect(page.locator("#figures .mia-notes")).to_contain_text(note)
        expect_answer(page, expected)
        remove_image(page)
