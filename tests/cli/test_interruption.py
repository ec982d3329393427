"""Ctrl+C ends a command at once, with one line, and leaves what it has finished; images that wait to be decoded don't hold it up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from support.command_line import run

from mia_hub.scores import ScoreTable

ROOT, PATIENCE = Path(__file__).parents[2], 300
IMAGES, BATCH = 96, 16
# Two threads decode; as many images again may wait for them.
PENDING = 4


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Members and non-members in folders."""
    folder, pixels = tmp_path_factory.mktemp("split"), np.random.default_rng(0).integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    for kind in ("members", "nonmembers"):
        (folder / kind).mkdir()
    for i, each in enumerate(pixels):
        PIL.Image.fromarray(each).save(folder / ("members" if i % 2 else "nonmembers") / f"{i}.png")
    return folder


def audit(split: Path, out: Path) -> list[str]:
    settings = ("--set", "timesteps=60", "--batch-size", BATCH, "--no-shift-check", "--device", "cpu", "--quiet")
    return [str(part) for part in ("audit", "--split", split, *settings, "--out", out)]


def interrupted(arguments: list[str], decoded: Path, number: int, ends: str) -> tuple[int, str]:
    """The exit status and the messages of a command that gets SIGINT while the decoding of an image and the next one waits.

    Args:
        ends: when the waiting ends, as in `support.interrupted`.
    """
    start = [sys.executable, "-m", "support.interrupted", str(decoded), str(number), ends]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*start, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watch = threading.Timer(PATIENCE, process.kill)
        watch.start()
        try:
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        finally:
            watch.cancel()
            process.kill()
    assert (first, out) == ("waiting\n", ""), err
    return process.returncode, err


@pytest.mark.slow
def test_an_audit_that_is_interrupted_while_it_scores_resumes(capsys, split, tmp_path):
    out, decoded = tmp_path / "out", tmp_path / "decoded"
    # All images were read once; of three batches, the second is scored and the third one read ahead.
    number = IMAGES + 2 * BATCH + 3
    assert interrupted(audit(split, out), decoded, number, "given-up") == (
        130, f"\nmia-hub: interrupted; finished work is in {out}. The same command resumes it.\n"
    )  # fmt: skip
    assert number + 2 <= decoded.stat().st_size <= number + PENDING < IMAGES + 3 * BATCH
    finished = {path.name for path in out.glob("unfinished/scores/*/images-*.npz")}
    assert {f"images-{0:09}.npz"} <= finished <= {f"images-{row:09}.npz" for row in (0, BATCH)}
    assert run(capsys, *audit(split, out))[0] == run(capsys, *audit(split, tmp_path / "undisturbed"))[0] == 0
    resumed, expected = (ScoreTable.from_parquet(folder / "scores.parquet") for folder in (out, tmp_path / "undisturbed"))
    assert resumed.scores.tobytes() == expected.scores.tobytes() and resumed.ids == expected.ids
    assert not (out / "unfinished").exists()


@pytest.mark.slow
def test_an_audit_that_is_interrupted_while_it_reads_leaves_nothing_and_waits_for_no_decoding(split, tmp_path):
    out, decoded, number = tmp_path / "out", tmp_path / "decoded", 20
    assert interrupted(audit(split, out), decoded, number, "never") == (130, "\nmia-hub: interrupted; nothing was written.\n")
    assert decoded.stat().st_size == number + 2, "images that waited for a thread are not decoded"
    assert not out.exists()
