"""A well-known model on the page: the offer of a reference, its cost, and the verdict that it gives to everybody."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect
from support.check_page import expect_answer, fold_out, model_box, press_check, upload
from support.known_blobs import members, nonmembers, parquet_of, png

from mia_hub.checking.checker import Checker
from mia_hub.errors import SplitError
from mia_hub.references.reference import Reference
from mia_hub.ui.check.checkers import _named_reference
from mia_hub.ui.check.offers import BY_THE_OWNER, accept_offer, offer_values


@pytest.fixture(scope="module")
def known(app, loopback_hub, tiny_pixel_repo, tmp_path_factory):
    """A model that the app's own table of references names, and an image to check."""
    loopback_hub.add_repo("model", "page/tiny-ddpm", tiny_pixel_repo(seed=5))
    loopback_hub.add_repo("dataset", "page/heldout", {"data/test-00000-of-00001.parquet": parquet_of(nonmembers(110))})
    app.home.mkdir(exist_ok=True)
    entry = {"models": ["page/tiny-ddpm"], "nonmembers": "page/heldout:test", "limit": 100, "caveats": ["They are blobs."]}
    (app.home / "references.json").write_text(json.dumps({"known": [entry]}))
    image = tmp_path_factory.mktemp("known") / "x.png"
    image.write_bytes(png(members()[0]))
    return image


def ask(page, image, model):
    """Check an image on a model."""
    upload(page, image)
    expect(page.locator("#verdict .mia-answer")).to_be_visible()
    fold_out(page, "Another model")
    model_box(page).fill(model)
    press_check(page)


def test_an_offer_is_accepted_and_answers_for_everybody(open_page, known, monkeypatch, tmp_path):
    page = open_page()
    ask(page, known, "page/tiny-ddpm")
    expect(page.locator("#verdict .mia-verdict")).to_have_text("No verdict is possible.")
    expect(page.locator("#offer")).to_contain_text("can be built of up to 100 non-members of page/heldout:test")
    expect(page.locator("#offer")).to_contain_text("100 images × ")
    page.get_by_role("button", name="Build the reference").click()
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path))
    reference = Reference.build("page/tiny-ddpm", "page/heldout:test", limit=100, caveats=("They are blobs.",), progress=False)
    expected = Checker("page/tiny-ddpm", reference=reference).check([known], progress=False)[0]
    expect_answer(page, expected)
    expect(page.locator("#offer")).to_have_count(0)
    expect(page.get_by_role("button", name="Build the reference")).to_have_count(0)

    second = open_page(390)  # another visitor, on a phone
    ask(second, known, "page/tiny-ddpm")
    expect_answer(second, expected)
    expect(second.get_by_role("button", name="Build the reference")).to_have_count(0)


@pytest.mark.slow
def test_a_reference_on_the_hub_is_named(open_page, known, monkeypatch, tmp_path):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_page")
    reference = Reference.build("page/tiny-ddpm", nonmembers(50), "sima", progress=False)
    reference.push("page/reference")
    page = open_page()
    upload(page, known)
    expect(page.locator("#verdict .mia-answer")).to_be_visible()
    fold_out(page, "Another model")
    model_box(page).fill("page/tiny-ddpm")
    page.locator("#reference input, #reference textarea").fill("page/reference")
    press_check(page)
    expect_answer(page, Checker("page/tiny-ddpm", reference=reference).check([known], progress=False)[0])
    page.locator("#reference input, #reference textarea").fill("page/nothing")
    press_check(page)
    expect(page.locator("#verdict .mia-problem")).to_contain_text("no data set 'page/nothing'")


def test_strangers_may_not_start_a_build(loopback_hub, tiny_pixel_repo, monkeypatch, tmp_path, known):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path))
    entry = {"models": ["page/tiny-ddpm"], "nonmembers": "page/heldout:test", "limit": 100}
    (tmp_path / "references.json").write_text(json.dumps({"known": [entry]}))
    checker = Checker("page/tiny-ddpm", progress=False)
    assert offer_values(checker)["possible"]
    monkeypatch.setenv("SPACE_ID", "a/space")
    offered = offer_values(checker)
    assert not offered["possible"] and offered["text"].endswith(BY_THE_OWNER)
    with pytest.raises(Exception, match="only its owner can build it"):
        accept_offer(checker, None)


@pytest.mark.parametrize("name", ["../private", "./private", "private", "a/b/c", "/etc/x", "~/x", "../../etc"])
@pytest.mark.parametrize("public", [True, False])
def test_a_name_of_a_reference_is_never_a_path(name, public, monkeypatch, tmp_path):
    folder = tmp_path / "private"
    folder.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if public:
        monkeypatch.setenv("SPACE_ID", "a/space")
    with pytest.raises(SplitError, match="is not a reference on the Hub"):
        _named_reference(name)
