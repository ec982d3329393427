"""Dependencies point one way, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import mia_hub

ROOT = Path(mia_hub.__file__).parent
WAYS_IN = {"ui", "cli", "evaluate_module"}
WORDS = {"markup", "plots", "render", "render_check", "render_comparison", "render_set"}
RESULTS = {"auditing", "check", "comparing", "measurement", "report", "validity"}
# room: rooms that it must not import
FORBIDDEN = {
    "attacks": {"metrics", "measurement", "calibration", "auditing", "check", "validity", "report", "ui", "cli"},
    "models": {"attacks", "metrics", "scores", "auditing", "check", "report", "validity", "ui", "cli"},
    "images": {"models", "attacks", "splits", "scores"},
    "decoding": {"models", "attacks", "splits", "scores", "images"},
    "schedule": {"models", "attacks", "images"},
    "noise": {"models", "attacks", "images"},
    "metrics": {"models", "attacks", "scores", "images", "report"},
    "scores": {"models", "attacks", "images", "metrics"},
    "sampling": {"models", "attacks", "images", "splits", "scores"} | RESULTS | WAYS_IN,
    "complexity": {"models", "attacks", "images", "splits", "scores", "metrics", "calibration"} | RESULTS | WAYS_IN,
    "conditioning": {"models", "attacks", "images", "splits", "scores", "metrics", "calibration"} | RESULTS | WAYS_IN,
    "set_inference": {"models", "attacks", "images", "splits", "scores", "reference"} | RESULTS | WORDS | WAYS_IN,
    "reference": {"auditing", "check", "comparing", "validity", "set_inference"} | WORDS | WAYS_IN,
    "auditing": {"check", "comparing", "reference"} | WORDS | WAYS_IN,
    "check": {"auditing", "comparing"} | WORDS | WAYS_IN,
    # A comparison writes itself, as a report does.
    "comparing": {"check", "reference", "calibration", "set_inference", "render", "render_check", "render_set", "markup"} | WAYS_IN,
    # A benchmark is a comparison on declared pictures; its pages are Markdown alone.
    "benchmarks": {"auditing", "check", "reference", "calibration", "set_inference", "validity"}
    | {"plots", "render", "render_check", "render_comparison", "render_set"}
    | WAYS_IN,
    "shelf": {"auditing", "check", "comparing", "measurement", "report", "validity", "benchmarks"} | WORDS | WAYS_IN,
    "atomic": {path.stem for path in ROOT.iterdir()},
    "commands": {path.stem for path in ROOT.iterdir()} - {"atomic", "errors"},
    "lazy": {"models", "attacks", "splits", "scores"} | RESULTS | WORDS | WAYS_IN,
    "fetching": {"models", "attacks", "images", "splits"} | RESULTS | WORDS | WAYS_IN,
    "parquet_rows": {"models", "attacks", "images", "splits", "hub_rows"} | RESULTS | WORDS | WAYS_IN,
    "split_reading": {"attacks", "benchmarks", "split_sources", "split_writing"} | RESULTS | WORDS | WAYS_IN,
    "markup": {path.stem for path in ROOT.iterdir()},
}


def imported(path: Path) -> set[str]:
    """Top-level rooms of mia_hub that a file imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in getattr(node, "names", [])]
            if isinstance(node, ast.Import)
            else []
        )
        rooms |= {name.split(".")[1] for name in names if name.startswith("mia_hub.")}
    return rooms


def test_dependencies_point_one_way():
    files = {room: [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else list((ROOT / room).glob("*.py")) for room in FORBIDDEN}
    assert all(files.values())
    wrong = [(str(f.relative_to(ROOT)), bad) for room, fs in files.items() for f in fs for bad in imported(f) & FORBIDDEN[room]]
    assert not wrong
    assert not [f.name for f in ROOT.rglob("*.py") if "leaderboard" in f.read_text() and f.parent.name != "ui" and f.name != "cli.py"]


def modules_after(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in json.loads(out.stdout.splitlines()[-1])}


def test_import_and_help_load_nothing_heavy():
    heavy = {
        "torch",
        "numpy",
        "PIL",
        "diffusers",
        "datasets",
        "evaluate",
        "gradio",
        "sklearn",
        "scipy",
        "matplotlib",
        "pyarrow",
        "huggingface_hub",
    }
    assert not heavy & modules_after("import mia_hub")
    assert not heavy & modules_after("import mia_hub.cli; mia_hub.cli.build_parser().format_help()")


def test_rooms_without_a_model_need_no_torch():
    rooms = ["scores", "metrics.roc", "metrics.intervals", "measurement", "calibration", "report", "validity", "images", *sorted(WORDS)]
    assert "torch" not in modules_after("\n".join(f"import mia_hub.{room}" for room in rooms))


def test_public_names_are_there_even_after_their_modules_were_imported():
    import mia_hub.auditing
    import mia_hub.check

    for name in mia_hub.__all__:
        assert getattr(mia_hub, name).__doc__, name
    assert callable(mia_hub.audit)
    assert set(mia_hub.__all__) <= set(dir(mia_hub))


def test_the_app_is_short():
    assert len((ROOT.parent / "app.py").read_text().splitlines()) <= 40
