"""The training of a small denoiser: seeded, resumable after a kill, on a CPU or an accelerator.

Every batch and every noise draw is a function of (seed, step), so a stopped run resumes from its last checkpoint as if nothing had
happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from mia_hub.errors import ModelError
from mia_hub.models.families.scheduler_reading import network_times
from mia_hub.models.schedule import NoiseSchedule
from mia_hub.system.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKPOINT = "checkpoint.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")
# One image in ten is held out; the weights that are kept are those of the check with the lowest loss on these.
HELD_OUT = 10
# Draws of noise and timesteps per held-out image, the same at each check.
HELD_OUT_DRAWS = 2


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The length and the pace of a run.

    Attributes:
        steps: number of steps.
        batch: images per step.
        learning_rate: AdamW's, after ``warmup`` steps of linear rise.
        warmup: see ``learning_rate``.
        ema: decay of the moving average of the weights.
        check_every: steps between checkpoints, at which the held-out loss is measured.
        seed: of weights, batches and draws.
    """

    steps: int = 3000
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: int = 100
    ema: float = 0.998
    check_every: int = 250
    seed: int = 0


class DenoiserTraining:
    """A run in a folder, which holds its checkpoint.

    Args:
        folder: where the checkpoint is.
        network: diffusers' UNet2DModel, or any module that is called alike. Of a flow it predicts the velocity ε - x0 from x_σ and T·σ, of
            any other schedule ε from x_t and t.
        schedule: the noise schedule.
        flow: whether it is that of a flow.
        x0: images in model space, float32 ``[N, C, H, W]``.
        pace: see `Pace`.
        identity: of everything that the run depends on; a checkpoint of another one is refused.
        device: where it computes.

    Attributes:
        step: number of finished steps.
        best: lowest held-out loss so far.

    Raises:
        ModelError: if the folder holds the checkpoint of another run.
    """

    def __init__(
        self,
        folder: Path,
        network: torch.nn.Module,
        schedule: NoiseSchedule,
        flow: bool,
        x0: torch.Tensor,
        pace: Pace,
        identity: str,
        device: torch.device,
    ):
        self.folder, self.network, self.schedule, self.pace = folder, network.to(device), schedule, pace
        self.identity, self.device, self.step, self.best = identity, device, 0, math.inf
        self.flow, self._times = flow, network_times(schedule, "flow_prediction" if flow else "epsilon")
        held_out = max(1, len(x0) // HELD_OUT)
        self._x0, self._held_out = x0[held_out:], x0[:held_out].repeat(HELD_OUT_DRAWS, 1, 1, 1)
        self._optimizer = torch.optim.AdamW(network.parameters(), pace.learning_rate)
        self._average = {name: value.detach().clone() for name, value in network.named_parameters()}
        self._best_weights = dict(self._average)
        if (folder / CHECKPOINT).exists():
            self._load()

    def run(self, *, progress: bool = True, on_check: Callable[[int, float], None] | None = None) -> None:
        """Train to the end; the network then holds the weights of the lowest held-out loss.

        Args:
            progress: shows a progress bar.
            on_check: called with (finished steps, held-out loss) after each checkpoint.
        """
        pace = self.pace
        with tqdm(total=pace.steps, initial=self.step, desc="training", unit="step", disable=not progress) as bar:
            while self.step < pace.steps:
                self._advance()
                bar.update()
                if self.step % pace.check_every == 0 or self.step == pace.steps:
                    loss = self._check()
                    bar.set_postfix(held_out_loss=f"{loss:.4f}")
                    if on_check:
                        on_check(self.step, loss)
        self._put(self._best_weights)
        self.network.eval()

    def _advance(self) -> None:
        pace, generator = self.pace, torch.Generator().manual_seed(self.pace.seed * 2**32 + self.step + 1)
        rows = torch.randint(0, len(self._x0), (min(pace.batch, len(self._x0)),), generator=generator)
        for group in self._optimizer.param_groups:
            group["lr"] = pace.learning_rate * min(1.0, (self.step + 1) / pace.warmup)
        self.network.train()
        self._optimizer.zero_grad()
        self._loss(self._x0[rows], generator).backward()  # type: ignore[no-untyped-call]  # torch's
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        decay = min(pace.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.named_parameters():
                self._average[name].lerp_(value, 1 - decay)

    def _loss(self, x0: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Squared error of the network's output, a mean over everything.

        ‖e - ε(x_t, t)‖² (Ho et al. 2020, arXiv 2006.11239, Eq. 14); of a flow ‖(e - x0) - v(x_σ, T·σ)‖² with x_σ = (1-σ)x0 + σe and σ
        uniform (Liu et al. 2022, arXiv 2209.03003, Eq. 1).
        """
        t = torch.randint(0, len(self.schedule), (len(x0),), generator=generator)
        e = torch.randn(x0.shape, generator=generator)
        target = e - x0 if self.flow else e
        time = t if self._times is None else self._times[t].to(x0.dtype)
        x_t, target, time = (values.to(self.device) for values in (self.schedule.add_noise(x0, e, t), target, time))
        loss: torch.Tensor = torch.nn.functional.mse_loss(self.network(x_t, time).sample, target)
        return loss

    def _check(self) -> float:
        """Measure the held-out loss of the averaged weights, and write a checkpoint."""
        generator, total = torch.Generator().manual_seed(self.pace.seed * 2**32), 0.0
        with self._averaged(), torch.no_grad():
            for part in torch.split(self._held_out, 2 * self.pace.batch):
                total += float(self._loss(part, generator)) * len(part)
        loss = total / len(self._held_out)
        if loss < self.best:
            self.best, self._best_weights = loss, {name: value.clone() for name, value in self._average.items()}
        self._save()
        return loss

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Context in which the network is in eval mode and holds the moving average of its weights."""
        own = {name: value.detach().clone() for name, value in self.network.named_parameters()}
        self._put(self._average)
        self.network.eval()
        yield
        self._put(own)

    def _put(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(values[name])

    def _save(self) -> None:
        from safetensors.torch import save_file

        tensors: dict[str, torch.Tensor] = {}
        for name, parameter in self.network.named_parameters():
            state = self._optimizer.state[parameter]
            tensors |= {f"own.{name}": parameter, f"average.{name}": self._average[name], f"best.{name}": self._best_weights[name]}
            tensors |= {f"{moment}.{name}": state[moment] for moment in MOMENTS}
        metadata = {"identity": self.identity, "step": str(self.step), "best": repr(self.best)}
        with replacing(self.folder / CHECKPOINT) as temporary:
            save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, temporary, metadata)

    def _load(self) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.folder / CHECKPOINT, "pt", device=str(self.device)) as file:
                metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ModelError(f"{self.folder / CHECKPOINT} is damaged ({error}). Remove it, or give another folder.") from error
        if metadata.get("identity") != self.identity:
            raise ModelError(
                f"{self.folder} holds the checkpoint of another run: of other images, another model or another pace. Give another folder, "
                "or the options of that run."
            )
        self.step, self.best = int(metadata["step"]), float(metadata["best"])
        self._put(_named(tensors, "own"))
        self._average, self._best_weights = _named(tensors, "average"), _named(tensors, "best")
        moments = {moment: _named(tensors, moment) for moment in MOMENTS}
        for name, parameter in self.network.named_parameters():
            state: dict[str, Any] = {moment: moments[moment][name] for moment in MOMENTS}
            self._optimizer.state[parameter] = {"step": torch.tensor(float(self.step))} | state


def _named(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
