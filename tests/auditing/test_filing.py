"""The report of an audit as a document to be filed: its order, its caution, and the appendix on what regulators ask."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pypdf
import pytest
from support.made_reports import Text, a_report, fair, hostile, shifted

from mia_hub.auditing.epsilon import EpsilonFinding
from mia_hub.auditing.filing import audit_filing
from mia_hub.auditing.ranking import RankedImage, Ranking
from mia_hub.auditing.regulators import DATA, Figure, make_appendix
from mia_hub.flags import FLAGS, flag
from mia_hub.metrics.epsilon import EpsilonBound
from mia_hub.rendering.pdf import to_pdf

PARTS = [
    "Findings",
    "Method",
    "Data",
    "Figures, with their intervals",
    "Limits",
    "Provenance",
    "Appendix: the figures, and what regulators ask",
]
CASES = [(key, case) for key, entry in json.loads(DATA.read_text())["figures"].items() for case in entry["supports"]]


def with_epsilon(bound: float, method: str):
    return replace(fair(), epsilon=EpsilonFinding((EpsilonBound(bound, 0.0, 0.95, 40, 30, 200, method, "a theorem", 20),), 80))


def listed():
    images = tuple(RankedImage(f"id{i}", f"{i}.png", 1.0, 0.01, 0.02, b"a small copy") for i in range(3))
    return replace(fair(), ranking=Ranking(images, 80, 200, 200, 200))


@pytest.mark.parametrize("key", ["parts", "hashes"])
def test_a_document_has_its_parts_in_order_and_its_hashes(key):
    page = audit_filing(fair(), {"scores.parquet": "ab" * 32})
    if key == "parts":
        places = [page.index(f"<h2>{part}</h2>") for part in PARTS]
        assert places == sorted(places) and "no legal advice" in page
    else:
        assert all(value in page for value in ("ab" * 32, "sha256:12ab", "sha256:77", fair().attack))
    assert {"script", "a"}.isdisjoint(Text(page).tags)


def test_text_from_outside_never_becomes_markup():
    assert {"script", "a"}.isdisjoint(Text(audit_filing(hostile(), {"<script>": "<script>"})).tags)


@pytest.mark.parametrize(
    ("report", "says", "never"),
    [
        (fair, ["the higher score with a probability of 0."], ["differential privacy", "None about", "Members most at risk"]),
        (shifted, ["None about the model's memory", "Not evidence of memorisation"], ["the higher score with a probability"]),
        (lambda: a_report(fprs=()), ["AUC of the attack"], ["Members recognised at few false positives"]),
        (lambda: with_epsilon(1.25, "one-run"), ["for any ε below the bound: ε ≥ 1.25 at δ = 0, with 95 % confidence"], ["refutes no ε"]),
        (lambda: with_epsilon(0.0, "one-run"), ["None: a bound of 0 refutes no ε."], ["was not (ε, δ)-differentially private for any ε"]),
        (lambda: with_epsilon(2.0, "clopper-pearson"), ["About this one model and such images"], ["the training of this model was not"]),
        (listed, ["3 of 200 members are listed", "all of them are known members"], ["a small copy", "<img"]),
    ],
    ids=["fair", "shifted", "without rates", "one run", "one run, 0", "rates", "ranking"],
)  # fmt: skip
def test_the_appendix_has_the_figures_of_the_report_and_no_stronger_sentence(report, says, never):
    page = audit_filing(report())
    text = Text(page).text
    assert all(sentence in text for sentence in says), says
    assert not [sentence for sentence in never if sentence in text or sentence in page]


@pytest.mark.parametrize(("key", "case"), CASES)
def test_each_figure_says_what_it_supports_and_what_not(key, case):
    appendix = make_appendix([Figure(key, "0.5 {value} [0.4, 0.6]", case)])
    (entry,) = appendix.figures
    assert entry.asked and entry.supports and entry.not_supported
    assert {name for name, _ in entry.asked} == {document.short for document in appendix.documents}
    assert "{value}" not in entry.supports.replace("0.5 {value} [0.4, 0.6]", "")


@pytest.mark.parametrize(("method", "stated"), [("one-run", True), ("clopper-pearson", False)])
def test_the_findings_state_a_bound_only_where_it_holds_for_the_training(method, stated):
    first_page = audit_filing(with_epsilon(1.25, method)).partition("<h2>Method</h2>")[0]
    assert ("ε is at least 1.25" in first_page) == stated


def test_the_findings_are_one_page_also_with_every_flag():
    flags = tuple(flag(name, f"something that was measured on 400 images, with AUC 0.713 [0.678, 0.748] ({name})") for name in FLAGS)
    report = replace(shifted(), flags=flags, model=shifted().model | {"id": "owner/" + "a-long-name" * 8})
    pages = [" ".join(page.extract_text().split()) for page in pypdf.PdfReader(io.BytesIO(to_pdf(audit_filing(report)))).pages]
    assert "1 Findings" in pages[0] and pages[1].startswith("2 Method") and pages[0].endswith(f"1 / {len(pages)}")
    unbroken = pages[0].replace(" ", "")
    assert "Not evidence of memorisation" in pages[0] and all(name in unbroken for name in FLAGS)
