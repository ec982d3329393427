"""How many rows go through a denoiser at once where nobody says."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from mia_hub.models.kept_choices import KeptChoices
from mia_hub.models.protocol import DiffusionModel

# A CPU's caches are filled long before its memory is. Values of all samples of a batch: 64 samples of 3 x 32 x 32, 16 of Stable Diffusion's
# latents. A batch that is too large is not refused there but ends the process.
MOST_ON_CPU, MOST_VALUES = 64, 2**18
# Of an accelerator's memory; the rest is for what an attack holds beside the forward pass.
SHARE = 0.85
# Forward passes by which the memory of a row is measured, and beyond which nothing is gained.
FEW, MANY, MOST = 8, 32, 8192


def default_rows(model: DiffusionModel) -> int:
    """Rows per forward pass where none are asked for: on CUDA as many as fill its memory, measured once for a model and device."""
    if model.device.type != "cuda":
        return max(1, min(MOST_ON_CPU, MOST_VALUES // math.prod(model.info.sample_shape)))

    def measured() -> int:
        free, total = torch.cuda.mem_get_info(model.device)
        # What torch holds in reserve is there for the batch, too.
        own = torch.cuda.memory_reserved(model.device)
        held = total - free - own
        return rows_that_fit(lambda rows: _peak(model, rows), int(SHARE * total) - held)

    return KeptChoices("rows").of(model, measured)


def rows_that_fit(peak: Callable[[int], int], memory: int) -> int:
    """The most rows whose forward pass stays within some memory, at least 1.

    Args:
        peak: bytes that are held at most during a forward pass of so many rows, with the weights; rises by the same for each row, or by
            less where some of it doesn't depend on them.
        memory: bytes.
    """
    few, many = peak(FEW), peak(MANY)
    each = max(1.0, (many - few) / (MANY - FEW))
    return max(1, min(MOST, FEW + math.floor((memory - few) / each)))


def _peak(model: DiffusionModel, rows: int) -> int:
    x, t, cond = probe(model, rows)
    torch.cuda.reset_peak_memory_stats(model.device)
    with torch.no_grad():
        model.predict_noise(x, t, cond)
    return torch.cuda.max_memory_allocated(model.device)


PROBE_PICTURES = 8


def probe(model: DiffusionModel, rows: int):
    """Inputs of a forward pass: noised smooth pictures, at a tenth of the schedule, where attacks look."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((min(rows, PROBE_PICTURES), model.info.picture_shape[0], 4, 4), generator=generator)
    pixels = torch.nn.functional.interpolate(small, model.info.picture_shape[1:], mode="bilinear")
    x0 = model.to_model_space(pixels.to(model.device))
    x0 = x0.repeat(-(-rows // len(x0)), 1, 1, 1)[:rows]
    t = torch.full((rows,), model.info.num_train_timesteps // 10, device=x0.device)
    noise = torch.randn(x0.shape, generator=generator).to(x0)
    told = {"none": None, "class": [0] * rows, "text": [""] * rows}[model.info.conditioning]
    return model.schedule.add_noise(x0, noise, t), t, model.condition(told)
