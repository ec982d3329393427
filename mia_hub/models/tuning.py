"""Which way of running a denoiser is fastest on this device, by a short measured trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mia_hub.errors import first_line
from mia_hub.models.kept_choices import KeptChoices
from mia_hub.models.network import Arrangement, NetworkModel
from mia_hub.models.rows import KINDS, default_rows, probe
from mia_hub.system.timing import seconds

# Largest relative deviation of a 4-norm of ε from the plain one, for any kind of input; norms of different images differ by some 30 %.
LARGEST_DEVIATION = 0.01
# What a way of running must gain before the plain one is left: less can be chance.
LEAST_GAIN = 1.05
ROUNDS = 3


@dataclass(frozen=True)
class Trial:
    """One way of running, as measured.

    Attributes:
        arrangement: the way.
        seconds: of one forward pass, the shortest of some rounds; infinite where it can't run.
        deviation: largest relative deviation of ‖ε‖₄ from the plain way's.
        failed: why it can't run, or "".
    """

    arrangement: Arrangement
    seconds: float
    deviation: float
    failed: str = ""

    @property
    def agrees(self) -> bool:
        return not self.failed and self.deviation <= LARGEST_DEVIATION


def tune(model: NetworkModel, rows: int | None = None, *, kept: Path | None = None) -> Arrangement:
    """Arranges a model as runs fastest here among the ways that agree with the plain one, and returns that.

    Args:
        model: in the precision that it was loaded in.
        rows: of a forward pass; `mia_hub.models.rows.default_rows` where left out.
        kept: folder where the choice is kept, mia_hub's own by default; what is there is not measured again.
    """
    rows = rows or default_rows(model)

    def measured() -> dict[str, Any]:
        return asdict(fastest(trial(model, rows, candidates(model.device.type))))

    arrangement = Arrangement(**KeptChoices("arrangement", kept).of(model, measured, more=f", {rows} rows, {len(KINDS)} kinds of input"))
    model.arrange(arrangement)
    return arrangement


def candidates(device: str) -> list[Arrangement]:
    """The ways to be tried, the plain one first; compiling, which takes minutes on a CPU and gains nothing there, on CUDA alone."""
    half = ("bfloat16", "float16") if device != "cpu" else ("bfloat16",)
    # CUDA graphs come with this mode.
    modes = ("", "reduce-overhead") if device == "cuda" else ("",)
    return [Arrangement(dtype, channels_last, mode) for mode in modes for dtype in ("", *half) for channels_last in (False, True)]


def trial(model: NetworkModel, rows: int, arrangements: Sequence[Arrangement]) -> list[Trial]:
    """Measures ways of running, of which the first is the one to agree with; leaves the model as it was."""
    # As many passes as it takes to ask every kind of input; one of them is timed.
    passes = [probe(model, rows, first) for first in range(0, len(KINDS), rows)]
    before = model.arrangement

    def norms(x: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        return torch.linalg.vector_norm(model.predict_noise(x, t, cond).flatten(1).double(), ord=4, dim=1)

    found, plain = [], torch.ones(())
    try:
        with torch.no_grad():
            for arrangement in arrangements:
                try:
                    model.arrange(arrangement)
                    seen = torch.cat([norms(*each) for each in passes])  # it is also the warm-up
                    plain = seen if not found else plain
                    deviation = float((seen / plain - 1).abs().nan_to_num(torch.inf).max())
                    shortest = min(seconds(lambda: norms(*passes[0]), model.device) for _ in range(ROUNDS))
                    found.append(Trial(arrangement, shortest, deviation))
                except (RuntimeError, NotImplementedError) as error:
                    if not found:
                        raise
                    found.append(Trial(arrangement, float("inf"), float("inf"), first_line(error)))
    finally:
        model.arrange(before)
    return found


def fastest(trials: Sequence[Trial]) -> Arrangement:
    """The fastest that agrees with the first, if it is clearly faster than it; else the first."""
    plain, *others = trials
    best = min((one for one in others if one.agrees), key=lambda one: one.seconds, default=plain)
    return best.arrangement if best.seconds * LEAST_GAIN < plain.seconds else plain.arrangement
