"""SimA and SecMI beside their authors' own code: images per second, queries, peak memory, and whether the scores agree.

    python -m benchmarks.peers --sima FOLDER --secmi FOLDER

The folders are checkouts of the authors' repositories; benchmarks/README.md says how to make them. The sides take turns, in one process.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.authors_code import SECMI, SIMA, AuthorsCode
from benchmarks.peer_cases import CASES, FEW, Case, Setting, counted_rows
from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive
from benchmarks.throughput import STEADY, at_most_threads, in_turns, new_python
from mia_hub.errors import MiaHubError
from mia_hub.models.loading import pick_device
from mia_hub.models.rows import default_rows

SIDES = ("ours", "theirs")


class Side:
    """One side of a case, with what its latest run returned.

    Attributes:
        scores: ``[N, T]``, as the authors' distance.
        rows, passes: of the network.
    """

    def __init__(self, case: Case, setting: Setting, module: ModuleType | None):
        self._case, self._setting, self._module = case, setting, module
        self.scores, self.rows, self.passes = np.empty(0), 0, 0

    def __call__(self) -> None:
        with counted_rows(self._setting.model.network) as counted:
            if self._module is None:
                self.scores = self._case.our_scores(self._setting)
            else:
                self.scores = self._case.their_scores(self._setting, self._module)
        self.rows, self.passes = counted.rows, counted.passes


def measure(name: str, setting: Setting, module: ModuleType, rounds: int) -> list[Row]:
    """Measure both sides of a case in turns; on a CPU in processor time of one thread, which other users of the machine hardly change."""
    case, device, images = CASES[name], setting.model.device, len(setting.images)
    ours, theirs = sides = Side(case, setting, None), Side(case, setting, module)
    if device.type == "cpu":
        with at_most_threads(1):
            seconds = in_turns(rounds, list(sides), clock=time.process_time)
    else:
        seconds = in_turns(rounds, list(sides), device)
    ratios, rates = seconds[:, 1] / seconds[:, 0], images / np.median(seconds, axis=0)
    ratio = float(np.median(ratios))
    return [
        Row(
            f"{case.what}, {images:,} images, throughput / the authors' in batches of {case.batch_size:,}",
            f"{ratio:.2f} ({ratios.min():.2f} … {ratios.max():.2f}); {rates[0]:,.2f} and {rates[1]:,.2f} images/s",
            f"≥ {case.least:g}",
            ratio >= case.least,
            {"attack": repr(case.ours), "our_seconds": seconds[:, 0], "their_seconds": seconds[:, 1], "images": images},
        ),
        Row(
            "  queries per image, and forward passes in all",
            f"{ours.rows / images:g} and {theirs.rows / images:g}; {ours.passes:,} and {theirs.passes:,}",
            values={"rows": [side.rows for side in sides], "passes": [side.passes for side in sides]},
        ),
        agreement(ours.scores, theirs.scores),
    ]


def agreement(ours: np.ndarray, theirs: np.ndarray) -> Row:
    """Return the row of the differences between scores ``[N, T]`` of both sides.

    Raises:
        RuntimeError: if their shapes differ, so that they are not of the same images and timesteps.
    """
    if ours.shape != theirs.shape:
        raise RuntimeError(f"One side scored {ours.shape} (images, timesteps), and the other {theirs.shape}.")
    largest = float(np.max(np.abs(ours - theirs) / np.abs(theirs)))
    values, measured = {"largest_difference": largest}, f"differ by at most {largest:.1e} of their value"
    if len(ours) > 2:
        values["rank_correlation"] = float(min(spearmanr(*pair).statistic for pair in zip(ours.T, theirs.T)))
        measured += f"; rank correlation {values['rank_correlation']:.6f}, the least over timesteps"
    return Row("  scores", measured, values=values)


def measure_memory(name: str, folder: Path, limit: int, device: torch.device, dtype: str) -> Row:
    """Measure the peak memory of both sides, each in a new process."""
    options = ["-m", "benchmarks.peer_probe", "--case", name, "--limit", str(limit), "--device", str(device), "--dtype", dtype]
    probes = [json.loads(new_python([*options, *more], STEADY).stdout.splitlines()[-1]) for more in ([], ["--folder", str(folder)])]
    peaks, growth = [probe["peak_mb"] for probe in probes], [probe["peak_mb"] - probe["before_mb"] for probe in probes]
    where = "peak memory" if device.type == "cpu" else "peak memory of the accelerator"
    measured = f"{peaks[0]:,.0f} and {peaks[1]:,.0f} MiB, {growth[0]:,.0f} and {growth[1]:,.0f} of it while scoring"
    return Row(f"  {where}", measured, values=dict(zip(SIDES, probes)))


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure the cases whose authors' code was given; return their rows and the facts that they depend on."""
    folders: dict[AuthorsCode, Path | None] = {SIMA: args.sima, SECMI: args.secmi}
    if not any(folders.values()):
        gets = "\n".join(f"--{code.option} FOLDER, from {code.how_to_get}" for code in folders)
        raise MiaHubError(f"Nothing to measure without the authors' code. Give one or both:\n{gets}")
    modules = {code: code.load(folder) for code, folder in folders.items() if folder and code in {CASES[name].code for name in args.only}}
    device = pick_device(args.device)
    setting, few = (Setting(limit, device=device, dtype=args.dtype) for limit in (args.limit, FEW))
    known = facts(device, args.dtype, default_rows(setting.model))
    rows: list[Row] = []
    for name in args.only:
        case = CASES[name]
        folder = folders[case.code]
        if folder is None:
            rows.append(Row(case.what, f"not measured: give --{case.code.option} FOLDER", f"≥ {case.least:g}"))
            continue
        rows += measure(name, few if case.few else setting, modules[case.code], args.rounds)
        rows.append(measure_memory(name, folder.resolve(), FEW if case.few else args.limit, device, args.dtype))
    rows += [Row(f"--{code.option}: {code.url}, commit {code.commit[:7]}", code.adapted) for code in modules]
    return rows, known | {"rounds": args.rounds}


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("peers", __doc__)
    for code in (SIMA, SECMI):
        parser.add_argument(f"--{code.option}", type=Path, metavar="FOLDER", help=f"a checkout of {code.url} at {code.commit[:7]}")
    parser.add_argument("--limit", type=positive, default=256, metavar="N", help="N members and N non-members (default: 256)")
    parser.add_argument("--rounds", type=positive, default=3, help="(default: 3)")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="measure only these cases")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
