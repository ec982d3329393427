"""Attacks side by side: equal terms, nothing scored twice, resumption, and the command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from support.compared_attacks import MC, SIMA, N, compared, members_and_others, split_of
from support.unsure_memory import SIDE, memory_of

import mia_hub
from mia_hub.attacks import get_attack, list_attacks
from mia_hub.attacks.combination import Combination
from mia_hub.attacks.spelling import spell
from mia_hub.auditing.compare import UNFINISHED, compare, default_attacks
from mia_hub.auditing.comparison import Comparison
from mia_hub.cli import parser as cli
from mia_hub.errors import AttackError, MiaHubError
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.scores import ScoreTable
from mia_hub.system.memory import peak_memory_mb, reset_peak_memory


@pytest.fixture(scope="module")
def images():
    return members_and_others()


@pytest.fixture(scope="module")
def model(images):
    return memory_of(images[:N])


@pytest.fixture(scope="module")
def split(images):
    return split_of(images)


@pytest.fixture(scope="module")
def comparison(model, split):
    return compared(model, split)


def test_every_row_is_what_an_audit_alone_reports(comparison, model, split):
    assert [row.label for row in comparison.rows] == [
        "random", "sima:timesteps=50,200", "sima-cn:timesteps=50,100", "nearest-generated:samples=3,steps=2",
        "sima:timesteps=50,200+sima-mc:timesteps=100,draws=2", "sima alone, ≤ 4 queries", "sima-mc:draws=2 alone, ≤ 4 queries",
    ]  # fmt: skip
    audited = [SIMA, get_attack("sima-cn", timesteps=(50, 100)), Combination(parts=(SIMA, MC))]
    for row, attack in zip((comparison.rows[i] for i in (1, 2, 4)), audited):
        report = mia_hub.audit(model, attack, split, fprs=(0.1,), epsilon="none", progress=False)
        same = replace(row.report, cost=report.cost, provenance=report.provenance)
        assert same == report
        assert row.report.cost.queries == report.cost.queries
        np.testing.assert_array_equal(row.report.scores.scores, report.scores.scores)


def test_rows_share_images_parts_and_counts(comparison):
    first = comparison.rows[0].report
    for report in comparison.reports:
        assert report.scores.ids == first.scores.ids
        assert report.split == first.split and report.blind_auc == first.blind_auc is not None
        assert (report.auc.n_members, report.auc.n_nonmembers) == (N // 2, N // 2)
        assert report.selection["n_calibration_members"] == N - N // 2
        assert list(report.tpr_at_fpr) == [0.1]
    assert comparison.flags == comparison.left_out == ()


def test_costs_of_a_row(comparison):
    by_label = {row.label: row for row in comparison.rows}
    costs = {label: (row.queries_at_timestep, row.report.cost.queries_per_image, row.setup_queries) for label, row in by_label.items()}
    neighbours = len(by_label["sima-cn:timesteps=50,100"].chosen["given"]) - 1
    assert costs == {
        "random": (0, 0, 0),
        "sima:timesteps=50,200": (1, 2, 0),
        "sima-cn:timesteps=50,100": (1 + neighbours, 2 * (1 + neighbours), 0),
        "nearest-generated:samples=3,steps=2": (0, 0, 6),
        "sima:timesteps=50,200+sima-mc:timesteps=100,draws=2": (4, 4, 0),
        "sima alone, ≤ 4 queries": (4, 4, 0),
        "sima-mc:draws=2 alone, ≤ 4 queries": (4, 4, 0),
    }
    assert all(row.seconds_per_image > 0 and row.report.cost.peak_memory_mb > 0 for row in comparison.rows)
    assert [row.one_score for row in comparison.rows] == [True, False, False, True, True, True, True]


def test_a_comparison_survives_its_json_form(comparison):
    again = Comparison.from_dict(json.loads(comparison.to_json()))
    assert again == comparison
    assert again.to_markdown() == comparison.to_markdown()
    assert again.plot_svg() == comparison.plot_svg()


def test_by_default_all_attacks_run_that_can(split, monkeypatch):
    """Those that can't are listed with the reason; the toy predicts nothing, but every attack really runs on it."""
    monkeypatch.setattr("mia_hub.attacks.map_network.EPOCHS", 2)
    model = wrap_denoiser(lambda x, t: 0.1 * x, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE), name="toy")
    found = compare(model, split, limit=20, shift_check=False, progress=False)
    ran, left_out = [row.label for row in found.rows], {left.label: left.reason for left in found.left_out}
    assert [*ran, *left_out] == [*ran, *(name for name in default_attacks() if name not in ran)]
    assert ran[0] == "random" and {"sima", "sima-mc", "pia", "secmi", "loss"} <= set(ran)
    assert set(ran) | set(left_out) | {"combine"} == set(list_attacks())
    assert {"clid", "gsa1", "gsa2"} <= set(left_out)
    assert "isn't conditioned on text" in left_out["clid"] and "plain function" in left_out["gsa1"]
    assert "plain function" in found.to_markdown() and "plain function" in found.to_html()
    # With 10 non-members reported on, no rate can be measured, and the figure has one panel less.
    assert found.rates == [] and "FPR" not in found.plot_svg()


def never(x, t):
    raise AssertionError("the model was queried")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attacks": ["sima", "gsa1"]}, "plain function"),
        ({"attacks": ["sima", "clid"]}, "isn't conditioned on text"),
        ({"attacks": ["simaa"]}, "Did you mean 'sima'"),
        ({"attacks": ["sima", get_attack("sima")]}, "sima is to be compared with itself"),
        ({"attacks": []}, "nothing to compare"),
        ({"attacks": ["sima"], "combine": ["sima+pia"]}, r"such as combine=\[\['sima', 'pia'\]\]"),
        ({"attacks": ["sima"], "combine": "sima"}, "takes a list of lists"),
        ({"attacks": ["sima"], "combine": [["sima", "gsa1"]]}, "plain function"),
        ({"attacks": ["sima"], "combine": [[]]}, "one or more attacks"),
        ({"attacks": [get_attack("sima", timesteps=(1000,))]}, "runs from 0 to 999"),
        ({"attacks": ["sima"], "combine": [["sima", "pia"]], "limit": 15}, "too few for the attack 'combine'"),
        ({"attacks": ["sima"], "seed": -1}, "seed must be an integer"),
        ({"attacks": ["sima"], "fprs": (0.001,)}, "At least 1000 non-members"),
        ({"attacks": ["sima"], "selection": "best"}, "'calibration' or 'oracle'"),
        ({"attacks": ["sima"], "limit": 3}, "too few"),
        ({"attacks": ["sima"], "device": "cpu"}, "loaded already"),
        ({"attacks": ["sima"], "folder": "FILE"}, "can't be made"),
    ],
)
def test_refusals_come_before_the_model_is_queried(options, says, split, tmp_path):
    (tmp_path / "file").touch()
    if "folder" in options:
        options = options | {"folder": tmp_path / "file" / "x"}
    model = wrap_denoiser(never, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE))
    with pytest.raises(MiaHubError, match=says):
        compare(model, split, **{"shift_check": False, "progress": False} | options)


def test_when_no_attack_can_run_the_reason_is_the_error(split, monkeypatch):
    model = wrap_denoiser(never, [0.5], sample_shape=(1, SIDE, SIDE))
    monkeypatch.setattr("mia_hub.auditing.compare.default_attacks", lambda: ["sima", "gsa1"])
    with pytest.raises(AttackError, match=r"None of the attacks can run on custom .* runs from 0 to 0"):
        compare(model, split, progress=False)


@pytest.fixture
def tiny(tiny_pixel_repo):
    return tiny_pixel_repo(size=SIDE)


def counted(folder, **options):
    """The model in a folder, and the rows of its forward passes so far."""
    model = mia_hub.load_model(folder, device="cpu", **options)
    count, predict = [], model.predict_noise
    model.predict_noise = lambda x, t, cond=None: count.append(len(x)) or predict(x, t, cond)
    return model, count


def test_what_is_there_is_not_scored_again(tiny, tiny_pixel_repo, split, tmp_path):
    def run(attacks=(SIMA, MC), repo=tiny, split=split, **options):
        model, count = counted(repo, **{key: options.pop(key) for key in ("dtype",) if key in options})
        found = compare(model, split, attacks, folder=tmp_path, shift_check=False, progress=False, **options)
        return found, sum(count)

    first, queries = run()
    assert queries == 4 * 2 * N
    again, queries = run()
    assert queries == 0
    assert [row.report.cost for row in again.rows] == [row.report.cost for row in first.rows]
    assert [replace(a, provenance={}) for a in again.reports] == [replace(a, provenance={}) for a in first.reports]
    # Other figures of the same scores; another order; one attack more.
    loss = get_attack("loss", timesteps=(30,))
    more, queries = run((MC, loss, SIMA), fprs=(0.1,), selection="oracle")
    assert queries == 2 * N
    assert [row.label for row in more.rows] == [spell(attack) for attack in (MC, loss, SIMA)]
    assert list(more.reports[0].tpr_at_fpr) == [0.1]
    # Anything that a score depends on makes it anew.
    other = tiny_pixel_repo(size=SIDE, seed=1)
    for changed, expected in (
        ({"seed": 1}, 4 * 2 * N),
        ({"limit": 40}, 4 * 80),
        ({"limit": 40, "dtype": "float64"}, 4 * 80),
        ({"limit": 40, "repo": other}, 4 * 80),
        ({"limit": 40, "repo": other, "attacks": (replace(SIMA, p=2), MC)}, 2 * 80),
    ):
        assert run(**changed)[1] == expected, changed
        assert run(**changed)[1] == 0, changed


def test_a_damaged_file_is_scored_again_and_a_nameless_model_always(tiny, split, model, tmp_path):
    options = {"folder": tmp_path, "shift_check": False, "progress": False}
    compare(counted(tiny)[0], split, [SIMA, MC], **options)
    damaged = next(tmp_path.glob("scores-sima-mc*"))
    damaged.write_bytes(damaged.read_bytes()[:500])
    (tmp_path / "comparison.json").write_text("{")
    again, count = counted(tiny)
    found = compare(again, split, [SIMA, MC], **options)
    assert sum(count) == 2 * 2 * N
    assert all(row.report.cost.peak_memory_mb > 0 for row in found.rows)
    first = compare(model, split, [SIMA], **options)
    other = compare(memory_of(np.zeros((1, SIDE, SIDE))), split, [SIMA], **options)
    assert first.reports[0].scores.model == other.reports[0].scores.model
    assert not np.allclose(first.reports[0].scores.scores, other.reports[0].scores.scores)


@pytest.fixture
def split_folder(tmp_path, images):
    folder = tmp_path / "split"
    for name, part in (("member", images[:30]), ("nonmember", images[N : N + 30])):
        (folder / name).mkdir(parents=True)
        for i, pixels in enumerate(part):
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def run(capsys, *arguments):
    status = cli.main(["compare", *(str(argument) for argument in arguments)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.slow
def test_a_killed_comparison_goes_on_where_it_was(tiny, split_folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--model", tiny, "--split", split_folder, "--out", out, "--no-shift-check", "--device", "cpu"]
    arguments += ["--attacks", "sima:timesteps=50,100", "sima-mc:draws=3,timesteps=100", "random"]
    # Killed as soon as its second attack begins.
    script = """
import os, signal, sys
from mia_hub.attacks.scoring import Scoring
from mia_hub.cli import main

table = Scoring.table
Scoring.table = lambda self: os.kill(os.getpid(), signal.SIGKILL) if self.attack.name == "sima-mc" else table(self)
main(sys.argv[1:])
"""
    killed = subprocess.run([sys.executable, "-c", script, "compare", *map(str, arguments)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    (finished,) = out.glob("scores-*.parquet")
    before = finished.stat().st_mtime_ns, finished.stat().st_ino
    partial = Comparison.from_dict(json.loads((out / "comparison.json").read_text()))
    assert [row.label for row in partial.rows] == ["sima:timesteps=50,100"]
    assert [left.reason for left in partial.left_out] == [UNFINISHED] * 2

    status, text, err = run(capsys, *arguments)
    assert status == 0
    assert "sima:timesteps=50,100: scores taken from" in err
    assert (finished.stat().st_mtime_ns, finished.stat().st_ino) == before
    whole = Comparison.from_dict(json.loads((out / "comparison.json").read_text()))
    assert [row.label for row in whole.rows] == ["sima:timesteps=50,100", "sima-mc:timesteps=100,draws=3", "random"]
    assert whole.left_out == ()
    assert whole.rows[0].report.cost == partial.rows[0].report.cost
    assert whole.to_markdown() in text
    assert {path.suffix for path in out.iterdir()} == {".json", ".md", ".html", ".svg", ".parquet"}
    for path in out.glob("*.parquet"):
        table = ScoreTable.from_parquet(path)
        row = next(row for row in whole.rows if row.report.attack == table.attack)
        assert mia_hub.measure(table).at_selected.auc == row.report.auc
    # A fresh comparison, never interrupted, finds the same.
    shutil.rmtree(out)
    assert run(capsys, *arguments, "--quiet")[0] == 0
    fresh = Comparison.from_dict(json.loads((out / "comparison.json").read_text()))
    assert [row.report.per_timestep for row in fresh.rows] == [row.report.per_timestep for row in whole.rows]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--attacks", "simaa"], "Did you mean 'sima'"),
        (["--attacks", "sima:"], "NAME:PARAMETER=VALUE"),
        (["--attacks", "sima:p"], "NAME:PARAMETER=VALUE"),
        (["--attacks", "sima:p=0"], "above 0"),
        (["--attacks", "sima:draws=3"], "no parameter 'draws'"),
        (["--attacks", "sima", "sima"], "compared with itself"),
        (["--combine", "sima+piaa"], "There is no attack 'piaa'"),
        (["--combine", "sima+"], "There is no attack ''"),
        (["--attacks", "clid"], "isn't conditioned on text"),
        (["--attacks", "sima", "--limit", "1"], "limit must be an integer"),
        (["--attacks", "sima", "--split", "nonsense"], "There is no split 'nonsense'"),
        (["--attacks", "sima", "--out", "FILE"], "can't be made"),
    ],
)
def test_mistakes_get_one_line_and_status_2(capsys, arguments, says, tiny, split_folder, tmp_path):
    (tmp_path / "file").touch()
    known = {"FILE": tmp_path / "file" / "x"}
    status, out, err = run(capsys, "--model", tiny, "--split", split_folder, *(known.get(a, a) for a in arguments), "--quiet")
    assert (status, out) == (2, "")
    assert says in err and err.startswith("mia-hub: ") and err.count("\n") == 1


def test_an_interruption_says_where_the_finished_part_is(capsys, tiny, split_folder, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mia_hub.auditing.preparation.PreparedAudit.report", stop)
    arguments = ["--model", tiny, "--split", split_folder, "--attacks", "sima", "--no-shift-check", "--quiet"]
    assert run(capsys, *arguments, "--out", tmp_path / "out")[::2] == (
        130, f"\nmia-hub: interrupted; finished work is in {tmp_path / 'out'}. The same command resumes it.\n"
    )  # fmt: skip
    assert run(capsys, *arguments)[::2] == (130, "\nmia-hub: interrupted; nothing was written.\n")


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="only Linux can start a process's peak anew")
def test_an_attack_does_not_inherit_an_earlier_peak():
    cpu = torch.device("cpu")
    before = peak_memory_mb(cpu)
    large = np.ones(300 * 2**20 // 8)
    peak = peak_memory_mb(cpu)
    del large
    assert peak >= before + 100
    reset_peak_memory(cpu)
    assert peak_memory_mb(cpu) < peak - 250


def test_the_benchmark_measures_both_sides(capsys, tiny, split_folder, tmp_path):
    from benchmarks import compare as benchmark
    from benchmarks.reporting import finish

    main = partial(finish, benchmark._parser(), benchmark.run)
    options = ["--model", tiny, "--split", split_folder, "--limit", 24, "--batch-size", 16, "--rounds", 1, "--device", "cpu"]
    assert main([*map(str, options), "--attacks", "sima", "random", "--json", str(tmp_path / "figures.json")]) == 0
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["what"].split(",")[0] for row in rows] == ["sima", "random", "  reading", "compare", "  the same in processor time"]
    assert rows[0]["values"]["rows"] == rows[3]["values"]["rows"] == 21 * 48
    assert rows[3]["verdict"] in ("PASS", "MISSED") and rows[3]["values"]["bare_seconds"][0] > 0
    assert rows[4]["values"]["bare_seconds"][0] > 0 and rows[4]["values"]["seconds"][0] > 0
    assert main([*map(str, options[:6]), "--batch-size", "13"]) == 2
    assert "whole batches" in capsys.readouterr().err
