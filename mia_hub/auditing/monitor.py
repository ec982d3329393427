"""A monitor of training: at each checkpoint, how well an attack tells the training images from held-out ones by the weights so far."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mia_hub.attacks import Attack, get_attack
from mia_hub.attacks.sima import SimA
from mia_hub.auditing.epsilon import measure_epsilon
from mia_hub.auditing.limits import parse_limits
from mia_hub.auditing.measurement import check_plan, measure
from mia_hub.auditing.monitor_log import MonitoredStep, MonitorLog
from mia_hub.auditing.preparation import describe_split
from mia_hub.errors import ImageError, MetricError, MiaHubError, SplitError, integer_at_least
from mia_hub.models.conditions import resolved_conditions
from mia_hub.models.in_memory import model_in_memory
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import ScoreTable
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import CAPTION_SOURCES, MemberSplit, make_split
from mia_hub.splits.shift import check_unchanged, shift_flags, survey
from mia_hub.system.processes import launched_first

# Within the region of timesteps in which SimA is strong, 10 to 150 of 1,000.
DEFAULT_ATTACK = SimA(timesteps=(100,))


class TrainingMonitor:
    """Score fixed members and held-out images at each checkpoint of a training run, and log how well an attack tells them apart.

    ::

        monitor = mia_hub.TrainingMonitor(members=images[:500], nonmembers=held_out[:500], log="monitor.jsonl", stop_above=["auc=.7"])
        for step, batch in enumerate(batches):
            ...
            if step % 1000 == 0:
                monitor(step, unet, noise_scheduler)
                if monitor.should_stop:
                    break

    A call leaves the model as it was: weights, training mode, gradients, device and precision; and so the random states, so that a run
    with the monitor gives the weights of a run without it. It scores the weights that it is given: where a moving average is what will be
    released, give that.

    With an attack of one timestep (the default), all images are reported. With several, the timestep is chosen at each step on one half of
    the images, and the figures are those of the other half, as in an audit.

    Under ``accelerate launch``, call it in the main process, or in all of them: each scores all images, and only the first one writes.

    Args:
        split: members and held-out images: anything that `mia_hub.load_split` takes. Or:
        members, nonmembers: the two sides, each anything that `mia_hub.images.sources.as_images` takes. Images have the size of the
            model's: prepare them as training does, without random crops and flips.
        attack: a name of `mia_hub.list_attacks`, or an Attack; SimA at timestep 100 by default.
        limit: at most this many members and this many held-out images, by a seeded draw.
        log: a file for one JSON line per step. A monitor with the same images, attack and seed continues it; from a step that the file has
            already, the run was resumed, and the lines from there on are replaced.
        accelerator: an `accelerate.Accelerator`, or anything with ``log(values, step=…)``: its trackers get "mia/auc" and the others.
        warn_above: limits such as ``["auc=.6", "tpr@.01=.05"]``; a figure surely above one gives a warning. See
            `mia_hub.auditing.limits.Limit`.
        stop_above: limits above which `should_stop` is true from then on.
        scheduler: the noise scheduler, where only the network is given at each step.
        fprs: false-positive rates; by default those of 1 % and 0.1 % that the held-out images resolve.
        captions: of a model conditioned on text or classes, "split" or "empty", as for `mia_hub.audit`.
        batch_size, seed: as for `mia_hub.audit`.
        shift_check: whether a blind classifier is trained, once, to tell the two sides apart; a difference gives a warning.
        name: the model's name in results.

    Attributes:
        steps: a `MonitoredStep` for each step so far, those in the file included.
        blind_auc: AUC of the blind classifier, an Estimate; None if it was not measured.

    Raises:
        MiaHubError: for options or images that can't be used, before training begins.
    """

    steps: list[MonitoredStep]

    def __init__(
        self,
        split: str | MemberSplit | None = None,
        *,
        members: Any = None,
        nonmembers: Any = None,
        attack: str | Attack = DEFAULT_ATTACK,
        limit: int | None = None,
        log: str | Path | None = None,
        accelerator: Any = None,
        warn_above: str | Iterable[str] = (),
        stop_above: str | Iterable[str] = (),
        scheduler: Any = None,
        fprs: Sequence[float] | None = None,
        captions: str = "split",
        batch_size: int | None = None,
        seed: int = 0,
        shift_check: bool = True,
        name: str = "model in training",
    ):
        self.split = _split_of(split, members, nonmembers).limited(limit, seed)
        self.attack, self.scheduler, self.accelerator = get_attack(attack), scheduler, accelerator
        if accelerator is not None and not callable(getattr(accelerator, "log", None)):
            raise MiaHubError(
                f"accelerator must have a method log(values, step=…), as an accelerate.Accelerator has; got {accelerator!r:.80}."
            )
        if captions not in CAPTION_SOURCES:
            raise SplitError(f"captions must be {' or '.join(map(repr, CAPTION_SOURCES))}; got {captions!r}.")
        self.captions, self.name = captions, name
        self.batch_size = None if batch_size is None else integer_at_least("batch_size", batch_size, 1, MiaHubError)
        self.seed = integer_at_least("seed", seed, 0, MetricError)
        chooses = self.attack.learns
        columns = self.attack.columns
        self.timestep = columns[0] if len(columns) == 1 and not chooses else None
        self.attack.check_labels(self.split.is_member)
        self.rates = check_plan(len(self.split.members), len(self.split.nonmembers), columns, timestep=self.timestep, fprs=fprs)
        self.warn_above, self.stop_above = parse_limits(warn_above, self.rates), parse_limits(stop_above, self.rates)
        surveyed = survey(self.split.images, self.split.is_member, blind=shift_check, progress=False)
        self.blind_auc, self._ids = surveyed.blind, surveyed.ids
        self._description = describe_split(self.split, surveyed)
        for flag in shift_flags(self.blind_auc) if self.blind_auc is not None else ():
            warnings.warn(f"{flag.name}: {flag.raised_by}. {flag.meaning}", stacklevel=2)
        hashes = {key: self._description[key] for key in ("hash", "captions_hash") if key in self._description}
        identity = {"attack": repr(self.attack), "split": hashes, "captions": captions, "seed": self.seed}
        self._log = MonitorLog(None if log is None else Path(log), identity)
        self.steps = self._log.read()
        self._fitting_shape: tuple[int, int, int] | None = None

    @property
    def should_stop(self) -> bool:
        """Whether a figure was above a limit of ``stop_above`` at any step so far, those in the file included."""
        return any(step.stops for step in self.steps)

    def __call__(self, step: int, model: Any, scheduler: Any = None) -> MonitoredStep:
        """Score the images with the model's weights as they are now, and log the figures.

        Args:
            step: of the training run.
            model: a diffusers pipeline; a UNet2DModel of pixels, also one prepared by accelerate; or a DiffusionModel, such as
                `mia_hub.wrap_denoiser` makes of any other network. Wrap a module, not a function that calls one: its eval mode can be set.
            scheduler: the noise scheduler of a network that is given alone.

        Returns:
            The figures with 95 % intervals, and the limits that they exceed.

        Raises:
            ImageError: for an image of another size than the model's.
            SplitError: for an image that changed after the first reading.
            MiaHubError: for a model that can't be queried, or a file that can't be written.
        """
        step = integer_at_least("step", step, 0, MiaHubError)
        started = time.perf_counter()
        with model_in_memory(model, self.scheduler if scheduler is None else scheduler, id=self.name) as queried:
            table = self._scores(queried)
        check_unchanged(self.split.images, self._ids, table.ids)
        measured = measure(table, timestep=self.timestep, fprs=self.rates, seed=self.seed)
        row = measured.at_selected
        fitted = self.attack.has_learned(table.chosen)
        epsilon = measure_epsilon(table, coins=self.split.coins, timestep=self.timestep, fitted=fitted, seed=self.seed)
        warned, stops = ([text for limit in limits if (text := limit.excess(row))] for limits in (self.warn_above, self.stop_above))
        result = MonitoredStep(
            step, row.timestep, row.auc, row.asr, row.tpr_at_fpr, tuple(warned), tuple(stops), time.perf_counter() - started, table,
            epsilon,
        )  # fmt: skip
        self.steps = [*(earlier for earlier in self.steps if earlier.step < step), result]
        if launched_first():
            self._log.write(self.steps)
        if self.accelerator is not None:
            self.accelerator.log(result.tracked(), step=step)
        for text in dict.fromkeys((*warned, *stops)):
            warnings.warn(f"At step {step}, {text}.", stacklevel=2)
        return result

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> Any:
        """Score the model when a checkpoint is saved, as a callback of ``transformers.Trainer`` and of trainers like it.

        Args:
            args, others: not used.
            state: has ``global_step``.
            control: its ``should_training_stop`` is set where `should_stop` is.
            model: see `__call__`; a network needs the ``scheduler`` given to the monitor.

        Returns:
            ``control``.
        """
        self(state.global_step, model)
        control.should_training_stop = control.should_training_stop or self.should_stop
        return control

    def trainer_callback(self) -> Any:
        """Return a ``transformers.TrainerCallback`` that calls `on_save`."""
        from transformers import TrainerCallback

        return type("TrainingMonitorCallback", (TrainerCallback,), {"on_save": lambda _, *args, **others: self.on_save(*args, **others)})()

    def plot_svg(self) -> str:
        """Return the AUC with its 95 % interval at every step as one ``<svg>``.

        Raises:
            MiaHubError: before the first step.
        """
        from mia_hub.auditing.monitor_plot import monitor_svg

        if not self.steps:
            raise MiaHubError("There is no step to draw; call the monitor at a checkpoint first.")
        return monitor_svg(self.steps)

    def _scores(self, model: DiffusionModel) -> ScoreTable:
        """Return the scores of all images."""
        self._check_sizes(model)
        split = self.split.conditioned_on(model.info.conditioning, self.captions)
        resolved_conditions(model, split.captions, len(split.images))
        table = self.attack.score(
            model, split.images, captions=split.captions, batch_size=self.batch_size, seed=self.seed, is_member=split.is_member,
            progress=False,
        )  # fmt: skip
        return replace(table, split=self._description)

    def _check_sizes(self, model: DiffusionModel) -> None:
        """Refuse images of another size than the model's: they would be scaled, and were not trained on so.

        Raises:
            ImageError: for the first of them.
        """
        shape = model.info.picture_shape
        if shape == self._fitting_shape:
            return
        _, height, width = shape
        for image in self.split.images:
            if (image.height, image.width) != (height, width):
                raise ImageError(
                    f"{image.name} has {image.width} x {image.height} pixels, and {model.info.id} takes {width} x {height}. Give the "
                    "monitor images of the model's size, prepared as training prepares them, without random crops and flips."
                )
        self._fitting_shape = shape


def _split_of(split: str | MemberSplit | None, members: Any, nonmembers: Any) -> MemberSplit:
    """Return the split of the images given.

    Raises:
        SplitError: if both a split and its sides are given, or a side is missing.
    """
    if (split is None) == (members is None) or (members is None) != (nonmembers is None):
        raise SplitError("A monitor takes a split, or members=… and nonmembers=…; give one of the two, with both sides.")
    return make_split(members, nonmembers, name="monitor") if split is None else load_split(split)
