"""Killed at any moment, a comparison goes on from the last finished batch, and its scores are those of an undisturbed one to the bit."""

from __future__ import annotations

import importlib
import multiprocessing
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import resumed
from support.resumed import ATTACKS, BATCH, IMAGES

import mia_hub
from mia_hub.attacks import get_attack
from mia_hub.errors import MiaHubError
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.scores import ScoreTable
from mia_hub.splits.member_split import make_split

PATIENCE = 600
FORMULA = """
from dataclasses import dataclass

import torch

from mia_hub.attacks.base import Attack


@dataclass(frozen=True, kw_only=True)
class Halving(Attack):
    timesteps: tuple[int, ...] = (100,)
    name, paper, access = "halving", "none", "gray"
    queries_per_image = 1

    def statistic(self, model, x0, cond, noise):
        return torch.stack([found.abs().flatten(1).mean(1) for found in model.epsilons(self.timesteps, lambda i, t: x0, cond)], 1) / 2
"""


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["mia_hub.auditing.compare", "mia_hub.models.exact", "sklearn.ensemble", "sklearn.linear_model", "accelerate"]
    )
    return context


def test_batches_of_finished_scores_are_removed_wherever_it_was_killed(tmp_path):
    asked = {"folder": tmp_path / "out", "shift_check": False, "progress": False}
    model, leftover = resumed.model_of(tmp_path / "told"), tmp_path / "out" / "unfinished" / "scores"
    mia_hub.audit(model, resumed.attack("sima"), resumed.split(), **asked)
    for others in (False, True):
        leftover.mkdir(parents=True)
        (leftover / "images-000000000.npz").touch()
        if others:
            (leftover.parent / "scores-of-another").mkdir()
        mia_hub.audit(model, resumed.attack("sima"), resumed.split(), **asked)
        assert not leftover.exists() and leftover.parent.exists() == others
    assert sum(passes(tmp_path / "told")) == 2 * IMAGES


def test_scores_of_other_code_are_made_again(tmp_path, monkeypatch, capsys):
    """An attack's formula, or a library, that changed after the scores were finished; and scores that don't say what made them."""
    (tmp_path / "halving.py").write_text(FORMULA)
    monkeypatch.syspath_prepend(tmp_path)
    halving, out, asked = importlib.import_module("halving"), tmp_path / "out", 0

    def run() -> str:
        """What is said; the report's scores are those of the code at hand, with a mark that says so."""
        nonlocal asked
        before = asked
        report = mia_hub.audit(resumed.model_of(tmp_path / "told"), halving.Halving(), resumed.split(), folder=out, shift_check=False)
        asked = sum(passes(tmp_path / "told"))
        undisturbed = halving.Halving().score(resumed.model_of(tmp_path / "other"), resumed.split().images, progress=False)
        assert np.array_equal(report.scores.scores, undisturbed.scores)
        said = capsys.readouterr().err
        assert ("Scores taken from" in said) == (asked == before)
        return said

    assert "made again" not in run() and asked == IMAGES
    assert "Scores taken from" in run() and asked == IMAGES
    (tmp_path / "halving.py").write_text(FORMULA.replace("/ 2", "/ 20"))
    importlib.invalidate_caches()
    halving = importlib.reload(halving)
    assert run().count("were computed by other code or versions of libraries; such scores are computed again") == 1 and asked == 2 * IMAGES
    table = ScoreTable.from_parquet(out / "scores.parquet")
    replace(table, computed_by=table.computed_by | {"versions": {"torch": "1.0"}}).to_parquet(out / "scores.parquet")
    assert "were computed by other code or versions" in run() and asked == 3 * IMAGES
    replace(ScoreTable.from_parquet(out / "scores.parquet"), computed_by={}).to_parquet(out / "scores.parquet")
    assert "don't say which code computed them; such scores are computed again" in run() and asked == 4 * IMAGES
    assert "Scores taken from" in run()


def test_attacks_fitted_otherwise_are_others(tmp_path):
    """Two that were fitted on the same images, but with another model, seed, precision or other captions, share no scores."""
    pixels, labels = np.stack([image.pixels[..., 0] for image in resumed.split().images]), np.arange(2 * 24) % 2
    sima_c = get_attack("sima-c", timesteps=(100,))

    def told_by(shade: float, revision: str | None = "sha256:0", **changes):
        network = Shaded(shade)
        model = wrap_denoiser(network, ddpm_alphas_cumprod(), sample_shape=(1, resumed.SIDE, resumed.SIDE), condition=network.condition)
        model.info = replace(model.info, revision=revision, **changes)
        return model

    def fitted(model, seed=0, captions=None):
        return sima_c.fit(model, pixels[:48], labels, captions=captions, seed=seed, progress=False)

    first = fitted(told_by(1.0))
    assert repr(first) == repr(fitted(told_by(1.0))), "the same once more"
    moved = told_by(1.0)
    moved.fallbacks = {"denoiser": "bfloat16"}
    others = [
        fitted(told_by(2.0, "sha256:1")), fitted(told_by(1.0), seed=1), fitted(moved), fitted(told_by(1.0), captions=["a"] * 47 + ["bb"]),
        fitted(told_by(1.0), captions=["bb"] + ["a"] * 47), fitted(told_by(1.0, None)), fitted(told_by(2.0, None)),
    ]  # fmt: skip
    assert len({repr(attack) for attack in (first, *others)}) == 1 + len(others)
    split = make_split(pixels[48:72], pixels[72:])
    asked = {"folder": tmp_path, "shift_check": False, "progress": False}
    scores = [mia_hub.audit(told_by(1.0), attack, split, **asked).scores.scores for attack in (first, others[0])]
    alone = others[0].score(told_by(1.0), split.images, progress=False).scores
    assert np.array_equal(scores[1], alone) and not np.array_equal(*scores)


class Shaded(torch.nn.Module):
    """A small network that is told how long a caption is."""

    def __init__(self, shade: float):
        super().__init__()
        self.shade = torch.nn.Parameter(torch.tensor(shade))

    def forward(self, x, t, cond):
        return (self.shade * x).sin() * (1 + cond.reshape(-1, 1, 1, 1))

    def condition(self, captions):
        return torch.tensor([0.1 * len(caption) for caption in captions])


def passes(told: Path) -> list[int]:
    return [int(line) for line in told.read_text().splitlines()] if told.exists() else []


def finish(processes, folder: Path, told: Path, count: int = 1) -> None:
    together = resumed.started(processes, count, target=resumed.run, args=(folder, told))
    for process in together:
        process.join(PATIENCE)
    assert [process.exitcode for process in together] == [0] * count


def killed_at(processes, folder: Path, told: Path, last: int, count: int) -> None:
    """Starts the comparison, in which the last process is killed at one of its passes; the others, which wait for it, then as well."""
    together = resumed.started(processes, count, target=resumed.run, args=(folder, told, last))
    together[-1].join(PATIENCE)
    assert together[-1].exitcode == -9
    for process in together[:-1]:
        process.kill()
        process.join()


def killed_after(processes, folder: Path, told: Path, passes_: int, delay: float, count: int) -> None:
    """Starts the comparison, and kills it so many seconds after so many further passes: the last process first, as may happen."""
    before = len(passes(told))
    together = resumed.started(processes, count, target=resumed.run, args=(folder, told), PAUSES="yes")
    deadline = time.monotonic() + PATIENCE
    while len(passes(told)) < before + passes_:
        assert all(process.is_alive() for process in together) and time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(delay)
    for process in reversed(together):
        process.kill()
    for process in together:
        process.join()
    assert together[-1].exitcode == -9


def tables(folder: Path) -> list[ScoreTable]:
    return [ScoreTable.from_parquet(path) for path in sorted(folder.glob("scores-*.parquet"))]


@pytest.fixture(scope="module")
def undisturbed(processes, tmp_path_factory):
    """The folder of a comparison that nothing disturbed, and the rows of its passes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(processes, folder / "out", folder / "told")
    return folder / "out", passes(folder / "told")


def check_resumed(folder: Path, told: Path, undisturbed: tuple[Path, list[int]], kills: int, count: int, then: int) -> None:
    """To the bit the tables are those of one undisturbed process, at the cost of a batch per killed process."""
    expected_folder, whole = undisturbed
    first, again = tables(expected_folder), tables(folder)
    assert len(first) == len(ATTACKS)
    for expected, found in zip(first, again, strict=True):
        assert found.scores.tobytes() == expected.scores.tobytes(), expected.attack
        assert found.ids == expected.ids and (found.queries, found.chosen) == (expected.queries, expected.chosen)
    # What a batch costs at most, of images or of those that are generated, which each process makes for itself.
    most = BATCH * max(ATTACKS["nearest-generated"]["steps"], *(resumed.attack(name).queries_per_image for name in ATTACKS))
    generated = (max(count, then) - 1) * resumed.attack("nearest-generated").setup_queries
    assert sum(whole) <= sum(passes(told)) <= sum(whole) + generated + kills * count * most
    assert not (folder / "unfinished").exists()
    assert {path.name for path in folder.iterdir()} == {path.name for path in expected_folder.iterdir()}


@pytest.mark.parametrize(("count", "shares", "then"), [(1, (0.2, 0.5), 2), (2, (0.6,), 1)])
def test_killed_it_goes_on_from_the_last_finished_batch(processes, undisturbed, tmp_path, count, shares, then):
    """Also where several processes share it, and another number of them goes on.

    Args:
        count: processes that are killed.
        shares: when, as shares of all passes.
        then: processes that go on.
    """
    for share in shares:
        killed_at(processes, tmp_path / "killed", tmp_path / "told", round(share * len(undisturbed[1]) / count), count)
    finish(processes, tmp_path / "killed", tmp_path / "told", then)
    check_resumed(tmp_path / "killed", tmp_path / "told", undisturbed, len(shares), count, then)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "kills", "then"), [(1, 6, 1), (2, 6, 2), (2, 2, 3), (1, 50, 1), (2, 50, 2)])
def test_killed_at_random_moments_it_goes_on_from_the_last_finished_batch(processes, undisturbed, tmp_path, count, kills, then):
    whole, moments = undisturbed[1], random.Random(0)
    for _ in range(kills):
        # So few passes that all kills together leave something to be done.
        after, delay = moments.randrange(1, max(2, 2 * len(whole) // (3 * kills))), moments.uniform(0, 5 * resumed.SECONDS)
        killed_after(processes, tmp_path / "killed", tmp_path / "told", after, delay, count)
    finish(processes, tmp_path / "killed", tmp_path / "told", then)
    check_resumed(tmp_path / "killed", tmp_path / "told", undisturbed, kills, count, then)


def test_nothing_stale_is_used(tmp_path):
    """Whatever the numbers depend on, changed: all of it is asked again; and in the end again none of it."""
    split, sima = resumed.split(), resumed.attack("sima")
    count = 0

    def asked(attack=sima, images=split.images, change=lambda model: None, **options) -> int:
        nonlocal count
        count += 1
        model = resumed.model_of(tmp_path / f"told {count}")
        change(model)
        options = {"batch_size": BATCH, "resume": tmp_path / "parts", "progress": False} | options
        table = attack.score(model, images, **options)
        undisturbed = attack.score(model, images, **options | {"resume": None})
        assert table.scores.tobytes() == undisturbed.scores.tobytes() and table.queries == undisturbed.queries
        return sum(passes(tmp_path / f"told {count}")) - undisturbed.queries

    def informed(**changes):
        def change(model):
            model.info = replace(model.info, **changes)

        return change

    def another_schedule(model):
        model.schedule = replace(model.schedule, signals=model.schedule.signals * 0.99)

    def moved(model):
        model.fallbacks = {"denoiser": "bfloat16"}

    whole = 2 * IMAGES
    assert (asked(), asked()) == (whole, 0)
    others = [split.images[i] for i in range(IMAGES)]
    others[20] = others[-1]
    assert asked(images=others) == 2 * BATCH, "the batch with another image, and no other"
    assert asked() == 2 * BATCH
    for damage in (b"", b"no archive", min((tmp_path / "parts").rglob("*.npz")).read_bytes()[:-100]):
        min((tmp_path / "parts").rglob("*.npz")).write_bytes(damage)
        assert asked() == 2 * BATCH, "what can't be read, and no other"
    for changed, expected in (
        ({"seed": 1}, whole),
        ({"batch_size": 20}, whole),
        ({"images": others[:-1]}, 2 * (IMAGES - 1)),
        ({"attack": replace(sima, p=3)}, whole),
        ({"attack": replace(sima, timesteps=(50, 101))}, whole),
        ({"change": informed(revision="sha256:1")}, whole),
        ({"change": informed(settings={"latents": "sample"})}, whole),
        ({"change": another_schedule}, whole),
        ({"change": moved}, whole),
    ):
        assert asked(**changed) == expected, changed
        assert asked(**changed) == 0, changed
    assert asked(change=informed(revision=None)) == asked(change=informed(revision=None)) == whole, "it can't be known again"


class Killed(BaseException):
    """Stands for the end of a process, at any of its forward passes."""


def troubled(trouble: str, stop: int | None = None):
    """A model that runs out of memory, or overflows at one image until it is moved to a wider precision; and the rows of its passes."""
    rows: list[int] = []

    def denoise(x, t):
        rows.append(len(x))
        if len(rows) == stop:
            raise Killed
        if trouble == "memory" and len(x) > 10:
            raise torch.OutOfMemoryError("out of memory")
        narrow = trouble == "overflow" and not model.fallbacks
        return torch.where((x[:, :, :1, :1] == 1) & narrow, torch.nan, x.sin() * (1 if narrow else 1.5))

    def fall_back() -> bool:
        model.fallbacks = {"denoiser": "bfloat16"}
        return True

    model = wrap_denoiser(denoise, ddpm_alphas_cumprod(), sample_shape=(1, resumed.SIDE, resumed.SIDE))
    model.info, model.fallbacks, model.fall_back = replace(model.info, revision="sha256:0"), {}, fall_back
    return model, rows


@pytest.mark.parametrize(("trouble", "twice"), [("none", 1), ("memory", 1), ("overflow", 2)])
def test_wherever_it_ends_the_rest_is_as_it_would_have_been(trouble, twice, tmp_path):
    """With an overflow, the batch in which it shows is asked again as well: only then is the model moved."""
    images = np.stack([image.pixels[..., 0] for image in resumed.split().images])
    images[images == 255] = 254
    images[40, 0, 0] = 255
    sima, options = resumed.attack("sima"), {"batch_size": BATCH, "progress": False}
    model, rows = troubled(trouble)
    undisturbed, whole = sima.score(model, images, resume=tmp_path / "undisturbed", **options), list(rows)
    assert model.fallbacks == ({"denoiser": "bfloat16"} if trouble == "overflow" else {})
    for stop in range(1, len(whole) + 1):
        first, before = troubled(trouble, stop)
        with pytest.raises(Killed):
            sima.score(first, images, resume=tmp_path / str(stop), **options)
        then, after = troubled(trouble)
        table = sima.score(then, images, resume=tmp_path / str(stop), **options)
        assert table.scores.tobytes() == undisturbed.scores.tobytes(), stop
        assert (table.queries, table.precision, table.remarks) == (undisturbed.queries, undisturbed.precision, undisturbed.remarks)
        assert sum(before) + sum(after) <= sum(whole) + twice * 2 * BATCH, stop


def test_captions_are_part_of_what_a_part_is_known_by(tmp_path):
    rows = []

    def denoise(x, t, cond):
        rows.append(len(x))
        return x * cond.reshape(-1, 1, 1, 1)

    def condition(captions):
        return torch.tensor([1.0 + len(caption) for caption in captions])

    model = wrap_denoiser(denoise, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8), condition=condition)
    model.info = replace(model.info, revision="sha256:0")
    images = resumed.split().images[:4]
    for captions, expected in ((["a"] * 4, 8), (["a"] * 4, 0), (["a", "a", "a", "bb"], 8), (None, 8), ([""] * 4, 0)):
        rows.clear()
        resumed.attack("sima").score(model, images, captions=captions, resume=tmp_path, progress=False)
        assert sum(rows) == expected, captions


def test_a_folder_that_can_not_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MiaHubError, match=r"file/\w+ can't be written to \(Not a directory\); give another folder"):
        resumed.attack("sima").score(resumed.model_of(tmp_path / "told"), resumed.split().images, resume=tmp_path / "file")


def test_a_function_among_an_attacks_parameters_can_not_be_known_again(tmp_path):
    for shade, scores in ((0.5, []), (0.9, [])):
        attack = get_attack("rediffuse", variation=lambda images, draw, shade=shade: images * shade, variations=1)
        scores.append(attack.score(resumed.model_of(tmp_path / "told"), resumed.split().images, resume=tmp_path / "parts", progress=False))
    assert not (tmp_path / "parts").exists()
