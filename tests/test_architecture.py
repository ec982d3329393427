"""Imports run one way, from the ways in down to the ground; and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import leaderboard
import mia_hub

PACKAGES = {package.__name__: Path(package.__file__).parent for package in (mia_hub, leaderboard)}
# From the ground up: a room imports from itself and from the rows above its own, never from a room beside it.
FLOORS = {
    "mia_hub": (
        ("errors",),
        ("defaults", "flags"),
        ("rendering",),
        ("system",),
        ("scores",),
        ("images",),
        ("models",),
        ("metrics",),
        ("splits",),
        ("denoisers",),
        ("attacks",),
        ("auditing",),
        ("references",),
        ("copying",),
        ("checking",),
        ("prompts",),
        ("evaluate_module", "ui", "early_stopping"),
        ("cli",),
        ("__main__",),
    ),
    "leaderboard": (("errors",), ("config", "validation"), ("stores",), ("requests",), ("results",), ("worker", "page"), ("cli", "verify")),
}
MOST_ROOMS = 25
LONGEST_BODY = 60
SOURCES = ("mia_hub", "leaderboard", "training", "studies", "benchmarks", "examples")
# The page and the command line are put together of both packages; whatever else is in mia_hub knows nothing of the board.
MAY_USE_LEADERBOARD = {"mia_hub.ui", "mia_hub.cli"}


def files_of(package: str) -> dict[str, Path]:
    """Module name: file, of a package."""
    root = PACKAGES[package]
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = {module: path for package in PACKAGES for module, path in files_of(package).items()}


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of each import anywhere in a file, also inside functions, except what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield node.lineno, inner if inner in FILES else node.module
        yield from imports(node)


def room_of(module: str) -> tuple[str, str]:
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


def offences(module: str, source: str) -> Iterator[str]:
    """What a module imports against the order of `FLOORS`, with the line."""
    package, room = room_of(module)
    floor = {name: number for number, names in enumerate(FLOORS[package]) for name in names}
    for line, target in imports(ast.parse(source)):
        other_package, other = room_of(target)
        if other_package not in PACKAGES:
            continue
        if other_package != package:
            if package == "mia_hub" and f"{package}.{room}" not in MAY_USE_LEADERBOARD:
                yield f"{module}, line {line}: {target} belongs to the leaderboard, which mia_hub doesn't know"
        elif other and room and other != room and floor[other] >= floor[room]:
            yield f"{module}, line {line}: {room} stands below {other} or beside it, and must not import {target}"


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_down(package):
    wrong = [found for module, path in files_of(package).items() for found in offences(module, path.read_text(encoding="utf-8"))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mia_hub.images.image", "def f():\n    from mia_hub.models import loading"),
        ("mia_hub.ui.page", "import mia_hub.cli.parser"),
        ("mia_hub.scores", "from leaderboard.config import home"),
        ("leaderboard.stores.store", "from leaderboard.requests import queue"),
        ("leaderboard.page.tab", "from leaderboard.worker import jobs"),
    ],
)
def test_an_import_that_runs_up_is_named_with_its_line(module, source):
    (found,) = offences(module, source)
    assert found.startswith(f"{module}, line {source.count(chr(10)) + 1}: ")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_has_its_place(package):
    rooms = {room_of(module)[1] for module in files_of(package)} - {""}
    assert rooms == {room for floor in FLOORS[package] for room in floor}


def test_the_rooms_can_be_counted():
    assert sum(len(list(path.glob("*/__init__.py"))) for path in PACKAGES.values()) <= MOST_ROOMS


def test_no_imports_run_in_a_circle():
    graph = {module: {target for _, target in imports(ast.parse(path.read_text(encoding="utf-8"))) if target in FILES} - {module}
             for module, path in FILES.items()}  # fmt: skip
    for targets in graph.values():
        targets.discard("mia_hub")  # public names, looked up when they are used
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("These modules import one another: " + " → ".join(reversed(error.args[1])))


def function_bodies(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, lines of the body without the docstring) of each function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield node.name, node.end_lineno - body[0].lineno + 1 if body else 0


def test_functions_fit_a_screen():
    files = [path for folder in SOURCES for path in (PACKAGES["mia_hub"].parent / folder).rglob("*.py")]
    assert len(files) > 200
    long = [
        f"{path}: {name} has {lines} lines"
        for path in files
        for name, lines in function_bodies(ast.parse(path.read_text(encoding="utf-8")))
        if lines > LONGEST_BODY
    ]
    assert not long, "\n".join(long)


def modules_after(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in json.loads(out.stdout.splitlines()[-1])}


HEAVY = {
    "torch", "numpy", "PIL", "diffusers", "datasets", "evaluate", "gradio", "sklearn", "scipy", "matplotlib", "pyarrow", "huggingface_hub",
}  # fmt: skip
WITHOUT_TORCH = (
    "scores", "images", "images.sources", "images.features", "metrics.roc", "metrics.intervals", "metrics.p_values", "metrics.set_tests",
    "splits.shift", "auditing.measurement", "auditing.report", "auditing.report_pages", "auditing.comparison_pages", "auditing.plots",
    "checking.image_answers", "checking.image_pages", "checking.set_answers", "checking.set_pages", "references.comparability",
)  # fmt: skip


def test_import_and_help_load_nothing_heavy():
    assert not HEAVY & modules_after("import mia_hub")
    assert not HEAVY & modules_after("import mia_hub.cli; mia_hub.cli.build_parser().format_help()")


def test_rooms_without_a_model_need_no_torch():
    assert "torch" not in modules_after("\n".join(f"import mia_hub.{room}" for room in WITHOUT_TORCH))


def test_tables_of_scores_are_read_without_pandas():
    table = "from mia_hub.defaults import DEMO_FOLDER; from mia_hub.scores import ScoreTable"
    loaded = modules_after(f"{table}; ScoreTable.from_parquet(DEMO_FOLDER / 'scores.parquet')")
    assert "pyarrow" in loaded
    assert "pandas" not in loaded


def test_public_names_are_there_even_after_their_modules_were_imported():
    import mia_hub.auditing.audit
    import mia_hub.checking.checker

    for name in mia_hub.__all__:
        assert getattr(mia_hub, name).__doc__, name
    assert callable(mia_hub.audit)
    assert set(mia_hub.__all__) <= set(dir(mia_hub))


def test_the_app_is_short():
    assert len((PACKAGES["mia_hub"].parent / "app.py").read_text().splitlines()) <= 40
