"""The training loop of all recipes: seeded, resumable, in float32 or bfloat16 autocast, on a CPU or an accelerator.

Every batch and every noise draw is a function of (seed, step), so a stopped run resumes from its last checkpoint as if nothing had
happened.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from mia_hub.system.files import replacing, write_text

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Length and pace of a run.

    Attributes:
        steps: total number of steps.
        batch: samples per step.
        learning_rate: AdamW's, after ``warmup`` steps of linear rise.
        ema: decay of the exponential moving average of the weights; 0 for none.
        check_every: steps between checkpoints.
        seed: seed of the weights, the order of samples and every draw.
        mixed_precision: "no" or "bf16".
    """

    steps: int
    batch: int = 32
    learning_rate: float = 4e-4
    warmup: int = 200
    ema: float = 0.999
    check_every: int = 500
    seed: int = 0
    mixed_precision: str = "bf16"


@dataclass(frozen=True)
class Batch:
    """The input of a loss.

    Attributes:
        rows: rows of the samples, int64 ``[B]``.
        step: number of the step, from 0.
        generator: draws noise and timesteps on the CPU; a function of (seed, step).
        device: device of the networks.
    """

    rows: np.ndarray
    step: int
    generator: torch.Generator
    device: torch.device

    def randn(self, *shape: int) -> torch.Tensor:
        """Return normal draws, the same on every device."""
        return torch.randn(shape, generator=self.generator).to(self.device)

    def timesteps(self, count: int) -> torch.Tensor:
        """Return one timestep in 0 … count - 1 per sample."""
        return torch.randint(0, count, (len(self.rows),), generator=self.generator).to(self.device)


@dataclass(frozen=True)
class Learner:
    """One network with its loss; several learners, as with an adversary, take turns in each step.

    Attributes:
        network: its parameters are trained, except frozen ones (``requires_grad`` is False), which are neither averaged nor saved.
        loss: maps a batch to a scalar.
    """

    network: nn.Module
    loss: Callable[[Batch], torch.Tensor]


class Training:
    """A run in a folder.

    Args:
        folder: holds ``log.jsonl`` and the checkpoint.
        schedule: length and pace.
        learners: name: learner; they take turns in this order.
        samples: number of training samples.
    """

    def __init__(self, folder: Path, schedule: Schedule, learners: Mapping[str, Learner], samples: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.schedule, self.samples = folder, schedule, samples
        self.accelerator = Accelerator(mixed_precision=schedule.mixed_precision, cpu=not torch.cuda.is_available())
        self.learners = dict(learners)
        self.step = 0
        self._optimizers, self._prepared, self.averages = {}, {}, {}
        for name, learner in self.learners.items():
            learner.network.to(self.accelerator.device)
            self._optimizers[name] = torch.optim.AdamW(_trainable(learner.network).values(), schedule.learning_rate)
            self._prepared[name] = self.accelerator.prepare(learner.network)
            self.averages[name] = {key: value.detach().clone() for key, value in _trainable(learner.network).items()}
        if (folder / CHECKPOINT).exists():
            self._load()
        self._trim_log()

    def run(self, on_check: Callable[[int], dict] | None = None) -> None:
        """Train to the end; at each checkpoint ``on_check(step)`` returns figures to log, or raises StopIteration.

        During ``on_check`` the networks hold the moving average of their weights.
        """
        started, first, recent = time.time(), self.step, []
        while self.step < self.schedule.steps:
            recent.append(self._advance())
            if self.step % self.schedule.check_every and self.step < self.schedule.steps:
                continue
            losses = {name: round(float(np.mean([one[name] for one in recent])), 5) for name in recent[0]}
            recent = []
            line = {"step": self.step, "loss": losses, "seconds": round(time.time() - started), "since": first}
            with self.averaged():
                figures, stop = _check_figures(on_check, self.step)
            with open(self.folder / "log.jsonl", "a") as log:
                log.write(json.dumps(line | figures) + "\n")
            print(json.dumps(line | figures), flush=True)
            # Last: a run that is killed during a check repeats the whole check.
            self._save()
            if stop:
                return

    def averaged(self):
        """Return a context in which the networks are in eval mode and hold the moving average of their weights."""
        return _AveragedWeights(self)

    def _advance(self) -> dict[str, float]:
        schedule, step = self.schedule, self.step
        generator = torch.Generator().manual_seed(schedule.seed * 2**32 + step)
        batch = Batch(self._rows(step), step, generator, self.accelerator.device)
        losses = {}
        for name, learner in self.learners.items():
            optimizer = self._optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * min(1, (step + 1) / schedule.warmup)
            with self.accelerator.autocast():
                loss = learner.loss(batch)
            for other in self._optimizers.values():
                # An adversary's loss also reaches the other network.
                other.zero_grad()
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(_trainable(learner.network).values(), 1.0)
            optimizer.step()
            losses[name] = loss.item()
        self.step += 1
        decay = min(schedule.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, learner in self.learners.items():
                for key, parameter in _trainable(learner.network).items():
                    self.averages[name][key].lerp_(parameter, 1 - decay)
        return losses

    def _rows(self, step: int) -> np.ndarray:
        """Return the rows of a step: each epoch has a new order, and samples that don't fill a batch wait for the next epoch."""
        size = min(self.schedule.batch, self.samples)
        epoch, position = divmod(step, self.samples // size)
        return np.random.default_rng((self.schedule.seed, epoch)).permutation(self.samples)[position * size : (position + 1) * size]

    def _save(self) -> None:
        tensors = {}
        for name, learner in self.learners.items():
            optimizer = self._optimizers[name]
            for key, parameter in _trainable(learner.network).items():
                state = optimizer.state.get(parameter, {})
                tensors |= {f"{name}.model.{key}": parameter.detach(), f"{name}.ema.{key}": self.averages[name][key]}
                tensors |= {f"{name}.{moment}.{key}": state[moment] for moment in ("exp_avg", "exp_avg_sq") if moment in state}
            tensors |= {f"{name}.buffer.{key}": value for key, value in learner.network.named_buffers()}
        with replacing(self.folder / CHECKPOINT) as temporary:
            # Copies: safetensors refuses tensors that share memory.
            save_file({key: value.detach().cpu().clone() for key, value in tensors.items()}, temporary, metadata={"step": str(self.step)})

    def _load(self) -> None:
        path = self.folder / CHECKPOINT
        with safe_open(path, "pt") as file:
            self.step = int(file.metadata()["step"])
        tensors = load_file(path, device=str(self.accelerator.device))
        for name, learner in self.learners.items():
            for key, parameter in _trainable(learner.network).items():
                if f"{name}.model.{key}" not in tensors or tensors[f"{name}.model.{key}"].shape != parameter.shape:
                    raise SystemExit(
                        f"{path} belongs to another recipe or an older version ({name}: {key} doesn't fit). Choose another folder."
                    )
        with torch.no_grad():
            for name, learner in self.learners.items():
                optimizer = self._optimizers[name]
                for key, parameter in _trainable(learner.network).items():
                    parameter.copy_(tensors[f"{name}.model.{key}"])
                    self.averages[name][key].copy_(tensors[f"{name}.ema.{key}"])
                    if f"{name}.exp_avg.{key}" in tensors:
                        moments = {moment: tensors[f"{name}.{moment}.{key}"] for moment in ("exp_avg", "exp_avg_sq")}
                        optimizer.state[parameter] = {"step": torch.tensor(float(self.step))} | moments
                for key, value in learner.network.named_buffers():
                    value.copy_(tensors[f"{name}.buffer.{key}"])

    def _trim_log(self) -> None:
        """Remove the lines that were logged after the checkpoint; they will be logged again."""
        log = self.folder / "log.jsonl"
        if log.exists():
            complete = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            write_text(log, "".join(line for line in complete if json.loads(line)["step"] <= self.step))


class _AveragedWeights:
    """Puts the moving averages into the networks on entry, and their own weights back on exit."""

    def __init__(self, training: Training):
        self._learners = training.learners
        self._averages = training.averages if training.schedule.ema else {}

    def __enter__(self):
        self._own = {}
        for name, learner in self._learners.items():
            learner.network.eval()
            if name in self._averages:
                self._own[name] = {key: value.detach().clone() for key, value in _trainable(learner.network).items()}
                _load_values(learner.network, self._averages[name])

    def __exit__(self, *_):
        for name, learner in self._learners.items():
            learner.network.train()
            if name in self._own:
                _load_values(learner.network, self._own[name])


def _trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that aren't frozen, by name."""
    return {key: parameter for key, parameter in network.named_parameters() if parameter.requires_grad}


def _load_values(network: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for key, parameter in _trainable(network).items():
            parameter.copy_(values[key])


def _check_figures(on_check: Callable[[int], dict] | None, step: int) -> tuple[dict, bool]:
    """Return the figures of a check, and whether training stops with it."""
    try:
        return (on_check(step) if on_check else {}), False
    except StopIteration as stop:
        return stop.value or {}, True
