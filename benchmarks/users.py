"""Waiting time of the page's visitors for one image's answer on the demo model, with 1, 4 and 16 visitors at once.

    python -m benchmarks.users
    python -m benchmarks.users --checks 1000     # does the server's memory grow?

Each visitor has its own connection to the app, which runs as a process, and sends the next question as soon as an answer arrives.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive
from benchmarks.resident import resident_mb
from benchmarks.running_app import running_app
from benchmarks.visitors import Visitor, memory_row, write_uploads


def visit(visitor: Visitor, image: str, asks: int) -> list[float]:
    """Return the seconds of each of some checks, one after the other."""
    return [visitor.check(image)[0] for _ in range(asks)]


def measure(users: list[int], asks: int, checks: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder), GRADIO_ANALYTICS_ENABLED="False") as app:
        images = write_uploads(Path(folder), max(users))
        visitors = [Visitor(app.url) for _ in range(max(users))]
        visit(visitors[0], images[0], 3)
        rows, alone = [], None
        for count in users:
            with ThreadPoolExecutor(count) as pool:
                started = time.perf_counter()
                times = list(pool.map(visit, visitors[:count], images[:count], [asks] * count))
                whole = time.perf_counter() - started
            taken = np.concatenate(times)
            rate, (p50, p95) = len(taken) / whole, np.quantile(taken, (0.5, 0.95))
            alone = alone or rate
            shares = [np.median(each) for each in times]
            rows.append(
                Row(
                    f"{count} visitor{'s' * (count > 1)} at once",
                    f"p50 {p50:.2f} s, p95 {p95:.2f} s; {rate:.1f} answers/s, {rate / alone:.2f} times those of one alone; the slowest "
                    f"visitor's median is {max(shares) / min(shares):.2f} times the fastest's",
                    values={"seconds": times, "answers_per_second": rate},
                )
            )
        if checks:
            memory = [resident_mb(app.pid)]
            for _ in range(4):
                with ThreadPoolExecutor(4) as pool:
                    list(pool.map(visit, visitors[:4], images[:4], [-(-checks // 16)] * 4))
                memory.append(resident_mb(app.pid))
            rows.append(memory_row(f"{checks:,} checks", memory, memory[-1] - memory[2], "in the second half"))
    return rows


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    return measure(args.users, args.asks, args.checks), facts(torch.device("cpu"), "float32", 0)


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("users", __doc__)
    parser.add_argument("--users", type=positive, nargs="+", default=[1, 4, 16], metavar="N", help="(default: 1 4 16)")
    parser.add_argument("--asks", type=positive, default=10, help="checks of each visitor (default: 10)")
    parser.add_argument("--checks", type=int, default=0, help="further checks, to observe the server's memory (default: 0)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
