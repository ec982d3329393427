"""What all attacks share: a subclass states its paper's formula; the chores around it are done here, once."""

from __future__ import annotations

import math
import operator
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from tqdm.auto import tqdm

from mia_hub.attacks.progress import Part, computed_by, progress_of
from mia_hub.attacks.querying import QueriedModel, full_precision
from mia_hub.attacks.reading import Batch, Reader
from mia_hub.errors import AttackError, ModelError, whole_number
from mia_hub.images.image import InputImage
from mia_hub.images.sources import as_images
from mia_hub.models.conditions import EMPTY, resolved_conditions
from mia_hub.models.noise import SampleNoise
from mia_hub.models.precision import denoiser_precision, precision_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.rows import default_rows
from mia_hub.scores import UNKNOWN, ScoreTable
from mia_hub.system.processes import current_processes

# Pieces that images are dealt out in to processes, each of at least so many images: with smaller batches an attack of one timestep
# would leave an accelerator idle. A CPU's batches are smaller anyway.
PIECES, FEWEST_IN_PIECE = 64, 128
# A shorter run needs no progress bar.
PROGRESS_DELAY_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class Observations:
    """What an attack saw of the images, before scores are concluded from it.

    Attributes:
        ids: content ids, N of them.
        is_member: int8 ``[N]``, 1, 0 or -1 (unknown).
        values: the statistics, ``[N, …]``.
        seed: of the noise draws.
        queries: forward passes spent, counted in images.
        seconds: wall-clock time spent.
        device: where.
        captions: where the conditions came from: "given", "empty", or "none" for an unconditional model.
        remarks: what the reader of the results must know, by the names of `mia_hub.flags.FLAGS`.
    """

    ids: list[str]
    is_member: np.ndarray
    values: np.ndarray
    seed: int
    queries: int
    seconds: float
    device: str
    captions: str = "none"
    remarks: dict[str, str] = field(default_factory=dict)


def _retried(queried: QueriedModel, work: Callable[[], Any]) -> Any:
    """The result of some work that queries the model; when memory runs out it is tried again with half the rows."""
    while True:
        queries = queried.queries
        try:
            return work()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            queried.halve(error)
            queried.queries = queries


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """A membership-inference attack. Its fields are its parameters, so its ``repr`` is its identity.

    **A score is higher when membership is more likely.** Statistics of the papers are lower for members unless a paper
    says otherwise; `score` returns minus the statistic.

    Attributes:
        timesteps: the integer training timesteps that are queried, increasing.
        name: the attack's registered name.
        paper: where it is defined.
        access: what the attacker must see: "black" (generated images), "gray" (the denoiser's output), "white" (weights).
        needs_caption: whether the images' captions are needed, and so a model conditioned on text.
        needs_gradients: whether the denoiser's weights are differentiated by.
        needs_samples: whether it compares with images that the model generated.
        needs_training: whether it is fitted on images of known membership; see `mia_hub.attacks.learning`.
        ignores_captions: whether it asks a model that has captions without them.
        one_score: whether the timesteps are aggregated into one score per image, instead of giving one each.
        log_scale: whether the statistic is positive by definition, so that ratios of it are what tells.
        local_parameters: those that take what only this machine has, such as files or functions; whoever runs attacks for strangers
            refuses them.
    """

    timesteps: tuple[int, ...]

    name: ClassVar[str]
    paper: ClassVar[str]
    access: ClassVar[str]
    needs_caption: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False
    needs_samples: ClassVar[bool] = False
    needs_training: ClassVar[bool] = False
    ignores_captions: ClassVar[bool] = False
    one_score: ClassVar[bool] = False
    log_scale: ClassVar[bool] = True
    local_parameters: ClassVar[tuple[str, ...]] = ()

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

    def prepare(self, model: QueriedModel, seed: int) -> Any:
        """Work done once, whatever the number of images, such as generating samples; kept as ``model.prepared``."""
        return None

    @property
    def setup_queries(self) -> int:
        """Forward passes that `prepare` costs."""
        return 0

    @abstractmethod
    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """The paper's statistic, lower for members.

        Args:
            model: as the attack may query it; `QueriedModel.epsilons` lets several timesteps share a forward pass, and
                `QueriedModel.variant` gives the same images changed in pixel space.
            x0: ``[N, C, H, W]`` in model space.
            cond: the batch's condition, or None.
            noise: draws that belong to these samples, ``noise(timestep, draw)`` ``[N, C, H, W]``.

        Returns:
            ``[N, T]``, one column per entry of `columns`.
        """

    def scaled(self, statistic: torch.Tensor) -> torch.Tensor:
        """The statistic, or its logarithm where it is positive by definition; `hardness` and conditional attacks work on it."""
        return statistic.log() if self.log_scale else statistic

    def hardness(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """What the attack sees of how hard a image is, ``[N, T, F]``, from the queries of `statistic`, for conditional attacks."""
        return self.scaled(self.statistic(model, x0, cond, noise))[..., None]

    def conclude(self, observed: np.ndarray, ids: Sequence[str], is_member: np.ndarray, seed: int) -> np.ndarray:
        """Scores float64 ``[N, T]`` from all images' statistics; **higher = more likely a member**."""
        return -observed

    @property
    def columns(self) -> tuple[int, ...]:
        """The timesteps that label the scores; an attack of one score is labelled by its `default_timestep`."""
        return (self.default_timestep,) if self.one_score else self.timesteps

    @property
    def default_timestep(self) -> int:
        """The timestep used where no member is known to choose one by: the one nearest to the middle of the grid."""
        middle = (self.timesteps[0] + self.timesteps[-1]) / 2
        return min(self.timesteps, key=lambda t: abs(t - middle))

    def at(self, timestep: int) -> Attack:
        """The attack that gives one column of this one's scores, and costs that column's queries alone."""
        return self if self.one_score else replace(self, timesteps=(timestep,))

    def check(self, model: DiffusionModel, captions: Sequence[str] | None = None) -> None:
        """Everything about the model and the captions that can be refused before compute is spent.

        Raises:
            AttackError: if the timesteps lie outside the model's schedule, captions are missing, or the model can't give what
                the attack needs.
        """
        last = model.info.num_train_timesteps - 1
        if self.timesteps[-1] > last:
            raise AttackError(f"Timestep {self.timesteps[-1]} lies outside the schedule of {model.info.id}, which runs from 0 to {last}.")
        if self.needs_caption and model.info.conditioning != "text":
            raise AttackError(
                f"The attack {self.name!r} compares captions, and {model.info.id} isn't conditioned on text. Choose another attack."
            )
        if self.needs_caption and captions is None:
            raise AttackError(f"The attack {self.name!r} needs the images' captions; give captions=[…], one per image.")
        if self.queries_per_image and model.info.prediction_type not in ("epsilon", "sample"):
            silent = [t for t in self.timesteps if model.schedule.signals[t] == 0]
            if silent:
                raise AttackError(
                    f"At timestep {silent[0]} nothing is left of the image in {model.info.id}, so that its prediction there says nothing "
                    "of it; leave that timestep out."
                )
        if self.needs_gradients and model.network is None:
            raise AttackError(
                f"The attack {self.name!r} differentiates by the model's weights, and {model.info.id} is a plain function without any. "
                "Wrap the torch.nn.Module itself, or choose another attack."
            )

    def check_labels(self, is_member: np.ndarray) -> None:
        """Refuses labels ``[N]`` (1, 0, or -1 unknown) that an attack can't be fitted by; most attacks are not fitted.

        Raises:
            AttackError: with the numbers that are needed.
        """
        return

    def choose(
        self,
        model: DiffusionModel,
        images,
        is_member: np.ndarray,
        *,
        captions=None,
        batch_size: int | None = None,
        seed: int = 0,
        progress: bool = True,
        resume: str | Path | None = None,
    ) -> tuple[dict[str, Any], int]:
        """Parameters that the attack chooses on the calibration part, and the forward passes that this took; most choose none."""
        return {}, 0

    def settled(self, chosen: dict[str, Any]) -> Attack:
        """The attack with what `choose` chose."""
        return replace(self, **chosen) if chosen else self

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
        resume: str | Path | None = None,
    ) -> ScoreTable:
        """Scores images; higher = more likely a member of the model's training set.

        A score depends on the image, the model, the attack and the seed alone: batch size, order and process count never
        change it (in float32: to 1e-5 relative).

        Args:
            model: from `mia_hub.load_model` or `mia_hub.wrap_denoiser`.
            images: anything `mia_hub.images.sources.as_images` takes; decoded batch by batch, so a large split needs no more memory.
            captions: of a model conditioned on text, one per image, or one for all; of one conditioned on classes, class indices. Empty
                ones where left out.
            batch_size: denoiser rows per forward pass; as many as fit where left out, and halved by itself when memory runs out.
            seed: of the noise draws, for attacks that draw noise.
            is_member: 1, 0 or -1 (unknown) per image, written into the table.
            progress: shows a progress bar for anything over a second.
            on_batch: called with (images done, images in all) after each batch; of this process's, where several share them.
            resume: a folder to keep finished batches in (see `mia_hub.attacks.progress`): the same call with the same folder goes on from
                the last of them, whenever it was killed, and gives the same table. It is the caller's to remove.

        Returns:
            A ScoreTable with float64 scores ``[N, T]``.

        Raises:
            AttackError: as `check`.
            ImageError: for a image that can't be read.
            ModelError: if the model returns NaN or infinity, or memory runs out even for one row.
            MiaHubError: if ``resume`` can't be written to.
        """
        inputs = as_images(images)
        labels, captions, source = self._checked_inputs(model, inputs, captions, is_member)
        self.check_labels(labels)
        options = {"batch_size": batch_size, "seed": seed, "progress": progress, "resume": resume}
        while True:
            precision = precision_of(model)
            found = self.choose(model, inputs, labels, captions=captions, **options)
            # What is asked next depends on it, so that it must be the same in all processes.
            chosen, spent = current_processes().first(lambda found=found: found)
            attack = self.settled(chosen)
            found = attack._observe(model, inputs, labels, captions, source, on_batch=on_batch, **options)
            if precision_of(model) == precision:
                break
            # Something was moved to a wider precision meanwhile: what was chosen before was chosen on other values.
        return ScoreTable(
            ids=found.ids,
            is_member=found.is_member,
            timesteps=attack.columns,
            scores=attack.conclude(found.values, found.ids, found.is_member, found.seed),
            attack=repr(self),
            chosen=chosen,
            model=model.info.to_dict(),
            seed=found.seed,
            queries=found.queries + spent,
            seconds=found.seconds,
            device=found.device,
            precision=precision,
            captions=found.captions,
            remarks=found.remarks,
            computed_by=computed_by(self),
        )

    @final
    def observe(
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
        resume: str | Path | None = None,
    ) -> Observations:
        """The first half of `score`, which queries the model: the statistics that scores are concluded from."""
        inputs = as_images(images)
        given = self._checked_inputs(model, inputs, captions, is_member)
        options = {"batch_size": batch_size, "seed": seed, "progress": progress, "resume": resume}
        return self._observe(model, inputs, *given, on_batch=on_batch, **options)

    def _observe(self, model, images, labels, captions, source, *, batch_size, seed, progress, on_batch, resume) -> Observations:
        """`observe`, of what `_checked_inputs` has passed."""
        # Not by the number of processes, on which no score may depend. Who names a batch size gets batches of it.
        most = max(FEWEST_IN_PIECE, math.ceil(len(images) / PIECES)) if batch_size is None else len(images)
        batch_size = default_rows(model) if batch_size is None else batch_size
        queried = QueriedModel(model, whole_number("batch_size", batch_size, 1, AttackError))
        seed = whole_number("seed", seed, 0, AttackError)

        started = time.perf_counter()
        queried.count_overlong(captions)
        while (found := self._observe_all(queried, images, most, captions, seed, progress, on_batch, resume)) is None:
            # A part of the model was moved to a wider precision on the way: all is scored again, so that no score depends on which
            # images came before it.
            pass
        ids, values = found
        seconds = time.perf_counter() - started + queried.earlier_seconds
        remarks = queried.remarks(source)
        return Observations(ids, labels, values, seed, queried.queries, seconds, queried.device_name, source, remarks)

    def _observe_all(self, queried, images, most, captions, seed, progress, on_batch, resume) -> tuple[list[str], np.ndarray] | None:
        """Ids and statistics of all images, dealt out in pieces of at most so many; None if the model fell back to a wider precision
        meanwhile."""
        wide = queried.fallbacks
        queried.progress = progress_of(
            resume, self, queried.model, captions=captions, images=len(images), rows=queried.rows, seed=seed, device=queried.device_name
        )
        with torch.no_grad(), full_precision():
            queried.prepared = _retried(queried, lambda: self.prepare(queried, seed))
        processes, setup = current_processes(), queried.queries
        rows = min(most, *processes.together(lambda: queried.rows))
        # The pieces are the same for any number of processes, since a batch's composition may change a score in its last digits.
        pieces = [range(start, min(start + rows, len(images))) for start in range(0, len(images), rows)]
        own = processes.share(len(pieces))
        mine = range(pieces[own.start].start, pieces[own.stop - 1].stop) if own else range(0)

        def observed() -> tuple[list[Part], dict[str, str], int, float]:
            parts: list[Part] = []
            done, bar_of = 0, f"{self.name}, process {processes.index + 1} of {processes.count}" if processes.count > 1 else self.name
            bar = tqdm(total=len(mine), unit="image", desc=bar_of, delay=PROGRESS_DELAY_SECONDS, disable=not progress)
            with bar, Reader(queried.model, images) as reader:
                for piece, following in zip(pieces[own.start : own.stop], [*pieces[own.start + 1 : own.stop], range(0)]):
                    start = piece.start
                    while start < piece.stop and queried.fallbacks == wide and not processes.trouble():
                        left = range(start, piece.stop)
                        parts.append(self._next_batch(queried, images, reader, left, following, captions, seed))
                        start, done = start + len(parts[-1].ids), done + len(parts[-1].ids)
                        bar.update(len(parts[-1].ids))
                        if on_batch:
                            on_batch(done, len(mine))
            return parts, queried.fallbacks, queried.queries - setup, queried.earlier_seconds

        found = processes.together(observed)
        queried.widen({part: wider for _, fallbacks, _, _ in found for part, wider in fallbacks.items()})
        queried.queries = setup + sum(queries for _, _, queries, _ in found)
        queried.earlier_seconds = max(seconds for *_, seconds in found)
        if queried.fallbacks != wide:
            return None
        parts = [part for parts, *_ in found for part in parts]
        return [sample for part in parts for sample in part.ids], np.concatenate([part.values for part in parts])

    def _next_batch(self, queried: QueriedModel, images, reader: Reader, left: range, following: range, captions, seed: int) -> Part:
        """The batch that a range of images begins with: as it was finished before, if its images are still the same, or done now.
        What comes after the range is read ahead."""

        def done() -> tuple[list[str], np.ndarray]:
            rows, then = left[: queried.rows], left[queried.rows :] or following
            return self._observe_batch(queried, lambda: reader(rows, then[: queried.rows]), rows, captions, seed)

        def same(ids: list[str]) -> bool:
            reader.rest()
            return 0 < len(ids) <= len(left) and all(images[row].id == sample for row, sample in zip(left, ids))

        return queried.kept(f"images-{left.start:09}", lambda: _retried(queried, done), same)

    def _checked_inputs(self, model, images: Sequence[InputImage], captions, is_member) -> tuple[np.ndarray, Sequence | None, str]:
        """Labels int8 ``[N]``, what the model is told of each image and where that came from, after everything has been refused that can
        be without querying the model."""
        for what, values in (("captions", captions), ("is_member", is_member)):
            if values is not None and not isinstance(values, (str, int)) and len(values) != len(images):
                raise AttackError(f"{what} has {len(values)} entries for {len(images)} images; one per image is needed.")
        labels = np.full(len(images), UNKNOWN) if is_member is None else np.asarray(is_member)
        if labels.shape != (len(images),) or not np.isin(labels, (0, 1, UNKNOWN)).all():
            raise AttackError(f"is_member must be 1 (member), 0 (non-member) or -1 (unknown) for each image; got {is_member!r:.80}.")
        self.check(model, [captions] * len(images) if isinstance(captions, (str, int)) else captions)
        captions, source = resolved_conditions(model, captions, len(images))
        if self.ignores_captions and captions is not None:
            captions, source = [""] * len(images), EMPTY
        return labels.astype(np.int8), captions, source

    def _observe_batch(self, queried: QueriedModel, read: Callable[[], Batch], rows: range, captions, seed) -> tuple[list[str], np.ndarray]:
        """Content ids, and statistics ``[N, …]``, of some of the images."""
        batch, x0 = queried.take(read, len(rows), None if captions is None else [captions[row] for row in rows])
        ids = batch.ids
        cond = queried.condition(queried.captions)
        noise = SampleNoise(ids, tuple(x0.shape[1:]), seed, x0.device, x0.dtype)
        with torch.no_grad(), full_precision():
            values = self.statistic(queried, x0, cond, noise).cpu()
        bad = ~values.flatten(1).isfinite().all(dim=1)
        if bad.any() and not queried.fall_back():
            precision = denoiser_precision(queried.model)
            half = precision in ("float16", "bfloat16")
            advice = "load the model with dtype='float32' (or 'bfloat16')" if half else "check the model's weights"
            raise ModelError(
                f"{queried.info.id} returned NaN or infinity in {precision} for {int(bad.sum())} of {len(ids)} images "
                f"(the first: {batch.names[int(bad.nonzero()[0, 0])]}); no score is made of that. Next step: {advice}."
            )
        return ids, values.double().numpy() if values.ndim == 2 else values.numpy()

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """The attack's parameters and their defaults."""
        return {field.name: field.default for field in fields(cls) if field.init}
