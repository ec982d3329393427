"""Runs of diffusers' own pipelines: the queries of their denoisers, and schedulers whose steps are known exactly."""

from __future__ import annotations

from contextlib import contextmanager
from typing import NamedTuple

import diffusers
import numpy as np
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from support.families import EXPECTED, SIDE, T


class Call(NamedTuple):
    """One query of the denoiser by a pipeline; images ``[N, C, h, w]`` in float64."""

    x: torch.Tensor
    t: float  # of its scheduler
    output: torch.Tensor


@contextmanager
def recorded(denoiser):
    """Context in which the queries of a network are recorded: a list of pairs, its image and its output."""
    queries = []

    def widened(_, args):
        # LDMPipeline draws its latents in float32, whatever the network's precision is.
        return (args[0].to(denoiser.dtype), *args[1:]) if args else None

    def hook(_, args, kwargs, output):
        queries.append(((args[0] if args else kwargs["hidden_states"]).double(), output[0].double()))

    handles = [denoiser.register_forward_pre_hook(widened), denoiser.register_forward_hook(hook, with_kwargs=True)]
    try:
        yield queries
    finally:
        for handle in handles:
            handle.remove()


def call_options(name: str, pipeline, captions, steps: int, output_type: str) -> dict:
    """Arguments of a pipeline with which its queries are ours: without guidance, at this size, with the caption unchanged."""
    side, unguided = SIDE[name], {"guidance_scale": 1.0}
    arguments = {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(2), "output_type": output_type}
    if EXPECTED[name].conditioning == "none":
        return arguments | {"batch_size": 2, "output_type": "np"}
    if name == "dit":
        return arguments | unguided | {"class_labels": captions, "output_type": "np"}
    if name.startswith(("pixart", "sana")):
        arguments |= {"use_resolution_binning": False, "clean_caption": False}
    guidance = {} if name == "lcm" else unguided  # an input of its denoiser
    return arguments | guidance | {"prompt": captions, "height": side, "width": side}


def queries_of(name: str, pipeline, captions, *, steps: int = 4, **more) -> list[Call]:
    """The queries of one run of a pipeline with its own scheduler."""
    denoiser = getattr(pipeline, "transformer", None) or pipeline.unet
    times = pipeline.scheduler
    if EXPECTED[name].family == "pixel" and EXPECTED[name].classes:
        return queries_by_hand(denoiser, times, captions, steps)
    with recorded(denoiser) as queries:
        pipeline(**call_options(name, pipeline, captions, steps, "latent") | more)
    if name.startswith("flux"):
        queries = [
            tuple(pipeline._unpack_latents(each, SIDE[name], SIDE[name], pipeline.vae_scale_factor) for each in pair) for pair in queries
        ]
    assert len(queries) == len(times.timesteps)
    return [Call(x, float(t), output) for (x, output), t in zip(queries, times.timesteps)]


def queries_by_hand(unet, times, classes, steps: int) -> list[Call]:
    """The queries of sampling from a class-conditional pixel model, of which diffusers has no pipeline."""
    times.set_timesteps(steps)
    x, queries = torch.randn(len(classes), 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64), []
    for t in times.timesteps:
        with torch.no_grad():
            output = unet(x, t, class_labels=torch.tensor(classes)).sample
        queries.append(Call(x, float(t), output))
        x = times.step(output if isinstance(times, diffusers.DDPMScheduler) else output[:, :3], t, x).prev_sample
    return queries


def timestep_of(call: Call, prediction: str) -> int:
    """Our timestep of a pipeline's query: a flow's network is conditioned on σ·T, and our timesteps begin at σ = 1/T."""
    t = round(call.t)
    assert abs(t - call.t) < 1e-3
    return t - 1 if prediction == "flow_prediction" else t


def textbook(call: Call, times, prediction: str) -> torch.Tensor:
    """ε from the network's output, solved by hand from how images are noised."""
    x, output = call.x, call.output[:, : call.x.shape[1]]
    if prediction == "flow_prediction":  # x = (1-σ)·x0 + σ·ε and v = ε - x0
        return x + (1 - call.t / T) * output
    alpha = times.alphas_cumprod[round(call.t)].double()
    a, s = alpha.sqrt(), (1 - alpha).sqrt()
    return {"epsilon": output, "v_prediction": a * output + s * x, "sample": (x - a * output) / s}[prediction]


class OurLevels(FlowMatchEulerDiscreteScheduler):
    """A flow's scheduler at noise levels that, after its own shift, are multiples of 1/T, rid of float32's rounding."""

    LEVELS = np.array([0.9, 0.601, 0.1, 0.011, 0.001])

    def set_timesteps(self, num_inference_steps=None, device=None, sigmas=None, mu=None, timesteps=None):
        shift = np.exp(mu) if self.config.use_dynamic_shifting else self.shift
        super().set_timesteps(sigmas=list(self.LEVELS / (shift - (shift - 1) * self.LEVELS)), device=device, mu=mu)
        levels = torch.tensor([*self.LEVELS, 0])
        assert (self.sigmas - levels).abs().max() < 1e-6
        self.sigmas, self.timesteps = levels, levels[:-1] * T


class Unmoved(FlowMatchEulerDiscreteScheduler):
    """Adds no noise to the latents of an image-to-image pipeline."""

    def scale_noise(self, sample, timestep, noise=None):
        return sample


class UnmovedDDIM(DDIMScheduler):
    """Adds no noise, as `Unmoved`."""

    def add_noise(self, original_samples, noise, timesteps):
        return original_samples


def exact_scheduler(scheduler, prediction: str):
    """The pipeline's noise levels under a scheduler whose every step is a deterministic one of first order."""
    if prediction == "flow_prediction":
        config = scheduler.config
        return OurLevels.from_config(config, shift=config.get("shift") or config.flow_shift)
    # DDIMScheduler has no other spacing: it steps by T/n whatever its timesteps are.
    ddim = DDIMScheduler.from_config(scheduler.config, clip_sample=False, timestep_spacing="leading", steps_offset=1)
    ddim.alphas_cumprod = ddim.alphas_cumprod.double()
    return ddim


def comparable_steps(scheduler, prediction: str, which: str) -> int:
    """Number of steps of a run that are deterministic and of first order. Euler's, on x/√ᾱ, are DDIM's; so is DPM-Solver++'s first."""
    if which == "own":
        kind = "" if prediction == "flow_prediction" else type(scheduler).__name__
        return {"EulerDiscreteScheduler": 3, "DPMSolverMultistepScheduler": 1}.get(kind, 0)
    return 4 if prediction == "flow_prediction" else 3
