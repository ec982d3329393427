"""Whole commands, from files to report, beside the forward passes that they make.

    python -m benchmarks.end_to_end                                                       # half an hour on two cores
    python -m benchmarks.end_to_end --limit 500 --checks 50 --photographs 8 --rounds 1    # minutes; what doesn't grow weighs more

Each command runs in this process on one thread, after a first one that imports and loads what is needed once. Every forward pass is
followed by the bare one on the same rows, and processor time is compared, which other users of the machine hardly change.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.passes import passes_twice
from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive
from benchmarks.throughput import PHOTO, at_most_threads, photograph
from leaderboard.requests.limits import Limits
from leaderboard.requests.request import Request
from leaderboard.stores.store import as_json
from leaderboard.worker.evaluate import evaluate
from leaderboard.worker.work_folder import LIMITS, REQUEST
from mia_hub.cli import main
from mia_hub.errors import MiaHubError
from mia_hub.models.loading import load_model
from mia_hub.models.rows import default_rows
from mia_hub.splits.loading import load_split

LEAST_RATIO = 0.95
TIMESTEP = 70
# `sima` at one timestep, as the command line, the metric and a request write it.
ATTACK = f"sima:timesteps={TIMESTEP}"
COMMANDS = ("audit", "compare", "evaluate", "leaderboard", "check", "photographs")
WARMING = 50


def mia_hub_command(*arguments: str) -> None:
    """Run a command of `mia-hub` on the CPU.

    Raises:
        MiaHubError: if it fails, with what it printed.
    """
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        status = main([*arguments, "--device", "cpu", "--quiet"])
    if status:
        raise MiaHubError(f"mia-hub {' '.join(arguments)} ended with status {status}: {printed.getvalue()}")


def metric(files: dict[Path, int]) -> None:
    """Compute the metric of ``evaluate.load("sima")`` on files and their labels."""
    from mia_hub.evaluate_module.metric import Sima

    options = {"attack": "sima", "timesteps": [TIMESTEP], "device": "cpu", "progress": False}
    Sima().compute(predictions=list(map(str, files)), references=list(files.values()), **options)


def leaderboard_evaluation(folder: Path) -> None:
    """Evaluate a request for the demo in a work folder."""
    folder.mkdir()
    request = Request(kind="model", model="demo", split="demo", attacks=(ATTACK,))
    for name, content in ((REQUEST, request.to_dict()), (LIMITS, asdict(Limits()) | {"banned": []})):
        (folder / name).write_bytes(as_json(content))
    evaluate(folder)


def write_images(folder: Path, limit: int) -> dict[Path, int]:
    """Write at most ``limit`` members and non-members of the demo each as PNG files; return their labels."""
    folder.mkdir()
    split, labels = load_split("demo", limit=limit), {}
    for row, (image, label) in enumerate(zip(split.images, split.is_member.tolist())):
        image.to_pil().save(path := folder / f"{row:05}.png")
        labels[path] = label
    return labels


def write_photographs(folder: Path, count: int) -> None:
    """Write JPEG files of a camera's size, half of them members."""
    for row in range(count):
        path = folder / ("member" if row % 2 else "nonmember") / f"{row:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photograph(seed=row))


def measure(what: str, command: Callable[[], Any], rounds: int) -> Row:
    """Return the share of a command's processor time that its forward passes take.

    Args:
        what: it does, and on what.
        command: makes its forward passes with the demo model.
        rounds: how often it is run.
    """
    times, rows = np.empty((rounds, 2)), 0
    for each in times:
        with passes_twice(type(load_model("demo", device="cpu"))) as twice:
            started = time.process_time()
            command()
            each[:] = twice.seconds, time.process_time() - started - twice.seconds
            rows = twice.rows
    ratios, rest = times[:, 0] / times[:, 1], times[:, 1] - times[:, 0]
    return Row(
        what,
        f"{np.median(ratios):.1%} ({ratios.min():.1%} … {ratios.max():.1%}); {rows:,} queries take {np.median(times[:, 0]):.1f} s, the "
        f"rest {np.median(rest):.1f} s",
        f"≥ {LEAST_RATIO:.0%}",
        bool(np.median(ratios) >= LEAST_RATIO),
        {"rows": rows, "bare_seconds": times[:, 0], "command_seconds": times[:, 1]},
    )


def measure_audit(audit: list[str], limit: int, out: Callable[[], str], rounds: int) -> Row:
    """Return the row of audits of at most ``limit`` members and non-members of the demo each."""
    count = len(load_split("demo", limit=limit).images)
    return measure(f"mia-hub audit, {count:,} images", lambda: mia_hub_command(*audit, "--limit", str(limit), "--out", out()), rounds)


def further_images(whole: Row, part: Row) -> list[Row]:
    """Return the share that the passes have of what an audit takes longer than one of fewer images, which are of the same members."""
    names = ("rows", "bare_seconds", "command_seconds")
    rows, bare, command = (np.median(whole.values[name]) - np.median(part.values[name]) for name in names)
    if rows <= 0:
        return []
    fixed = np.median(part.values["command_seconds"]) - command / rows * part.values["rows"]
    return [
        Row(
            f"  each image beyond the first {part.values['rows']:,}",
            f"{bare / command:.1%}; {1000 * (command - bare) / rows:.2f} ms an image, and {fixed:.1f} s whatever their number",
            values=part.values,
        )
    ]


def measure_commands(names: list[str], limit: int, checks: int, photographs: int, rounds: int) -> list[Row]:
    """Return a row per command, and one of what starts the first of them."""
    with tempfile.TemporaryDirectory() as name:
        folder, run = Path(name), iter(range(10**6))

        def out() -> str:
            return str(folder / f"out-{next(run)}")

        audit = ["audit", "--attack", "sima", "--set", f"timesteps={TIMESTEP}"]
        started = time.process_time()
        mia_hub_command(*audit, "--limit", str(WARMING), "--out", out())
        rows = [Row("start-up, with an audit of 100 images", f"{time.process_time() - started:.1f} s, in none of the rows below")]
        whole = load_split("demo", limit=limit)
        images = f"{len(whole.images):,} images"
        if "audit" in names:
            few = max(WARMING, limit // 4)
            sizes = [measure_audit(audit, size, out, rounds) for size in (limit, few)]
            rows += [sizes[0], *further_images(*sizes)]
        if "compare" in names:
            compare = ["compare", "--attacks", ATTACK, f"loss:timesteps={TIMESTEP}", "--limit", str(limit)]
            rows.append(measure(f"mia-hub compare, sima and loss, {images}", lambda: mia_hub_command(*compare, "--out", out()), rounds))
        if "evaluate" in names:
            files = write_images(folder / "images", limit)
            metric(dict(list(files.items())[:WARMING] + list(files.items())[-WARMING:]))
            rows.append(measure(f"evaluate…compute, {images}", lambda: metric(files), rounds))
        if "leaderboard" in names:
            rows.append(measure("a leaderboard evaluation, 4,512 images", lambda: leaderboard_evaluation(Path(out())), rounds))
        if "check" in names:
            checked = write_images(folder / "checked", checks // 2)
            check = ["check", *map(str, checked), "--attack", "sima"]
            mia_hub_command(*check[:3], "--attack", "sima", "--out", out())
            rows.append(measure(f"mia-hub check, {len(checked):,} images", lambda: mia_hub_command(*check, "--out", out()), rounds))
        if "photographs" in names:
            write_photographs(folder / "photographs", photographs)
            audit += ["--split", str(folder / "photographs"), "--fpr", "0.5", "--out"]
            megapixels = f"{photographs:,} JPEG photographs of {PHOTO[0] * PHOTO[1] / 1e6:.0f} megapixels"
            rows.append(measure(f"mia-hub audit, {megapixels}", lambda: mia_hub_command(*audit, out()), rounds))
    return rows


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    import sklearn.ensemble  # noqa: F401  # only the threads of what is loaded are limited

    with at_most_threads(1), threadpool_limits(1):
        conditions = facts(torch.device("cpu"), "float32", default_rows(load_model("demo", device="cpu")))
        return measure_commands(args.only, args.limit, args.checks, args.photographs, args.rounds), conditions | {"rounds": args.rounds}


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("end_to_end", __doc__)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=COMMANDS, help="measure only these commands")
    parser.add_argument("--limit", type=positive, default=4000, metavar="N", help="N members and N non-members (default: all of the demo)")
    parser.add_argument("--checks", type=positive, default=1000, help="images that are checked (default: 1,000)")
    parser.add_argument("--photographs", type=positive, default=512, help="(default: 512)")
    parser.add_argument("--rounds", type=positive, default=3, help="(default: 3)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
