"""Several processes of one launch share an audit: one table, one voice, and the same numbers to the bit."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import resumed

from mia_hub.attacks import get_attack, scoring
from mia_hub.errors import MiaHubError, ModelError
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.scores import ScoreTable
from mia_hub.system.processes import LaunchedProcesses, Processes, current_processes, joined_processes, launched, launched_first

ROOT = Path(__file__).parents[2]
PATIENCE = 300


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("n", [0, 1, 5, 12, 13])
def test_every_part_is_shared_out_once(n, count):
    class Of(Processes):
        def __init__(self, index):
            self.index, self.count = index, count

    shares = [Of(index).share(n) for index in range(count)]
    assert [part for share in shares for part in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_alone_shares_nothing(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not launched() and launched_first() and current_processes().count == 1
    with joined_processes() as processes:
        assert processes is current_processes() and processes.is_first
    assert processes.together(lambda: 3) == [3] and processes.first(lambda: 4) == 4


def talking(results, **launch: str) -> None:
    """One of three processes that exchange what they find, and what goes wrong."""
    os.environ |= launch
    rank, told, elsewhere = int(launch["RANK"]), [], []

    def fails_in(which: int, error: Exception):
        def work():
            if rank == which:
                raise error
            return rank

        return work

    with joined_processes() as processes:
        assert isinstance(processes, LaunchedProcesses) and current_processes() is processes
        told.append(processes.together(lambda: rank * 10))
        told.append(processes.first(lambda: f"from {rank}"))
        for work in (fails_in(1, MiaHubError("said")), fails_in(2, ValueError("what\nand more")), fails_in(0, OSError(5, "disk"))):
            try:
                processes.together(work)
            except Exception as error:
                told.append(f"{type(error).__name__}: {error}")
                elsewhere.append(getattr(error, "elsewhere", False))
        try:
            processes.first(fails_in(0, MiaHubError("first")))
        except MiaHubError as error:
            told.append(str(error))
        told += [processes.together(lambda: rank), elsewhere]
    assert current_processes().count == 1
    results.put((rank, told))


def test_what_goes_wrong_in_one_process_is_told_to_all():
    context = multiprocessing.get_context("forkserver")
    results = context.Queue()
    together = resumed.started(context, 3, target=talking, args=(results,))
    found = dict(results.get(timeout=PATIENCE) for _ in together)
    for process in together:
        process.join(PATIENCE)
    for rank in range(3):
        assert found[rank] == [
            [0, 10, 20],
            "from 0",
            "MiaHubError: said",
            "ValueError: what\nand more" if rank == 2 else "MiaHubError: Process 3 of 3 failed: what",
            "OSError: [Errno 5] disk" if rank == 0 else "MiaHubError: Process 1 of 3 failed: [Errno 5] disk",
            "first",
            [0, 1, 2],
            [rank != 1, rank != 2, rank != 0],
        ], rank


@pytest.mark.parametrize("count", [2, 4])
def test_a_comparison_of_several_processes_is_that_of_one(tmp_path, count):
    """Of attacks that choose, draw, generate and learn; what is left over when images are dealt out is scored once, too."""
    context = multiprocessing.get_context("forkserver")
    found = []
    for processes in (1, count):
        together = resumed.started(context, processes, target=resumed.run, args=(tmp_path / str(processes), tmp_path / f"told {processes}"))
        for process in together:
            process.join(PATIENCE)
        assert [process.exitcode for process in together] == [0] * processes
        found.append([ScoreTable.from_parquet(path) for path in sorted((tmp_path / str(processes)).glob("scores-*.parquet"))])
    for one, several in zip(*found, strict=True):
        assert one.scores.tobytes() == several.scores.tobytes() and one.ids == several.ids
        assert (one.queries, one.chosen) == (several.queries, several.chosen)
    rows = [sum(map(int, (tmp_path / f"told {processes}").read_text().split())) for processes in (1, count)]
    # Each process generates for itself what it doesn't find finished by another.
    generated = resumed.attack("nearest-generated").setup_queries
    assert rows[0] <= rows[1] <= rows[0] + (count - 1) * generated


def with_room(results, timesteps: tuple[int, ...], batch_size: int | None, **launch: str) -> None:
    """One of some processes whose device would take more rows than there are images."""
    os.environ |= launch
    torch.set_num_threads(1)
    scoring.default_rows = lambda model: 8192
    passes: list[int] = []

    def denoise(x, t):
        passes.append(len(x))
        return x.sin()

    model = wrap_denoiser(denoise, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8))
    images = np.random.default_rng(0).integers(0, 256, (400, 8, 8), dtype=np.uint8)
    with joined_processes() as processes:
        table = get_attack("sima", timesteps=timesteps).score(model, images, batch_size=batch_size, progress=False)
        results.put((processes.index, passes, table.scores.tobytes()))


@pytest.mark.parametrize(
    ("timesteps", "batch_size", "passes"),
    [((100,), None, [128, 128, 128, 16]), ((50, 100), None, [256, 256, 256, 32]), ((100,), 300, [300, 100])],
)
def test_with_room_for_all_images_each_process_gets_some(timesteps, batch_size, passes):
    context = multiprocessing.get_context("forkserver")
    scores = []
    for count in (1, 3):
        results = context.Queue()
        together = resumed.started(context, count, target=with_room, args=(results, timesteps, batch_size))
        found = sorted(results.get(timeout=PATIENCE) for _ in together)
        for process in together:
            process.join(PATIENCE)
        assert [each for _, own, _ in found for each in own] == passes, "batches are the same for any number of processes"
        assert count == 3 > len(passes) or all(own for _, own, _ in found)
        scores += [each for *_, each in found]
    assert len(set(scores)) == 1


def broken_in_one(results, **launch: str) -> None:
    """One of two processes, of which the second fails at once, and the next time not."""
    os.environ |= launch
    torch.set_num_threads(1)
    passes, broken = [], launch["RANK"] == "1"

    def denoise(x, t):
        passes.append(len(x))
        if broken:
            raise ModelError("broken")
        time.sleep(0.05)
        return x

    model, attack = wrap_denoiser(denoise, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8)), get_attack("sima", timesteps=(100,))
    images = np.zeros((200, 8, 8), np.uint8)
    with joined_processes() as processes:
        with pytest.raises(ModelError, match="broken"):
            attack.score(model, images, batch_size=1, progress=False)
        asked, broken = len(passes), False
        passes.clear()
        table = attack.score(model, images[:20], batch_size=1, progress=False)
        results.put((processes.index, asked, len(passes), len(table)))


def test_when_one_process_fails_the_others_stop_at_their_next_batch():
    context = multiprocessing.get_context("forkserver")
    results = context.Queue()
    together = resumed.started(context, 2, target=broken_in_one, args=(results,))
    (_, first, *after), (_, second, *also) = sorted(results.get(timeout=PATIENCE) for _ in together)
    for process in together:
        process.join(PATIENCE)
    assert second == 1 and first <= 50, "of its share of 100"
    assert after == also == [10, 20], "what is scored afterwards is not stopped"


def launch(*arguments: str, program: tuple[str, ...] = ("-m", "mia_hub"), processes: int = 2) -> subprocess.CompletedProcess:
    start = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), *program]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *start, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def test_the_command_line_under_accelerate_launch(tmp_path):
    asked = ["audit", "--limit", "20", "--set", "timesteps=100", "--batch-size", "16", "--no-shift-check", "--device", "cpu"]
    together = launch(*asked, "--out", str(tmp_path / "together"))
    assert together.returncode == 0 and together.stdout.count("# Membership audit of `demo`") == 1
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    alone = [sys.executable, "-m", "mia_hub", *asked, "--quiet", "--out", str(tmp_path / "alone")]
    subprocess.run(alone, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=PATIENCE)
    one, two = (ScoreTable.from_parquet(tmp_path / name / "scores.parquet") for name in ("alone", "together"))
    assert one.scores.tobytes() == two.scores.tobytes() and one.ids == two.ids and one.queries == two.queries == 40
    assert sorted(path.name for path in (tmp_path / "alone").iterdir()) == sorted(path.name for path in (tmp_path / "together").iterdir())


def test_what_can_not_be_shared_is_refused_once():
    done = launch("check", "image.png")
    assert done.returncode != 0 and done.stderr.count("only audit and compare share their work among processes") == 1


# Stands for a machine on which something is missing.
ELSEWHERE = """
import os, sys
from mia_hub.cli import main

sys.exit(main(["audit", "--model", "nowhere" if os.environ["RANK"] == "1" else "demo", *sys.argv[1:]]))
"""


def test_a_process_that_fails_by_itself_says_so(tmp_path):
    (tmp_path / "program.py").write_text(ELSEWHERE)
    done = launch("--limit", "20", "--no-shift-check", "--device", "cpu", program=(str(tmp_path / "program.py"),))
    assert done.returncode != 0 and done.stderr.count("mia-hub: Process 2 of 2: ") == 1 and "nowhere" in done.stderr
