"""The base of all adapters: one diffusers denoiser that is queried for ε. A new family subclasses `NetworkModel`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, ClassVar

import torch

from mia_hub.models.conditions import class_indices, no_condition
from mia_hub.models.denoiser import PixelSpace
from mia_hub.models.families.scheduler_reading import network_times
from mia_hub.models.origin import Origin
from mia_hub.models.precision import DENOISER, PartPrecisions, result_dtype, wider_denoiser
from mia_hub.models.schedule import NoiseSchedule


class NetworkModel(PixelSpace, ABC):
    """A denoiser from diffusers, of pixels unless a subclass overrides that. A subclass declares its parts, and calls its network.

    Attributes:
        network: the denoiser.
        precisions: the precision of each part, and where a part that overflows moves to a wider one.
        null_class: of a class-conditional model the index that means "no class"; None if it was never trained without one.
        origin: how it was loaded; None for a model that was made of parts at hand.
        passes: returns the context of each pass through the denoiser or a text encoder, in which LoRAs are switched on or off.

    Class attributes:
        pipelines: the diffusers pipelines whose repositories it loads.
        components: the parts that it needs, and the classes that they may have; see `mia_hub.models.layout`.
        optional: the parts that a model may lack.
        denoiser: the part that is the denoiser.
        stated: entries of model_index.json, other than parts, that its constructor takes.
    """

    pipelines: ClassVar[tuple[str, ...]] = ()
    components: ClassVar[dict[str, tuple[str, ...]]] = {}
    optional: ClassVar[frozenset[str]] = frozenset()
    denoiser: ClassVar[str] = "unet"
    stated: ClassVar[tuple[str, ...]] = ()

    network: Any
    schedule: NoiseSchedule
    null_class: int | None = None
    origin: Origin | None = None
    passes: Callable[[], AbstractContextManager[None]] = nullcontext

    @classmethod
    def check(cls, configs: dict[str, Any], scheduler: Any, id: str, **options: Any) -> None:
        """Refuse a model that the adapter can't audit, from its configurations alone, before any weights are fetched.

        Args:
            configs: the configuration of each part that is a diffusers model, with defaults filled in.
            scheduler: a diffusers scheduler.
            id: of the model, for messages.
            options: of the constructor, such as ``size``, as far as they were set.

        Raises:
            ModelError: with the reason.
        """
        return

    def __init__(self, network: torch.nn.Module, schedule: NoiseSchedule, *, device: torch.device | str, dtype: torch.dtype):
        self.network = network.eval().requires_grad_(False)
        self.schedule, self.device, self.dtype = schedule, torch.device(device), dtype
        self.precisions = PartPrecisions(dtype)
        self.precisions.add(DENOISER, [network], wider_denoiser(self.device))

    @abstractmethod
    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        """The output of the network, ``[N, ≥ C, H, W]``; channels beyond the first C (learned variance) are ignored.

        Args:
            x: ``[N, C, H, W]`` in the network's precision.
            t: time as the network is conditioned on it, ``[N]``.
            cond: as `condition` returns it.
        """

    @cached_property
    def _times(self) -> torch.Tensor | None:
        return network_times(self.schedule, self.info.prediction_type)

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        x = x.to(result_dtype(self.dtype))
        time = t if self._times is None else self._times.to(x.dtype)[t.to(self._times.device)].to(t.device)
        # Of learned variance the first C of 2C channels are the prediction (Nichol & Dhariwal 2021).
        with self.passes():
            output = self.output(x.to(self.precisions.of(DENOISER)), time, cond)[:, : x.shape[1]].to(x.dtype)
        return self.schedule.to_epsilon(output, x, t, self.info.prediction_type)

    def condition(self, captions: Sequence[Any] | None) -> Any:
        if self.info.num_classes:
            return torch.tensor(class_indices(captions, self.info.num_classes, self.null_class, self.info.id), device=self.device)
        no_condition(captions, self.info.id)
        return None

    def truncated(self, captions: Sequence[str]) -> int:
        """Number of captions that are longer than the model's text encoders take, so that their ends are cut off."""
        return 0

    @property
    def fallbacks(self) -> dict[str, str]:
        """The parts that overflowed and the precision that they compute in since; recorded with results."""
        return self.precisions.fallbacks

    def fall_back(self) -> bool:
        """Move the denoiser to a wider precision after it returned NaN or infinity; False if no wider one can help."""
        return self.precisions.fall_back(DENOISER)

    def widen(self, part: str, dtype: torch.dtype) -> bool:
        """Move a part to a precision of greater range, as `PartPrecisions.widen`."""
        return self.precisions.widen(part, dtype)
