"""The parts that recipes share: options, snapshots along the way, and the card at the end."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from training.cifar10 import HUB
from training.data import TrainingSet, cifar10, emoji, fashion_mnist
from training.loop import Schedule, Training
from training.publish import write_card
from training.quality import quality_of

SAMPLES = 256


def parser_of(module: str, description: str, **defaults) -> argparse.ArgumentParser:
    """Return a parser of the options that all recipes have.

    Args:
        module: the recipe's name, under ``training``.
        description: its first line is the help text.
        defaults: values of options that differ from those of `Schedule`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m training.{module}", description=description.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; a second start resumes it")
    parser.add_argument("--data", choices=["fashion-mnist", "cifar10", "emoji", "emoji-artist"], default="fashion-mnist")
    parser.add_argument("--images", default=HUB, help=f"for CIFAR-10: a data set on the Hub, a folder or a Parquet file (default: {HUB})")
    parser.add_argument(
        "--skip",
        type=not_negative,
        default=0,
        help="leave out the first images of the draw, which the base of a fine-tune was trained on",
    )
    parser.add_argument("--members", type=int, default=512)
    parser.add_argument("--nonmembers", type=int, default=4000)
    for name, kind in (("steps", int), ("batch", int), ("learning_rate", float), ("check_every", int), ("seed", int), ("ema", float)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=getattr(Schedule(steps=8000), name))
    parser.add_argument(
        "--mixed-precision", choices=["no", "bf16"], help="(default: bf16 where it is fast, which older processors are not)"
    )
    parser.set_defaults(**defaults)
    return parser


def not_negative(text: str) -> int:
    """Return an integer ≥ 0, for argparse."""
    return _at_least(0, text)


def positive(text: str) -> int:
    """Return an integer ≥ 1, for argparse."""
    return _at_least(1, text)


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"an integer from {least} up is needed; got {value}.")
    return value


def command_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """Return the command that repeats the run: every option that differs from its default."""
    words = [parser.prog]
    for name, value in vars(args).items():
        if value != parser.get_default(name):
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [shlex.quote(str(value))])
    return " ".join(words)


def schedule_of(args: argparse.Namespace) -> Schedule:
    """Return the schedule that the options describe; the precision that is chosen becomes one of them, so that the card states it."""
    args.mixed_precision = args.mixed_precision or ("bf16" if fast_in_bfloat16() else "no")
    names = ("steps", "batch", "learning_rate", "check_every", "seed", "ema", "mixed_precision")
    return Schedule(**{name: getattr(args, name) for name in names})


def fast_in_bfloat16() -> bool:
    """Whether there are instructions for bfloat16: without them, training in it can take ten times as long as in float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def recipe_of(schedule: Schedule) -> dict[str, object]:
    """Return the settings of a schedule as every card lists them."""
    recipe = {"images per step": schedule.batch, "learning rate": schedule.learning_rate, "EMA": schedule.ema, "seed": schedule.seed}
    return recipe | {"precision": schedule.mixed_precision}


def data_of(args: argparse.Namespace, *, side: int | None = None) -> TrainingSet:
    """Return the data that the options name, at ``side``; None for 28×28 of Fashion-MNIST and 32×32 of CIFAR-10. Emoji are always 32×32."""
    if args.data.startswith("emoji"):
        if args.skip:
            raise SystemExit("--skip is for Fashion-MNIST and CIFAR-10. The two sets of emoji have no image in common.")
        return emoji(args.members, args.nonmembers, artist=args.data == "emoji-artist", seed=args.seed)
    if args.data == "fashion-mnist":
        data = fashion_mnist(args.members, args.nonmembers, side=side or 28, seed=args.seed, skip=args.skip)
    else:
        data = cifar10(args.members, args.nonmembers, side=side or 32, images=args.images, seed=args.seed, skip=args.skip)
    if len(data.members) < args.members or not len(data.nonmembers):
        raise SystemExit(
            f"{args.data} has too few images for --skip {args.skip} --members {args.members}: after those that are skipped there are "
            f"{len(data.members) + len(data.nonmembers)}, and some must be left as non-members. Give smaller numbers."
        )
    return data


def data_settings(args: argparse.Namespace) -> dict[str, object]:
    """Return what cards say of the draw: where the images of CIFAR-10 come from, and how many were skipped."""
    settings: dict[str, object] = {"images": args.images} if args.data == "cifar10" else {}
    return settings | ({"skipped images": args.skip} if args.skip else {})


def captioned_data_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> TrainingSet:
    """Return the data for a model conditioned on captions; exit with a message if the data have no captions."""
    if args.data == "fashion-mnist":
        parser.error("Fashion-MNIST has no captions; choose --data cifar10, --data emoji or --data emoji-artist.")
    data = data_of(args)
    if data.captions is None:
        parser.error(f"{args.images} has no classes, from which captions could be made.")
    return data


def step_folder(out: Path, step: int) -> Path:
    """Return the folder of the snapshot after ``step`` steps."""
    return out / f"step-{step:06d}"


def train_and_publish(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    training: Training,
    data: TrainingSet,
    *,
    save: Callable[[Path], object],
    draw: Callable[[int], np.ndarray],
    check: Callable[[Path], dict] = lambda folder: {},
    **card,
) -> None:
    """Train to the end with a snapshot at each check; then draw samples and write the card beside the last snapshot.

    Snapshots and samples use the moving average of the weights, which the networks hold meanwhile.

    Args:
        save: writes the model to a folder.
        draw: ``draw(n)`` returns n samples, uint8 ``[n, H, W(, 3)]``.
        check: returns figures of a snapshot to log, or raises StopIteration.
        card: ``title``, ``tag``, ``settings`` and ``note`` of `publish`.
    """

    def snapshot(step: int) -> dict:
        save(step_folder(args.out, step))
        return check(step_folder(args.out, step))

    training.run(snapshot)
    with training.averaged(), torch.no_grad():
        samples = draw(SAMPLES)
    publish(parser, args, step_folder(args.out, training.step), data, samples=samples, quality=quality_of(samples, data), **card)


def publish(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    folder: Path,
    data: TrainingSet,
    *,
    settings: dict[str, object],
    samples: np.ndarray,
    quality: dict[str, float],
    **card,
) -> None:
    """Write the card of a finished run into the folder of its model.

    Args:
        settings: what the model depends on besides the schedule and the data.
        samples: generated images, uint8 ``[n, H, W(, 3)]``.
        quality: name of a figure: its value.
        card: ``title``, ``tag`` and ``note`` of `training.publish.write_card`.
    """
    write_card(
        folder, data, recipe=recipe_of(schedule_of(args)) | data_settings(args) | settings, command=command_of(parser, args),
        log=args.out / "log.jsonl", samples=samples, quality=quality, **card,
    )  # fmt: skip
