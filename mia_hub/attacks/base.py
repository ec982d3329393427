"""What all attacks share: a subclass states its paper's formula; the chores around it are done here, once."""

from __future__ import annotations

import operator
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, final

import torch
from tqdm.auto import tqdm

from mia_hub.attacks.querying import QueriedModel, full_precision
from mia_hub.errors import AttackError, ModelError, whole_number
from mia_hub.images import as_pictures
from mia_hub.models.protocol import DiffusionModel
from mia_hub.noise import SampleNoise
from mia_hub.scores import UNKNOWN, ScoreTable

DEFAULT_BATCH_SIZE = {"cpu": 64, "cuda": 256, "mps": 64}
# Decoded values (pixels times channels) of a batch that are held before they are encoded: 32 MB of 8-bit pictures.
HELD_VALUES = 2**25
# A shorter run needs no progress bar.
PROGRESS_DELAY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """A membership-inference attack. Its fields are its parameters, so its ``repr`` is its identity.

    **A score is higher when membership is more likely.** Statistics of the papers are lower for members unless a paper
    says otherwise; `score` returns minus the statistic.

    Attributes:
        timesteps: the integer training timesteps that are scored, increasing.
        name: the attack's registered name.
        access: what the attacker must see: "black" (generated images), "gray" (the denoiser's output), "white" (weights).
        needs_caption: whether the images' captions are needed.
    """

    timesteps: tuple[int, ...]

    name: ClassVar[str]
    access: ClassVar[str]
    needs_caption: ClassVar[bool] = False

    def __post_init__(self) -> None:
        try:
            steps = tuple(operator.index(t) for t in (self.timesteps if hasattr(self.timesteps, "__iter__") else (self.timesteps,)))
        except TypeError:
            raise AttackError(f"timesteps must be integers, such as (0, 50, 100); got {self.timesteps!r}.") from None
        if not steps or list(steps) != sorted(set(steps)) or steps[0] < 0:
            raise AttackError(f"timesteps must be one or more different integers from 0 up, increasing; got {self.timesteps!r}.")
        object.__setattr__(self, "timesteps", steps)

    @property
    @abstractmethod
    def queries_per_image(self) -> int:
        """Denoiser forward passes that one image costs, over all timesteps."""

    @abstractmethod
    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """The paper's statistic, lower for members.

        Args:
            model: as the attack may query it; `QueriedModel.epsilons` lets several timesteps share a forward pass.
            x0: ``[N, C, H, W]`` in model space.
            cond: the batch's condition, or None.
            noise: draws that belong to these samples, ``noise(timestep, draw)`` ``[N, C, H, W]``.

        Returns:
            ``[N, T]``, one column per timestep.
        """

    @property
    def default_timestep(self) -> int:
        """The timestep used where no member is known to choose one by: the one nearest to the middle of the grid."""
        middle = (self.timesteps[0] + self.timesteps[-1]) / 2
        return min(self.timesteps, key=lambda t: abs(t - middle))

    def check(self, model: DiffusionModel, captions: Sequence[str] | None = None) -> None:
        """Everything that can be refused before compute is spent.

        Raises:
            AttackError: if the timesteps lie outside the model's schedule, or captions are missing.
        """
        last = model.info.num_train_timesteps - 1
        if self.timesteps[-1] > last:
            raise AttackError(f"Timestep {self.timesteps[-1]} lies outside the schedule of {model.info.id}, which runs from 0 to {last}.")
        if self.needs_caption and captions is None:
            raise AttackError(f"The attack {self.name!r} needs the images' captions; give captions=[…], one per image.")

    @final
    def score(
        self,
        model: DiffusionModel,
        images,
        *,
        captions: Sequence[str] | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        is_member=None,
        progress: bool = True,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> ScoreTable:
        """Scores images; higher = more likely a member of the model's training set.

        A score depends on the image, the model, the attack and the seed alone: batch size, order and process count never
        change it (in float32: to 1e-5 relative).

        Args:
            model: from `mia_hub.load_model` or `mia_hub.wrap_denoiser`.
            images: anything `mia_hub.images.as_pictures` takes; decoded batch by batch, so a large split needs no more memory.
            captions: one per image, for models with text conditioning.
            batch_size: denoiser rows per forward pass; halved by itself when memory runs out.
            seed: of the noise draws, for attacks that draw noise.
            is_member: 1, 0 or -1 (unknown) per image, written into the table.
            progress: shows a progress bar for anything over a second.
            on_batch: called with (images done, images in all) after each batch.

        Returns:
            A ScoreTable with float64 scores ``[N, T]``.

        Raises:
            AttackError: as `check`.
            ImageError: for a picture that can't be read.
            ModelError: if the model returns NaN or infinity, or memory runs out even for one row.
        """
        pictures = as_pictures(images)
        for what, values in (("captions", captions), ("is_member", is_member)):
            if values is not None and len(values) != len(pictures):
                raise AttackError(f"{what} has {len(values)} entries for {len(pictures)} images; one per image is needed.")
        self.check(model, captions)
        if batch_size is None:
            batch_size = DEFAULT_BATCH_SIZE.get(model.device.type, 64)
        queried = QueriedModel(model, whole_number("batch_size", batch_size, 1, AttackError))
        seed = whole_number("seed", seed, 0, AttackError)

        started = time.perf_counter()
        ids: list[str] = []
        columns: list[torch.Tensor] = []
        with tqdm(total=len(pictures), unit="image", desc=self.name, delay=PROGRESS_DELAY_SECONDS, disable=not progress) as bar:
            while len(ids) < len(pictures):
                rows = range(len(ids), min(len(ids) + queried.rows, len(pictures)))
                queries = queried.queries
                try:
                    batch_ids, scores = self._score_batch(queried, pictures, rows, captions, seed)
                except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                    queried.halve(error)
                    queried.queries = queries
                    continue
                ids += batch_ids
                columns.append(scores)
                bar.update(len(rows))
                if on_batch:
                    on_batch(len(ids), len(pictures))
        return ScoreTable(
            ids=ids,
            is_member=[UNKNOWN] * len(ids) if is_member is None else is_member,
            timesteps=self.timesteps,
            scores=torch.cat(columns).numpy(),
            attack=repr(self),
            model=model.info.to_dict(),
            seed=seed,
            queries=queried.queries,
            seconds=time.perf_counter() - started,
            device=queried.device_name,
            precision=str(model.dtype).removeprefix("torch."),
        )

    def _score_batch(self, queried: QueriedModel, pictures, rows: range, captions, seed: int) -> tuple[list[str], torch.Tensor]:
        """Content ids, and scores float64 ``[N, T]``, of some of the pictures."""
        ids, names, parts, held = [], [], [], []
        for row in rows:
            held.append(pictures[row])
            ids.append(held[-1].id)
            names.append(held[-1].name)
            # Photographs are let go as soon as they are encoded: a batch of them, decoded, would fill the memory.
            if row == rows[-1] or sum(picture.pixels.size for picture in held) > HELD_VALUES:
                parts.append(queried.encode(held))
                held = []
        x0 = parts[0] if len(parts) == 1 else torch.cat(parts)
        cond = queried.model.condition(None if captions is None else [captions[row] for row in rows])
        noise = SampleNoise(ids, tuple(x0.shape[1:]), seed, x0.device, x0.dtype)
        with torch.no_grad(), full_precision():
            scores = -self.statistic(queried, x0, cond, noise).cpu().double()
        bad = ~scores.isfinite().all(dim=1)
        if bad.any():
            precision = str(queried.model.dtype).removeprefix("torch.")
            half = precision in ("float16", "bfloat16")
            advice = "load the model with dtype='float32' (or 'bfloat16')" if half else "check the model's weights"
            raise ModelError(
                f"{queried.info.id} returned NaN or infinity in {precision} for {int(bad.sum())} of {len(ids)} images "
                f"(the first: {names[int(bad.nonzero()[0, 0])]}); no score is made of that. Next step: {advice}."
            )
        return ids, scores

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """The attack's parameters and their defaults."""
        return {field.name: field.default for field in fields(cls) if field.init}
