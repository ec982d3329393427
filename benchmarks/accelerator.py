"""An accelerator in one short run: precisions and CUDA graphs, the automatic batch, a whole audit, noise, and a model of SD's size.

    python -m benchmarks.accelerator --device cuda --quick                           # a short run
    python -m benchmarks.accelerator --device cpu --quick --rows 8 --side 64         # a trial of the script

The large model has the size of Stable Diffusion 1.5 and random weights (on a CPU, a tenth of its widths); the AUC is that of the demo.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.cuda_graph import GraphedPass
from benchmarks.end_to_end import LEAST_RATIO
from benchmarks.passes import recorded_passes
from benchmarks.random_models import stable_diffusion_sized
from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive
from benchmarks.throughput import in_turns, photograph
from mia_hub.attacks import get_attack
from mia_hub.attacks.querying import full_precision
from mia_hub.auditing.audit import audit
from mia_hub.checking.checker import Checker
from mia_hub.errors import first_line
from mia_hub.metrics.roc import auc
from mia_hub.models.families.base import NetworkModel
from mia_hub.models.loading import load_model, pick_device, pick_dtype
from mia_hub.models.noise import SampleNoise
from mia_hub.models.precision import dtype_name
from mia_hub.models.rows import default_rows, sample_queries
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import make_split
from mia_hub.system.timing import measured_seconds

PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
LEAST_SPEEDUP, MOST_AUC_CHANGE, LEAST_MEMORY = 3.0, 0.002, 0.8
AUC_TIMESTEP = 80
# Full passes at the automatic batch size, in each precision.
FULL_PASSES = 3
# Shapes of one sample whose noise is compared: of the demo, of SD's latents, and an odd one.
NOISE_SHAPES = ((1, 28, 28), (4, 64, 64), (3, 5, 7))
NARROW_ON_CPU = 10
NOT_MEASURED = "not measured: needs CUDA"
Build = Callable[[torch.dtype], NetworkModel]


def measure_noise(device: torch.device) -> list[Row]:
    """Compare the noise that a device draws with the CPU's."""
    ids, same, count = [f"sample {i}" for i in range(64)], True, 0
    for shape in NOISE_SHAPES:
        for dtype in PRECISIONS:
            there, here = (SampleNoise(ids, shape, 7, where, dtype)(500, 3) for where in (device, "cpu"))
            same, count = same and torch.equal(there.cpu(), here), count + here.numel()
    return [Row(f"noise drawn on {device.type} / on the CPU", f"{'the same' if same else 'differs'}, {count:,} values", "to the bit", same)]


def measure_auc(device: torch.device, limit: int) -> list[Row]:
    """Compare the AUC of SimA on the demo in each precision with that in float32."""
    split, found = load_split("demo", limit=limit), {}
    for dtype in PRECISIONS:
        model, attack = load_model("demo", device=device, dtype=dtype), get_attack("sima", timesteps=(AUC_TIMESTEP,))
        table = attack.score(model, split.images, is_member=split.is_member, progress=False)
        found[dtype_name(dtype)] = float(auc(table.scores[:, 0], table.is_member))
    change = max(abs(value - found["float32"]) for value in found.values())
    shown = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
    what = f"AUC of SimA on the demo, t = {AUC_TIMESTEP}, {len(split.images):,} images"
    return [Row(what, f"{shown}: {change:.4f} apart", f"≤ {MOST_AUC_CHANGE}", change <= MOST_AUC_CHANGE, {"auc": found})]


def measure_precisions(name: str, build: Build, rows: int, rounds: int, device: torch.device) -> list[Row]:
    """Compare the forward passes of a denoiser in each precision, launched kernel by kernel and as a CUDA graph, with float32 and no graph.

    Args:
        name: of the model.
        build: returns it in a precision.
        rows: of each pass.
        rounds: how often each is measured; they take turns.
        device: of the model.
    """
    runs: dict[str, Callable[[], Any]] = {}
    with torch.no_grad(), full_precision():
        for dtype in PRECISIONS:
            model = build(dtype)
            x, t, cond = sample_queries(model, rows)
            query = x.to(dtype), t, cond
            runs[f"{dtype_name(dtype)} eager"] = partial(model.output, *query)
            if device.type == "cuda":
                runs[f"{dtype_name(dtype)} graph"] = GraphedPass(model, *query)
        seconds = in_turns(rounds, list(runs.values()), device)
    gains = dict(zip(runs, np.median(seconds[:, :1] / seconds, axis=0)))
    fastest = max(gains, key=gains.__getitem__)
    rates = ", ".join(f"{run} {rows / np.median(taken):,.1f}" for run, taken in zip(runs, seconds.T))
    on_cuda, what = device.type == "cuda", f"{name}, {rows} rows: the fastest pass / float32 eager"
    measured = f"{gains[fastest]:.1f} times ({fastest}); rows/s: {rates}" + f"; graphs {NOT_MEASURED}" * (not on_cuda)
    passed = bool(gains[fastest] >= LEAST_SPEEDUP) if on_cuda else None
    return [Row(what, measured, f"≥ {LEAST_SPEEDUP:g} times", passed, {"seconds": dict(zip(runs, seconds.T))})]


def measure_batch(build: Build, device: torch.device) -> list[Row]:
    """Run passes of as many rows as the automatic batch has, and measure the memory that they take."""
    what, required = "the automatic batch: peak memory of a pass / the device's", f"≥ {LEAST_MEMORY:.0%}, no failure"
    if device.type != "cuda":
        return [Row(what, NOT_MEASURED, required)]
    total, shares, sizes, failures = torch.cuda.mem_get_info(device)[1], [], [], []
    for dtype in PRECISIONS[:2]:
        model = build(dtype)
        rows = default_rows(model)
        sizes.append(f"{rows} rows in {dtype_name(dtype)}")
        for _ in range(FULL_PASSES):
            torch.cuda.reset_peak_memory_stats(device)
            try:
                with torch.no_grad(), full_precision():
                    model.predict_noise(*sample_queries(model, rows))
                    torch.cuda.synchronize(device)
            except RuntimeError as error:  # also of a kernel that doesn't take so many values
                failures.append(first_line(error))
            else:
                shares.append(torch.cuda.max_memory_allocated(device) / total)
        del model
        _release(device)
    least = min(shares, default=0.0)
    measured = f"{least:.1%} at least; {', '.join(sizes)}; {len(failures)} of {FULL_PASSES * len(sizes)} passes failed"
    measured += f": {failures[0]:.200}" if failures else ""
    return [Row(what, measured, required, least >= LEAST_MEMORY and not failures, {"shares": shares, "failures": failures})]


def measure_audit(model: NetworkModel, images: Sequence[bytes], rounds: int) -> list[Row]:
    """Compare a whole audit, from encoded images to a report, with its forward passes alone."""
    half, attack = len(images) // 2, get_attack("sima")
    split = make_split(images[:half], images[half:], captions=[""] * len(images))
    rows = default_rows(model)  # measured anew each time for a model that has no revision

    def whole() -> None:
        audit(model, attack, split, batch_size=rows, shift_check=False, progress=False)

    with recorded_passes(type(model)) as passes:
        whole()

    def bare() -> None:
        with torch.no_grad(), full_precision():
            for query in passes:
                model.predict_noise(*query)

    alone, audited = in_turns(rounds, [bare, whole], model.device).T
    ratio, queries = float(np.median(alone / audited)), sum(len(x) for x, *_ in passes)
    return [
        Row(
            f"{len(images)} images of {model.info.picture_shape[1]} pixels, from files to report: forward passes / audit",
            f"{ratio:.1%}; {queries / np.median(audited):,.1f} of {queries / np.median(alone):,.1f} rows/s",
            f"≥ {LEAST_RATIO:.0%}",
            ratio >= LEAST_RATIO if model.device.type == "cuda" else None,
            {"bare_seconds": alone, "audit_seconds": audited},
        )
    ]


def measure_check(model: NetworkModel, images: Sequence[bytes]) -> list[Row]:
    """Measure a check of all images at once, each with its profile over the timesteps."""
    checker = Checker(model, batch_size=default_rows(model), progress=False)
    checker.check(images[:1], captions="", progress=False)
    with recorded_passes(type(model)) as passes:
        seconds = measured_seconds(lambda: checker.check(images, captions="", progress=False), model.device)
    queries = sum(len(x) for x, *_ in passes) / len(images)
    what = f"check of {len(images)} images of {model.info.picture_shape[1]} pixels, {queries:.0f} queries each"
    return [Row(what, f"{len(images) / seconds:.2f} images/s", values={"seconds": seconds})]


def _release(device: torch.device) -> None:
    """Give back what the models before have held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    device, dtype = pick_device(args.device), pick_dtype(args.dtype)
    conditions = facts(device, args.dtype, args.rows)
    rounds, limit, count = (3, 500, 4 * args.rows) if args.quick else (7, 1500, 16 * args.rows)
    narrow = 1
    if device.type != "cuda":
        limit, count, narrow = args.rows, max(8, args.rows), NARROW_ON_CPU
    sized = partial(stable_diffusion_sized, device, side=args.side, narrow=narrow)
    steps: list[Callable[[], list[Row]]] = [
        lambda: measure_noise(device),
        lambda: measure_auc(device, limit),
        lambda: measure_precisions("the demo", lambda dtype: load_model("demo", device=device, dtype=dtype), args.rows, rounds, device),
        lambda: measure_precisions(f"a UNet of SD's size, {args.side} pixels", sized, args.rows, rounds, device),
        lambda: measure_audit(sized(dtype), photographs, 1 if args.quick else 3),
        lambda: measure_check(sized(dtype), photographs),
        lambda: measure_batch(sized, device),  # the last: what fails on CUDA may fail whatever follows
    ]
    photographs = [photograph((args.side, args.side), seed) for seed in range(count)]
    rows: list[Row] = []
    for step in steps:
        measured = step()
        rows += measured
        _release(device)
        print("\n".join(f"{row.what}: {row.measured}" for row in measured), flush=True)
    return rows, conditions


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("accelerator", __doc__)
    parser.set_defaults(dtype="bfloat16")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and images")
    parser.add_argument("--rows", type=positive, default=32, metavar="N", help="rows of the compared passes (default: 32)")
    parser.add_argument("--side", type=positive, default=512, metavar="N", help="of the large model's images in pixels (default: 512)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
