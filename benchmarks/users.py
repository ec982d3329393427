"""How long visitors of the page wait for one picture's answer on the demo model, when 1, 4 and 16 of them ask at once.

    python -m benchmarks.users
    python -m benchmarks.users --checks 1000     # does the server's memory grow?

Each visitor has a connection of its own to the app, which runs as a process, and asks again as soon as there is an answer.
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
from mia_hub.errors import MiaHubError
from mia_hub.splits.loading import load_split

# What a server may hold more after the second half of all checks than after the first.
SLACK_MB = 10


def visit(client, picture: str, asks: int) -> list[float]:
    """Seconds of each of some checks, one after the other."""
    from gradio_client import handle_file

    taken = []
    for _ in range(asks):
        started = time.perf_counter()
        answer = client.predict(
            image=handle_file(picture), several=None, model="demo", nonmembers=None, question="One by one", caption="", api_name="/check"
        )
        taken.append(time.perf_counter() - started)
        if "mia-problem" in str(answer[0]):
            raise MiaHubError(f"The page could not answer: {answer[0]}")
    return taken


def measure(users: list[int], asks: int, checks: int) -> list[Row]:
    from gradio_client import Client

    rows, split = [], load_split("demo")
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder), GRADIO_ANALYTICS_ENABLED="False") as app:
        pictures = []
        for i in range(max(users)):
            pictures.append(str(Path(folder) / f"{i}.png"))
            split.nonmembers[i].to_pil().save(pictures[-1])
        clients = [Client(app.url, verbose=False) for _ in range(max(users))]
        visit(clients[0], pictures[0], 3)
        alone = None
        for count in users:
            with ThreadPoolExecutor(count) as pool:
                started = time.perf_counter()
                found = list(pool.map(visit, clients[:count], pictures[:count], [asks] * count))
                whole = time.perf_counter() - started
            taken = np.concatenate(found)
            rate, (p50, p95) = len(taken) / whole, np.quantile(taken, (0.5, 0.95))
            alone = alone or rate
            shares = [np.median(each) for each in found]
            rows.append(
                Row(
                    f"{count} visitor{'s' * (count > 1)} at once",
                    f"p50 {p50:.2f} s, p95 {p95:.2f} s; {rate:.1f} answers/s, {rate / alone:.2f} times those of one alone; the slowest "
                    f"visitor's median is {max(shares) / min(shares):.2f} times the fastest's",
                    values={"seconds": found, "answers_per_second": rate},
                )
            )
        if checks:
            memory = [resident_mb(app.pid)]
            for _ in range(4):
                with ThreadPoolExecutor(4) as pool:
                    list(pool.map(visit, clients[:4], pictures[:4], [-(-checks // 16)] * 4))
                memory.append(resident_mb(app.pid))
            growth = memory[-1] - memory[2]
            said = ", ".join(f"{mb:,.0f}" for mb in memory)
            held = growth < SLACK_MB
            rows.append(
                Row(f"memory of the server over {checks:,} checks, MiB", f"{said}: {growth:+.1f} in the second half", f"< {SLACK_MB}", held)
            )
    return rows


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measures; returns the rows, and what they depend on."""
    return measure(args.users, args.asks, args.checks), facts(torch.device("cpu"), "float32", 0)


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("users", __doc__)
    parser.add_argument("--users", type=positive, nargs="+", default=[1, 4, 16], metavar="N", help="(default: 1 4 16)")
    parser.add_argument("--asks", type=positive, default=10, help="pictures that each asks about (default: 10)")
    parser.add_argument("--checks", type=int, default=0, help="then so many checks, to see the server's memory (default: 0)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
