"""`mia-hub audit`: its reports, and what is left when it fails or is interrupted."""

from __future__ import annotations

import hashlib
import json
import sys

import pypdf
import pytest
from support.command_line import run

import mia_hub
from mia_hub.auditing.report import AuditReport
from mia_hub.rendering.pdf import to_pdf
from mia_hub.scores import ScoreTable


def test_audit_writes_its_reports(capsys, tmp_path):
    out_folder = tmp_path / "out"
    settings = ("--limit", 40, "--set", "timesteps=60,100", "p=2", "--quiet", "--out", out_folder)
    status, out, _ = run(capsys, "audit", *settings)
    assert status == 0
    assert {path.name for path in out_folder.iterdir()} == {"report.json", "report.md", "report.html", "report.pdf", "scores.parquet"}
    report = AuditReport.from_dict(json.loads((out_folder / "report.json").read_text()))
    assert report.attack == "SimA(timesteps=(60, 100), p=2, input='clean')"
    assert report.to_markdown() in out
    again = mia_hub.measure(ScoreTable.from_parquet(out_folder / "scores.parquet"))
    assert again.at_selected.auc == report.auc
    page = (out_folder / "report.html").read_text()
    assert "<svg" in page and "<script" not in page


@pytest.mark.parametrize("converter", ["there", "missing"])
def test_an_audit_writes_a_document_to_be_filed(capsys, tmp_path, monkeypatch, converter):
    monkeypatch.setattr("mia_hub.rendering.pdf.to_pdf", to_pdf)
    if converter == "missing":
        monkeypatch.setitem(sys.modules, "weasyprint", None)
    settings = ("--limit", 40, "--set", "timesteps=60,100", "--no-shift-check", "--quiet", "--out", tmp_path)
    status, _, err = run(capsys, "audit", *settings)
    named = [line for line in err.splitlines() if "report.pdf" in line]
    assert status == 0 and len(named) == 1 and (tmp_path / "report.html").exists()
    scores = hashlib.sha256((tmp_path / "scores.parquet").read_bytes()).hexdigest()
    if converter == "there":
        pages = [page.extract_text() for page in pypdf.PdfReader(tmp_path / "report.pdf").pages]
        assert "1 Findings" in pages[0] and "Appendix" in pages[-2] + pages[-1] and scores in "".join("".join(pages).split())
        assert not (tmp_path / "filing.html").exists() and "Written to" in named[0]
    else:
        assert 'pip install "mia_hub[pdf]"' in named[0] and not (tmp_path / "report.pdf").exists()
        assert scores in (tmp_path / "filing.html").read_text() and "filing.html, scores.parquet" in err


def test_an_audit_that_comes_to_nothing_leaves_no_folder(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "a" / "b", tmp_path / "mine"):
        assert run(capsys, "audit", "--split", "nonsense", "--out", out)[0] == 2

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mia_hub.auditing.audit.audit", interrupted)
    assert run(capsys, "audit", "--out", tmp_path / "c")[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_an_interrupted_audit_resumes(capsys, tmp_path, monkeypatch):
    kind, passes, last = type(mia_hub.load_model("demo")), [], 5
    real = kind.predict_noise

    def predict(self, x, t, cond=None):
        passes.append(len(x))
        if len(passes) == last:
            raise KeyboardInterrupt
        return real(self, x, t, cond)

    monkeypatch.setattr(kind, "predict_noise", predict)
    settings = ("audit", "--limit", 40, "--set", "timesteps=60,100", "--batch-size", 16, "--no-shift-check", "--quiet")
    out = tmp_path / "out"
    assert run(capsys, *settings, "--out", out)[::2] == (
        130, f"\nmia-hub: interrupted; finished work is in {out}. The same command resumes it.\n"
    )  # fmt: skip
    # Five batches of two passes each; two batches were finished.
    assert run(capsys, *settings, "--out", out)[0] == 0 and passes == [16] * (5 + 6)
    assert run(capsys, *settings, "--out", tmp_path / "undisturbed")[0] == 0
    resumed, expected = (ScoreTable.from_parquet(folder / "scores.parquet") for folder in (out, tmp_path / "undisturbed"))
    assert resumed.scores.tobytes() == expected.scores.tobytes() and not (out / "unfinished").exists()
    # The scores are there: another audit of them queries nothing.
    assert run(capsys, *settings, "--selection", "oracle", "--out", out)[0] == 0 and len(passes) == 5 + 6 + 10


LEAKY = ("--set", "timesteps=80", "p=4", "--limit", 120, "--no-shift-check", "--quiet")


@pytest.mark.parametrize(
    ("limits", "status", "named"),
    [
        (("auc=.99", "tpr@.05=.9"), 0, ()),
        (("auc=.5", "tpr@.05=0", "asr=.1"), 3, ("AUC 0.", "TPR at 5 %", "ASR 0.")),
    ],
)
def test_an_audit_fails_above_a_limit_after_its_report_was_written(capsys, tmp_path, limits, status, named):
    settings = ("audit", *LEAKY, "--fpr", 0.05, "--out", tmp_path)
    got, out, err = run(capsys, *settings, "--fail-above", *limits)
    assert got == status and "# Membership audit of" in out
    assert (tmp_path / "report.json").exists() and (tmp_path / "report.html").exists()
    above = [line for line in err.splitlines() if "is above the limit" in line]
    assert len(above) == len(named) and all(any(name in line for line in above) for name in named)


def test_a_comparison_names_each_attack_above_a_limit(capsys, tmp_path):
    settings = ("compare", "--attacks", "sima:timesteps=80", "random", "--limit", 120, "--no-shift-check", "--quiet", "--out", tmp_path)
    status, out, err = run(capsys, *settings, "--fail-above", "auc=.55")
    assert status == 3 and "random" in out and (tmp_path / "comparison.json").exists()
    assert "mia-hub: sima:timesteps=80: AUC 0." in err and "mia-hub: random: AUC" not in err
    assert run(capsys, *settings, "--fail-above", "auc=.99")[0] == 0


@pytest.mark.parametrize("command", ["audit", "compare"])
@pytest.mark.parametrize(
    ("limits", "options", "message"),
    [
        (("auc>.6",), (), "Accepted are auc=LIMIT"),
        (("auc=60",), (), "Accepted are auc=LIMIT"),
        (("tpr_at_fpr=.05",), (), "tpr@RATE=LIMIT"),
        (("tpr@.05=.2",), (), "measured are 0.01, 0.001"),
        (("tpr@.01=.2",), ("--fpr", 0.05), "measured are 0.05"),
        (("tpr@.01=.2",), ("--limit", 40), "can't be measured with 20 non-members"),
    ],
)
def test_limits_are_refused_before_any_query(capsys, monkeypatch, command, limits, options, message):
    def never(*arguments, **keywords):
        raise AssertionError("the model was queried")

    monkeypatch.setattr(type(mia_hub.load_model("demo")), "predict_noise", never)
    status, _, err = run(capsys, command, *options, "--quiet", "--fail-above", *limits)
    assert status == 2 and message in err


def test_audit_bounds_epsilon_by_what_the_split_allows(capsys, tmp_path):
    settings = ("audit", "--limit", 40, "--set", "timesteps=60,100", "--no-shift-check", "--quiet")
    status, out, _ = run(capsys, *settings, "--out", tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert status == 0 and {bound["method"] for bound in stored["epsilon"]["bounds"]} == {"clopper-pearson"}
    assert "## A lower bound on ε" in out and "A lower bound on ε" in (tmp_path / "out" / "report.html").read_text()
    # The scores are there: only the figure is left out.
    status, out, _ = run(capsys, *settings, "--out", tmp_path / "out", "--epsilon", "none")
    assert status == 0 and "A lower bound on ε" not in out
    status, _, err = run(capsys, *settings, "--epsilon", "one-run")
    assert status == 2 and "was not drawn by coins" in err and "--coin-flip" in err
