"""What people read: figures, pages and text. Asserted on what a reader sees, in a real browser where it matters."""

from __future__ import annotations

import json
import re
import sys
import threading
from dataclasses import replace
from functools import lru_cache
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from mia_hub.auditing.measurement import measure
from mia_hub.auditing.plots import roc_svg, timesteps_svg
from mia_hub.auditing.report import AuditReport, Cost
from mia_hub.auditing.report_pages import audit_html, audit_markdown, figure_table, headline
from mia_hub.checking.image_answers import Band, ImageCheck, Profile
from mia_hub.checking.image_pages import answer_html, caveats_html, check_text, checks_table, figures_html, row_number
from mia_hub.checking.profile_plot import profile_svg
from mia_hub.checking.verdict_texts import TREATMENT, VERDICTS, image_caveats, image_sentence
from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, NO_NULL, NOT_COMPARABLE, verdict_of
from mia_hub.errors import MetricError
from mia_hub.flags import Flag, flag
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.p_values import NullDistribution, benjamini_hochberg
from mia_hub.scores import ScoreTable
from mia_hub.system.provenance import provenance

TIMESTEPS = tuple(range(0, 201, 20))
NASTY = "<script>alert('x')</script> & \"`|*_[a](http://evil.example/)"
ATTACK = "SimA(timesteps=(0, 20), p=4)"


@lru_cache
def scores(n: int = 400, gap: float = 1.0) -> ScoreTable:
    rng = np.random.default_rng(7)
    labels = np.repeat([1, 0], n)
    t = np.array(TIMESTEPS)
    bump = np.exp(-(((t - 80) / 50) ** 2))
    values = -6 + bump + rng.normal(size=(2 * n, 1)) * 0.3 + rng.normal(size=(2 * n, len(t))) * 0.3 + gap * 0.6 * labels[:, None] * bump
    model = {"id": "demo", "revision": "sha256:12ab", "family": "pixel", "sample_shape": [1, 32, 32], "num_train_timesteps": 1000}
    return ScoreTable([f"id{i}" for i in range(2 * n)], labels, t, values, ATTACK, model, queries=2 * n * len(t), seconds=3.5)


def a_report(*, gap: float = 1.0, blind: Estimate | None = None, flags: tuple[Flag, ...] = (), **options) -> AuditReport:
    table = scores(gap=gap)
    measured = measure(table, **{"fprs": (0.01,), **options})
    selected = measured.at_selected
    split = {"name": "demo", "revision": None, "hash": "sha256:77", "n_members": 400, "n_nonmembers": 400}
    return AuditReport(
        table.attack, table.model, split, measured.selection, selected.auc, selected.asr, selected.tpr_at_fpr, measured.rows, measured.roc,
        blind, (*measured.flags, *flags), Cost(11, table.queries, 3.5, len(table) / 3.5, None), provenance(seed=0, device="cpu"),
    )  # fmt: skip


@lru_cache
def fair() -> AuditReport:
    return a_report(blind=Estimate(0.507, 0.468, 0.546, 400, 400))


@lru_cache
def shifted() -> AuditReport:
    return a_report(
        blind=Estimate(0.713, 0.678, 0.748, 400, 400),
        flags=(flag("distribution-shift", "a blind classifier reaches AUC 0.713 [0.678, 0.748]; chance is 0.5"),),
    )


def a_check(row, *, name="image.png", verdict=None, bands=True, q_value=None) -> ImageCheck:
    """The answer for one row of `scores`, as `Checker` makes it; with a verdict: one that needs no p-value."""
    table = scores()
    null = NullDistribution.from_table(table, 80)
    members, nonmembers = (Band.of(table.scores[table.is_member == label]) if bands else None for label in (1, 0))
    score, p, share, n = float(table.at(80)[row]), None, None, 0 if verdict == NO_NULL else 400
    if verdict is None:
        judged = null.judge(score, table.ids[row])
        p, share, n = judged.p_value, judged.share_below, judged.n
        verdict = verdict_of(p, q_value)
    asked = {"model": "demo", "source": None if verdict == NO_NULL else "the demo's non-members, greyscale images of clothing"}
    figures = {"p_value": p, "q_value": q_value, "share_below": share, "n_null": n}
    return ImageCheck(
        name=name,
        id=f"id{row}",
        **asked,
        attack="sima",
        verdict=verdict,
        sentence=image_sentence(verdict, **asked, **figures),
        caveats=image_caveats(verdict, p, q_value, n, Estimate(0.18, 0.15, 0.21, 400, 400)),
        profile=Profile(TIMESTEPS, tuple(table.scores[row].tolist()), members, nonmembers),
        timestep=80,
        score=score,
        **figures,
        comparable=True,
        notes=("It was scaled from 640×480 to the model's 32×32 pixels, which changes its score.",),
    )


@lru_cache
def evidence(**options) -> ImageCheck:
    """The member of highest score."""
    check = a_check(int(np.argmax(scores().at(80)[:400])), **options)
    assert check.verdict == EVIDENCE
    return check


@lru_cache
def doubtful(**options) -> ImageCheck:
    """The median non-member."""
    check = a_check(400 + int(np.argsort(scores().at(80)[400:])[200]), **options)
    assert check.verdict == CANNOT_TELL
    return check


def check_html(check: ImageCheck) -> str:
    return answer_html(check) + figures_html(check) + caveats_html(check)


class Text(HTMLParser):
    """Visible words, tags and attributes of a page."""

    VOID, INLINE = ("meta", "link", "br"), ("span", "strong", "em", "code", "b")

    def __init__(self, page: str):
        super().__init__()
        self.words, self.tags, self.attributes, self.open = [], [], [], []
        self.feed(page)
        self.text = " ".join("".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._boundary(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        self._boundary(tag)

    def _boundary(self, tag):
        if tag not in self.INLINE:
            self.words.append(" ")

    def handle_data(self, data):
        if not {"style", "title"} & set(self.open):
            self.words.append(data)


def drawn() -> dict[str, str]:
    report = fair()
    one = Profile((50,), (-3.0,), Band((-4.0,), (-3.5,), (-3.0,), 30), None)
    return {
        "profile": profile_svg(evidence().profile, 80, title="member.png"),
        "profile without bands": profile_svg(doubtful(bands=False).profile, 80),
        "profile without verdict": profile_svg(evidence().profile, 80, judged=False),
        "profile of one timestep": profile_svg(one, 50),
        "roc": roc_svg(report.roc, auc=report.auc, tpr_at_fpr=report.tpr_at_fpr),
        "roc of five": roc_svg({"fpr": [0, 0, 1], "tpr": [0, 0.4, 1]}, auc=Estimate(0.7, 0.3, 0.9, 5, 5), tpr_at_fpr={}),
        "timesteps": timesteps_svg(report),
        "timesteps of one": timesteps_svg(replace(report, per_timestep=report.per_timestep[4:5])),
    }


def svg_text(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


# Figures.


def test_every_figure_is_one_scalable_described_element():
    for name, svg in drawn().items():
        root = ElementTree.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg", name
        assert root.get("viewBox").startswith("0 0 360 ") and root.get("width") == "100%" and root.get("height") is None, name
        assert root.get("role") == "img" and len(root.get("aria-label")) > 60, name
        assert root[0].tag.endswith("title") and root[0].text == root.get("aria-label"), name
        assert not re.search(r"\bnan\b|\bNone\b|inf\b|<style|<!DOCTYPE|<\?xml", svg), name


def test_figures_say_what_they_show():
    texts = {name: svg_text(svg) for name, svg in drawn().items()}
    assert "Diffusion timestep t" in texts["profile"] and "Membership score (higher = more like a training image)" in texts["profile"]
    assert "t = 80: verdict made here" in texts["profile"] and "member.png" in texts["profile"]
    assert "400 known members: median, 5–95 %" in texts["profile"] and "400 known non-members: median, 5–95 %" in texts["profile"]
    assert not any("known" in text for text in texts["profile without bands"])
    for name in ("profile without bands", "profile without verdict"):
        assert "t = 80: score given here" in texts[name] and not any("verdict" in text for text in texts[name]), name
    assert "30 known members: median, 5–95 %" in texts["profile of one timestep"] and "50" in texts["profile of one timestep"]
    report = fair()
    assert f"the attack: AUC {report.auc}" in texts["roc"] and "less than 1 of 200 non-members: unmeasured" in texts["roc"]
    assert sum("at 1 % false positives" in text for text in texts["roc"]) == 1
    assert "t = 80: selected" in texts["timesteps"] and "blind classifier, without the model: 0.507" in texts["timesteps"]


def test_a_hostile_title_is_only_text():
    svg = profile_svg(doubtful().profile, 80, title="<script>$x^2$ $\\broken{")
    assert "<script>$x^2$ $\\broken{" in svg_text(svg) and "<script" not in svg


def test_text_of_a_figure_is_legible_on_a_phone_and_inside_the_figure():
    for name, svg in drawn().items():
        sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
        assert sizes and min(sizes) >= 10, name  # the viewBox is 360 wide: so many pixels at 360
        height = float(ElementTree.fromstring(svg).get("viewBox").split()[3])
        places = [(float(e.get("x")), float(e.get("y"))) for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
        assert all(0 <= x <= 360 and 8 <= y <= height for x, y in places), name


def test_figures_are_the_same_in_every_thread_and_leave_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    expected, results = drawn(), []
    threads = [threading.Thread(target=lambda: results.append(drawn())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 3
    assert dict(matplotlib.rcParams) == before


def test_two_figures_on_a_page_share_no_id():
    found = [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in drawn().values()]
    assert all(found) and len(set.union(*found)) == sum(map(len, found))


# The report.


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
    for page in (audit_markdown(fair()), Text(audit_html(fair())).text):
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
    assert all(cell in audit_markdown(report) and cell in Text(audit_html(report)).text for row in rows for cell in row)


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


def test_a_report_without_a_blind_classifier_or_low_rates_or_cost_says_so():
    report = replace(a_report(fprs=()), cost=Cost(11, 8800, None, None, None))
    for text in (audit_markdown(report), Text(audit_html(report)).text):
        assert "not measured" in text and "not recorded" in text and not re.search(r"\b(nan|None)\b", text)


def hostile() -> AuditReport:
    report = fair()
    return replace(
        report,
        attack=NASTY,
        model=report.model | {"id": NASTY, "family": NASTY},
        split=report.split | {"name": NASTY},
        selection=report.selection | {"description": NASTY},
        flags=(Flag(NASTY, NASTY, NASTY),),
        provenance=report.provenance | {NASTY: NASTY},
    )


def test_text_from_outside_never_becomes_markup():
    harmless, attacked = Text(audit_html(fair())), Text(audit_html(hostile()))
    assert "script" not in attacked.tags and NASTY in attacked.text
    assert set(attacked.tags) - set(harmless.tags) <= {"aside", "h3"}
    answer = Text(check_html(replace(evidence(), name=NASTY, sentence=NASTY, caveats=(NASTY,), notes=(NASTY,))))
    assert {"script", "a"}.isdisjoint(answer.tags) and answer.text.count("<script>alert('x')</script>") == 3


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
    page = Text(audit_html(hostile()))
    assert page.open == []
    assert {"script", "img", "iframe", "object", "a", "form"}.isdisjoint(page.tags)
    references = [value for _, name, value in page.attributes if name in ("src", "href", "xlink:href", "action", "srcset")]
    assert references and all(value.startswith("#") or value == "data:," for value in references)
    assert "@import" not in audit_html(fair()) and not re.search(r"url\((?!#)", audit_html(fair()))


def test_a_report_survives_json():
    for report in (fair(), a_report(fprs=()), shifted()):
        again = AuditReport.from_dict(json.loads(report.to_json()))
        assert again == AuditReport.from_dict(report.to_dict())
        assert again.to_dict() == report.to_dict() and again.auc == report.auc and again.tpr_at_fpr == report.tpr_at_fpr
        assert again.to_markdown() == report.to_markdown() and again.to_html() == report.to_html()


# Answers about images.


def test_the_text_of_one_answer():
    check = evidence()
    text = check_text([check], model="demo", attack=ATTACK)
    flat = " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 88
    for part in (VERDICTS[EVIDENCE], check.sentence, *check.caveats, *check.notes, "image.png"):
        assert part in flat, part
    figures = dict(re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if re.match(r"  \w.*\S\s{2,}\S", line))
    assert figures["Timestep"] == "t = 80" and float(figures["p-value"]) == pytest.approx(check.p_value, rel=0.05)
    score = figures["Membership score (higher = more like a training image)"].replace("−", "-")
    assert float(score) == pytest.approx(check.score, rel=1e-3)
    assert "400 of the demo's non-members, greyscale images of clothing" in flat
    assert (figures["Model"], figures["Attack"], figures["Known non-members with a lower score"]) == ("demo", "sima", "100.0 %")


@pytest.mark.parametrize("verdict", [NO_NULL, NOT_COMPARABLE])
def test_an_answer_without_a_verdict_gives_no_p_value(verdict):
    check = a_check(3, verdict=verdict, bands=verdict != NO_NULL)
    flat = " ".join(check_text([check], model="demo", attack=ATTACK).split())
    assert flat.count(VERDICTS[verdict].rstrip(".")) == 1 and check.sentence in flat
    page = Text(check_html(check)).text
    for shown in (flat, page):
        assert not re.search(r"p-value \d|\bp = |\b(nan|None)\b|lower score", shown)
        assert all(caveat in shown for caveat in check.caveats)


def several() -> list[ImageCheck]:
    adjusted = benjamini_hochberg([evidence().p_value, doubtful().p_value])
    return [
        evidence(name="a" * 60 + "-first.png", q_value=float(adjusted[0])),
        doubtful(name="b.png", q_value=float(adjusted[1])),
        a_check(3, name="c.png", verdict=NOT_COMPARABLE),
    ]


def test_the_text_of_several_answers_has_one_row_each_and_each_caveat_once():
    checks = several()
    text = check_text(checks, model="demo", attack=ATTACK)
    flat = " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 88
    assert "Model: demo" in flat and f"Attack: {ATTACK}" in flat
    lines = text.splitlines()
    rows = lines[2:5]
    assert lines[0].split() == ["image", "verdict", "p", "q", "score"]
    assert [re.split(r"\s{2,}", row)[1] for row in rows] == ["evidence", "cannot tell", "not comparable"]
    assert rows[0].startswith("aaa") and "…" in rows[0] and "-first.png" in rows[0] and rows[2].count("—") == 2
    assert re.split(r"\s{2,}", rows[0])[2:4] == ["0.00249", "0.00499"]
    assert "3 images: 1 evidence, 1 cannot tell, 1 not comparable." in flat
    assert "the 2 images judged together" in flat and "at most 5 % are expected to be false discoveries (FDR)" in flat
    assert flat.count("The p-value is not the probability of innocence") == 1 and flat.count(TREATMENT) == 1
    assert "(3 images)" in flat


def test_an_empty_list_of_answers_is_said():
    assert check_text([], model="demo", attack=ATTACK) == "No images were checked.\n"


def test_the_table_of_answers_holds_numbers_that_json_takes():
    headers, rows = checks_table(several())
    assert all(len(row) == len(headers) for row in rows) and len(rows) == 3
    assert rows[0][headers.index("p")] == pytest.approx(1 / 401, rel=0.05) and rows[0][headers.index("Verdict")] == "evidence"
    assert rows[2][headers.index("p")] == "—" and rows[1][headers.index("Score")] == pytest.approx(doubtful().score, rel=1e-3)
    assert json.loads(json.dumps(rows)) == rows


def test_the_table_of_answers_has_what_matters_first_and_leads_back_to_the_image():
    checks = several()[::-1]
    headers, rows = checks_table(checks)
    assert headers[:4] == ["Verdict", "p", "q", "Image"]
    assert [row_number(row) for row in rows] == [2, 1, 0]  # by p, and last what has none
    assert [row[3][:3] for row in rows] == ["3 ·", "2 ·", "1 ·"]
    assert all(len(row[3]) <= 32 for row in rows) and rows[0][3].endswith("rst.png")


def test_the_fragment_of_one_answer_is_in_order_and_carries_its_verdict():
    for check in (evidence(), doubtful(), *(a_check(3, verdict=verdict) for verdict in (NO_NULL, NOT_COMPARABLE))):
        page = check_html(check)
        assert page == answer_html(check) + figures_html(check) + caveats_html(check)
        assert f'class="mia-answer mia-{check.verdict}"' in page and Text(page).open == []
        assert VERDICTS[check.verdict].rstrip(".") in Text(answer_html(check)).text
        assert len(re.findall(r"no verdict|not comparable", Text(answer_html(check)).text, re.I)) == (check.p_value is None)
    text = Text(check_html(evidence())).text
    sentence = evidence().sentence.removeprefix(f"{VERDICTS[EVIDENCE]}: i")
    parts = (VERDICTS[EVIDENCE], sentence, "p-value 0.00249", "What this does not mean", evidence().caveats[-1])
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)


def test_rendering_words_needs_neither_torch_nor_gradio_nor_matplotlib():
    import subprocess

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
    # The widest case: a flag, many columns, and a model's name without a space to break at.
    report = shifted()
    path.write_text(audit_html(replace(report, model=report.model | {"id": "x" * 300})), encoding="utf-8")
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


def test_text_of_the_figures_is_not_cut_off(browser):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.set_content("".join(f"<div style='width:360px'>{svg}</div>" for svg in drawn().values()))
    outside = page.evaluate(
        """() => [...document.querySelectorAll('svg')].flatMap(svg => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < frame.left || box.right > frame.right || box.top < frame.top || box.bottom > frame.bottom;
            }).map(text => text.textContent);
        })"""
    )
    assert outside == []
    page.close()


def test_the_page_is_dark_where_the_reader_wants_it_dark_but_figures_stay_light(browser):
    colours = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.set_content(audit_html(fair()))
        style = "element => getComputedStyle(element).backgroundColor"
        colours[scheme] = (page.locator("body").evaluate(style), page.locator("figure").first.evaluate(style))
        page.close()
    assert colours["light"][0] != colours["dark"][0] and colours["light"][1] == colours["dark"][1] == "rgb(255, 255, 255)"
