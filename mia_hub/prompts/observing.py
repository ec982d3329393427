"""A detector's statistic for each prompt and each draw, in batches, in one precision."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from tqdm.auto import tqdm

from mia_hub.attacks.querying import QueriedModel, full_precision
from mia_hub.attacks.scoring import PROGRESS_DELAY_SECONDS
from mia_hub.errors import ModelError, PromptError, integer_at_least
from mia_hub.models.conditions import GIVEN
from mia_hub.models.noise import SampleNoise
from mia_hub.models.precision import result_dtype
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.rows import default_rows
from mia_hub.prompts.batch import PromptBatch
from mia_hub.prompts.detector import PromptDetector
from mia_hub.rendering.text import one_line


@dataclass(frozen=True, eq=False)
class DrawnScores:
    """The statistic of each prompt at each draw. **Higher = more likely memorised.**

    Attributes:
        values: float64 ``[N, draws]``.
        queries: forward passes spent, counted in rows.
        seconds: wall-clock time spent.
        device: the device's name.
        remarks: what the reader of the results must know, by the names of `mia_hub.flags.FLAGS`.
    """

    values: npt.NDArray[np.float64]
    queries: int
    seconds: float
    device: str
    remarks: dict[str, str] = field(default_factory=dict)


def observe(
    detector: PromptDetector,
    model: DiffusionModel,
    prompts: Sequence[str],
    *,
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> DrawnScores:
    """Query a model for the statistic of prompts.

    The noise of a prompt is a function of the seed and its text alone, so that a score depends on no other prompt, and on no order.

    Args:
        detector: that was checked with the model.
        prompts: N texts.
        batch_size: rows per forward pass; by default as many as fit. Halved when memory runs out.
        seed: of the noise draws.
        progress: shows a progress bar.

    Raises:
        ModelError: if the model returns NaN or infinity, or memory runs out even for one row.
    """
    rows = default_rows(model) if batch_size is None else integer_at_least("batch_size", batch_size, 1, PromptError)
    queried = QueriedModel(model, rows)
    queried.count_truncated(prompts)
    started = time.perf_counter()
    with torch.no_grad(), full_precision():
        # If a part of the model is moved to a wider precision on the way, all prompts are scored again: no score depends on those before.
        while (values := _pass(detector, queried, prompts, seed, progress)) is None:
            queried.queries = 0
    return DrawnScores(values, queried.queries, time.perf_counter() - started, queried.device_name, queried.remarks(GIVEN))


def _pass(
    detector: PromptDetector, queried: QueriedModel, prompts: Sequence[str], seed: int, progress: bool
) -> npt.NDArray[np.float64] | None:
    """The statistics of all prompts; None if the model fell back to a wider precision meanwhile."""
    fallbacks, start, batches = queried.fallbacks, 0, []

    def next_batch() -> npt.NDArray[np.float64]:
        # The rows may be halved on the way, and the batch with them.
        return _batch(detector, queried, prompts[start : start + queried.rows], seed)

    bar = tqdm(total=len(prompts), unit="prompt", desc=detector.name, delay=PROGRESS_DELAY_SECONDS, disable=not progress)
    with bar:
        while start < len(prompts):
            values = queried.retry_with_fewer_rows(next_batch)
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
            if len(bad) and not queried.fall_back():
                raise ModelError(
                    f"{queried.info.id} returns NaN or infinity for {len(bad)} of {len(values)} prompts, the first of them "
                    f"{one_line(prompts[start + bad[0]], 60)!r}. Load it with dtype='float32', or check its weights."
                )
            if queried.fallbacks != fallbacks:
                return None
            batches.append(values)
            start += len(values)
            bar.update(len(values))
    return np.concatenate(batches)


def _batch(detector: PromptDetector, queried: QueriedModel, prompts: Sequence[str], seed: int) -> npt.NDArray[np.float64]:
    """The statistics of one batch, ``[n, draws]``."""
    model = queried.model
    batch = PromptBatch(queried, prompts, detector.start(model))
    noise = SampleNoise(prompts, queried.info.sample_shape, seed, model.device, result_dtype(model.dtype))
    statistics = [detector.statistic(batch, noise(batch.start, draw)) for draw in range(detector.draws)]
    values: npt.NDArray[np.float64] = torch.stack(statistics, dim=1).cpu().double().numpy()
    return values
