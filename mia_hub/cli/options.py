"""Arguments that several commands share, and the model and the split that they name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeAlias

from mia_hub.defaults import (
    VERDICT_ATTACK,
    VERDICT_ATTACK_GIVEN_BASE,
    VERDICT_ATTACK_GIVEN_BASE_ON_LATENTS,
    VERDICT_ATTACK_ON_LATENTS,
)

if TYPE_CHECKING:
    from mia_hub.attacks import Attack
    from mia_hub.models.protocol import DiffusionModel
    from mia_hub.references.verdict_attack import DefaultAttack
    from mia_hub.splits.member_split import MemberSplit

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

PRECISIONS = ("float32", "float64", "bfloat16", "float16")
DEFAULT_VERDICT_ATTACK = (
    f"{VERDICT_ATTACK} on models of pixels and {VERDICT_ATTACK_ON_LATENTS} on others; with --base or a LoRA, "
    f"{VERDICT_ATTACK_GIVEN_BASE} and {VERDICT_ATTACK_GIVEN_BASE_ON_LATENTS} respectively"
)


def add_attack_options(parser: argparse.ArgumentParser, default: str | None, *, shown: str = "%(default)s") -> None:
    """Add the attack and its parameters; ``shown``: the default in the help text."""
    parser.add_argument("--attack", default=default, help=f"see 'mia-hub attacks' (default: {shown})")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of the attack, such as p=2 or timesteps=50,100"
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the model, and how it is loaded and queried."""
    parser.add_argument(
        "--model",
        default="demo",
        help="'demo', a folder, or a Hub id such as google/ddpm-cifar10-32; with a LoRA, a fine-tuned part or a single-file checkpoint on "
        "top: 'base + lora' (default: demo)",
    )
    add_query_options(parser)
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="what the model was fine-tuned from, or a reference denoiser, for attacks that compare with it, such as sima-b (default: the "
        "model under a LoRA, or the one that the card names)",
    )
    add_reference_model_option(parser)
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of the images in pixels (default: that of the model)")
    parser.add_argument("--latents", choices=["mode", "sample"], help="of a model on latents (default: mode)")
    parser.add_argument("--offload", choices=["model", "sequential"], help="diffusers' offloading, for a model larger than the accelerator")
    add_quiet_option(parser)


def add_reference_model_option(parser: argparse.ArgumentParser) -> None:
    """Add the reference models, one option each; None without any."""
    parser.add_argument(
        "--reference-model",
        action="append",
        dest="reference_models",
        metavar="MODEL",
        help="a model of the same kind that was trained on other images, such as a reference denoiser, for lira, rmia and bavaria; give "
        "the option once for each",
    )


def add_query_options(parser: argparse.ArgumentParser) -> None:
    """Add the model's revision, and the batch size, device and precision that it is queried with."""
    parser.add_argument("--revision", help="branch, tag or commit of the model on the Hub")
    parser.add_argument("--batch-size", type=int, metavar="N", help="rows per forward pass; halved automatically when memory runs out")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best one present)")
    parser.add_argument("--dtype", choices=PRECISIONS, help="precision of the model (default: float32)")


def add_measuring_options(parser: argparse.ArgumentParser) -> None:
    """Add the split, and what is chosen and reported on it."""
    parser.add_argument(
        "--split", default="demo", help="'demo', a folder with member/ and nonmember/, or a data set on the Hub (default: demo)"
    )
    parser.add_argument("--split-revision", metavar="REVISION", help="branch, tag or commit of the data set on the Hub")
    parser.add_argument(
        "--selection",
        choices=["calibration", "oracle"],
        default="calibration",
        help="where the timestep is chosen; 'oracle' is optimistic (default: calibration)",
    )
    parser.add_argument("--fpr", type=float, nargs="+", metavar="X", help="false-positive rates (default: 0.01 0.001)")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N members and N non-members, by a seeded draw")
    add_seed_option(parser)
    add_shift_check_option(parser)
    parser.add_argument(
        "--captions",
        choices=["split", "empty"],
        default="split",
        help="for a model conditioned on text or classes: those of the split, if it has any, or empty ones (default: split)",
    )
    add_condition_columns(parser)


def add_seed_option(parser: argparse.ArgumentParser) -> None:
    """Add the seed of everything random in an audit."""
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the noise, the calibration part and the bootstrap intervals (default: 0)"
    )


def add_shift_check_option(parser: argparse.ArgumentParser) -> None:
    """Add the switch that leaves out the shift check."""
    parser.add_argument("--no-shift-check", action="store_true", help="skip the blind classifier")


def add_condition_columns(parser: argparse.ArgumentParser) -> None:
    """Add the columns of a data set that hold captions and classes."""
    parser.add_argument("--caption-column", metavar="NAME", help="where it isn't caption, text or prompt")
    parser.add_argument("--class-column", metavar="NAME", help="where it isn't class")


def add_quiet_option(parser: argparse.ArgumentParser) -> None:
    """Add the switch that hides progress bars."""
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def model_from(args: argparse.Namespace) -> DiffusionModel:
    """Return the model that the options of `add_model_options` name, loaded."""
    from mia_hub.models.loading import load_model

    options = {name: getattr(args, name) for name in ("device", "dtype", "revision", "size", "latents", "offload")}
    model: DiffusionModel = load_model(args.model, **options)
    return model


def verdict_attack_from(args: argparse.Namespace) -> Attack | DefaultAttack | None:
    """Return the attack of verdicts that the options of `add_attack_options` name; None for that of the reference or model."""
    from mia_hub.attacks import get_attack
    from mia_hub.attacks.spelling import parse_parameters
    from mia_hub.references.verdict_attack import DefaultAttack

    if args.attack is None and not args.set:
        return None
    parameters = parse_parameters(args.set)
    return DefaultAttack(tuple(parameters.items())) if args.attack is None else get_attack(args.attack, **parameters)


def split_from(args: argparse.Namespace) -> MemberSplit:
    """Return the split that the options of `add_measuring_options` name."""
    from mia_hub.splits.loading import load_split

    columns = {"caption_column": args.caption_column, "class_column": args.class_column}
    return load_split(args.split, revision=args.split_revision, limit=args.limit, seed=args.seed, **columns)
