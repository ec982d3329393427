"""Several processes of one launch share an audit or a reference: one table, one voice, and the same numbers to the bit."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import resumed
from support.known_blobs import folder_of, members, nonmembers

from mia_hub import cli
from mia_hub.attacks import get_attack, scoring
from mia_hub.errors import MiaHubError, ModelError
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.families.base import NetworkModel
from mia_hub.references.kept import KeptReference, KeptReferences
from mia_hub.references.storing import NUMBERS
from mia_hub.scores import ScoreTable
from mia_hub.system.processes import LaunchedProcesses, Processes, current_processes, joined_processes, launched, launched_first

ROOT = Path(__file__).parents[2]
PATIENCE = 300


@pytest.fixture(scope="module")
def context():
    """Starts processes that have imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["mia_hub.auditing.compare", "mia_hub.cli", "mia_hub.models.exact", "sklearn.ensemble", "sklearn.linear_model", "accelerate"]
    )
    return context


def wait_for(together: list) -> list[int]:
    """The exit codes of some processes."""
    for process in together:
        process.join(PATIENCE)
    return [process.exitcode for process in together]


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
    rank, outcomes, elsewhere = int(launch["RANK"]), [], []

    def fails_in(which: int, error: Exception):
        def work():
            if rank == which:
                raise error
            return rank

        return work

    with joined_processes() as processes:
        assert isinstance(processes, LaunchedProcesses) and current_processes() is processes
        outcomes.append(processes.together(lambda: rank * 10))
        outcomes.append(processes.first(lambda: f"from {rank}"))
        for work in (fails_in(1, MiaHubError("said")), fails_in(2, ValueError("what\nand more")), fails_in(0, OSError(5, "disk"))):
            try:
                processes.together(work)
            except Exception as error:
                outcomes.append(f"{type(error).__name__}: {error}")
                elsewhere.append(getattr(error, "elsewhere", False))
        try:
            processes.first(fails_in(0, MiaHubError("first")))
        except MiaHubError as error:
            outcomes.append(str(error))
        outcomes += [processes.together(lambda: rank), elsewhere]
    assert current_processes().count == 1
    results.put((rank, outcomes))


def test_what_goes_wrong_in_one_process_is_told_to_all(context):
    results = context.Queue()
    together = resumed.started(context, 3, target=talking, args=(results,))
    outcomes = dict(results.get(timeout=PATIENCE) for _ in together)
    wait_for(together)
    for rank in range(3):
        assert outcomes[rank] == [
            [0, 10, 20],
            "from 0",
            "MiaHubError: said",
            "ValueError: what\nand more" if rank == 2 else "MiaHubError: Process 3 of 3 failed: what",
            "OSError: [Errno 5] disk" if rank == 0 else "MiaHubError: Process 1 of 3 failed: [Errno 5] disk",
            "first",
            [0, 1, 2],
            [rank != 1, rank != 2, rank != 0],
        ], rank


def compared(context, folder: Path, count: int) -> tuple[list[ScoreTable], int]:
    """The tables of a comparison by this many processes, and the rows that they queried in total."""
    together = resumed.started(context, count, target=resumed.run, args=(folder, folder.with_suffix(".rows")))
    assert wait_for(together) == [0] * count
    rows = sum(map(int, folder.with_suffix(".rows").read_text().split()))
    return [ScoreTable.from_parquet(path) for path in sorted(folder.glob("scores-*.parquet"))], rows


@pytest.fixture(scope="module")
def by_one(context, tmp_path_factory):
    return compared(context, tmp_path_factory.mktemp("by-one") / "out", 1)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_comparison_of_several_processes_is_that_of_one(context, by_one, tmp_path, count):
    """Of attacks that choose, draw, generate and learn; what is left over when images are dealt out is scored once, too."""
    (tables, rows), (shared_tables, shared_rows) = by_one, compared(context, tmp_path / "out", count)
    for one, several in zip(tables, shared_tables, strict=True):
        assert one.scores.tobytes() == several.scores.tobytes() and one.ids == several.ids
        assert (one.queries, one.chosen) == (several.queries, several.chosen)
    # Each process generates for itself the samples that it doesn't find finished by another.
    generated = resumed.attack("nearest-generated").setup_queries
    assert rows <= shared_rows <= rows + (count - 1) * generated


ROOMY = [((100,), None, [128, 128, 128, 16]), ((50, 100), None, [256, 256, 256, 32]), ((100,), 300, [300, 100])]


def with_room(results, **launch: str) -> None:
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
        for case, (timesteps, batch_size, _) in enumerate(ROOMY):
            passes.clear()
            table = get_attack("sima", timesteps=timesteps).score(model, images, batch_size=batch_size, progress=False)
            results.put((case, processes.index, list(passes), table.scores.tobytes()))


def test_with_room_for_all_images_each_process_gets_some(context):
    scores = []
    for count in (1, 3):
        results = context.Queue()
        together = resumed.started(context, count, target=with_room, args=(results,))
        outcomes = sorted(results.get(timeout=PATIENCE) for _ in range(count * len(ROOMY)))
        wait_for(together)
        for case, (*_, passes) in enumerate(ROOMY):
            own = [own for number, _, own, _ in outcomes if number == case]
            assert [each for some in own for each in some] == passes, "batches are the same for any number of processes"
            assert count == 3 > len(passes) or all(own)
        scores.append({(case, each) for case, *_, each in outcomes})
    assert scores[0] == scores[1] and len(scores[0]) == len(ROOMY)


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


def test_when_one_process_fails_the_others_stop_at_their_next_batch(context):
    results = context.Queue()
    together = resumed.started(context, 2, target=broken_in_one, args=(results,))
    (_, first, *after), (_, second, *also) = sorted(results.get(timeout=PATIENCE) for _ in together)
    wait_for(together)
    assert second == 1 and first <= 50, "of its share of 100"
    assert after == also == [10, 20], "what is scored afterwards is not stopped"


def command(arguments: list[str], errors: Path, **launch: str) -> None:
    """One of some processes that run the same command."""
    os.environ |= launch
    torch.set_num_threads(1)
    with errors.open("a") as file, contextlib.redirect_stderr(file):
        sys.exit(cli.main(arguments))


AUDIT = ["audit", "--limit", "20", "--set", "timesteps=100", "--batch-size", "16", "--no-shift-check", "--device", "cpu"]


@pytest.mark.slow
def test_the_command_line_under_accelerate_launch(context, tmp_path):
    start = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "-m", "mia_hub"]
    done = subprocess.run(
        [sys.executable, *start, *AUDIT, "--out", str(tmp_path / "together")], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.count("# Membership audit of `demo`") == 1
    alone = [*AUDIT, "--quiet", "--out", str(tmp_path / "alone")]
    assert wait_for(resumed.started(context, 1, target=command, args=(alone, tmp_path / "errors"))) == [0]
    one, two = (ScoreTable.from_parquet(tmp_path / name / "scores.parquet") for name in ("alone", "together"))
    assert one.scores.tobytes() == two.scores.tobytes() and one.ids == two.ids and one.queries == two.queries == 40
    assert sorted(path.name for path in (tmp_path / "alone").iterdir()) == sorted(path.name for path in (tmp_path / "together").iterdir())


@pytest.fixture(scope="module")
def known(tmp_path_factory, tiny_pixel_repo):
    """The beginning of a command that builds a reference of 60 images."""
    folder = tmp_path_factory.mktemp("known")
    sources = ("--nonmembers", folder_of(nonmembers(40), folder / "non-members"), "--members", folder_of(members(20), folder / "members"))
    options = ("--set", "timesteps=60,100", "--batch-size", 8, "--device", "cpu", "--quiet")
    return [str(part) for part in ("reference", "build", "--model", tiny_pixel_repo(), *sources, *options)]


def counted(arguments: list[str], folder: Path, **launch: str) -> None:
    """As `command`, with the references and the errors in a folder; each process writes there how many rows it queried."""
    rows, predict = [0], NetworkModel.predict_noise

    def counting(self, x, t, cond=None):
        rows[0] += len(x)
        return predict(self, x, t, cond)

    NetworkModel.predict_noise = counting
    try:
        command(arguments, folder / "errors", MIA_HUB_HOME=str(folder), **launch)
    finally:
        (folder / f"rows-{launch.get('RANK', 0)}").write_text(str(rows[0]))


def only_reference(folder: Path) -> tuple[KeptReference, bytes, dict]:
    """The only reference in a home folder, its numbers, and its record without time and versions; nothing unfinished lies beside it."""
    (kept,) = KeptReferences(folder / "references").all()
    assert [path.name for path in sorted((folder / "references").iterdir())] == ["built"]
    assert [path.name for path in (folder / "references" / "built").iterdir()] == [kept.id]
    return kept, (kept.folder / NUMBERS).read_bytes(), kept.record.model_dump(exclude={"provenance"})


@pytest.mark.slow
def test_a_reference_built_by_two_processes_is_that_of_one(context, known, tmp_path):
    """By an attack that chooses its neighbours and its timestep."""
    built = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        assert wait_for(resumed.started(context, count, target=counted, args=(known, folder))) == [0] * count
        assert (folder / "errors").read_text().count(" images × ") == 1, "the cost is said once"
        rows = [int((folder / f"rows-{rank}").read_text()) for rank in range(count)]
        built[count] = only_reference(folder), sum(rows)
        assert min(rows) > sum(rows) / (2 * count), "each process does its share"
    (one, one_numbers, one_record), one_rows = built[1]
    (two, two_numbers, two_record), two_rows = built[2]
    assert (two.id, two_numbers, two_record, two_rows) == (one.id, one_numbers, one_record, one_rows)


@pytest.mark.slow
def test_a_reference_is_built_once_under_accelerate_launch(context, known, tmp_path):
    """As the documentation has it, with the installed command."""
    together, alone = tmp_path / "together", tmp_path / "alone"
    for folder in (together, alone):
        folder.mkdir()
    start = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--no-python", "mia-hub"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PATH": path, "MIA_HUB_HOME": str(together)}
    for _ in range(2):  # the second time what was built is found
        done = subprocess.run(
            [*start, *known, "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, env=environment
        )
        assert done.returncode == 0 and done.stdout.count("Reference ") == done.stderr.count("written to") == 1, done.stderr
    assert wait_for(resumed.started(context, 1, target=counted, args=(known, alone))) == [0]
    (kept, numbers, record), (_, numbers_alone, record_alone) = only_reference(together), only_reference(alone)
    assert (numbers, record) == (numbers_alone, record_alone) and (tmp_path / "out" / NUMBERS).read_bytes() == numbers
    assert kept.record.n_nonmembers == 20


def test_what_can_not_be_shared_is_refused_once(context, tmp_path):
    errors = tmp_path / "errors"
    assert wait_for(resumed.started(context, 2, target=command, args=(["check", "image.png"], errors))) == [2, 2]
    assert errors.read_text().count("only audit, compare and reference build share their work among processes") == 1


def without_model(arguments: list[str], errors: Path, **launch: str) -> None:
    """As `command`; the second process runs on a machine without the model."""
    command(["audit", "--model", "nowhere" if launch["RANK"] == "1" else "demo", *arguments], errors, **launch)


def test_a_process_that_fails_by_itself_says_so(context, tmp_path):
    arguments, errors = ["--limit", "20", "--no-shift-check", "--device", "cpu"], tmp_path / "errors"
    first, second = wait_for(resumed.started(context, 2, target=without_model, args=(arguments, errors)))
    assert first and second == 2
    assert errors.read_text().count("mia-hub: Process 2 of 2: ") == 1 and "nowhere" in errors.read_text()


def killed_in_the_middle(arguments: list[str], errors: Path, **launch: str) -> None:
    """As `command`; the second process is killed at its second pass."""
    predict, passes = NetworkModel.predict_noise, []

    def killing(self, x, t, cond=None):
        passes.append(len(x))
        if launch["RANK"] == "1" and len(passes) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return predict(self, x, t, cond)

    NetworkModel.predict_noise = killing
    command(arguments, errors, **launch)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only there a process can be told from one that has ended")
def test_a_process_that_is_killed_is_named_and_the_command_resumes(context, tmp_path):
    out, errors = tmp_path / "out", tmp_path / "errors"
    arguments = [*AUDIT, "--quiet", "--out", str(out)]
    together = resumed.started(context, 2, target=killed_in_the_middle, args=(arguments, errors))
    assert wait_for(together) == [2, -signal.SIGKILL]
    (said,) = errors.read_text().splitlines()
    assert said.startswith("mia-hub: Process 2 of the 2 processes ended in the middle of the work: killed")
    assert len(list(out.glob("unfinished/scores/*/images-*.npz"))) == 2, "of three batches"
    assert cli.main(arguments) == cli.main([*arguments[:-1], str(tmp_path / "undisturbed")]) == 0
    again, undisturbed = (ScoreTable.from_parquet(folder / "scores.parquet") for folder in (out, tmp_path / "undisturbed"))
    assert again.scores.tobytes() == undisturbed.scores.tobytes() and again.ids == undisturbed.ids
