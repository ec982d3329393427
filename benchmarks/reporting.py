"""The shared parts of the benchmarks: rows of figures with a verdict, the facts behind them, printing and writing."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mia_hub.errors import MiaHubError
from mia_hub.system.streams import any_terminal


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        what: name of the measurement.
        measured: the figure with its spread, for people.
        requirement: the required figure, or "".
        passed: whether the requirement holds; None for information.
        values: the figures behind it, for programs.
    """

    what: str
    measured: str
    requirement: str = ""
    passed: bool | None = None
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """PASS, MISSED or information."""
        return {True: "PASS", False: "MISSED", None: "information"}[self.passed]


def facts(device: torch.device, dtype: str, batch_size: int) -> dict[str, Any]:
    """Return and print the facts that the figures depend on; printing comes before the minutes of measuring."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    facts = {
        "cpus": f"{usable} usable of {os.cpu_count()}",
        "threads": torch.get_num_threads(),
        "load": "unknown" if load is None else f"{load[0]:.2f} at the start",
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": dtype,
        "batch size": batch_size,
    }
    print("\n".join(f"{name + ':':12}{value}" for name, value in facts.items()), flush=True)
    return facts


def render(rows: list[Row]) -> str:
    """Return the rows as aligned text."""
    cells = [("what", "measured: median (min … max)", "required", "verdict")]
    cells += [(row.what, row.measured, row.requirement, row.verdict) for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(4)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells)


def positive(text: str) -> int:
    """Return an integer ≥ 1 from the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be an integer ≥ 1; got {value}")
    return value


def benchmark_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of ``python -m benchmarks.NAME`` with the options of every benchmark; a docstring's first line describes it."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description.split("\n")[0])
    parser.add_argument("--device", help="cpu, cuda, … (default: the best one present)")
    parser.add_argument("--dtype", default="float32", help="precision of the model (default: float32)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a requirement is missed")
    return parser


def with_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="'demo', a folder, or a Hub id (default: demo)")


def with_split(parser: argparse.ArgumentParser, *, limit: int) -> None:
    parser.add_argument("--split", default="demo", help="as for mia-hub audit (default: demo)")
    parser.add_argument("--limit", type=positive, default=limit, metavar="N", help=f"N members and N non-members (default: {limit:,})")


def with_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=positive, help="rows per forward pass (default: mia_hub's own for the device)")


@any_terminal()
def finish(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], tuple[list[Row], dict[str, Any]]], argv: list[str] | None = None
) -> int:
    """Run a benchmark, print its rows, and write them to the file of --json.

    Args:
        parser: made by `benchmark_parser`.
        run: returns the rows and their `facts`.
        argv: the command's arguments; by default those of the process.

    Returns:
        The exit status: 0; 1 with --strict if a requirement is missed; 2 if nothing could be measured.
    """
    args = parser.parse_args(argv)
    try:
        rows, conditions = run(args)
        if args.json:
            figures = {"facts": conditions, "rows": [asdict(row) | {"verdict": row.verdict} for row in rows]}
            args.json.write_text(json.dumps(figures, indent=1, default=np.ndarray.tolist) + "\n", encoding="utf-8")
        print("\n" + render(rows))
    except (MiaHubError, OSError, RuntimeError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return int(args.strict and any(row.passed is False for row in rows))
