"""The model as an attack queries it: queries are counted, timesteps share forward passes, and batches are split when memory runs out."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.batch_reading import ImageBatch
from mia_hub.attacks.finished_batches import FinishedBatch, FinishedBatches
from mia_hub.errors import ModelError
from mia_hub.models.bases import base_captions, base_of, loaded_base, shares_encoder
from mia_hub.models.condition_rows import concatenated_conditions, condition_rows
from mia_hub.models.conditions import EMPTY
from mia_hub.models.precision import dtype_name, fallbacks_of, widen_parts
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.reference_models import reference_models
from mia_hub.system.memory import is_out_of_memory

Result = TypeVar("Result")
# Captions that are tokenized at once, to count those that are cut.
CAPTIONS_AT_ONCE = 1024
# Before the names of parts of the base, and of a reference model, that overflowed.
OF_BASE, OF_REFERENCE_MODEL = "base's ", "reference model {}'s "


class QueriedModel:
    """A DiffusionModel for the length of one `Attack.score`.

    Attributes:
        model: the model itself; or its base, or a reference model, while that is queried.
        schedule, info: the model's own.
        queries: forward passes so far, counted in images.
        rows: most rows per forward pass; halved when memory runs out.
        pixels: the current batch at the model's image size, ``[N, C, H, W]`` in [0, 1].
        captions: of the current batch, or None.
        prepared: the result of the attack's `prepare`.
        truncated_captions: the number of captions that are longer than the model takes.
        finished: the store of finished batches, or None.
        earlier_seconds: the time that the stored batches took when they were computed.
        at_work: called once the model is, or is about to be, at work on a query, so that other work can be done meanwhile.
    """

    def __init__(self, model: DiffusionModel, rows: int):
        self.model, self.schedule, self.info = model, model.schedule, model.info
        self.rows, self.queries, self._attempted_rows = rows, 0, rows
        self.pixels: torch.Tensor = torch.empty(0)
        self.captions: list[Any] | None = None
        self.prepared: Any = None
        self.truncated_captions = 0
        self.finished: FinishedBatches | None = None
        self.earlier_seconds = 0.0
        self.at_work: Callable[[], None] = lambda: None

    @property
    def device_name(self) -> str:
        """The accelerator's name, or the kind of device and machine."""
        device = self.model.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"

    def load_batch(self, read: Callable[[], ImageBatch], size: int, captions: list[Any] | None) -> tuple[ImageBatch, torch.Tensor]:
        """Make a batch the current one.

        Args:
            read: returns the batch.
            size: the number of its images, n.
            captions: of its images, or None.

        Returns:
            The batch, and its x0 ``[n, C, H, W]``.
        """
        self._attempted_rows = size
        batch = read()
        self.captions, self.pixels = captions, batch.pixels
        return batch, self.model.to_model_space(self.pixels)

    @property
    def fallbacks(self) -> dict[str, str]:
        """Parts of the model, and of those that it is compared with, that overflowed, and the precision that they run in since."""
        of_others = {f"{prefix}{part}": wider for prefix, other in self._companions.items() for part, wider in fallbacks_of(other).items()}
        return fallbacks_of(self.model) | of_others

    @property
    def _companions(self) -> dict[str, DiffusionModel]:
        """The base and the reference models, if they have weights of their own, by what stands before the names of their parts."""
        base = loaded_base(self.model)
        others = {OF_REFERENCE_MODEL.format(i): other for i, other in enumerate(reference_models(self.model), start=1)}
        others |= {} if base is None else {OF_BASE: base}
        return {prefix: other for prefix, other in others.items() if other.network is None or other.network is not self.model.network}

    def count_truncated(self, captions: Sequence[Any] | None) -> None:
        """Set `truncated_captions`."""
        count = getattr(self.model, "truncated", None)
        if captions is None or count is None or self.info.conditioning != "text":
            self.truncated_captions = 0
            return
        starts = range(0, len(captions), CAPTIONS_AT_ONCE)
        self.truncated_captions = sum(count(captions[start : start + CAPTIONS_AT_ONCE]) for start in starts)

    def fall_back(self) -> bool:
        """Move the denoiser to a wider precision, and return whether there is one; see `mia_hub.models.precision`."""
        fall_back: Callable[[], bool] | None
        for model in (self.model, *self._companions.values()):
            fall_back = getattr(model, "fall_back", None)
            if fall_back is not None and fall_back():
                return True
        return False

    def widen(self, fallbacks: dict[str, str]) -> None:
        """Move parts that overflowed in other processes to the same wider precision here."""
        own = dict(fallbacks)
        for prefix, other in self._companions.items():
            theirs = [part for part in own if part.startswith(prefix)]
            widen_parts(other, {part.removeprefix(prefix): own.pop(part) for part in theirs})
        widen_parts(self.model, own)

    def remarks(self, caption_source: str, timesteps: Sequence[int] = ()) -> dict[str, str]:
        """Return what the reader of the results must know, by the names of `mia_hub.flags.FLAGS`.

        Args:
            caption_source: one of the constants of `mia_hub.models.conditions`.
            timesteps: of the attack.
        """
        remarks = {}
        own: tuple[int, ...] | None = getattr(self.model, "trained_timesteps", None)
        if own is not None and (others := sorted(set(timesteps) - set(own))) and self.queries:
            shown = f"{', '.join(map(str, others[:3]))}{', …' * (len(others) > 3)}"
            remarks["untrained-timesteps"] = (
                f"{self.info.id} was distilled at {len(own)} timesteps from {own[0]} to {own[-1]}, and was queried at {shown}"
            )
        if caption_source == EMPTY and self.queries:
            remarks["empty-captions"] = f"{self.info.id} is conditioned on {self.info.conditioning}, and was queried without"
        if self.truncated_captions:
            remarks["captions-truncated"] = f"{self.truncated_captions:,} captions are longer than the text encoder takes"
        if self.fallbacks:
            parts = ", ".join(f"{part} in {precision}" for part, precision in self.fallbacks.items())
            remarks["precision-fallback"] = f"values overflowed in {dtype_name(self.model.dtype)}; {parts}"
        return remarks

    def variant(self, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return x0 of the current batch with its pixels changed; ``change`` maps ``[N, C, H, W]`` in [0, 1] to the same."""
        return self.model.to_model_space(change(self.pixels))

    @contextmanager
    def changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[torch.Tensor]:
        """Make the changed batch the current one, so that an attack can be run on it; yields its x0."""
        before, self.pixels = self.pixels, change(self.pixels)
        try:
            yield self.model.to_model_space(self.pixels)
        finally:
            self.pixels = before

    @contextmanager
    def queried(self, other: DiffusionModel) -> Iterator[None]:
        """Make another model the one that is queried, with the same batch: the base or a reference model; queries go on being counted."""
        model, captions = self.model, self.captions
        try:
            self._query(other, base_captions(model, other, captions, len(self.pixels)))
            yield
        finally:
            self._query(model, captions)

    def base_queried(self) -> AbstractContextManager[None]:
        """Make the model's base the one that is queried; see `queried`."""
        return self.queried(base_of(self.model))

    def _query(self, model: DiffusionModel, captions: list[Any] | None) -> None:
        self.model, self.schedule, self.info, self.captions = model, model.schedule, model.info, captions

    @contextmanager
    def on(self, other: DiffusionModel, x0: torch.Tensor) -> Iterator[tuple[torch.Tensor, Any]]:
        """Make another model the one that is queried; yields x0 and the condition of the current batch, as that one takes them.

        Args:
            other: the base or a reference model.
            x0: the batch in the model space of the model.
        """
        model = self.model
        with self.queried(other):
            yield x0 if shares_encoder(model, other) else other.to_model_space(self.pixels), self.condition(self.captions)

    def on_base(self, x0: torch.Tensor) -> AbstractContextManager[tuple[torch.Tensor, Any]]:
        """Make the base the one that is queried; see `on`."""
        return self.on(base_of(self.model), x0)

    def condition(self, captions: list[Any] | None) -> Any:
        """Return the condition of the current batch under other captions."""
        return self.model.condition(captions)

    @contextmanager
    def differentiable(self) -> Iterator[list[torch.Tensor]]:
        """Make `predict_noise` build a graph; yields the denoiser's parameters, by which to differentiate."""
        assert self.model.network is not None, "Attack.check refuses a model without a network"
        parameters: list[torch.Tensor] = list(self.model.network.parameters())
        required = [parameter.requires_grad for parameter in parameters]
        try:
            for parameter in parameters:
                parameter.requires_grad_(True)
            with torch.enable_grad():
                yield parameters
        finally:
            for parameter, before in zip(parameters, required):
                parameter.requires_grad_(before)

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor | int, cond: Any = None) -> torch.Tensor:
        """Return ε ``[N, C, H, W]``, computed at most `rows` rows at once.

        Args:
            x: ``[N, C, H, W]`` in model space.
            t: one timestep, or one per row.
            cond: the rows' condition.
        """
        t = torch.as_tensor(t, device=x.device).long().expand(len(x))
        parts = []
        for start in range(0, len(x), self.rows):
            stop = min(start + self.rows, len(x))
            self._attempted_rows = stop - start
            # An accelerator is at work when it has been given all of the query.
            if self.model.device.type == "cpu":
                self.at_work()
            parts.append(self.model.predict_noise(x[start:stop], t[start:stop], condition_rows(cond, slice(start, stop))))
            self.at_work()
        self.queries += len(x)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def epsilons(self, timesteps: Sequence[int], inputs: Callable[[int, int], torch.Tensor], cond: Any = None) -> Iterator[torch.Tensor]:
        """Yield ε of one batch at a series of timesteps; if the batch is small, several timesteps share a forward pass.

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
            epsilons = self.predict_noise(torch.cat(x) if len(x) > 1 else x[0], t, concatenated_conditions([cond] * len(group)))
            yield from torch.split(epsilons, len(x[0]))
            done += len(group)

    def kept(
        self, name: str, work: Callable[[], tuple[list[str], npt.NDArray[Any]]], holds: Callable[[list[str]], bool] | None = None
    ) -> FinishedBatch:
        """Return the stored result of some work, or do the work and store its result.

        Args:
            name: of the work, among all work of this attack; used as a file's name.
            work: returns the content ids of the images that it was done on, and its result ``[n, …]``.
            holds: returns whether the stored result's ids are those of the images that the work would be done on.
        """
        stored = None if self.finished is None else self.finished.read(name)
        if stored is not None and (holds is None or holds(stored.ids)):
            self.rows, self.queries = stored.rows, self.queries + stored.queries
            self.earlier_seconds += stored.seconds
            return stored
        started, queries, fallbacks = time.perf_counter(), self.queries, self.fallbacks
        ids, values = work()
        # Laid out as it would be read back, since the last digits of sums may depend on the layout.
        batch = FinishedBatch(ids, np.ascontiguousarray(values), self.rows, self.queries - queries, time.perf_counter() - started)
        # Work that began in one precision and ended in another is of no use.
        if self.finished is not None and self.fallbacks == fallbacks:
            self.finished.write(name, batch)
        return batch

    def retry_with_fewer_rows(self, work: Callable[[], Result]) -> Result:
        """Return the result of some work that queries the model; whenever memory runs out, halve `rows` and do the work again.

        Raises:
            ModelError: if memory runs out even for a single row.
        """
        while True:
            queries = self.queries
            try:
                return work()
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                self._halve_rows(error)
                self.queries = queries

    def _halve_rows(self, error: Exception) -> None:
        """Halve `rows` after an out-of-memory error; any other error passes through."""
        if not is_out_of_memory(error):
            raise error
        if self._attempted_rows <= 1:
            raise ModelError(
                f"Out of memory on {self.device_name}: {self.info.id} can't run even one image at a time here (the batch was halved down "
                "to 1). Use a device with more memory, or load the model with dtype='bfloat16'."
            ) from error
        self.rows = self._attempted_rows // 2
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()


_counter_lock, _threads_inside, _tf32_before = threading.Lock(), 0, True


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 convolutions on CUDA in float32.

    In TF32, the default, they have 10 bits of mantissa, and scores would depend on the device.
    """
    global _threads_inside, _tf32_before
    # The setting belongs to the process: the first of several threads changes it, and the last one changes it back.
    with _counter_lock:
        if not _threads_inside:
            _tf32_before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
        _threads_inside += 1
    try:
        yield
    finally:
        with _counter_lock:
            _threads_inside -= 1
            if not _threads_inside:
                torch.backends.cudnn.allow_tf32 = _tf32_before
