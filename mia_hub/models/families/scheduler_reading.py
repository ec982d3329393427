"""From a diffusers scheduler to a NoiseSchedule: its betas or its flow are read, its sampler is not."""

from __future__ import annotations

from typing import Any

import torch

from mia_hub.errors import ModelError
from mia_hub.models.schedule import PREDICTION_TYPES, NoiseSchedule


def prediction_type_of(scheduler: Any) -> str:
    """The quantity that the network predicts, one of `mia_hub.models.schedule.PREDICTION_TYPES`."""
    if type(scheduler).__name__.startswith("FlowMatch"):
        return "flow_prediction"
    return scheduler.config.get("prediction_type") or "epsilon"


def schedule_of(scheduler: Any, id: str) -> NoiseSchedule:
    """The noise schedule that a model was trained with.

    Args:
        scheduler: one with ``alphas_cumprod`` (DDPM, DDIM, PNDM, Euler, DPM-Solver, …), one of flow matching, or that of Score SDE (VP).
        id: of the model, for messages.

    Raises:
        ModelError: if the schedule can't be derived, as for variance-exploding ones.
    """
    name, prediction_type = type(scheduler).__name__, prediction_type_of(scheduler)
    if prediction_type == "flow_prediction":
        return NoiseSchedule.rectified_flow(int(scheduler.config.num_train_timesteps))
    alphas = _vp_sde(scheduler.config) if name == "ScoreSdeVpScheduler" else getattr(scheduler, "alphas_cumprod", None)
    if alphas is None or prediction_type not in PREDICTION_TYPES:
        raise ModelError(
            f"The noise schedule of {id} can't be derived from its scheduler {name} (prediction type {prediction_type!r}). Supported are "
            "schedulers with alphas_cumprod, such as DDPMScheduler and DDIMScheduler, and those of flow matching, predicting "
            f"{', '.join(PREDICTION_TYPES)}. Any other model can be wrapped with mia_hub.wrap_denoiser."
        )
    try:
        return NoiseSchedule.from_alphas_cumprod(alphas)
    except ModelError as error:
        raise ModelError(f"The noise schedule of {id} can't be used: {error}") from error


def network_times(schedule: NoiseSchedule, prediction_type: str) -> torch.Tensor | None:
    """The time that a diffusers network is conditioned on at each timestep, float64 ``[T]``: T·σ_t for rectified flow; None if it is t."""
    return schedule.noises * len(schedule) if prediction_type == "flow_prediction" else None


def _vp_sde(config: Any) -> torch.Tensor:
    """ᾱ of the variance-preserving SDE (Song et al. 2021, arXiv 2011.13456, Eq. 33); its network's time is t·(T-1) for t in [ε, 1]."""
    t = torch.linspace(0, 1, config.num_train_timesteps, dtype=torch.float64).clamp(min=config.sampling_eps)
    return torch.exp(-0.5 * t**2 * (config.beta_max - config.beta_min) - t * config.beta_min)
