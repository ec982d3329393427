"""One scoring: an attack on a model and images, in batches, in one precision, shared among processes, resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import torch
from tqdm.auto import tqdm

from mia_hub.attacks.batch_reading import BatchReader
from mia_hub.attacks.finished_batches import FinishedBatch, finished_batches
from mia_hub.attacks.identity import computed_by, recorded_model
from mia_hub.attacks.querying import QueriedModel, full_precision
from mia_hub.errors import AttackError, ModelError, integer_at_least
from mia_hub.images.image import InputImage
from mia_hub.images.sources import as_images
from mia_hub.models.conditions import EMPTY, resolved_conditions
from mia_hub.models.noise import SampleNoise
from mia_hub.models.precision import denoiser_precision, precision_of, predicts_zero
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.rows import default_rows
from mia_hub.scores import UNKNOWN, ScoreTable
from mia_hub.system.processes import current_processes

if TYPE_CHECKING:
    from mia_hub.attacks.base import Attack

# Images are dealt out to processes in at most this many pieces, and in pieces of at least this many images: with smaller batches an attack
# of one timestep would leave an accelerator idle. A CPU's batches are smaller anyway.
PIECES, FEWEST_IN_PIECE = 64, 128
# A shorter run needs no progress bar.
PROGRESS_DELAY_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class Observations:
    """The statistics of images, from which scores are concluded.

    Attributes:
        ids: content ids, N of them.
        is_member: int8 ``[N]``, 1, 0 or -1 (unknown).
        values: the statistics, ``[N, …]``.
        seed: of the noise draws.
        queries: forward passes spent, counted in images.
        seconds: wall-clock time spent.
        device: the device's name.
        captions: the source of the conditions: "given", "empty", or "none" for an unconditional model.
        remarks: what the reader of the results must know, by the names of `mia_hub.flags.FLAGS`.
    """

    ids: list[str]
    is_member: npt.NDArray[np.int8]
    values: npt.NDArray[Any]
    seed: int
    queries: int
    seconds: float
    device: str
    captions: str = "none"
    remarks: dict[str, str] = field(default_factory=dict)


class ScoringOptions(TypedDict):
    """Options of scoring; see `mia_hub.Attack.score`."""

    batch_size: int | None
    seed: int
    progress: bool
    on_batch: Callable[[int, int], None] | None
    resume: str | Path | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scoring:
    """An attack, a model, and images with their labels and captions, all checked; and how they are scored.

    Attributes:
        attack, model: the attack and the model.
        images: N images.
        labels: int8 ``[N]``, 1, 0 or -1 (unknown).
        captions: what the model is conditioned on, one entry per image; None for an unconditional model.
        caption_source: where they came from, one of the constants of `mia_hub.models.conditions`.
        batch_size, seed, progress, on_batch, resume: see `mia_hub.Attack.score`.
    """

    attack: Attack
    model: DiffusionModel
    images: Sequence[InputImage]
    labels: npt.NDArray[np.int8]
    captions: Sequence[Any] | None
    caption_source: str
    batch_size: int | None
    seed: int
    progress: bool
    on_batch: Callable[[int, int], None] | None
    resume: str | Path | None

    @classmethod
    def checked(
        cls, attack: Attack, model: DiffusionModel, images: Any, captions: Any, is_member: Any, **options: Unpack[ScoringOptions]
    ) -> Scoring:
        """Return the scoring, after everything that can be refused without a query has been refused.

        Raises:
            AttackError, ModelError, ImageError: see `mia_hub.Attack.score`.
        """
        inputs = as_images(images)
        for what, values in (("captions", captions), ("is_member", is_member)):
            if values is not None and not isinstance(values, (str, int)) and len(values) != len(inputs):
                raise AttackError(f"{what} has {len(values)} entries for {len(inputs)} images; one per image is needed.")
        labels = np.full(len(inputs), UNKNOWN) if is_member is None else np.asarray(is_member)
        if labels.shape != (len(inputs),) or not np.isin(labels, (0, 1, UNKNOWN)).all():
            raise AttackError(f"is_member must be 1 (member), 0 (non-member) or -1 (unknown) for each image; got {is_member!r:.80}.")
        attack.check(model, [captions] * len(inputs) if isinstance(captions, (str, int)) else captions)
        captions, source = resolved_conditions(model, captions, len(inputs))
        if attack.ignores_captions and captions is not None:
            captions, source = [""] * len(inputs), EMPTY
        return cls(
            attack=attack,
            model=model,
            images=inputs,
            labels=labels.astype(np.int8),
            captions=captions,
            caption_source=source,
            **options,
        )

    def table(self) -> ScoreTable:
        """Return the scores of the attack, which first chooses the parameters that it chooses itself."""
        self.attack.check_labels(self.labels)
        while True:
            precision, fallbacks = precision_of(self.model), self._fallbacks
            chosen, queries = self._choice()
            scoring = replace(self, attack=self.attack.with_chosen(chosen))
            observations = scoring.observations()
            if self._fallbacks == fallbacks:
                break
            # A part of the model, or of its base, was moved to a wider precision meanwhile: the choice was made on other values.
        attack = scoring.attack
        return ScoreTable(
            ids=observations.ids,
            is_member=observations.is_member,
            timesteps=np.array(attack.columns),
            scores=attack.conclude(observations.values, observations.ids, observations.is_member, observations.seed),
            attack=repr(self.attack),
            chosen=chosen,
            model=recorded_model(self.model, self.attack),
            seed=observations.seed,
            queries=observations.queries + queries,
            seconds=observations.seconds,
            device=observations.device,
            precision=precision,
            captions=observations.captions,
            remarks=observations.remarks,
            computed_by=computed_by(self.attack),
        )

    @property
    def _fallbacks(self) -> dict[str, str]:
        return QueriedModel(self.model, 1).fallbacks

    def _choice(self) -> tuple[dict[str, Any], int]:
        """The parameters that the attack chooses, the same in all processes, and the queries that the choice took."""
        choice = self.attack.choose(
            self.model,
            self.images,
            self.labels,
            captions=self.captions,
            batch_size=self.batch_size,
            seed=self.seed,
            progress=self.progress,
            resume=self.resume,
        )
        return current_processes().first(lambda: choice)

    def observations(self) -> Observations:
        """Return the statistics of all images, all in one precision."""
        batch_size = default_rows(self.model) if self.batch_size is None else self.batch_size
        queried = QueriedModel(self.model, integer_at_least("batch_size", batch_size, 1, AttackError))
        scoring = replace(self, seed=integer_at_least("seed", self.seed, 0, AttackError))
        started = time.perf_counter()
        queried.count_truncated(self.captions)
        # If a part of the model is moved to a wider precision on the way, all images are observed again, so that no score depends on
        # which images came before it.
        while (observed := _Pass(scoring, queried).observe()) is None:
            pass
        ids, values = observed
        return Observations(
            ids=ids,
            is_member=self.labels,
            values=values,
            seed=scoring.seed,
            queries=queried.queries,
            seconds=time.perf_counter() - started + queried.earlier_seconds,
            device=queried.device_name,
            captions=self.caption_source,
            remarks=queried.remarks(self.caption_source, scoring.attack.timesteps),
        )


class _Share(NamedTuple):
    """The part of a pass that one process computed."""

    batches: list[FinishedBatch]
    fallbacks: dict[str, str]
    queries: int
    earlier_seconds: float


class _Pass:
    """One pass over all images of a scoring, in the precision that the model has at its beginning."""

    def __init__(self, scoring: Scoring, queried: QueriedModel):
        self.scoring, self.queried, self.attack = scoring, queried, scoring.attack
        self.fallbacks, self.processes = queried.fallbacks, current_processes()

    def observe(self) -> tuple[list[str], npt.NDArray[Any]] | None:
        """Return ids and statistics of all images; None if the model fell back to a wider precision meanwhile."""
        self._prepare()
        queries_before = self.queried.queries
        pieces = self._pieces()
        shares = self.processes.together(lambda: self._observe_share(pieces, queries_before))
        self.queried.widen({part: wider for share in shares for part, wider in share.fallbacks.items()})
        self.queried.queries = queries_before + sum(share.queries for share in shares)
        self.queried.earlier_seconds = max(share.earlier_seconds for share in shares)
        if self.queried.fallbacks != self.fallbacks:
            return None
        batches = [batch for share in shares for batch in share.batches]
        return [sample for batch in batches for sample in batch.ids], np.concatenate([batch.values for batch in batches])

    def _prepare(self) -> None:
        scoring, queried = self.scoring, self.queried
        queried.finished = finished_batches(
            scoring.resume,
            self.attack,
            queried.model,
            captions=scoring.captions,
            images=len(scoring.images),
            rows=queried.rows,
            seed=scoring.seed,
            device=queried.device_name,
        )
        with torch.no_grad(), full_precision():
            queried.prepared = queried.retry_with_fewer_rows(lambda: self.attack.prepare(queried, scoring.seed))

    def _pieces(self) -> list[range]:
        """The images in pieces, which are dealt out to processes.

        They are the same for any number of processes, since the last digits of a score may depend on its batch. A batch size that the
        caller names is taken as it is.
        """
        total = len(self.scoring.images)
        most = max(FEWEST_IN_PIECE, math.ceil(total / PIECES)) if self.scoring.batch_size is None else total
        rows = min(most, *self.processes.together(lambda: self.queried.rows))
        return [range(start, min(start + rows, total)) for start in range(0, total, rows)]

    def _observe_share(self, pieces: list[range], queries_before: int) -> _Share:
        """This process's part of the images."""
        own, queried, processes = self.processes.share(len(pieces)), self.queried, self.processes
        total = sum(len(pieces[index]) for index in own)
        name = f"{self.attack.name}, process {processes.index + 1} of {processes.count}" if processes.count > 1 else self.attack.name
        bar = tqdm(total=total, unit="image", desc=name, delay=PROGRESS_DELAY_SECONDS, disable=not self.scoring.progress)
        batches: list[FinishedBatch] = []
        done = 0
        with bar, BatchReader(queried.model, self.scoring.images) as reader:
            for index in own:
                piece, following = pieces[index], pieces[index + 1] if index + 1 in own else range(0)
                start = piece.start
                while start < piece.stop and queried.fallbacks == self.fallbacks and not processes.trouble():
                    batch = self._next_batch(reader, range(start, piece.stop), following)
                    batches.append(batch)
                    start, done = start + len(batch.ids), done + len(batch.ids)
                    bar.update(len(batch.ids))
                    if self.scoring.on_batch:
                        self.scoring.on_batch(done, total)
        return _Share(batches, queried.fallbacks, queried.queries - queries_before, queried.earlier_seconds)

    def _next_batch(self, reader: BatchReader, remaining: range, following: range) -> FinishedBatch:
        """The first batch of the remaining images: the stored one, if its images are still the same, or a new one."""
        images, queried = self.scoring.images, self.queried

        def observe() -> tuple[list[str], npt.NDArray[Any]]:
            return self._observe_batch(reader, remaining[: queried.rows], (remaining[queried.rows :] or following)[: queried.rows])

        def same_images(ids: list[str]) -> bool:
            reader.cancel()
            return 0 < len(ids) <= len(remaining) and all(images[row].id == sample for row, sample in zip(remaining, ids))

        return queried.kept(f"images-{remaining.start:09}", lambda: queried.retry_with_fewer_rows(observe), same_images)

    def _observe_batch(self, reader: BatchReader, rows: range, following: range) -> tuple[list[str], npt.NDArray[Any]]:
        """Content ids, and statistics ``[n, …]``, of some rows; the following ones are read ahead."""
        queried, captions = self.queried, self.scoring.captions
        own_captions = None if captions is None else [captions[row] for row in rows]
        batch, x0 = queried.load_batch(lambda: reader.read(rows, following), len(rows), own_captions)
        queried.at_work = reader.begin
        cond = queried.condition(queried.captions)
        noise = SampleNoise(batch.ids, tuple(x0.shape[1:]), self.scoring.seed, x0.device, x0.dtype)
        with torch.no_grad(), full_precision():
            values = self.attack.statistic(queried, x0, cond, noise)
            reader.begin()
            values = values.cpu()
        bad = ~values.flatten(1).isfinite().all(dim=1)
        if bad.any() and not queried.fall_back():
            raise self._not_finite(int(bad.sum()), len(batch.ids), batch.names[int(bad.nonzero()[0, 0])])
        return batch.ids, values.double().numpy() if values.ndim == 2 else values.numpy()

    def _not_finite(self, count: int, total: int, first: str) -> ModelError:
        """The error for statistics that are NaN or infinite, of some images of a batch; the first one is named."""
        if predicts_zero(self.queried.model):
            return ModelError(
                f"{self.queried.info.id} predicts 0 as the noise in every image, so {count} of {total} images (the first: {first}) get no "
                "score: the weights of its denoiser, or of the last layer, are all zero. Next step: give the trained model."
            )
        precision = denoiser_precision(self.queried.model)
        half = precision in ("float16", "bfloat16")
        advice = "load the model with dtype='float32' (or 'bfloat16')" if half else "check the model's weights"
        return ModelError(
            f"{self.queried.info.id} returned NaN or infinity in {precision} for {count} of {total} images (the first: {first}); they get "
            f"no score. Next step: {advice}."
        )
