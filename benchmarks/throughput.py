"""Cost of mia_hub on this machine: beside the bare denoiser, per uploaded image, at import, and in memory.

    python -m benchmarks.throughput

The sides of a comparison take turns, A B B A …, in one run, on a CPU forward pass by forward pass; see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image

import mia_hub
from benchmarks import ROOT
from benchmarks.gray_box import gray_box
from benchmarks.passes import TwicePasses
from benchmarks.probe import SHAPE, PngImages
from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive, with_batch_size, with_model, with_split
from mia_hub.attacks import get_attack
from mia_hub.attacks.querying import full_precision
from mia_hub.checking.checker import Checker
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.loading import pick_device
from mia_hub.models.rows import default_rows
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit
from mia_hub.system.timing import measured_seconds

PARTS = ("scoring", "elsewhere", "check", "imports", "memory")

LEAST_RATIO = 0.97
# Two timesteps of SimA-MC cost what SimA's 21 do; how many there are changes both sides alike.
SHORTER = {"sima-mc": {"timesteps": (50, 100), "draws": 10}}
# Images per pass of a denoiser that runs elsewhere.
ELSEWHERE_ROWS = 64
# Times what one batch alone takes until its query: more would mean that further batches are read before.
MOST_FIRST = 1.5
# These attacks train a network on their observations, which is work of another kind; its time is reported apart.
TRAINS_A_NETWORK = ("secmi-nns", "rediffuse-nns")

MOST_CHECK_SECONDS, CHECK_THREADS, CHECKS = 1.0, 2, 30
PHOTO = (3000, 4000)

IMPORT_ROUNDS = 10
EMPTY = ["-c", ""]
# With the most seconds of processor time beyond an empty start.
STARTS = {"import mia_hub": (["-c", "import mia_hub"], 0.05), "python -m mia_hub --help": (["-m", "mia_hub", "--help"], 0.3)}

# A row of the score table is an id (81 bytes as a Python string), a label, one float per timestep, and list slots.
TABLE_BYTES = 512
# Equal runs differ by less than one MiB under `STEADY`. Copies of the extra 1,792 images would cost 47 MiB as decoded pixels,
# and 5.4 MiB as the demo model's input.
MEMORY_SLACK_MB = 2.0
# Without these, glibc adapts the size up to which it keeps freed memory, which moves a peak by tens of MiB.
STEADY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
MORE_IMAGES = 8


def in_turns(
    rounds: int, runs: list[Callable[[], Any]], device: torch.device | None = None, clock: Callable[[], float] = time.perf_counter
) -> np.ndarray:
    """Return seconds ``[rounds, runs]`` after one warm-up round; every other round runs backwards, so that no run is always first."""
    for run in runs:
        run()
    times = np.empty((rounds, len(runs)))
    for i in range(rounds):
        for j in range(len(runs))[:: -1 if i % 2 else 1]:
            times[i, j] = measured_seconds(runs[j], device, clock)
    return times


@contextmanager
def at_most_threads(most: int) -> Iterator[None]:
    """Limit torch to at most this many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, most))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _ModelProxy:
    """A model whose forward passes a subclass observes."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name: str):
        return getattr(self.model, name)


class Recorder(_ModelProxy):
    """Records the inputs of forward passes."""

    def __init__(self, model):
        super().__init__(model)
        self.passes: list[tuple[torch.Tensor, torch.Tensor, Any]] = []

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond=None) -> torch.Tensor:
        self.passes.append((x, t.contiguous(), cond))
        return self.model.predict_noise(x, t, cond)


class _Twice(_ModelProxy):
    """Runs each forward pass twice."""

    def __init__(self, model):
        super().__init__(model)
        self.passes = TwicePasses()

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond=None) -> torch.Tensor:
        return self.passes.run(self.model.predict_noise, x, t, cond)


def measure_scoring(model, attack, split: MemberSplit, batch_size: int, rounds: int) -> list[Row]:
    """Compare `Attack.score`, from encoded images to a table, with the denoiser alone on the same tensors.

    On a CPU, each pass of the attack is followed by the bare one, and processor time of one thread is compared, which other users of the
    machine hardly change. On an accelerator, where passes overlap with other work, all passes and the attack take turns by the wall
    clock.

    Args:
        model: a DiffusionModel.
        attack: an attack without gradients.
        split: encoded images, decoded on access.
        batch_size: rows per forward pass.
        rounds: how often each side is measured.

    Raises:
        RuntimeError: if the attack uses more queries than it declares.
    """
    recorder, options = Recorder(model), {"captions": split.captions, "is_member": split.is_member, "batch_size": batch_size}
    apart = attack.name in TRAINS_A_NETWORK

    def run(work: Callable[..., Any], model) -> None:
        work(model, split.images, progress=False, **options)

    run(attack.score, recorder)
    rows = sum(len(x) for x, _, _ in recorder.passes)
    declared = len(split.images) * attack.queries_per_image + attack.setup_queries
    # An attack that chooses parameters spends further queries; its time includes them, and so does this count.
    if rows > declared and not attack.needs_training:
        raise RuntimeError(f"{attack.name} used {rows:,} queries but declares {declared:,}.")

    def bare() -> None:
        with torch.no_grad(), full_precision():
            for x, t, cond in recorder.passes:
                model.predict_noise(x, t, cond)

    def paired(work: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return seconds of the denoiser and of the work, one per round."""
        if model.device.type != "cpu":
            return tuple(in_turns(rounds, [bare, lambda: run(work, model)], model.device).T)
        times = np.empty((rounds, 2))
        for each in times:
            twice = _Twice(model)
            with at_most_threads(1):
                both = measured_seconds(lambda twice=twice: run(work, twice), clock=time.process_time)
            each[:] = twice.passes.seconds, both - twice.passes.seconds
        return tuple(times.T)

    def row(what: str, work: Callable[..., Any], required: bool) -> Row:
        alone, whole = paired(work)
        ratios = alone / whole
        rates = rows / np.median(whole), rows / np.median(alone)
        return Row(
            what,
            f"{np.median(ratios):.1%} ({ratios.min():.1%} … {ratios.max():.1%}); {rates[0]:,.0f} of {rates[1]:,.0f} rows/s",
            f"≥ {LEAST_RATIO:.0%}" if required else "",
            bool(np.median(ratios) >= LEAST_RATIO) if required else None,
            {"attack": repr(attack), "rows": rows, "bare_seconds": alone, "score_seconds": whole},
        )

    where = " on one thread" if model.device.type == "cpu" else ""
    name = f"{attack.name}, {attack.queries_per_image} queries / bare denoiser, throughput{where}"
    if not apart:
        return [row(name, attack.score, True)]
    return [row(f"{name}, until its own network's training", attack.observe, True), row("  with that training", attack.score, False)]


def measure_elsewhere(rounds: int) -> list[Row]:
    """Measure reading, hashing, resizing and noise beside denoisers that use none of this processor's time.

    A real accelerator uses a little, for launching its kernels.
    """
    small = PngImages(640, SHAPE)
    files = [small[i % len(small)] for i in range(6400)]
    size = f"PNG files of {SHAPE[0]}×{SHAPE[1]}"
    photographs = [photograph((1024, 1024), seed) for seed in range(16)] * 16
    return [
        _elsewhere("sima", files, size, 0.001, rounds),
        _elsewhere("loss", files, size, 0.001, rounds, "  loss, whose noise is drawn on this processor, since there is no accelerator"),
        _elsewhere("sima", files, size, 0.0001, rounds),
        _elsewhere("sima", photographs, "JPEG files of 1024×1024", 0.020, rounds),
    ]


def _elsewhere(name: str, files: list[bytes], what: str, seconds: float, rounds: int, instead: str = "") -> Row:
    """Return the row of an attack at one timestep on images; no requirement holds for one that is named otherwise.

    Args:
        name: of the attack.
        files: images, encoded.
        what: they are.
        seconds: that the denoiser takes per image.
        rounds: how often each side is measured.
        instead: of the name.
    """
    attack, began, waited = get_attack(name, timesteps=(100,)), list[float](), list[float]()

    def denoise(x: torch.Tensor, t: torch.Tensor | None) -> torch.Tensor:
        began.append(time.perf_counter())
        time.sleep(seconds * len(x))
        return x

    model = mia_hub.wrap_denoiser(denoise, ddpm_alphas_cumprod(), sample_shape=(3, 32, 32))

    def bare() -> None:
        for start in range(0, len(files), ELSEWHERE_ROWS):
            denoise(torch.empty(min(ELSEWHERE_ROWS, len(files) - start)), None)

    def score(most: int | None = None) -> None:
        began.clear()
        started = time.perf_counter()
        attack.score(model, files[:most], batch_size=ELSEWHERE_ROWS, progress=False)
        waited.append(began[0] - started)

    for _ in range(2):  # the first sets up what later ones use
        score(ELSEWHERE_ROWS)
    alone = waited[-1]
    taken = in_turns(rounds, [bare, score])
    first = np.array(waited[-rounds:])
    ratios = taken[:, 0] / (taken[:, 1] - first)
    passed = bool(np.median(ratios) >= LEAST_RATIO and np.median(first) <= MOST_FIRST * alone)
    return Row(
        instead or f"{name}, 1 query / a denoiser elsewhere that takes {1000 * seconds:g} ms per image, throughput",
        f"{np.median(ratios):.1%} ({ratios.min():.1%} … {ratios.max():.1%}) from the first query on, which comes after "
        f"{np.median(first):.2f} s, and after {alone:.2f} s where there is one batch alone; {len(files):,} {what}",
        "" if instead else f"≥ {LEAST_RATIO:.0%}, first query as soon as with one batch",
        None if instead else passed,
        {"bare_seconds": taken[:, 0], "score_seconds": taken[:, 1], "first_query_seconds": first, "one_batch_seconds": alone},
    )


def measure_check() -> list[Row]:
    """Measure one uploaded image on the demo model, always on the CPU, in float32, on at most two threads."""
    with at_most_threads(CHECK_THREADS):
        split = load_split("demo")
        loading = time.perf_counter()
        checker = Checker("demo", "sima", device="cpu", dtype="float32", progress=False)
        loading = time.perf_counter() - loading
        # Each image is new to the checker, and arrives as a file.
        uploads = [_png(split.nonmembers[i]) for i in range(CHECKS + 1)]
        first = measured_seconds(lambda: checker.check(uploads[-1], progress=False))
        each = np.array([measured_seconds(lambda upload=upload: checker.check(upload, progress=False)) for upload in uploads[:-1]])
        photo = photograph()
        large = np.array([measured_seconds(lambda: checker.check(photo, progress=False)) for _ in range(5)])
        used = torch.get_num_threads()
    p50, p95 = np.quantile(each, (0.5, 0.95))
    n = len(checker.attack.timesteps)
    return [
        Row(
            f"profile of one image, {n} timesteps ({used} CPU thread{'s' * (used > 1)})",
            f"p50 {p50:.3f} s, p95 {p95:.3f} s ({each.min():.3f} … {each.max():.3f})",
            f"p95 < {MOST_CHECK_SECONDS:g} s",
            bool(p95 < MOST_CHECK_SECONDS),
            {"seconds": each, "threads": used},
        ),
        Row(
            f"  the same for a photo of {PHOTO[0] * PHOTO[1] / 1e6:.0f} megapixels",
            f"p50 {np.median(large):.3f} s ({large.min():.3f} … {large.max():.3f})",
            values={"seconds": large},
        ),
        Row(
            "  the first image after loading (reads the reference)",
            f"{first:.3f} s, after {loading:.3f} s of loading",
            values={"seconds": first, "loading_seconds": loading},
        ),
    ]


def _png(image) -> bytes:
    file = io.BytesIO()
    image.to_pil().save(file, "PNG")
    return file.getvalue()


def photograph(size: tuple[int, int] = PHOTO, seed: int = 0) -> bytes:
    """Return a JPEG of a height and width, by default a camera's; smooth like a photograph: enlarged noise."""
    small = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def children_seconds() -> float:
    """Return the processor time of all processes that this one has started and waited for."""
    import resource  # not on Windows

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_imports() -> list[Row]:
    """Measure the processor time of starts of Python with mia_hub, minus an empty start of the same round."""
    runs = [lambda arguments=arguments: new_python(arguments) for arguments in (EMPTY, *(arguments for arguments, _ in STARTS.values()))]
    times = in_turns(IMPORT_ROUNDS, runs, clock=children_seconds)
    rows = []
    for (name, (_, most)), taken in zip(STARTS.items(), (times[:, 1:] - times[:, :1]).T):
        rows.append(
            Row(
                f"{name}, above an empty start, processor time",
                f"{np.median(taken):.3f} s ({taken.min():.3f} … {taken.max():.3f})",
                f"≤ {most:g} s",
                bool(np.median(taken) <= most),
                {"seconds": taken, "empty_seconds": times[:, 0]},
            )
        )
    return rows


def new_python(arguments: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a new process of Python; return it with all that it printed.

    Raises:
        RuntimeError: if it fails, with its messages.
    """
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=os.environ | (environment or {}), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)} failed with status {done.returncode}:\n{done.stderr.strip()}")
    return done


def measure_memory(model: str, device: torch.device, dtype: str, batch_size: int, images: int) -> list[Row]:
    """Measure the peak memory of scoring n and 8n images, each in a new process."""
    options = ["--model", model, "--batch-size", str(batch_size), "--device", str(device), "--dtype", dtype]
    few, many = (
        json.loads(new_python(["-m", "benchmarks.probe", "--images", str(n), *options], STEADY).stdout.splitlines()[-1])
        for n in (images, MORE_IMAGES * images)
    )
    extra = many["images"] - few["images"]
    growth, allowed = many["peak_mb"] - few["peak_mb"], MEMORY_SLACK_MB + extra * TABLE_BYTES / 2**20
    values = {"few": few, "many": many, "growth_mb": growth, "allowed_mb": allowed, "image": SHAPE}
    rows = [
        Row(
            f"peak memory, {few['images']:,} and {many['images']:,} images",
            f"{few['peak_mb']:,.1f} and {many['peak_mb']:,.1f} MiB: {growth:+.1f} MiB",
            f"< {MEMORY_SLACK_MB:g} MiB + table = {allowed:.1f} MiB",
            growth < allowed,
            values,
        )
    ]
    if few["device_peak_mb"] is not None:
        peaks = few["device_peak_mb"], many["device_peak_mb"]
        rows.append(
            Row(
                "  the same on the accelerator",
                f"{peaks[0]:,.1f} and {peaks[1]:,.1f} MiB: {peaks[1] - peaks[0]:+.1f} MiB",
                f"< {MEMORY_SLACK_MB:g} MiB",
                peaks[1] - peaks[0] < MEMORY_SLACK_MB,
            )
        )
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("throughput", __doc__)
    with_model(parser)
    with_split(parser, limit=32)
    with_batch_size(parser)
    parser.add_argument("--attacks", nargs="+", metavar="NAME", help="default: all gray-box attacks that can run on the model")
    parser.add_argument("--rounds", type=positive, default=7, help="rounds of scoring (default: 7)")
    parser.add_argument("--memory-images", type=positive, default=256, metavar="N", help="memory of N and 8N images (default: 256)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure only these parts")
    return parser


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure the parts; return their rows and the facts that they depend on."""
    device = pick_device(args.device)
    model = mia_hub.load_model(args.model, device=device, dtype=args.dtype)
    batch_size = args.batch_size or default_rows(model)
    known = facts(device, args.dtype, batch_size)

    rows: list[Row] = []
    if "scoring" in args.only:
        split = load_split(args.split, limit=args.limit).conditioned_on(model.info.conditioning)
        attacks = [get_attack(name) for name in args.attacks] if args.attacks else gray_box(model, split)
        for attack in attacks:
            attack = replace(attack, **SHORTER.get(attack.name, {}))
            attack.check(model, split.captions)
            rows += measure_scoring(model, attack, split, batch_size, args.rounds)
    if "elsewhere" in args.only:
        rows += measure_elsewhere(3)
    if "check" in args.only:
        rows += measure_check()
    if "imports" in args.only:
        rows += measure_imports()
    if "memory" in args.only:
        rows += measure_memory(args.model, device, args.dtype, batch_size, args.memory_images)
    return rows, known


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
