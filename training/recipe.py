"""What the recipes share: their options, the snapshots along the way, and how they end."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from training.data import TrainingSet, emoji, fashion_mnist
from training.loop import Schedule, Training
from training.publish import write_card
from training.quality import quality_of

SAMPLES = 256


def parser_of(module: str, description: str, **defaults) -> argparse.ArgumentParser:
    """The options that all recipes have.

    Args:
        module: name of the recipe, under ``training``.
        description: its first line is shown.
        defaults: of options, where they differ from those of `Schedule`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m training.{module}", description=description.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; started again, it goes on from there")
    parser.add_argument("--data", choices=["fashion-mnist", "emoji", "emoji-artist"], default="fashion-mnist")
    parser.add_argument("--members", type=int, default=512)
    parser.add_argument("--nonmembers", type=int, default=4000)
    for name, kind in (("steps", int), ("batch", int), ("learning_rate", float), ("check_every", int), ("seed", int), ("ema", float)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(Schedule(steps=8000), name))
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="bf16")
    parser.set_defaults(**defaults)
    return parser


def command_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """The command that makes it again: every option that is not at its default."""
    words = [parser.prog]
    for name, value in vars(args).items():
        if value != parser.get_default(name):
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [shlex.quote(str(value))])
    return " ".join(words)


def schedule_of(args: argparse.Namespace) -> Schedule:
    names = ("steps", "batch", "learning_rate", "check_every", "seed", "ema", "mixed_precision")
    return Schedule(**{name: getattr(args, name) for name in names})


def recipe_of(schedule: Schedule) -> dict[str, object]:
    """What all cards say of a schedule."""
    recipe = {"pictures per step": schedule.batch, "learning rate": schedule.learning_rate, "EMA": schedule.ema, "seed": schedule.seed}
    return recipe | {"precision": schedule.mixed_precision}


def data_of(args: argparse.Namespace, *, side: int = 28) -> TrainingSet:
    """The data that the options name: Fashion-MNIST at ``side``, or emoji at 32×32."""
    if args.data != "fashion-mnist":
        return emoji(args.members, args.nonmembers, artist=args.data == "emoji-artist", seed=args.seed)
    return fashion_mnist(args.members, args.nonmembers, side=side, seed=args.seed)


def captioned(parser: argparse.ArgumentParser, args: argparse.Namespace) -> TrainingSet:
    """The same, for a model that is told captions; the command ends where the data have none."""
    if args.data == "fashion-mnist":
        parser.error("Fashion-MNIST has no captions; choose --data emoji or --data emoji-artist.")
    return data_of(args)


def step_folder(out: Path, step: int) -> Path:
    """Of the snapshot after so many steps."""
    return out / f"step-{step:06d}"


def train_and_publish(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    training: Training,
    data: TrainingSet,
    *,
    save: Callable[[Path], object],
    draw: Callable[[int], np.ndarray],
    title: str,
    tag: str,
    recipe: dict[str, object],
    note: str = "",
) -> None:
    """Trains to the end, with a snapshot at each check; then draws samples, and writes the card beside the last snapshot.

    Both ask for the moving average of the weights, which the networks hold meanwhile.

    Args:
        save: writes the model to a folder.
        draw: so many samples, uint8 ``[n, H, W(, 3)]``.
        title, tag, note: for the card; `write_card` has them.
        recipe: what the model depends on besides the schedule and the data.
    """

    def snapshot(step: int) -> dict:
        save(step_folder(args.out, step))
        return {}

    training.run(snapshot)
    with training.averaged(), torch.no_grad():
        pictures = draw(SAMPLES)
    write_card(
        step_folder(args.out, training.step), data, title=title, tag=tag, recipe=recipe_of(training.schedule) | recipe, note=note,
        command=command_of(parser, args), log=args.out / "log.jsonl", samples=pictures, quality=quality_of(pictures, data),
    )  # fmt: skip
