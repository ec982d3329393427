"""Attacks in the frequency domain: high frequencies of the compared vector count less (FreMIA, arXiv 2505.20955).

A denoiser predicts high frequencies poorly, for members and non-members alike, so that they add noise to the length of a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, ClassVar

import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.delegating import DerivedAttack
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.vectors import Draws, VectorAttack
from mia_hub.errors import AttackError, integer_at_least
from mia_hub.models.protocol import DiffusionModel

# Half-side of the square of frequencies that are left as they are, and the factor of all others: those of the paper.
HALF_SIDE, FACTOR = 5, 0.2


def frequency_filter(vector: torch.Tensor, half_side: int, factor: float) -> torch.Tensor:
    """Return a vector whose frequencies outside a centred square are multiplied by a factor.

    As in the authors' code, the square holds the frequencies -half_side … half_side - 1 of each axis, and of the result, which is therefore
    not quite real, the real part is taken.

    Args:
        vector: ``[N, C, H, W]``.
        half_side: half of the square's side.
        factor: of all other frequencies.

    Returns:
        ``[N, C, H, W]``, in float64 if the device has it.
    """
    wide = vector if vector.device.type == "mps" else vector.double()
    rows, columns = (torch.fft.fftfreq(side, 1 / side, device=wide.device).round() for side in wide.shape[-2:])
    kept = [(-half_side <= axis) & (axis < half_side) for axis in (rows, columns)]
    mask = torch.full(wide.shape[-2:], factor, dtype=wide.dtype, device=wide.device)
    mask[kept[0][:, None] & kept[1]] = 1
    filtered: torch.Tensor = torch.fft.ifft2(torch.fft.fft2(wide) * mask).real
    return filtered


@dataclass(frozen=True, kw_only=True)
class Filtered(DerivedAttack, VectorAttack):
    """An attack whose vectors are filtered before their length is taken: ``get_attack("secmi", filtered=(5, 0.2))``.

    Attributes:
        attack: one that takes the length of vectors: "sima", "loss", "secmi", "pia" or "pian".
        filtered: half-side of the centred square of frequencies that are left as they are, an integer ≥ 1, and the factor of all others,
            0 ≤ factor < 1.
    """

    timesteps: tuple[int, ...] = ()
    attack: VectorAttack
    filtered: tuple[int, float] = (HALF_SIDE, FACTOR)

    parameter: ClassVar[str] = "filtered"

    def __post_init__(self) -> None:
        if not isinstance(self.attack, VectorAttack):
            raise AttackError(
                f"filtered=… filters a vector before its length is taken, and the attack {self.attack.name!r} takes no such length. Choose "
                "'sima', 'loss', 'secmi', 'pia' or 'pian', or leave filtered=… out."
            )
        object.__setattr__(self, "timesteps", self.attack.timesteps)
        object.__setattr__(self, "filtered", _checked(self.filtered))
        super().__post_init__()
        object.__setattr__(self, "name", f"{self.attack.name} filtered")

    @property
    def base(self) -> VectorAttack:
        return self.attack

    def at(self, timestep: int) -> Attack:
        return replace(self, attack=replace(self.attack, timesteps=(timestep,)))

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        self.attack.check(model, captions)
        half_side, side = self.filtered[0], max(model.info.sample_shape[-2:])
        if 2 * half_side >= side:
            smaller = f"choose a half-side up to {(side - 1) // 2}" if side > 2 else "leave filtered=… out"
            size = "×".join(map(str, model.info.sample_shape[-2:]))
            raise AttackError(
                f"The inputs of {model.info.id} have {size} values per channel, and the square of half-side {half_side} holds all of their "
                f"frequencies, so that filtered=… would change nothing: {smaller}."
            )

    @property
    def vectors_per_timestep(self) -> int:
        return self.attack.vectors_per_timestep

    def vectors(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: Draws) -> Iterator[torch.Tensor]:
        return (frequency_filter(vector, *self.filtered) for vector in self.attack.vectors(model, x0, cond, noise))

    def length(self, vector: torch.Tensor) -> torch.Tensor:
        return self.attack.length(vector)


def _checked(filtered: Any) -> tuple[int, float]:
    """Return half-side and factor from what a user gave: both, the half-side alone, or True for the paper's."""
    given = (HALF_SIDE,) if filtered is True else filtered if isinstance(filtered, (tuple, list)) else (filtered,)
    if not 1 <= len(given) <= 2:
        raise AttackError(f"filtered takes a half-side and a factor, as in filtered=({HALF_SIDE}, {FACTOR}); got {filtered!r}.")
    half_side = integer_at_least("The half-side of filtered=…", given[0], 1, AttackError)
    factor = given[1] if len(given) == 2 else FACTOR
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not (isfinite(factor) and 0 <= factor < 1):
        raise AttackError(f"The factor of filtered=… must be a number from 0 to below 1 (the paper has {FACTOR}); got {factor!r}.")
    return half_side, float(factor)
