"""The floor that throughput is measured against: operations and bytes of one forward pass of the denoiser, beside what this machine can do.

python -m benchmarks.floor
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import mia_hub
from benchmarks.reporting import Row, benchmark_parser, facts, finish, positive, with_batch_size, with_model
from benchmarks.throughput import in_turns
from mia_hub.models.loading import pick_device
from mia_hub.models.rows import default_rows, sample_queries

SIDE, ELEMENTS = 1024, 2**26


def measure(model, rows: int, rounds: int) -> list[Row]:
    """Operations (multiplications and additions, each one) of matrix products, convolutions and attention; and bytes of weights and of all
    that layers put out, which have to be written and read at least once."""
    x, t, cond = sample_queries(model, rows)
    put_out: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, found: put_out.append(found.nbytes) if isinstance(found, torch.Tensor) else None)
        for layer in model.network.modules()
        if not list(layer.children())
    ]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.predict_noise(x, t, cond)
    finally:
        for hook in hooks:
            hook.remove()
    flops = counter.get_total_flops()
    weights = sum(parameter.nbytes for parameter in model.network.parameters())
    moved = weights + 2 * sum(put_out)

    dtype = next(model.network.parameters()).dtype
    left, right = (torch.randn(SIDE, SIDE, device=x.device).to(dtype) for _ in range(2))
    source, target = (torch.zeros(ELEMENTS, device=x.device) for _ in range(2))

    def forward() -> None:
        with torch.no_grad():
            model.predict_noise(x, t, cond)

    times = np.median(in_turns(rounds, [forward, lambda: left @ right, lambda: target.copy_(source)], x.device), axis=0)
    reachable, bandwidth = 2 * SIDE**3 / times[1], 2 * source.nbytes / times[2]
    floor = max(flops / reachable, moved / bandwidth)
    return [
        Row("operations of a row", f"{flops / rows / 1e9:.3f} GFLOP", values={"flops": flops / rows}),
        Row("bytes of a row", f"{moved / rows / 2**20:.1f} MiB, the weights ({weights / 2**20:.1f} MiB) shared by {rows} rows"),
        Row("this machine: matrix product", f"{reachable / 1e9:,.0f} GFLOP/s"),
        Row("this machine: copying", f"{bandwidth / 2**30:,.1f} GiB/s"),
        Row("floor of a row", f"{floor / rows * 1e3:.3f} ms, by {'operations' if flops / reachable > moved / bandwidth else 'bytes'}"),
        Row("bare forward pass, a row", f"{times[0] / rows * 1e3:.3f} ms: {floor / times[0]:.0%} of what the floor allows"),
    ]


def run(args: argparse.Namespace) -> tuple[list[Row], dict[str, Any]]:
    """Measure; return the rows and the facts that they depend on."""
    device = pick_device(args.device)
    model = mia_hub.load_model(args.model, device=device, dtype=args.dtype)
    rows = args.batch_size or default_rows(model)
    conditions = facts(device, args.dtype, rows)
    return measure(model, rows, args.rounds), conditions


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("floor", __doc__)
    with_model(parser)
    with_batch_size(parser)
    parser.add_argument("--rounds", type=positive, default=5, help="(default: 5)")
    return parser


if __name__ == "__main__":
    raise SystemExit(finish(_parser(), run))
