"""A soak of the page: many visitors for a long time, who upload, cancel and reload. Are answers lost or crossed, or do they get slower?

    python -m benchmarks.soak                              # 16 visitors for 20 minutes
    python -m benchmarks.soak --minutes 1 --users 4

Each visitor has images of their own, which were first checked alone: an answer of another image, or with another score, is crossed. Now
and then a visitor cancels a check that runs, or leaves the page during one and comes back.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive
from benchmarks.resident import resident_mb
from benchmarks.running_app import running_app
from benchmarks.visitors import PATIENCE_SECONDS, Visitor, memory_row, write_uploads
from mia_hub.errors import MiaHubError

# Images of each visitor, and how often a visitor cancels a check, or reloads the page, instead of waiting for the answer.
IMAGES_EACH, CANCELS, RELOADS = 4, 0.1, 0.03
MOST_SLOWDOWN = 1.3
# Waiting times of the first minute are compared with those of the last fifth; of a short trial, those of the first fifth. Of memory, the
# least of the second fifth is compared with the least of the last: what stays when little is in use. In the first, the server fills up.
FIRST_SECONDS, LAST_SHARE = 60.0, 0.2
PARTS = round(1 / LAST_SHARE)
# What a batch's company may change of a score in float32. A verdict's score is a difference, in which the 1e-5 of the norms weighs more.
TOLERANCE = 1e-4


@dataclass
class Visits:
    """What visitors experienced.

    Attributes:
        begun, seconds: when each answered check began, in seconds after the first, and how long it took.
        lost, crossed: what was wrong, one message per answer.
        cancelled, reloads: how often.
    """

    begun: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    crossed: list[str] = field(default_factory=list)
    cancelled: int = 0
    reloads: int = 0


def visit(visitor: Visitor, images: list[str], alone: dict[str, dict[str, Any]], start: float, ended: threading.Event) -> Visits:
    """Check images, one after the other, until the time is over.

    Args:
        visitor: of the page.
        images: the visitor's own.
        alone: the answer of each image when nobody else was there.
        start: `time.perf_counter` of the soak's beginning.
        ended: set when the time is over.
    """
    visits, usual = Visits(), 0.1
    while not ended.is_set():
        image, chance = random.choice(images), random.random()
        try:
            if chance < CANCELS:
                visits.cancelled += visitor.cancel(image, usual)
            elif chance < CANCELS + RELOADS:
                visits.reloads += visitor.reload(image, usual)
            else:
                begun = time.perf_counter() - start
                usual, answer = visitor.check(image)
                visits.begun.append(begun)
                visits.seconds.append(usual)
                visits.crossed += differences(alone[image], answer)
        except Exception as error:  # a page that can't be opened again, too
            visits.lost.append(str(error))
    return visits


def differences(expected: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    """Return in what an answer differs from that of the image alone: one message, or none."""
    scores, known = ([each["score"], *each["scores"].values()] for each in (answer, expected))
    same = len(scores) == len(known) and all(math.isclose(*pair, rel_tol=TOLERANCE) for pair in zip(scores, known))
    if same and answer["id"] == expected["id"]:
        return []
    return [f"{expected['name']}: {answer['id']}, {answer['score']} instead of {expected['id']}, {expected['score']}"]


def measure(minutes: float, users: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder), GRADIO_ANALYTICS_ENABLED="False") as app:
        images = write_uploads(Path(folder), users * IMAGES_EACH)
        visitors = [Visitor(app.url) for _ in range(users)]
        alone = {image: visitors[0].check(image)[1] for image in images}
        ended, start, length = threading.Event(), time.perf_counter(), 60 * minutes
        with ThreadPoolExecutor(users) as pool:
            running = [pool.submit(visit, visitor, images[i::users], alone, start, ended) for i, visitor in enumerate(visitors)]
            try:
                memory = [_readings(app.pid, length / PARTS) for _ in range(PARTS)]
            finally:
                ended.set()
            every = [each.result() for each in running]
    what = f"{users} visitors for {minutes:g} minutes"
    slower = _slowdown_row(np.concatenate([each.begun for each in every]), np.concatenate([each.seconds for each in every]), length)
    return [*_answer_rows(what, every), *_memory_rows(what, memory), slower]


def _readings(pid: int, seconds: float) -> list[float]:
    """A server's resident memory in MiB, read many times; fewer or none if it ends, of which its visitors tell."""
    readings, until = list[float](), time.perf_counter() + seconds
    while time.perf_counter() < until:
        time.sleep(min(1.0, seconds / 10))
        with suppress(OSError, TypeError):
            readings.append(resident_mb(pid))
    return readings


def _memory_rows(what: str, memory: list[list[float]]) -> list[Row]:
    least = [min(part, default=math.nan) for part in memory]
    medians = [float(np.median(part)) if part else math.nan for part in memory]
    return [
        memory_row(f"{what}, least of each fifth", least, least[-1] - least[1], "from the second to the last"),
        Row("  medians of each fifth", ", ".join(f"{mb:,.0f}" for mb in medians), values={"mb": memory}),
    ]


def _answer_rows(what: str, every: list[Visits]) -> list[Row]:
    answers, cancelled, reloads = (sum(counts) for counts in zip(*((len(v.begun), v.cancelled, v.reloads) for v in every)))
    rows = [Row(what, f"{answers:,} answers; {cancelled:,} checks were cancelled, and the page reloaded {reloads:,} times during one")]
    for name, messages in (
        (f"  lost answers: an error, or none within {PATIENCE_SECONDS} s", [text for each in every for text in each.lost]),
        ("  crossed answers: another image's, or another score than alone", [text for each in every for text in each.crossed]),
    ):
        first = f"; the first: {messages[0]:.200}" if messages else ""
        rows.append(Row(name, f"{len(messages):,}{first}", "0", not messages, {"messages": messages}))
    return rows


def _slowdown_row(begun: np.ndarray, seconds: np.ndarray, length: float) -> Row:
    """Return the row that compares the last answers with the first.

    Args:
        begun, seconds: when each answered check began, and how long it took.
        length: of the soak, in seconds.

    Raises:
        MiaHubError: if there were no answers to be compared.
    """
    until, since = min(FIRST_SECONDS, LAST_SHARE * length), (1 - LAST_SHARE) * length
    early, late = seconds[begun < until], seconds[begun >= since]
    if not len(early) or not len(late):
        raise MiaHubError(f"{len(early)} answers in the first {until:g} s and {len(late)} in the last; give more --minutes.")
    first, last = (float(np.quantile(part, 0.95)) for part in (early, late))
    return Row(
        f"  p95 of the last {length - since:g} s / of the first {until:g} s",
        f"{last / first:.2f} ({last:.2f} / {first:.2f} s)",
        f"≤ {MOST_SLOWDOWN}",
        last / first <= MOST_SLOWDOWN,
        {"begun": begun, "seconds": seconds},
    )


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    conditions = facts(torch.device("cpu"), "float32", 0)
    return measure(args.minutes, args.users), conditions


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("soak", __doc__)
    parser.add_argument("--minutes", type=float, default=20, help="(default: 20)")
    parser.add_argument("--users", type=positive, default=16, metavar="N", help="visitors at once (default: 16)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
