"""The precision that a model computes in, and the one place where a part that overflows in half precision moves to a wider one.

A probe meets most overflows when the model is loaded. An autoencoder or a text encoder that overflows later does the same work again in
float32 (`PartPrecisions.finite`). The overflow of a denoiser shows in an attack's scores; the attack then calls ``model.fall_back()``, and
scores all images again. Results record ``model.fallbacks``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from mia_hub.models.families.base import NetworkModel
    from mia_hub.models.protocol import DiffusionModel

Result = TypeVar("Result")
# The parts, as results name them.
DENOISER, AUTOENCODER, TEXT_ENCODER = "denoiser", "autoencoder", "text encoder"
HALF = (torch.float16, torch.bfloat16)
# Shares of the schedule at which a model is probed when it is loaded: images without noise, and half noise.
PROBED = (0.0, 0.5)


def dtype_name(dtype: torch.dtype) -> str:
    """The precision as results write it: "float32"."""
    return str(dtype).removeprefix("torch.")


def result_dtype(dtype: torch.dtype) -> torch.dtype:
    """Precision of x0 and ε between queries: float64 for a float64 model, else float32, also where the network runs in half precision."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class _Part:
    modules: Sequence[torch.nn.Module]
    # The precision that the part moves to from each one that it can overflow in.
    wider: Mapping[torch.dtype, torch.dtype]


class PartPrecisions:
    """The precision of each part of a model: that of the model, or a wider one once the part has overflowed.

    Args:
        dtype: the precision that all parts were loaded in.

    Attributes:
        fallbacks: the parts that overflowed and the precision that they compute in since, such as ``{"autoencoder": "float32"}``. A new
            dictionary replaces it at each overflow, so that a caller can compare it with an earlier one.
    """

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.fallbacks: dict[str, str] = {}
        self._parts: dict[str, _Part] = {}

    def add(self, name: str, modules: Sequence[torch.nn.Module], wider: Mapping[torch.dtype, torch.dtype] | None = None) -> None:
        """Register a part.

        Args:
            name: as results call it.
            modules: what moves to a wider precision together.
            wider: the next precision, for each one that the part can overflow in; by default float32 for both half precisions.
        """
        self._parts[name] = _Part(modules, dict.fromkeys(HALF, torch.float32) if wider is None else wider)

    def of(self, name: str) -> torch.dtype:
        """The precision of a part at this moment."""
        dtype: torch.dtype = getattr(torch, self.fallbacks.get(name, dtype_name(self.dtype)))
        return dtype

    def widen(self, name: str, dtype: torch.dtype) -> bool:
        """Move a part to a precision of greater range, and record that; False if the model has no such part, or its range is no greater."""
        if name not in self._parts or torch.finfo(self.of(name)).max >= torch.finfo(dtype).max:
            return False
        for module in self._parts[name].modules:
            module.to(dtype=dtype)
        self.fallbacks = self.fallbacks | {name: dtype_name(dtype)}
        return True

    def fall_back(self, name: str) -> bool:
        """Move a part that overflowed to the next wider precision; False if it has none."""
        wider = self._parts[name].wider.get(self.of(name))
        return wider is not None and self.widen(name, wider)

    def finite(self, name: str, work: Callable[[], Result], *inputs: torch.Tensor) -> Result:
        """The result of some work of a part, done again in a wider precision if it overflows.

        Args:
            name: of the part.
            work: returns a tensor, or a dict of tensors.
            inputs: of the work; where they have NaN or infinity already, the part didn't overflow.
        """
        result = work()
        while not _is_finite(result) and all(map(_is_finite, inputs)) and self.fall_back(name):
            result = work()
        return result


def _is_finite(result: Any) -> bool:
    return all(bool(value.isfinite().all()) for value in (result.values() if isinstance(result, Mapping) else [result]))


def wider_denoiser(device: torch.device) -> dict[torch.dtype, torch.dtype]:
    """The next precision of a denoiser that overflows in float16: bfloat16, which has the range of float32 in half the memory, where the
    device has it."""
    supported = device.type != "cuda" or torch.cuda.is_bf16_supported()
    return {torch.float16: torch.bfloat16 if supported else torch.float32}


def probe_precision(model: NetworkModel) -> None:
    """Query a float16 model once or twice, so that parts that overflow move to a wider precision before anything is scored.

    A model in another precision is left alone: bfloat16 has the range of float32.
    """
    if model.dtype != torch.float16:
        return
    from mia_hub.models.rows import sample_queries

    # What fails here for another reason, such as too little memory, fails in the first query too, where that is reported.
    with suppress(RuntimeError, MemoryError), torch.no_grad():
        for share in PROBED:
            x, t, cond = sample_queries(model, 1, share)
            while not _is_finite(model.predict_noise(x, t, cond)) and model.fall_back():
                pass


def predicts_zero(model: DiffusionModel) -> bool:
    """Whether a model predicts exactly 0 as the noise, as one with weights of zero or with an untrained last layer does."""
    from mia_hub.models.rows import sample_queries

    with torch.no_grad():
        return not bool(model.predict_noise(*sample_queries(model, 1, PROBED[-1])).any())


def fallbacks_of(model: DiffusionModel) -> dict[str, str]:
    """Parts of a model that overflowed and the precision they compute in since; none for a model that doesn't keep track."""
    fallbacks: dict[str, str] = getattr(model, "fallbacks", {})
    return fallbacks


def denoiser_precision(model: DiffusionModel) -> str:
    """The precision of a model's denoiser at this moment."""
    return fallbacks_of(model).get(DENOISER, dtype_name(model.dtype))


def precision_of(model: DiffusionModel) -> str:
    """The precision of a model as results write it: "float32", or "float16 (autoencoder in float32)" after its autoencoder overflowed."""
    moved = ", ".join(f"{part} in {dtype}" for part, dtype in sorted(fallbacks_of(model).items()))
    return dtype_name(model.dtype) + (f" ({moved})" if moved else "")


def widen_parts(model: DiffusionModel, fallbacks: Mapping[str, str]) -> None:
    """Move to a wider precision the parts that overflowed elsewhere, such as in another process, and not yet here."""
    for part in sorted(fallbacks.keys() - fallbacks_of(model).keys()):
        model.widen(part, getattr(torch, fallbacks[part]))  # type: ignore[attr-defined]  # an optional method of models


def match_precision(model: DiffusionModel, precision: str) -> bool:
    """Bring a model to the precision that results were computed in, where parts of it can overflow into that.

    Args:
        precision: as `precision_of` gave it then.

    Returns:
        Whether the model computes in that precision now.
    """
    dtype, _, moved = precision.removesuffix(")").partition(" (")
    wanted, fallbacks = dict(re.findall(r"(\w[\w ]*) in (float32|bfloat16)", moved)), fallbacks_of(model)
    if dtype == dtype_name(model.dtype) and fallbacks.items() <= wanted.items() and hasattr(model, "widen"):
        widen_parts(model, wanted)
    return precision == precision_of(model)
