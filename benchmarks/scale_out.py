"""Speed of one audit on several processes, and whether the scores are equal.

    python -m benchmarks.scale_out                    # 1, 2 and 4 processes on this machine's CPU or accelerators
    python -m benchmarks.scale_out --processes 1 8

``accelerate launch`` starts each, with one thread. With fewer cores or accelerators than processes there is no gain.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import ROOT
from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive, with_model, with_split
from mia_hub.errors import MiaHubError
from mia_hub.models.loading import pick_device
from mia_hub.scores import ScoreTable


def launch_audit(processes: int, out: Path, args: argparse.Namespace) -> ScoreTable:
    """Return the scores of an audit by this many processes.

    Raises:
        MiaHubError: if it fails.
    """
    start = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)] if processes > 1 else []
    options = ["--model", args.model, "--split", args.split, "--limit", str(args.limit), "--set", "timesteps=70,100,130"]
    command = [sys.executable, *start, "-m", "mia_hub", "audit", *options, "--no-shift-check", "--quiet", "--out", str(out)]
    command += ["--device", args.device] if args.device else []
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise MiaHubError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    return ScoreTable.from_parquet(out / "scores.parquet")


def measure(args: argparse.Namespace) -> list[Row]:
    counts = sorted({1, *args.processes})
    seconds, tables = {count: [] for count in counts}, {}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.rounds):
            for count in counts[:: -1 if i % 2 else 1]:
                tables[count] = launch_audit(count, Path(folder) / f"{count}-{i}", args)
                seconds[count].append(tables[count].seconds)
    rows, alone = [], tables[1]
    places = torch.cuda.device_count() if alone.device.startswith(("NVIDIA", "cuda")) else len(os.sched_getaffinity(0))
    for count in counts:
        table, gain = tables[count], np.array(seconds[1]) / np.array(seconds[count])
        same = table.scores.tobytes() == alone.scores.tobytes() and table.ids == alone.ids and table.queries == alone.queries
        spread = f"{np.median(gain):.2f} times as fast ({gain.min():.2f} … {gain.max():.2f}), scoring alone"
        rows.append(
            Row(f"{count} process{'es' * (count > 1)} on {places} core(s) or device(s)", spread, values={"seconds": seconds[count]})
        )
        if count > 1:
            rows.append(Row("  the same table, to the bit, with as many queries", "yes" if same else "no", "yes", same))
    return rows


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    conditions = facts(pick_device(args.device), args.dtype, 0)
    return measure(args), conditions


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("scale_out", __doc__)
    with_model(parser)
    with_split(parser, limit=300)
    parser.add_argument("--processes", type=positive, nargs="+", default=[1, 2, 4], metavar="N", help="(default: 1 2 4)")
    parser.add_argument("--rounds", type=positive, default=3, help="(default: 3)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
