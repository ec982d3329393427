"""The tab "Leaderboard" in a real browser, on a store with made-up scores: what it shows, how it is searched, what a click opens."""

from __future__ import annotations

import csv
import io
import json
import re

import gradio as gr
import pytest
from playwright.sync_api import expect
from support.made_entries import HOSTILE, MODELS
from support.running_app import watched_pages

from leaderboard.page.board_tab import build_board_tab
from leaderboard.stores.opening import open_store


@pytest.fixture
def open_board(app, context):
    """``open_board(address, width, theme) -> Page``"""
    with watched_pages(app, context) as open_:

        def open_at(address="", width=1280, theme="light"):
            page = open_(width, theme, address)
            if not address:
                page.get_by_role("tab", name="Leaderboard").click()
            expect(lines(page, "attacks").first).to_be_visible()
            return page

        yield open_at


def lines(page, view):
    return page.locator(f"#board-{view} .mia-line")


def view(page, name, table):
    page.get_by_role("tab", name=name).click()
    expect(page.locator(f"#board-{table} .mia-count")).to_be_visible()
    return page.locator(f"#board-{table}")


def column(table, number) -> list[str]:
    return [line.locator("td").nth(number).inner_text() for line in table.locator(".mia-line").all()]


def test_every_view_shows_its_rows_and_says_how_to_read_them(open_board):
    page = open_board()
    expect(page.get_by_text("Higher means that a model leaks more")).to_be_visible()
    attacks = column(page.locator("#board-attacks"), 1)
    assert attacks[0].startswith("sima") and "random" in attacks and HOSTILE not in attacks
    assert "[" in lines(page, "attacks").first.locator("small").first.inner_text()

    # A name is shown in full, with its parameters on a second line.
    named = page.locator("#board-attacks td[title='pia:timesteps=50']").first
    assert named.inner_text().split("\n") == ["pia", "timesteps=50"]
    assert named.evaluate("cell => cell.scrollWidth <= cell.clientWidth")

    models = view(page, "Models", "models")
    leaks = [float(text.split()[0]) for text in column(models, 2)]
    assert len(leaks) >= MODELS and "owner/shifted" not in models.inner_text()
    expect(page.get_by_text("Bonferroni")).to_be_visible()

    one = view(page, "One data set", "split")
    expect(page.locator("#board-split-choice")).to_be_visible()
    assert one.locator(".mia-line").count()

    rows = view(page, "All rows", "rows")
    rows.get_by_role("searchbox").fill("mallory-is-not-a-column")
    expect(rows.get_by_text("No row is like that")).to_be_visible()

    apart = view(page, "Apart", "apart")
    apart.get_by_role("searchbox").fill("owner/shifted")
    expect(apart.locator(".mia-line")).to_have_count(2)
    expect(page.get_by_text("these rows are never ranked")).to_be_visible()


def test_a_visitor_whom_gradio_has_forgotten_can_choose_a_data_set():
    with gr.Blocks() as page, gr.Tabs() as pages, gr.Tab("Leaderboard", id="leaderboard") as tab:
        build_board_tab(page, pages, tab)
    [choice] = [block for block in page.blocks.values() if block.elem_id == "board-split-choice"]
    # The choices come with the tab, so that a page that begins anew has none.
    assert choice.choices == [] and choice.preprocess("sha256:12") == "sha256:12"


def test_rows_are_searched_chosen_and_sorted_by_their_numbers(open_board):
    page = open_board()
    rows = view(page, "All rows", "rows")
    rows.get_by_role("searchbox").fill("owner/model- SIMA")
    expect(rows.locator(".mia-count")).to_contain_text(f"{MODELS} of ")
    for order in ("descending", "ascending"):
        rows.get_by_role("button", name="AUC", exact=True).click()
        expect(rows.locator("th[aria-sort]").nth(3)).to_have_attribute("aria-sort", order)
        shown = [float(text.split()[0]) for text in column(rows, 3)]
        assert len(shown) == MODELS and shown == sorted(shown, reverse=order == "descending")
    rows.get_by_role("button", name="Model", exact=True).click()
    # By the numbers in the names: 10 is after 9.
    assert column(rows, 0) == [f"owner/model-{number}" for number in range(MODELS)]
    rows.get_by_role("combobox", name="Data set").select_option("data/split")
    expect(rows.locator(".mia-count")).to_contain_text(f"{MODELS} of ")


def test_what_is_shown_can_be_kept_and_obeys_nobody(open_board, tmp_path):
    page = open_board()
    rows = view(page, "All rows", "rows")
    rows.get_by_role("searchbox").fill("calc")
    expect(rows.locator(".mia-line")).to_have_count(1)
    expect(rows.locator(".mia-line img")).to_have_count(0)
    assert HOSTILE in rows.locator(".mia-line").inner_text()
    saved = {}
    for name in ("CSV", "JSON"):
        with page.expect_download() as download:
            rows.get_by_role("button", name=name).click()
        download.value.save_as(tmp_path / name)
        saved[name] = (tmp_path / name).read_text(encoding="utf-8")
    [line] = csv.DictReader(io.StringIO(saved["CSV"]))
    [row] = json.loads(saved["JSON"])
    assert line["attack"] == f"'{HOSTILE}" and row["attack"] == HOSTILE
    assert float(line["self_reported_low"]) == row["self_reported"]["low"] and row["auc"] is None and line["auc"] == ""
    assert len(line["entry"]) == 16 and row["entry"] == line["entry"]


@pytest.mark.slow
def test_a_row_opens_its_entry_whose_address_opens_it_again(open_board, app):
    page = open_board()
    models = view(page, "Models", "models")
    models.get_by_role("searchbox").fill("model-7")
    models.locator(".mia-line").first.press("Enter")
    entry = page.locator("#entry")
    expect(entry.get_by_role("heading", name="sima on owner/model-7")).to_be_visible()
    expect(entry.locator("svg[role=img]")).to_have_count(2)
    expect(page.locator("#entry-command")).to_contain_text("mia-hub compare --model owner/model-7")
    with page.expect_download() as download:
        entry.get_by_role("link", name="Scores (Parquet)").click()
    expect(page).to_have_url(re.compile("entry=.*&attack=sima"))
    id = page.url.split("entry=")[1][:16]
    with open(download.value.path(), "rb") as file:
        assert file.read() == open_store(app.results).read(f"results/{id}/scores/00.parquet")
    entry.get_by_role("link", name="random", exact=True).click()
    expect(entry.get_by_role("heading", name="random on owner/model-7")).to_be_visible()
    expect(page).to_have_url(re.compile("attack=random"))

    page.go_back()
    expect(entry.get_by_role("heading", name="sima on owner/model-7")).to_be_visible()
    # The page was not loaded again.
    expect(models.get_by_role("searchbox")).to_have_value("model-7")
    page.go_forward()
    expect(entry.get_by_role("heading", name="random on owner/model-7")).to_be_visible()
    page.evaluate("window.history.go(-2)")
    expect(page.locator("#board-views")).to_be_in_viewport()
    expect(page).not_to_have_url(re.compile("entry="))

    again = open_board(f"entry={id}&attack=random")
    expect(again.locator("#entry").get_by_role("heading", name="random on owner/model-7")).to_be_visible()
    expect(again.get_by_role("tab", name="Leaderboard")).to_have_attribute("aria-selected", "true")
    wrong = open_board("entry=<script>alert(1)</script>")
    expect(wrong.locator("#entry .mia-problem")).to_contain_text("There is no entry")


def test_an_attack_and_a_claim_have_pages(open_board):
    page = open_board()
    lines(page, "attacks").filter(has=page.get_by_text("sima", exact=True)).click()
    expect(page.locator("#entry .mia-links a")).to_have_count(MODELS)
    rows = view(page, "All rows", "rows")
    rows.get_by_role("searchbox").fill("ddpm-cifar100 secmi")
    rows.locator(".mia-line").first.click()
    expect(page.locator("#entry")).to_contain_text("A claim: published, and not computed here")
    expect(page.locator("#entry-command")).to_contain_text("mia-hub benchmark run ddpm-cifar100")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(open_board, theme):
    page = open_board(width=390, theme=theme)
    assert page.locator("#board-views").get_by_role("tab").count() == 5, "none hides behind a menu"
    lines(page, "attacks").first.click()
    expect(page.locator("#entry h2")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_programs_get_the_rows(app):
    from gradio_client import Client

    rows = Client(app.url, verbose=False).predict(model="model-3", split="", attack="sima", api_name="/leaderboard")
    assert [(row["model"], row["attack"], row["apart"]) for row in rows] == [("owner/model-3", "sima", False)]
    assert rows[0]["auc"]["low"] <= rows[0]["auc"]["value"] <= rows[0]["auc"]["high"]
