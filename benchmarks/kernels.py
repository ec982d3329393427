"""Other kernels for the denoiser on a CPU: their speed on the demo, and whether its scores and verdicts stay.

    python -m benchmarks.kernels
    python -m benchmarks.kernels --only channels-last onnxruntime --limit 20 --rounds 3

All candidates and PyTorch's eager mode, which mia_hub uses, take turns within each round, on one thread, in processor time. The last two
candidates take the extra packages that their rows name.
"""

from __future__ import annotations

import argparse
import copy
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive, with_batch_size
from benchmarks.throughput import at_most_threads, children_seconds, in_turns
from mia_hub.attacks import get_attack
from mia_hub.checking.verdicts import EVIDENCE, verdict_of
from mia_hub.errors import first_line
from mia_hub.models.loading import load_model
from mia_hub.models.rows import default_rows, sample_queries
from mia_hub.references.demo_reference import demo_reference
from mia_hub.references.verdict_attack import verdict_attack, verdict_observations
from mia_hub.splits.loading import load_split
from mia_hub.system.timing import measured_seconds

LEAST_SPEEDUP, MOST_DIFFERENCE = 1.5, 1e-3
REQUIREMENT = f"≥ {LEAST_SPEEDUP:g} ×, scores within {MOST_DIFFERENCE:g}, same verdicts"
# The ends and the middle of SimA's default grid.
TIMESTEPS = (0, 100, 200)
COMPILERS = ("g++", "clang++", "cl")
# A candidate this many times slower than eager mode is scored on few images: it is no choice, and would take the longest by far.
SLOW, FEW = 3, 4

Network = Callable[..., Any]


class Output(NamedTuple):
    """The output of a network as diffusers returns it."""

    sample: torch.Tensor


@dataclass(frozen=True)
class Candidate:
    """A way to compute the forward pass of a denoiser.

    Attributes:
        make: returns it, a function of ``(x, t, class_labels)``, for a model.
        packages: that it takes beside those of mia_hub, by the names that pip knows them by; they are imported by the same names.
        compiles: whether it takes a C++ compiler.
    """

    make: Callable[[Any], Network]
    packages: tuple[str, ...] = ()
    compiles: bool = False

    @property
    def missing(self) -> str:
        """What has to be installed first; "" if it can be measured."""
        if not all(map(find_spec, self.packages)):
            return f"not installed: pip install {' '.join(self.packages)}"
        if self.compiles and not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
            return "no C++ compiler"
        return ""


def channels_last(model: Any) -> Network:
    """The weights' layout is passed on to all that the layers put out."""
    return copy.deepcopy(model.network).to(memory_format=torch.channels_last)


def bfloat16(model: Any) -> Network:
    """oneDNN's products in bfloat16; the model casts the output to float32 before any norm."""

    def forward(x: torch.Tensor, t: torch.Tensor, class_labels: Any = None) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return model.network(x, t, class_labels=class_labels)

    return forward


def compiled(model: Any) -> Network:
    """With frozen weights, which inductor then lays out for oneDNN beforehand; once for batches of any size."""
    return torch.compile(model.network, dynamic=True, options={"freezing": True})


class _Plain(torch.nn.Module):
    """A network of tensors alone, as exporters take it."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.network(x, t, return_dict=False)[0]


@lru_cache(maxsize=1)
def _onnx(model: Any) -> bytes:
    """Return an unconditional network in the ONNX format, for batches of any size."""
    x, t, _ = sample_queries(model, 2)
    rows = torch.export.Dim("rows")
    shapes = ({0: rows}, {0: rows})
    network = _Plain(model.network).eval()
    program = torch.onnx.export(network, (x, t), dynamo=True, dynamic_shapes=shapes, input_names=["x", "t"], verbose=False)
    assert program is not None, "it is None for a file alone"
    return program.model_proto.SerializeToString()


def _by_numpy(infer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Network:
    return lambda x, t, class_labels=None: Output(torch.from_numpy(infer(x.numpy(), t.numpy())))


def onnxruntime(model: Any) -> Network:
    """In float32, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(_onnx(model), options, providers=["CPUExecutionProvider"])
    return _by_numpy(lambda x, t: session.run(None, {"x": x, "t": t})[0])


def openvino(model: Any) -> Network:
    """In float32, with as many threads as torch has."""
    import openvino

    core = openvino.Core()
    # Where the processor has bfloat16, that is the default.
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    network = core.compile_model(core.read_model(_onnx(model)), "CPU", options)
    return _by_numpy(lambda x, t: network([x, t])[0])


CANDIDATES = {
    "channels-last": Candidate(channels_last),
    "bfloat16": Candidate(bfloat16),
    "torch.compile": Candidate(compiled, compiles=True),
    "onnxruntime": Candidate(onnxruntime, ("onnxruntime", "onnx", "onnxscript")),
    "openvino": Candidate(openvino, ("openvino", "onnx", "onnxscript")),
}


class Answers(NamedTuple):
    """What is told of images: SimA's scores ``[N, T]``, and whether each gets evidence, ``[N]``."""

    scores: np.ndarray
    evidence: np.ndarray


def answers(model: Any, images: Sequence[Any], batch_size: int) -> Answers:
    """Score images, and judge each on its own by the demo's stored reference, whatever precision that was made in."""
    options: dict[str, Any] = {"batch_size": batch_size, "progress": False}
    scores = get_attack("sima", timesteps=TIMESTEPS).score(model, images, **options).scores
    reference = demo_reference()
    attack = verdict_attack(reference.configured, reference.chosen, reference.timestep)
    observations = attack.observe(model, images, **options)
    judged = [reference.judge(row, id) for row, id in zip(verdict_observations(attack, observations), observations.ids)]
    return Answers(scores, np.array([verdict_of(each.p_value, None) == EVIDENCE for each in judged]))


@dataclass(frozen=True)
class Prepared:
    """A candidate that works on the demo.

    Attributes:
        network: its forward pass.
        seconds: processor time until the first pass was done.
        difference: largest relative difference of a score from that of eager mode.
        changed: number of verdicts that are other than those of eager mode.
        images: number of images that were scored and judged.
    """

    network: Network
    seconds: float
    difference: float
    changed: int
    images: int


def _prepared(candidate: Candidate, model: Any, x: torch.Tensor, t: torch.Tensor, images: Sequence[Any], eager: Answers) -> Prepared:
    with torch.no_grad():
        started = time.process_time() + children_seconds()
        network = candidate.make(model)
        network(x, t)
        seconds = time.process_time() + children_seconds() - started
        alone, own = (measured_seconds(lambda run=run: run(x, t), clock=time.process_time) for run in (model.network, network))
    rows = np.arange(len(images))
    if own > SLOW * alone:
        rows = np.concatenate([rows[:FEW], rows[-FEW:]])  # members come first
    other = copy.copy(model)
    other.network = network
    scores, evidence = answers(other, [images[int(row)] for row in rows], len(x))
    difference = float(np.max(np.abs(scores / eager.scores[rows] - 1)))
    return Prepared(network, seconds, difference, int((evidence != eager.evidence[rows]).sum()), len(rows))


def measure(model: Any, batch_size: int, names: Sequence[str], limit: int, rounds: int) -> list[Row]:
    """Return a row per candidate.

    Args:
        model: the demo.
        batch_size: rows per forward pass.
        names: of the candidates.
        limit: at most this many members and non-members of the demo each are scored and judged.
        rounds: how often each forward pass is measured.
    """
    x, t, _ = sample_queries(model, batch_size)
    split = load_split("demo", limit=limit)
    eager = answers(model, split.images, batch_size)
    prepared: dict[str, Prepared] = {}
    failures: dict[str, Row] = {}
    for name in names:
        candidate = CANDIDATES[name]
        if candidate.missing:
            failures[name] = Row(name, candidate.missing)
            continue
        try:
            prepared[name] = _prepared(candidate, model, x, t, split.images, eager)
        except RuntimeError as error:  # as compilers and exporters raise it for a network that they can't take
            failures[name] = Row(name, f"fails: {first_line(error)}", REQUIREMENT, False)

    networks = [model.network, *(each.network for each in prepared.values())]
    with torch.no_grad():
        times = in_turns(rounds, [lambda network=network: network(x, t) for network in networks], clock=time.process_time)
    rows = {name: _row(name, each, times[:, 0], times[:, i]) for i, (name, each) in enumerate(prepared.items(), 1)}
    each = 1000 * np.median(times[:, 0]) / batch_size
    now = Row(
        "PyTorch in eager mode, float32, contiguous: what mia_hub uses",
        f"{each:.2f} ms a row; {eager.evidence.sum()} of {len(split.images)} images get evidence",
        values={"seconds": times[:, 0], "evidence": int(eager.evidence.sum())},
    )
    return [now, *((rows | failures)[name] for name in names)]


def _row(name: str, prepared: Prepared, eager_seconds: np.ndarray, seconds: np.ndarray) -> Row:
    ratios = eager_seconds / seconds
    return Row(
        name,
        f"{np.median(ratios):.2f} × ({ratios.min():.2f} … {ratios.max():.2f}); scores within {prepared.difference:.1e}, "
        f"{prepared.changed} of {prepared.images} verdicts differ; prepared in {prepared.seconds:.1f} s",
        REQUIREMENT,
        bool(np.median(ratios) >= LEAST_SPEEDUP and prepared.difference <= MOST_DIFFERENCE and not prepared.changed),
        {
            "seconds": seconds,
            "eager_seconds": eager_seconds,
            "difference": prepared.difference,
            "changed": prepared.changed,
            "images": prepared.images,
            "preparation_seconds": prepared.seconds,
        },
    )


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    with at_most_threads(1), threadpool_limits(1):
        model = load_model("demo", device="cpu")
        batch_size = args.batch_size or default_rows(model)
        conditions = facts(torch.device("cpu"), "float32", batch_size) | {"rounds": args.rounds}
        return measure(model, batch_size, args.only, args.limit, args.rounds), conditions


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("kernels", __doc__)
    with_batch_size(parser)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), help="measure only these candidates")
    parser.add_argument("--limit", type=positive, default=100, metavar="N", help="N members and N non-members are judged (default: 100)")
    parser.add_argument("--rounds", type=positive, default=5, help="of forward passes (default: 5)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
