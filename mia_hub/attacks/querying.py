"""The model as an attack sees it: queries are counted, batched over timesteps, and split when memory runs out."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mia_hub.attacks.progress import Part, Progress
from mia_hub.attacks.reading import Batch
from mia_hub.errors import ModelError
from mia_hub.models.condition_rows import concatenated_conditions, condition_rows
from mia_hub.models.conditions import EMPTY
from mia_hub.models.precision import dtype_name, fallbacks_of, widen_parts
from mia_hub.models.protocol import DiffusionModel
from mia_hub.system.memory import is_out_of_memory


class QueriedModel:
    """Wraps a DiffusionModel for the length of one `Attack.score`.

    Attributes:
        schedule, info: the model's own.
        queries: forward passes so far, counted in images.
        rows: most rows that go through the denoiser at once; `halve` lowers it when memory runs out.
        pixels: the batch at hand at the model's image size, ``[N, C, H, W]`` in [0, 1].
        captions: of the batch at hand, or None.
        prepared: what the attack's `prepare` returned.
        overlong: captions that are longer than the model takes.
        progress: where finished work is kept, or None.
        earlier_seconds: what the work took that was found finished.
    """

    def __init__(self, model: DiffusionModel, rows: int):
        self.model, self.schedule, self.info = model, model.schedule, model.info
        self.rows, self.queries, self._tried = rows, 0, rows
        self.pixels: torch.Tensor | None = None
        self.captions: list[str] | None = None
        self.prepared: Any = None
        self.overlong = 0
        self.progress: Progress | None = None
        self.earlier_seconds = 0.0

    @property
    def device_name(self) -> str:
        device = self.model.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"

    def take(self, read: Callable[[], Batch], n: int, captions: list[str] | None) -> tuple[Batch, torch.Tensor]:
        """Makes ``n`` images that are read now the batch at hand; returns them, and x0 ``[n, …]``."""
        self._tried = n
        batch = read()
        self.captions, self.pixels = captions, batch.pixels
        return batch, self.model.to_model_space(self.pixels)

    @property
    def fallbacks(self) -> dict[str, str]:
        """Parts of the model that overflowed in half precision, and what they run in since."""
        return fallbacks_of(self.model)

    def count_overlong(self, captions: Sequence[str] | None) -> None:
        """Sets `overlong`."""
        count = getattr(self.model, "truncated", None)
        parts = range(0, len(captions), 1024) if captions is not None and count and self.info.conditioning == "text" else ()
        self.overlong = sum(count(captions[start : start + 1024]) for start in parts)

    def fall_back(self) -> bool:
        """Moves the denoiser to a wider precision, if there is one; see `mia_hub.models.precision`."""
        return getattr(self.model, "fall_back", lambda: False)()

    def widen(self, fallbacks: dict[str, str]) -> None:
        """Moves what overflowed elsewhere to a wider precision here, too."""
        widen_parts(self.model, fallbacks)

    def remarks(self, captions: str) -> dict[str, str]:
        """What the reader of the results must know, by the names of `mia_hub.flags.FLAGS`.

        Args:
            captions: where they came from, as `mia_hub.models.conditions` calls it.
        """
        found = {}
        if captions == EMPTY and self.queries:
            found["empty-captions"] = f"{self.info.id} is conditioned on {self.info.conditioning}, and was queried without"
        if self.overlong:
            found["captions-truncated"] = f"{self.overlong:,} captions are longer than the text encoder takes"
        if self.fallbacks:
            parts = ", ".join(f"{part} in {precision}" for part, precision in self.fallbacks.items())
            found["precision-fallback"] = f"values overflowed in {dtype_name(self.model.dtype)}; {parts}"
        return found

    def variant(self, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """x0 of the batch at hand with its pixels changed: ``change`` maps ``[N, C, H, W]`` in [0, 1] to the same."""
        return self.model.to_model_space(change(self.pixels))

    @contextmanager
    def changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[torch.Tensor]:
        """Within it the batch at hand is the changed one, so that an attack can be run on it; yields its x0."""
        before, self.pixels = self.pixels, change(self.pixels)
        try:
            yield self.model.to_model_space(self.pixels)
        finally:
            self.pixels = before

    def condition(self, captions: list[str] | None) -> Any:
        """The condition of the batch at hand under other captions."""
        return self.model.condition(captions)

    @contextmanager
    def differentiable(self) -> Iterator[list[torch.Tensor]]:
        """Within it `predict_noise` builds a graph; yields the denoiser's parameters, by which to differentiate."""
        parameters = list(self.model.network.parameters())
        wanted = [parameter.requires_grad for parameter in parameters]
        try:
            for parameter in parameters:
                parameter.requires_grad_(True)
            with torch.enable_grad():
                yield parameters
        finally:
            for parameter, before in zip(parameters, wanted):
                parameter.requires_grad_(before)

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor | int, cond: Any = None) -> torch.Tensor:
        """ε ``[N, …]`` of ``x`` ``[N, …]``, at most `rows` at once; ``t`` is one timestep or one per row."""
        t = torch.as_tensor(t, device=x.device).long().expand(len(x))
        parts = []
        for start in range(0, len(x), self.rows):
            stop = min(start + self.rows, len(x))
            self._tried = stop - start
            parts.append(self.model.predict_noise(x[start:stop], t[start:stop], condition_rows(cond, slice(start, stop))))
        self.queries += len(x)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def epsilons(self, timesteps: Sequence[int], inputs: Callable[[int, int], torch.Tensor], cond: Any = None) -> Iterator[torch.Tensor]:
        """ε of one batch at a series of timesteps; where the batch is small, several timesteps share a forward pass.

        Args:
            timesteps: the series; a timestep may occur more than once.
            inputs: ``inputs(i, t)`` is the input ``[N, C, H, W]`` of the i-th query of the series, at timestep t.
            cond: the batch's condition.

        Yields:
            ε ``[N, C, H, W]`` of each query, in order.
        """
        done = 0
        while done < len(timesteps):
            x = [inputs(done, timesteps[done])]
            group = timesteps[done : done + max(1, self.rows // len(x[0]))]
            x += [inputs(done + i, t) for i, t in enumerate(group[1:], start=1)]
            t = torch.as_tensor(group, device=x[0].device).repeat_interleave(len(x[0]))
            yield from self.predict_noise(torch.cat(x) if len(x) > 1 else x[0], t, concatenated_conditions([cond] * len(group))).split(
                len(x[0])
            )
            done += len(group)

    def kept(self, name: str, work: Callable[[], tuple[list[str], np.ndarray]], holds: Callable[[list[str]], bool] | None = None) -> Part:
        """Work as it was finished before, or else done now and kept.

        Args:
            name: of the work, among all that is kept of this attack; fit for a file.
            work: returns the content ids of the images that it was done on, and what came of it.
            holds: whether the images that it was done on before are those that it would be done on now.
        """
        part = self.progress and self.progress.find(name)
        if part is not None and (holds is None or holds(part.ids)):
            self.rows, self.queries, self.earlier_seconds = part.rows, self.queries + part.queries, self.earlier_seconds + part.seconds
            return part
        started, queries, wide = time.perf_counter(), self.queries, self.fallbacks
        ids, values = work()
        # Laid out as it would be read back, since sums may depend on that in their last digits.
        part = Part(ids, np.ascontiguousarray(values), self.rows, self.queries - queries, time.perf_counter() - started)
        # What was begun in one precision and ended in another is of no use.
        if self.progress is not None and self.fallbacks == wide:
            self.progress.keep(name, part)
        return part

    def halve(self, error: Exception) -> None:
        """Halves `rows` after an out-of-memory error, so that the batch can be tried again; any other error passes through.

        Raises:
            ModelError: if a single row was too much.
        """
        if not is_out_of_memory(error):
            raise error
        if self._tried <= 1:
            raise ModelError(
                f"Out of memory on {self.device_name}: {self.info.id} can't run even one image at a time here (the batch was halved down "
                "to 1). Use a device with more memory, or load the model with dtype='bfloat16'."
            ) from error
        self.rows = self._tried // 2
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()


_counting, _inside, _allowed = threading.Lock(), 0, True


@contextmanager
def full_precision():
    """On CUDA, float32 convolutions would otherwise run in TF32, with 10 bits of mantissa, and scores would depend on the device."""
    global _inside, _allowed
    # The setting is the process's: of several threads, the first one inside changes it, and the last one out changes it back.
    with _counting:
        if not _inside:
            _allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
        _inside += 1
    try:
        yield
    finally:
        with _counting:
            _inside -= 1
            if not _inside:
                torch.backends.cudnn.allow_tf32 = _allowed
