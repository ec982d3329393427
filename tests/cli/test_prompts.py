"""``mia-hub prompts`` on a tiny Stable Diffusion: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest
from support.tiny_pipelines import save

from mia_hub.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompts")
    save("sd1", folder / "model")
    save("ddpm", folder / "pixels")
    (folder / "prompts.txt").write_text("a red cat\na photo of the house\n" + "a dog " * 60)
    (folder / "held_out.txt").write_text("\n".join(f"a green house {number}" for number in range(20)))
    (folder / "known.txt").write_text("the blue dog\nan image")
    return folder


def test_all_detectors_report_on_a_file(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    known = ["--unmemorised", "held_out.txt", "--memorised", "known.txt", "--top", "2", "--quiet", "--out", "out"]
    assert (
        main(["prompts", "--model", "model", "--prompts", "prompts.txt", "--detector", "guidance-norm", "curvature:draws=1", *known]) == 0
    )
    out = capsys.readouterr().out
    assert out.count("… and 1 more") == 2 and "AUC on known prompts" in out and "the end is cut off" in out
    reports = json.loads((folder / "out" / "prompts.json").read_text())["detectors"]
    assert [report["queries"] for report in reports] == [25 * 8, 25 * 4]
    with (folder / "out" / "prompts.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["detector"] for row in rows] == ["guidance-norm"] * 3 + ["curvature"] * 3
    assert {row["cut_off"] for row in rows if row["prompt"].startswith("a dog")} == {"True"}
    assert all((folder / "out" / f"{name}.svg").read_text().startswith("<svg") for name in ("guidance-norm", "curvature"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--model", "pixels"], "pixels takes no prompts: it is conditioned on nothing"),
        (["--prompts", "nowhere.txt"], "nowhere.txt can't be read"),
        (["--unmemorised", "known.txt"], "2 different unmemorised prompts are too few"),
        (["--detector", "curvature", "curvature:draws=1"], "names one detector twice"),
        (["--detector", "wen"], "There is no detector 'wen'"),
        (["--top", "0"], "--top must be an integer ≥ 1"),
    ],
)
def test_what_it_cannot_do_is_said(changes, says, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["prompts", "--model", "model", "--prompts", "prompts.txt", "--quiet", "--out", "nothing", *changes]) == 2
    assert says in capsys.readouterr().err
    assert not (folder / "nothing").exists()
