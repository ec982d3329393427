"""From the shell to a verdict on one image, and a page's first answer, once the demo is loaded and before.

    python -m benchmarks.cold_start
    python -m benchmarks.cold_start --only check --rounds 3

Each check is a process of its own, and its processor time is measured, which other users of the machine hardly change. The times of
imports are those of the clock, and the answer is waited for: these take a quiet machine.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive
from benchmarks.running_app import running_app
from benchmarks.throughput import EMPTY, children_seconds, in_turns, new_python
from benchmarks.visitors import Visitor
from mia_hub.splits.loading import load_split

PARTS = ("check", "imports", "page")
MOST_CHECK_SECONDS, MOST_ANSWER_SECONDS = 4.0, 1.5
# Of a processor: a waiting app wakes up now and then.
IDLE_SHARE, IDLE_SECONDS = 0.1, 3
# Packages whose imports are told apart.
LARGEST = 10
# A line of -X importtime: microseconds of the module itself, of it with what it imports, and its name.
IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)$", re.MULTILINE)


def check_command(image: Path) -> list[str]:
    """Return the arguments of Python that check an image with the demo."""
    return ["-m", "mia_hub", "check", str(image), "--quiet"]


def measure_check(image: Path, rounds: int) -> Row:
    """Measure the processor time of checks of one image, each in a process of its own."""
    runs = [lambda: new_python(check_command(image)), lambda: new_python(EMPTY)]
    seconds, empty = in_turns(rounds, runs, clock=children_seconds).T
    return Row(
        "mia-hub check image.png, from the shell to the verdict, processor time",
        spread(seconds),
        f"≤ {MOST_CHECK_SECONDS:g} s",
        bool(np.median(seconds) <= MOST_CHECK_SECONDS),
        {"seconds": seconds, "empty_seconds": empty},
    )


def measure_imports(image: Path) -> list[Row]:
    """Return a row per package whose modules took longest to import in one check, without what they import from other packages."""
    printed = new_python(["-X", "importtime", *check_command(image)]).stderr
    taken: Counter[str] = Counter()
    for microseconds, module in IMPORTED.findall(printed):
        taken[module.partition(".")[0]] += int(microseconds) / 1e6
    whole = taken.total()
    return [
        Row("  imports of that check, by the clock", f"{whole:.2f} s", values={"seconds": dict(taken)}),
        *(Row(f"    {name}", f"{seconds:.2f} s, {seconds / whole:.0%}") for name, seconds in taken.most_common(LARGEST)),
    ]


def measure_page(image: Path, rounds: int) -> list[Row]:
    """Measure an app's first answer to a visitor, in a new app each time: once it has loaded the demo, and before."""
    started, loaded, at_once = np.empty((3, rounds))
    for i in range(rounds):
        begun = time.perf_counter()
        with new_app() as app:
            started[i] = time.perf_counter() - begun
            wait_until_idle(app.pid)
            loaded[i] = Visitor(app.url).check(str(image))[0]
        with new_app() as app:
            begun = time.perf_counter()
            Visitor(app.url).check(str(image))
            at_once[i] = time.perf_counter() - begun
    return [
        Row("the app's start, until the page can be opened", spread(started), values={"seconds": started}),
        Row(
            "the page's first answer on one image, once the app has loaded the demo",
            spread(loaded),
            f"≤ {MOST_ANSWER_SECONDS:g} s",
            bool(np.median(loaded) <= MOST_ANSWER_SECONDS),
            {"seconds": loaded},
        ),
        Row("  to a visitor who opens the page and asks at once, the opening included", spread(at_once), values={"seconds": at_once}),
    ]


@contextmanager
def new_app() -> Iterator[SimpleNamespace]:
    """Run the app in a process of its own; see `running_app`."""
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder), GRADIO_ANALYTICS_ENABLED="False") as app:
        yield app


def wait_until_idle(pid: int) -> None:
    """Wait until a process uses hardly any processor time for some seconds (Linux)."""
    used = math.inf
    while used > IDLE_SHARE * IDLE_SECONDS:
        before = processor_seconds(pid)
        time.sleep(IDLE_SECONDS)
        used = processor_seconds(pid) - before


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used (Linux)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def spread(seconds: np.ndarray) -> str:
    """Return the median of some times, the least and the most."""
    return f"{np.median(seconds):.2f} s ({seconds.min():.2f} … {seconds.max():.2f})"


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    conditions = facts(torch.device("cpu"), "float32", 0) | {"rounds": args.rounds}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        load_split("demo").nonmembers[0].to_pil().save(image)
        if "check" in args.only:
            rows.append(measure_check(image, args.rounds))
        if "imports" in args.only:
            rows += measure_imports(image)
        if "page" in args.only:
            rows += measure_page(image, args.rounds)
    return rows, conditions


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("cold_start", __doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure only these parts")
    parser.add_argument("--rounds", type=positive, default=5, help="(default: 5)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
