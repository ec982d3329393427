"""The noise schedule of a diffusion model, and the conversions between prediction types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mia_hub.errors import ModelError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow_prediction")


def _per_row(values: torch.Tensor, t: int | torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """``values[t]`` shaped to multiply ``like`` row by row, in its precision and on its device."""
    index = torch.as_tensor(t).to(values.device).long()
    picked = values[index].to(device=like.device, dtype=like.dtype)
    return picked.reshape(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """``x_t = signal(t)·x0 + noise(t)·e`` with ``e ~ N(0, I)``, for the integer training timesteps t = 0 … T-1.

    Attributes:
        signals: float64 ``[T]``, in [0, 1]; √ᾱ_t for a variance-preserving model (Ho et al. 2020, Eq. 4), 1-σ_t for rectified flow.
        noises: float64 ``[T]``, in (0, 1]; √(1-ᾱ_t) for a variance-preserving model, σ_t for rectified flow.

    In every method ``t`` is an int or an integer tensor ``[N]``, one timestep per row of ``x`` ``[N, ...]``.
    """

    signals: torch.Tensor
    noises: torch.Tensor

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Any) -> NoiseSchedule:
        """The schedule of a diffusion by β.

        Args:
            alphas_cumprod: ᾱ_t, ``[T]``, in [0, 1) and not increasing: a tensor, an array, or a sequence of numbers.

        Raises:
            ModelError: if the values are no such sequence.
        """
        # Not every device has float64, and by default Python's floats would become float32.
        on_cpu = alphas_cumprod.detach().cpu() if isinstance(alphas_cumprod, torch.Tensor) else alphas_cumprod
        values = torch.as_tensor(on_cpu, dtype=torch.float64).flatten()
        ordered = len(values) > 0 and bool((values.diff() <= 0).all())
        if not ordered or not bool((values >= 0).all() and (values < 1).all()):
            raise ModelError(
                f"alphas_cumprod must be a non-increasing sequence of numbers in [0, 1), one per timestep; got {len(values)} values"
                + (f" from {values[0]:.4g} to {values[-1]:.4g}." if len(values) else ".")
            )
        return cls(values.sqrt(), (1 - values).sqrt())

    @classmethod
    def rectified_flow(cls, timesteps: int = 1000) -> NoiseSchedule:
        """x_σ = (1-σ)·x0 + σ·e (Liu et al. 2022, arXiv 2209.03003), with σ_t = (t+1)/T.

        The T noise levels are those that diffusers' flow schedulers train at, before any shift: a shift changes how often a level is
        visited and not its meaning, since the network is conditioned on σ itself.
        """
        sigmas = torch.arange(1, timesteps + 1, dtype=torch.float64) / timesteps
        return cls(1 - sigmas, sigmas)

    @property
    def variance_preserving(self) -> bool:
        """Whether signal² + noise² = 1 everywhere, as in a diffusion by β; not so in rectified flow."""
        return bool(((self.signals**2 + self.noises**2 - 1).abs() < 1e-9).all())

    @property
    def last_with_signal(self) -> int:
        """The last timestep at which x_t holds anything of the image; a schedule may end in pure noise."""
        return int((self.signals > 0).sum()) - 1

    def __len__(self) -> int:
        return len(self.signals)

    def signal(self, t: int | torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """√ᾱ_t (or 1-σ_t) per row, shaped ``[N, 1, …]`` to multiply ``like``."""
        return _per_row(self.signals, t, like)

    def noise(self, t: int | torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """√(1-ᾱ_t) (or σ_t) per row, shaped ``[N, 1, …]`` to multiply ``like``."""
        return _per_row(self.noises, t, like)

    def add_noise(self, x0: torch.Tensor, e: torch.Tensor, t: int | torch.Tensor) -> torch.Tensor:
        """``x_t`` from the clean ``x0`` and the draw ``e`` (Ho et al. 2020, Eq. 4)."""
        return self.signal(t, x0) * x0 + self.noise(t, x0) * e

    def to_epsilon(self, output: torch.Tensor, x_t: torch.Tensor, t: int | torch.Tensor, prediction_type: str) -> torch.Tensor:
        """The predicted noise ε from the output of the network.

        ``v_prediction``: v = √ᾱ_t·ε - √(1-ᾱ_t)·x0 (Salimans & Ho 2022, App. D), so ε = √(1-ᾱ_t)·x_t + √ᾱ_t·v.
        ``sample``: the network predicts x0, so ε = (x_t - √ᾱ_t·x0)/√(1-ᾱ_t).
        ``flow_prediction``: the velocity v = e - x0 of rectified flow, so ε = x_σ + (1-σ)·v.

        Raises:
            ModelError: for a prediction type not in ``PREDICTION_TYPES``.
        """
        if prediction_type == "epsilon":
            return output
        if prediction_type == "v_prediction":
            return self.noise(t, x_t) * x_t + self.signal(t, x_t) * output
        if prediction_type == "sample":
            return (x_t - self.signal(t, x_t) * output) / self.noise(t, x_t)
        if prediction_type == "flow_prediction":
            return x_t + self.signal(t, x_t) * output
        raise ModelError(f"Unknown prediction type {prediction_type!r}; supported are {', '.join(PREDICTION_TYPES)}.")

    def predict_x0(self, x_t: torch.Tensor, epsilon: torch.Tensor, t: int | torch.Tensor) -> torch.Tensor:
        """The clean image that ε implies, f(x_t, t) = (x_t - √(1-ᾱ_t)·ε)/√ᾱ_t (Song et al. 2021, Eq. 9)."""
        return (x_t - self.noise(t, x_t) * epsilon) / self.signal(t, x_t)

    def ddim_step(self, x_t: torch.Tensor, epsilon: torch.Tensor, t: int | torch.Tensor, s: int | torch.Tensor) -> torch.Tensor:
        """One deterministic DDIM step from timestep t to s, forwards or backwards (Song et al. 2021, Eq. 12 with σ = 0)."""
        return self.signal(s, x_t) * self.predict_x0(x_t, epsilon, t) + self.noise(s, x_t) * epsilon
