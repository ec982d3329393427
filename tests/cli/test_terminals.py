"""Every command on every terminal: what it shows is readable, what it writes is whole, and it never ends in a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command_line import leaf_parsers
from support.edited_settings import edited
from support.terminals import ENCODINGS, gone_stream, terminal
from support.tiny_pipelines import save

import mia_hub
from mia_hub.cli import main

ROOT = Path(__file__).parents[2]
# Names that no terminal of these tests can show, one of them no text at all.
ODD_NAMES = ["≤ 漢.png", os.fsdecode(b"bad\xe9.png")]
QUICK = ["--limit", "24", "--no-shift-check", "--quiet"]
# A command, a cheap run of it, and the files that the run writes.
RUNS = {
    "app": ([], []),
    "check": (
        ["images", "--quiet", "--json", "check.json", "--out", "answer ≤"],
        ["check.json", "answer ≤/check.html", "answer ≤/check.json"],
    ),
    "check-set": (["images", "--quiet", "--json", "set.json", "--out", "set ≤"], ["set.json", "set ≤/check-set.html"]),
    "prompts": (
        ["--model", "text-to-image", "--prompts", "prompts ≤.txt", "--detector", "guidance-norm:draws=1", "--quiet", "--out", "asked ≤"],
        ["asked ≤/prompts.json", "asked ≤/prompts.csv", "asked ≤/guidance-norm.svg"],
    ),
    "reference build": (
        ["--nonmembers", "known", "--attack", "sima", "--set", "timesteps=70", "--stated", "≤ 漢", "--quiet", "--out", "reference ≤"],
        ["reference ≤/reference.json", "reference ≤/reference.safetensors"],
    ),
    "reference list": ([], []),
    "reference show": (["demo"], []),
    "reference pull": (["terminals/reference"], []),
    "reference verify": (["demo", "--nonmembers", "known", "--quiet"], []),
    "reference remove": (["demo"], []),
    "audit": (
        ["--set", "timesteps=70", *QUICK, "--out", "audit ≤"],
        ["audit ≤/report.json", "audit ≤/report.md", "audit ≤/report.html", "audit ≤/report.pdf", "audit ≤/scores.parquet"],
    ),
    "compare": (
        ["--attacks", "sima:timesteps=70", *QUICK, "--out", "compared"],
        ["compared/comparison.json", "compared/comparison.md", "compared/comparison.html", "compared/comparison.svg"],
    ),
    "copies": (
        ["--images", "6", "--steps", "1", "--limit", "100", "--quiet", "--out", "copied ≤"],
        [f"copied ≤/{name}" for name in ("copies.json", "copies.md", "copies.html", "pairs.csv", "pairs.png", "generated/000005.png")],
    ),
    "train-reference": (
        ["--images", "known", "--steps", "1", "--out", "denoiser ≤", "--quiet"],
        ["denoiser ≤/model_index.json"],
    ),
    "attacks": ([], []),
    "benchmark list": ([], []),
    "benchmark show": (["sd14-pokemon"], []),
    "benchmark run": (
        ["own.json", "--limit", "20", "--quiet", "--device", "cpu", "--out", "row", "--cache", "cache"],
        ["row/benchmark.json", "row/benchmark.md", "row/comparison.json", "row/comparison.html"],
    ),
    "make-split": (
        ["images", "--members", "2", "--nonmembers", "2", "--quiet", "--no-shift-check", "--out", "split ≤"],
        ["split ≤/README.md", "split ≤/split.json"],
    ),
    "submit": (["--model", "demo", "--split", "demo", "--attacks", "sima", "--note", "≤ 漢", "--requests", "requests"], []),
    "submissions": (["--requests", "requests"], []),
    "publish": (["all", "nobody"], []),
    "install-metric": ([], []),
}  # fmt: skip


@pytest.fixture(scope="module")
def templates(tmp_path_factory, loopback_hub):
    """A folder of images, a reference and a setting, which each test copies."""
    folder = tmp_path_factory.mktemp("terminals")
    demo = mia_hub.load_split("demo")
    (folder / "images").mkdir()
    for row, name in enumerate(["a.png", "b.png", "c.png", *ODD_NAMES]):
        (demo.members if row < 3 else demo.nonmembers)[row].to_pil().save(folder / "images" / name)
    (folder / "images" / os.fsdecode(b"broken \xe9.png")).write_bytes(b"no image")
    save("sd1", folder / "text-to-image")
    (folder / "prompts ≤.txt").write_text("a red cat\n≤ 漢 \x1b[31m house\n", encoding="utf-8")
    (folder / "known").mkdir()
    for row in range(24):
        demo.nonmembers[row].to_pil().save(folder / "known" / f"{row}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIA_HUB_HOME", str(folder / "home"))
        attack = mia_hub.get_attack("sima", timesteps=(70,))
        reference = mia_hub.Reference.build("demo", str(folder / "known"), attack, stated="≤ 漢", progress=False)
    reference.save(folder / "reference")
    loopback_hub.add_repo("dataset", "terminals/reference", folder / "reference")
    edited(folder, "demo-fashion-mnist", {"attacks": [{"name": "sima", "parameters": {"timesteps": [70]}}], "title": "Pokémon ≤ 漢"})
    return folder


@pytest.fixture
def workplace(templates, tmp_path, monkeypatch):
    for name in ("images", "known", "text-to-image", "prompts ≤.txt"):
        (tmp_path / name).symlink_to(templates / name)
    shutil.copytree(templates / "home", tmp_path / "home")
    (tmp_path / "own.json").write_bytes((templates / "own.json").read_bytes())
    (tmp_path / "requests").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("mia_hub.cli.app.launch", lambda **options: print("Running on ≤ 127.0.0.1", options))
    return tmp_path


def written_whole(folder, files) -> bool:
    return all((folder / file).stat().st_size > 20 for file in files)


def test_each_command_has_a_run():
    assert set(RUNS) == {command for command, _ in leaf_parsers()}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", ["", "benchmark", *RUNS])
def test_help_is_shown(command, encoding, monkeypatch):
    with terminal(monkeypatch, encoding) as screen, pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    assert screen.text()[0].startswith(f"usage: mia-hub {command}".rstrip()) and "\\u" not in screen.text()[0]


@pytest.mark.parametrize(
    ("command", "encoding"), [(command, encoding) for command, (_, files) in RUNS.items() for encoding in ENCODINGS[: 1 if files else None]]
)
def test_a_command_runs(command, encoding, workplace, monkeypatch):
    arguments, files = RUNS[command]
    with terminal(monkeypatch, encoding) as screen:
        status = main([*command.split(), *arguments])
    out, err = screen.text()
    assert status == (2 if command.startswith("check") else 0), err  # one of the images is broken
    assert out and "Traceback" not in err
    assert written_whole(workplace, files)
    if command == "check":
        assert "<= \\u6f22.png" in out and "bad?.png" in out and "broken ?.png" in err


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        *((command, "pipe") for command in RUNS if command not in ("check", "compare")),
        *((command, kind) for command in ("attacks", "make-split") for kind in ("absent", "closed", "full")),
    ],
)
def test_a_command_does_its_work_when_its_output_cannot_be_read(command, kind, workplace, monkeypatch, capsys):
    arguments, files = RUNS[command]
    monkeypatch.setattr(sys, "stdout", gone_stream(kind))
    status = main([*command.split(), *arguments])
    err = capsys.readouterr().err
    assert status == (2 if command.startswith("check") or kind == "full" else 0)
    assert ("standard output can't be written" in err) == (kind == "full")
    assert written_whole(workplace, files)


@pytest.mark.parametrize(
    ("arguments", "encoding"),
    [
        (["check", "images", "--quiet", "--json", "-"], "ascii"),
        (["check-set", "images", "--quiet", "--json", "-"], "cp1252"),
        *((["submit", *RUNS["submit"][0], "--json"], encoding) for encoding in ENCODINGS),
    ],
)
def test_json_on_standard_output_loses_nothing(arguments, encoding, workplace, monkeypatch):
    with terminal(monkeypatch, encoding) as screen:
        main(arguments)
    answer = json.loads(screen.text()[0])
    if arguments[0] == "submit":
        assert answer["request"]["note"] == "≤ 漢"
    else:
        names = answer.get("names") or [entry["name"] for entry in answer["images"]]
        assert {Path(name).name for name in names} == {"a.png", "b.png", "c.png", "≤ 漢.png", "bad?.png"}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "≤ 漢 missing.png"], "<= \\u6f22 missing.png"),
        (["check", os.fsdecode(b"missing \xe9.png")], "missing ?.png"),
        (["audit", "--limit", "1"], "limit must be an integer >= 2"),
        (["audit", "--model", "nowhere/≤/漢"], "<="),
        (["attacks", "sima≤"], "sima<="),
    ],
)
def test_an_error_is_readable(arguments, says, encoding, workplace, monkeypatch):
    with terminal(monkeypatch, encoding) as screen:
        assert main(arguments) == 2
    out, err = screen.text()
    assert out == "" and err.startswith("mia-hub: ") and says in err and err.count("\n") == 1


def test_a_split_is_not_written_to_a_folder_whose_name_is_no_text(workplace, capsys):
    arguments = ["make-split", *RUNS["make-split"][0]]
    assert main([*arguments[:-1], os.fsdecode(b"split \xe9")]) == 2
    assert "isn't text in UTF-8; name another folder." in capsys.readouterr().err
    assert main([*arguments[:-1], "another folder ≤"]) == 0


def test_reports_of_folders_with_odd_names_are_whole(workplace, tiny_pixel_repo):
    model, images = Path("model ≤ 漢"), Path(os.fsdecode(b"split \xe9"))
    model.symlink_to(tiny_pixel_repo())
    rng = np.random.default_rng(0)
    for part in ("member", "nonmember"):
        (images / part).mkdir(parents=True)
        for row in range(12):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(images / part / f"{row}.png")
    inputs = ["--model", str(model), "--split", str(images), "--no-shift-check", "--quiet"]
    audit = ["audit", *inputs, "--set", "timesteps=70", "--out", os.fsdecode(b"out \xe9")]
    assert main(audit) == 0
    assert written_whole(workplace, [f"{audit[-1]}/{name}" for name in ("report.json", "report.md", "report.html", "scores.parquet")])
    assert main(audit) == 0, "the stored scores are read again"
    assert main(["compare", *inputs, "--attacks", "sima:timesteps=70", "--out", "compared"]) == 0
    assert written_whole(workplace, RUNS["compare"][1])


# Commands beside mia-hub

SCRIPTS = [
    f"{path.relative_to(ROOT).with_suffix('')}".replace("/", ".")
    for folder in ("leaderboard", "training", "studies", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8") and path.name != "__main__.py"
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_prints_to_any_terminal(name):
    module = import_module(name)
    source = Path(module.__file__).read_text(encoding="utf-8")
    main = getattr(module, "main", None)
    by_frame = "run_study(" in source.partition("__main__")[2] or "finish(" in source.partition("__main__")[2]
    assert by_frame or hasattr(main, "__wrapped__"), "decorate its main with any_terminal()"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "command",
    [
        "mia_hub attacks | head -n 1",
        "mia_hub attacks >&-",
        "mia_hub attacks 2>&-",
        "mia_hub attacks > /dev/full",
        "mia_hub --help",
        "mia_hub check --help | head -n 1",
        "mia_hub check images --quiet --json answer.json",
        "leaderboard.verify --help",
        "leaderboard.worker --help",
    ],
)
def test_a_process_ends_without_a_traceback(command, encoding, workplace):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(f"{sys.executable} -m {command}", shell=True, capture_output=True, env=environment)
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr
    assert done.returncode == (2 if "full" in command or "images" in command else 0)
    if ">&-" not in command and "full" not in command:
        assert done.stdout.decode(encoding)
