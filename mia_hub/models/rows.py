"""How many rows go through a denoiser at once where nobody says."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from mia_hub.models.kept_choices import KeptChoices
from mia_hub.models.protocol import DiffusionModel
from mia_hub.system.memory import is_out_of_memory
from mia_hub.system.processes import current

# A CPU's caches are filled long before its memory is. Values of all samples of a batch: 64 samples of 3 x 32 x 32, 16 of Stable Diffusion's
# latents. A batch that is too large is not refused there but ends the process.
MOST_ON_CPU, MOST_VALUES = 64, 2**18
# Of an accelerator's memory; the rest is for what an attack holds beside the forward pass.
SHARE = 0.85
# Rows of the larger forward pass by which the memory of a row is measured, and rows beyond which nothing is gained.
MANY, MOST = 32, 8192


def default_rows(model: DiffusionModel) -> int:
    """Rows per forward pass where none are asked for: on CUDA as many as fill the memory at hand; the same in all processes."""
    if model.device.type != "cuda":
        return max(1, min(MOST_ON_CPU, MOST_VALUES // math.prod(model.info.sample_shape)))
    found = KeptChoices("row-memory").of(model, lambda: memory_of_rows(lambda rows: _peak(model, rows)))
    return current().first(lambda: 1 if found is None else rows_within(_at_hand(model.device), **found))


def memory_of_rows(peak: Callable[[int], int]) -> dict[str, float] | None:
    """What a forward pass holds, as `rows_within` takes it; None where memory runs out with two rows, and nothing can be said of more.

    Args:
        peak: bytes that a forward pass of so many rows holds at most; raises where memory runs out.
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
    """The most rows whose forward pass stays within some memory, at least 1.

    Its binary digits from the seventh on are 0, so that the rows of a run that goes on are most often those that it began with, though a
    little more or less memory is free; that leaves at most 1/32 of the memory unused.

    Args:
        memory: bytes.
        few: a number of rows.
        held: bytes that a forward pass of so many holds at most.
        each: bytes of each further row; if they are fewer with more rows, less memory is used than there is.
    """
    most = max(1, min(MOST, few + math.floor((memory - held) / each)))
    step = 2 ** max(0, most.bit_length() - 6)
    return most // step * step


def _at_hand(device: torch.device) -> int:
    free, total = torch.cuda.mem_get_info(device)
    # What torch holds in reserve is there for the batch, too.
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + reserve - int((1 - SHARE) * total)


def _peak(model: DiffusionModel, rows: int) -> int:
    """Beside what is held before, such as the weights."""
    # After a pass that ran out of memory, what it left in pieces is of no use to a smaller one.
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(model.device)
    torch.cuda.reset_peak_memory_stats(model.device)
    x, t, cond = probe(model, rows)
    with torch.no_grad():
        model.predict_noise(x, t, cond)
    return torch.cuda.max_memory_allocated(model.device) - before


# What images show around their middle: an even dark or light ground, on which denoisers predict little noise and rounding tells most, or
# nothing even. Their number shares no factor with that of `KINDS`, so that in turns all go with all.
GROUNDS = (0.0, None, 1.0)
IMAGES = 3 * len(GROUNDS)
# Shares of the schedule where attacks look, SimA at images without noise, the others at noised ones.
KINDS = [(part, noised) for part in (0.0, 0.01, 0.05, 0.1, 0.2) for noised in (False, True)]


def probe(model: DiffusionModel, rows: int, first: int = 0):
    """Inputs of a forward pass: smooth images, clean and noised in turns, over the part of the schedule where attacks look.

    Args:
        first: of `KINDS`, the kind of the first row; the others follow in turns.
    """
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((IMAGES, model.info.picture_shape[0], 4, 4), generator=generator)
    shown = [(first + row) % IMAGES for row in range(min(rows, IMAGES))]
    height, width = model.info.picture_shape[1:]
    pixels = torch.nn.functional.interpolate(small[shown], (height, width), mode="bilinear")
    around = torch.ones((height, width), dtype=torch.bool)
    around[height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    for image, which in zip(pixels, shown):
        if (ground := GROUNDS[which % len(GROUNDS)]) is not None:
            image[:, around] = ground
    x0 = model.to_model_space(pixels.to(model.device))
    x0 = x0.repeat(-(-rows // len(x0)), 1, 1, 1)[:rows]
    parts, noised = zip(*(KINDS[(first + row) % len(KINDS)] for row in range(rows)))
    t = torch.tensor([int(part * model.info.num_train_timesteps) for part in parts], device=x0.device)
    noise = torch.randn(x0.shape, generator=generator).to(x0)
    x = torch.where(torch.tensor(noised, device=x0.device).reshape(-1, 1, 1, 1), model.schedule.add_noise(x0, noise, t), x0)
    told = {"none": None, "class": [0] * rows, "text": [""] * rows}[model.info.conditioning]
    return x, t, model.condition(told)
