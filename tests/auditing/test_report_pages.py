"""The report of an audit, as Markdown and as a page. Asserted on what a reader sees, in a real browser where it matters."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache

import pytest
from support.made_reports import ATTACK, NASTY, Text, a_report, fair, hostile, shifted

from mia_hub.auditing.report import AuditReport, Cost
from mia_hub.auditing.report_pages import audit_html, audit_markdown, figure_table, headline
from mia_hub.errors import MetricError
from mia_hub.flags import flag


@lru_cache
def fair_page() -> str:
    return audit_html(fair())


@lru_cache
def hostile_page() -> str:
    return audit_html(hostile())


@lru_cache
def widest_page() -> str:
    """A page with a flag, many columns, and a model's name without a space to break at."""
    return audit_html(replace(shifted(), model=shifted().model | {"id": "x" * 300}))


@pytest.mark.parametrize("write", [audit_markdown, lambda report: Text(audit_html(report)).text], ids=["markdown", "html"])
def test_a_report_gives_every_figure_with_its_interval(write):
    report = fair()
    text = write(report)
    for row in report.per_timestep:
        assert str(row.auc) in text
        assert f"{row.asr.value * 100:.1f} % [{row.asr.low * 100:.1f}, {row.asr.high * 100:.1f}]" in text
        rate = row.tpr_at_fpr[0.01]
        assert f"{rate.value * 100:.1f} % [{rate.low * 100:.1f}, {rate.high * 100:.1f}]" in text
    assert f"AUC {report.auc}; at 1 % false positives it recognises " in text
    assert "0.507" in text and "[0.468, 0.546]" in text
    for phrase in ("Higher = leaks more", "200 members and 200 non-members", "calibration part", ATTACK, "sha256:77", "sha256:12ab"):
        assert phrase in text, phrase
    assert "8,800" in text and "3.5 s" in text
    assert not re.search(r"\b(nan|None)\b", text)


def test_a_report_counts_what_was_scored_and_what_was_reported_on():
    for page in (audit_markdown(fair()), Text(fair_page()).text):
        assert "800 images scored: 400 to choose the timestep, 400 to report on" in page
    assert "800 images scored and reported on" in audit_markdown(a_report(timestep=80))


def test_a_rate_that_was_not_measured_is_an_error_that_names_those_that_were():
    report = a_report(fprs=(0.05, 0.01))
    for rates in (report.tpr_at_fpr, report.per_timestep[0].tpr_at_fpr, AuditReport.from_dict(report.to_dict()).tpr_at_fpr):
        assert rates[0.05].n == 400 and rates.get(0.001) is None
        with pytest.raises(MetricError, match=r"rate of 0.001\. Measured are: 0.05, 0.01\."):
            rates[0.001]


def test_the_table_of_figures_puts_the_blind_auc_beside_the_attacks():
    report = fair()
    headers, rows = figure_table(report)
    found = {name: (value, interval, members) for name, value, interval, members, _ in rows}
    assert [row[0] for row in rows][:2] == ["AUC, attack", "AUC, blind classifier"] and len(headers) == len(rows[0])
    assert found["AUC, attack"] == (f"{report.auc.value:.3f}", f"[{report.auc.low:.3f}, {report.auc.high:.3f}]", "200")
    assert found["AUC, blind classifier"] == ("0.507", "[0.468, 0.546]", "400")
    for name, figure in (("Attack success rate", report.asr), ("Recognised at 1 % false positives", report.tpr_at_fpr[0.01])):
        assert found[name] == (f"{figure.value * 100:.1f} %", f"[{figure.low * 100:.1f}, {figure.high * 100:.1f}] %", "200")
    texts = (audit_markdown(report), Text(fair_page()).text)
    assert all(cell in text for text in texts for row in rows for cell in row)


@pytest.mark.parametrize("write", [audit_markdown, lambda report: Text(audit_html(report)).text], ids=["markdown", "html"])
def test_flags_stand_before_the_figures_and_the_gravest_first(write):
    report = replace(shifted(), flags=(flag("duplicates", "3 of 800 images are copies"), *shifted().flags))
    text = write(report)
    parts = ("Not evidence of memorisation", "distribution-shift", "duplicates", "3 of 800", "Attack success rate")
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert report.flags[1].meaning in text and "Read this first" not in write(fair())


def test_the_headline_is_as_careful_as_the_figures():
    assert headline(fair()).startswith("At t = 80 the attack tells members from non-members with AUC 0.")
    assert headline(shifted()).startswith("Not evidence of memorisation: a classifier that never sees the model")
    assert "0.713 [0.678, 0.748]" in headline(shifted()) and str(shifted().auc) in headline(shifted())
    assert "can't be told from guessing with these images" in headline(a_report(gap=0.0))
    assert "worse than guessing" in headline(a_report(gap=-1.0, timestep=80))
    assert "optimistic" in headline(a_report(selection="oracle")) and "optimistic" not in headline(fair())
    assert "false positives" not in headline(a_report(fprs=()))


@pytest.mark.parametrize("write", [audit_markdown, lambda report: Text(audit_html(report)).text], ids=["markdown", "html"])
@pytest.mark.parametrize(
    "sizes, says",
    [
        ((400, 400), ""),
        ((60_000, 400), "It saw 400 of the 60,000 members, by a seeded draw."),
        ((60_000, 5_000), "It saw 400 of the 60,000 members and 400 of the 5,000 non-members, by a seeded draw."),
    ],
)
def test_a_blind_classifier_that_saw_only_a_draw_says_so(write, sizes, says):
    for report in (fair(), shifted()):
        assert (report.blind_auc.n_members, report.blind_auc.n_nonmembers) == (400, 400)
        text = write(replace(report, split=report.split | dict(zip(("n_members", "n_nonmembers"), sizes))))
        assert says in text and ("by a seeded draw" in text) == bool(says)


def test_a_report_without_a_blind_classifier_or_low_rates_or_cost_says_so():
    report = replace(a_report(fprs=()), cost=Cost(11, 8800, None, None, None))
    for text in (audit_markdown(report), Text(audit_html(report)).text):
        assert "not measured" in text and "not recorded" in text and not re.search(r"\b(nan|None)\b", text)


def test_queries_of_the_base_are_counted_apart():
    """An attack that compares a model with its base costs queries of both."""
    for cost, says in ((Cost(2, 1600, 1.0, 1.0, None, 1), "2, 1 of them of the base"), (Cost(2, 1600, 1.0, 1.0, None), "2")):
        report = replace(fair(), cost=cost)
        assert f"Denoiser queries per image | {says} |" in audit_markdown(report)
        assert AuditReport.from_dict(json.loads(report.to_json())).cost == cost


def test_text_from_outside_never_becomes_markup():
    harmless, attacked = Text(fair_page()), Text(hostile_page())
    assert "script" not in attacked.tags and NASTY in attacked.text
    assert set(attacked.tags) - set(harmless.tags) <= {"aside", "h3"}


def test_markdown_shows_text_from_outside_literally():
    markdown_it = pytest.importorskip("markdown_it")
    render = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render
    fair_page, page = (Text(render(audit_markdown(report))) for report in (fair(), hostile()))
    assert {"script", "a", "img", "em"}.isdisjoint(page.tags)
    # The model's id (title and table), the flag's three parts, and the rest of the provenance.
    assert page.text.count("<script>alert('x')</script>") == 11
    cells = sum(page.tags.count(tag) for tag in ("th", "td"))
    assert cells == sum(fair_page.tags.count(tag) for tag in ("th", "td")) + 2  # one row more; no "|" opens a cell


def test_the_page_asks_for_nothing_from_outside():
    page = Text(hostile_page())
    assert page.open == []
    assert {"script", "img", "iframe", "object", "a", "form"}.isdisjoint(page.tags)
    references = [value for _, name, value in page.attributes if name in ("src", "href", "xlink:href", "action", "srcset")]
    assert references and all(value.startswith("#") or value == "data:," for value in references)
    assert "@import" not in fair_page() and not re.search(r"url\((?!#)", fair_page())


def test_a_report_survives_json():
    for report in (fair(), a_report(fprs=()), shifted()):
        again = AuditReport.from_dict(json.loads(report.to_json()))
        assert again == AuditReport.from_dict(report.to_dict())
        assert again.to_dict() == report.to_dict() and again.auc == report.auc and again.tpr_at_fpr == report.tpr_at_fpr
        assert again.to_markdown() == report.to_markdown()
    assert again.to_html() == report.to_html()


def test_rendering_words_needs_neither_torch_nor_gradio_nor_matplotlib():
    modules = ("auditing.report_pages", "auditing.comparison_pages", "auditing.plots", "checking.image_pages", "checking.set_pages")
    code = (
        f"import sys, {', '.join(f'mia_hub.{module}' for module in modules)}; print({{'torch', 'gradio', 'matplotlib'}} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


# In a browser.


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_the_page_in_a_browser_fits_and_asks_for_nothing(browser, tmp_path, width, script):
    path = tmp_path / "report.html"
    path.write_text(widest_page(), encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=script)
    page = context.new_page()
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(path.as_uri())
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.locator("figure svg")
    assert boxes.count() == 2 and all(boxes.nth(i).bounding_box()["width"] > 300 for i in range(2))
    context.close()


def test_the_page_is_dark_where_the_reader_wants_it_dark_but_figures_stay_light(browser):
    colours = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.set_content(fair_page())
        style = "element => getComputedStyle(element).backgroundColor"
        colours[scheme] = (page.locator("body").evaluate(style), page.locator("figure").first.evaluate(style))
        page.close()
    assert colours["light"][0] != colours["dark"][0] and colours["light"][1] == colours["dark"][1] == "rgb(255, 255, 255)"
