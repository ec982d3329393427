"""The default batch size: rows that go through a denoiser at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from mia_hub.models.measurements import StoredMeasurements
from mia_hub.models.protocol import DiffusionModel
from mia_hub.system.memory import is_out_of_memory
from mia_hub.system.processes import current_processes

# A CPU's caches are filled long before its memory is. Values of all samples of a batch: 64 samples of 3 x 32 x 32, 16 of Stable Diffusion's
# latents. A batch that is too large is not refused there but ends the process.
MOST_ON_CPU, MOST_VALUES = 64, 2**18
# Share of an accelerator's memory; the rest is for what an attack holds beside the forward pass.
SHARE = 0.85
# Rows of the larger forward pass by which the memory of a row is measured, and rows beyond which nothing is gained.
MANY, MOST = 32, 8192
# Different images among the rows of `sample_queries`: enough to fill an autoencoder, which encodes a few at a time.
IMAGES = 9


def default_rows(model: DiffusionModel) -> int:
    """Rows per forward pass where the caller names no batch size: on CUDA as many as fit in the free memory; the same in all processes."""
    if model.device.type != "cuda":
        return max(1, min(MOST_ON_CPU, MOST_VALUES // math.prod(model.info.sample_shape)))
    memory = StoredMeasurements("row-memory").of(model, lambda: memory_of_rows(lambda rows: _peak_memory(model, rows)))
    return current_processes().first(lambda: 1 if memory is None else rows_within(_free_memory(model.device), **memory))


def memory_of_rows(peak: Callable[[int], int]) -> dict[str, float] | None:
    """The memory of a forward pass, as `rows_within` takes it; None if memory runs out with two rows, so that it can't be measured.

    Args:
        peak: returns the peak memory, in bytes, of a forward pass of a number of rows; raises if memory runs out.
    """
    many = MANY
    while many > 1:
        few = max(1, many // 4)
        try:
            low, high = peak(few), peak(many)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            many //= 2
        else:
            return {"few": few, "held": low, "each": max(1.0, (high - low) / (many - few))}
    return None


def rows_within(memory: int, few: int, held: int, each: float) -> int:
    """The most rows whose forward pass fits within some memory, at least 1.

    Its binary digits from the seventh on are 0, so that a resumed run most often has the rows that it began with, though a little more or
    less memory is free; that leaves at most 1/32 of the memory unused.

    Args:
        memory: bytes.
        few: a number of rows.
        held: peak memory, in bytes, of a forward pass of ``few`` rows.
        each: bytes of each further row; if larger batches need fewer, some memory stays unused.
    """
    most = max(1, min(MOST, few + math.floor((memory - held) / each)))
    step: int = 1 << max(0, most.bit_length() - 6)
    return most // step * step


def _free_memory(device: torch.device) -> int:
    free, total = torch.cuda.mem_get_info(device)
    # Memory that torch holds in reserve is free for the batch, too.
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + reserve - int((1 - SHARE) * total)


def _peak_memory(model: DiffusionModel, rows: int) -> int:
    """Peak memory, in bytes, of a forward pass, beyond what is held before it, such as the weights."""
    # After a pass that ran out of memory, the fragments that it left are of no use to a smaller one.
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(model.device)
    torch.cuda.reset_peak_memory_stats(model.device)
    x, t, cond = sample_queries(model, rows)
    with torch.no_grad():
        model.predict_noise(x, t, cond)
    return torch.cuda.max_memory_allocated(model.device) - before


def sample_queries(model: DiffusionModel, rows: int, share: float = 0.1) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Inputs of a forward pass, ``(x, t, cond)``: noised smooth images, with an empty caption or the first class.

    Args:
        rows: number of images.
        share: of the schedule, in [0, 1): the timestep of all images.
    """
    generator = torch.Generator().manual_seed(0)
    channels, height, width = model.info.picture_shape
    small = torch.rand((min(rows, IMAGES), channels, 4, 4), generator=generator)
    pixels = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")
    x0 = model.to_model_space(pixels.to(model.device))
    x0 = x0.repeat(-(-rows // len(x0)), 1, 1, 1)[:rows]
    t = torch.full((rows,), int(share * model.info.num_train_timesteps), device=x0.device)
    noise = torch.randn(x0.shape, generator=generator).to(x0)
    captions: Any = {"none": None, "class": [0] * rows, "text": [""] * rows}[model.info.conditioning]
    return model.schedule.add_noise(x0, noise, t), t, model.condition(captions)
