"""What all models loaded through diffusers share: one network, asked for ε, in a precision that may prove too narrow."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from mia_hub.models.conditions import class_indices, no_condition
from mia_hub.models.protocol import ModelInfo, dtype_name, result_dtype
from mia_hub.models.schedule import NoiseSchedule
from mia_hub.models.schedules import network_times


@dataclass(frozen=True)
class Arrangement:
    """How a denoiser is run; the default is as it was loaded.

    Attributes:
        dtype: the denoiser's precision, such as "bfloat16", or "" for that of the model.
        channels_last: whether channels vary fastest in memory.
        compiled: the mode in which torch.compile compiles it, or "".
    """

    dtype: str = ""
    channels_last: bool = False
    compiled: str = ""

    def __str__(self) -> str:
        parts = [self.dtype, "channels-last" if self.channels_last else "", f"compiled ({self.compiled})" if self.compiled else ""]
        return ", ".join(part for part in parts if part)


class NetworkModel(ABC):
    """A denoiser from diffusers. Subclasses say how it is called (`output`), and what lies around it.

    Attributes:
        fallbacks: parts that overflowed in half precision and what they now run in, such as {"autoencoder": "float32"}. It grows when an
            overflow is met, and is recorded with results.
        null_class: of a class-conditional model the index that means "no class"; None if it was never trained without one.

    Class attributes:
        pipelines: the diffusers pipelines whose repositories it loads.
        components: the parts that it needs, and the classes that they may have; see `mia_hub.models.layout`.
        optional: which of them a model may lack.
        denoiser: which of them is the denoiser.
        stated: entries of model_index.json, other than parts, that it is constructed with.
    """

    pipelines: ClassVar[tuple[str, ...]] = ()
    components: ClassVar[dict[str, tuple[str, ...]]] = {}
    optional: ClassVar[frozenset[str]] = frozenset()
    denoiser: ClassVar[str] = "unet"
    stated: ClassVar[tuple[str, ...]] = ()

    info: ModelInfo
    schedule: NoiseSchedule
    null_class: int | None = None

    @classmethod
    def check(cls, configs: dict[str, Any], scheduler, id: str, **options: Any) -> None:
        """Refuses what the adapter can't take, from the configurations alone, before any weights are fetched.

        Args:
            configs: the configuration of each part that is a diffusers model, with defaults filled in.
            scheduler: as loaded.
            id: the model's, for messages.
            options: those of the constructor that were given, such as ``size``.

        Raises:
            ModelError: with the reason.
        """
        return

    def __init__(self, network: torch.nn.Module, schedule: NoiseSchedule, *, device, dtype: torch.dtype):
        self.network = network.eval().requires_grad_(False)
        self.schedule, self.device, self.dtype = schedule, torch.device(device), dtype
        self.fallbacks: dict[str, str] = {}
        self._network_dtype = dtype
        self.arrangement = Arrangement()
        # The denoiser as it was loaded, once it is run in a narrower precision.
        self._loaded: torch.nn.Module | None = None

    @abstractmethod
    def output(self, x: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        """What the network puts out, ``[N, ≥ C, H, W]``; channels beyond the first C (learned variance) are ignored.

        Args:
            x: ``[N, C, H, W]`` in the network's precision.
            t: what the network is told of time, ``[N]``.
            cond: what `condition` made of the captions.
        """

    @property
    def denoiser_dtype(self) -> torch.dtype:
        """The denoiser's precision at this moment, which is the model's unless it overflowed there or is run otherwise."""
        return self._network_dtype

    @cached_property
    def _times(self) -> torch.Tensor | None:
        return network_times(self.schedule, self.info.prediction_type)

    def predict_noise(self, x: torch.Tensor, t: torch.Tensor, cond: Any = None) -> torch.Tensor:
        x = x.to(result_dtype(self.dtype))
        times = self._times
        told = t if times is None else times.to(x.dtype)[t.to(times.device)].to(t.device)
        # Of learned variance the first C of 2C channels are the prediction (Nichol & Dhariwal 2021).
        layout = torch.channels_last if self.arrangement.channels_last else torch.preserve_format
        output = self.output(x.to(self._network_dtype, memory_format=layout), told, cond)[:, : x.shape[1]].to(x.dtype)
        if self.arrangement.compiled:  # the next run of a CUDA graph overwrites what this one put out
            output = output.clone()
        return self.schedule.to_epsilon(output, x, t, self.info.prediction_type)

    def arrange(self, arrangement: Arrangement) -> None:
        """Runs the denoiser in another way, which results record among the model's settings."""
        if self.arrangement.compiled:
            self.network._compiled_call_impl = None
        if self._loaded is not None:
            self.network, self._loaded = self._loaded.to(self.device), None
        if arrangement.dtype:
            narrow = copy.deepcopy(self.network).to(getattr(torch, arrangement.dtype))
            # Out of the way of batches, where the device has a memory of its own.
            self._loaded, self.network = self.network.to("cpu"), narrow
        self.network.to(memory_format=torch.channels_last if arrangement.channels_last else torch.contiguous_format)
        if arrangement.compiled:
            self.network.compile(mode=arrangement.compiled)
        self._network_dtype = getattr(torch, arrangement.dtype) if arrangement.dtype else self.dtype
        self.arrangement = arrangement
        self.info.settings.pop("denoiser", None)
        if str(arrangement):
            self.info.settings["denoiser"] = str(arrangement)

    def condition(self, captions: Sequence[str] | Sequence[int] | None) -> Any:
        if self.info.conditioning == "class":
            return torch.tensor(class_indices(captions, self.info.num_classes, self.null_class, self.info.id), device=self.device)
        return no_condition(captions, self.info.id)

    def truncated(self, captions: Sequence[str]) -> int:
        """How many of the captions are longer than the model's text encoders take, so that their ends are cut off."""
        return 0

    def fall_back(self) -> bool:
        """Moves the denoiser from float16 to a wider precision, after it gave NaN or infinity; False if it is wide enough already.

        bfloat16 has the range of float32 in the same memory; where the device lacks it, float32 it is.
        """
        if self._network_dtype != torch.float16:
            return False
        wider = torch.bfloat16 if self.device.type != "cuda" or torch.cuda.is_bf16_supported() else torch.float32
        self.widen("denoiser", wider)
        return True

    def widen(self, what: str, to: torch.dtype) -> None:
        """Moves a part of the model that overflowed to a wider precision, and records that.

        Args:
            what: a key of `movable`.
        """
        for part in self.movable[what]:
            part.to(dtype=to)
        if what == "denoiser":
            self._network_dtype = to
        self.fallbacks = self.fallbacks | {what: dtype_name(to)}

    @property
    def movable(self) -> dict[str, Sequence[torch.nn.Module]]:
        """What can be moved to a wider precision, by the names that results record."""
        return {"denoiser": [self.network]}
