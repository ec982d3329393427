"""From a diffusers scheduler to a NoiseSchedule: its betas or its flow are read, its sampler is not."""

from __future__ import annotations

import json
from typing import Any

import torch

from mia_hub.errors import ModelError
from mia_hub.models.schedule import PREDICTION_TYPES, NoiseSchedule

# The last ᾱ of a schedule with zero terminal SNR, as diffusers' schedulers of σ keep it from being 0.
SMALLEST_ALPHA = 2**-24


def prediction_type_of(scheduler: Any) -> str:
    """The quantity that the network predicts, one of `mia_hub.models.schedule.PREDICTION_TYPES`."""
    if _is_flow_match(scheduler):
        return "flow_prediction"
    config = scheduler.config
    if not is_stated(scheduler, "prediction_type") and config.get("predict_epsilon") is False:
        # Before diffusers 0.10, whose configurations state x0 in this way.
        return "sample"
    return config.get("prediction_type") or "epsilon"


def is_stated(scheduler: Any, key: str) -> bool:
    """Whether the configuration of a scheduler has a value of its own for a key, and not the default of its class."""
    config = scheduler.config
    return config.get(key) is not None and key not in (config.get("_use_default_values") or ())


def has_zero_terminal_snr(scheduler: Any) -> bool:
    """Whether the betas are rescaled to zero terminal SNR (Lin et al. 2024, arXiv 2305.08891)."""
    return bool(scheduler.config.get("rescale_betas_zero_snr"))


def zero_terminal_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """ᾱ_t rescaled so that √ᾱ_T = 0 and √ᾱ_1 stays (Lin et al. 2024, arXiv 2305.08891, Algorithm 1)."""
    roots = alphas_cumprod.double().clamp(min=0).sqrt()
    if roots[-1] ** 2 <= SMALLEST_ALPHA:
        # It is rescaled already.
        return torch.cat([roots[:-1], torch.zeros(1, dtype=roots.dtype)]) ** 2
    rescaled: torch.Tensor = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    return rescaled


def _is_flow_match(scheduler: Any) -> bool:
    return type(scheduler).__name__.startswith("FlowMatch")


def schedule_of(scheduler: Any, id: str) -> NoiseSchedule:
    """The noise schedule that a model was trained with.

    Args:
        scheduler: one with ``alphas_cumprod`` (DDPM, DDIM, PNDM, Euler, DPM-Solver, …), one of flow matching, or that of Score SDE (VP).
        id: of the model, for messages.

    Raises:
        ModelError: if the schedule can't be derived, as for variance-exploding ones, or its configuration contradicts itself.
    """
    _refuse_contradictions(scheduler, id)
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
    if has_zero_terminal_snr(scheduler):
        # Not every scheduler knows this entry, and some stop short of zero.
        alphas = zero_terminal_snr(alphas)
    try:
        return NoiseSchedule.from_alphas_cumprod(alphas)
    except ModelError as error:
        raise ModelError(f"The noise schedule of {id} can't be used: {error}") from error


def _refuse_contradictions(scheduler: Any, id: str) -> None:
    """Refuse a configuration that contradicts itself, or that states a parametrisation which can't be expressed.

    Raises:
        ModelError: with the entries.
    """
    config, own = scheduler.config, prediction_type_of(scheduler)
    flow = own == "flow_prediction"
    for key, value in {"timestep_type": "continuous", "invert_sigmas": True}.items():
        if config.get(key) == value:
            raise ModelError(
                f"The scheduler of {id} has {key} = {value!r}: its network is conditioned on another time than the timestep, which this "
                "version can't audit. It can be wrapped with mia_hub.wrap_denoiser."
            )
    if config.get("sigma_data") is not None and is_stated(scheduler, "sigma_data"):
        raise ModelError(
            f"The scheduler of {id} has sigma_data = {config['sigma_data']!r}, the parametrisation of EDM (Karras et al. 2022), which this "
            "version can't audit. It can be wrapped with mia_hub.wrap_denoiser."
        )
    stated = config.get("prediction_type") if is_stated(scheduler, "prediction_type") else None
    predict_epsilon = config.get("predict_epsilon")
    by_old_key = None if predict_epsilon is None else "epsilon" if predict_epsilon else "sample"
    contradictions = [
        ("predict_epsilon", predict_epsilon, by_old_key and stated and stated != by_old_key),
        ("use_flow_sigmas", True, config.get("use_flow_sigmas") is True and not flow),
        ("rescale_betas_zero_snr", True, has_zero_terminal_snr(scheduler) and flow),
        ("_class_name", type(scheduler).__name__, _is_flow_match(scheduler) and stated not in (None, "flow_prediction")),
    ]
    for key, value, contradicts in contradictions:
        if contradicts:
            raise ModelError(
                f"The scheduler_config.json of {id} contradicts itself: it has {key} = {json.dumps(value)}, and prediction_type = "
                f"{json.dumps(stated or own)}. Correct the wrong one in a copy of the model, and give that folder."
            )


def network_times(schedule: NoiseSchedule, prediction_type: str) -> torch.Tensor | None:
    """The time that a diffusers network is conditioned on at each timestep, float64 ``[T]``: T·σ_t for rectified flow; None if it is t."""
    return schedule.noises * len(schedule) if prediction_type == "flow_prediction" else None


def _vp_sde(config: Any) -> torch.Tensor:
    """ᾱ of the variance-preserving SDE (Song et al. 2021, arXiv 2011.13456, Eq. 33); its network's time is t·(T-1) for t in [ε, 1]."""
    t = torch.linspace(0, 1, config.num_train_timesteps, dtype=torch.float64).clamp(min=config.sampling_eps)
    return torch.exp(-0.5 * t**2 * (config.beta_max - config.beta_min) - t * config.beta_min)
