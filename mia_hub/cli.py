"""The command line: thin sub-commands over the functions that scripts use. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from mia_hub import __version__
from mia_hub.errors import MiaHubError

EXIT_ERROR = 2
INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mia-hub",
        description="Audit diffusion models for training-data membership. Higher score = more likely a training image, everywhere.",
    )
    parser.add_argument("--version", action="version", version=f"mia-hub {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    check = commands.add_parser(
        "check", help="was this picture in the model's training set?", description="Was this picture in the model's training set?"
    )
    check.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    check.add_argument(
        "--nonmembers",
        metavar="FOLDER",
        help="pictures certainly not in the training set, of the same kind; needed for any model but the demo",
    )
    check.add_argument("--json", metavar="FILE", help="also write the answers as JSON; '-' prints them in place of the text")
    _add_model_options(check)
    check.set_defaults(run=_check)

    audit = commands.add_parser(
        "audit",
        help="measure an attack on known members and non-members",
        description="Measures how well an attack tells members from non-members.",
    )
    audit.add_argument(
        "--split", default="demo", help="'demo', a folder with member/ and nonmember/, or a data set on the Hub (default: demo)"
    )
    audit.add_argument(
        "--selection",
        choices=["calibration", "oracle"],
        default="calibration",
        help="where the timestep is chosen; 'oracle' is optimistic (default: calibration)",
    )
    audit.add_argument("--timestep", type=int, metavar="T", help="a timestep fixed beforehand, instead of choosing one")
    audit.add_argument("--fpr", type=float, nargs="+", metavar="X", help="false-positive rates (default: 0.01 0.001)")
    audit.add_argument("--limit", type=int, metavar="N", help="at most N members and N non-members, by a seeded draw")
    audit.add_argument("--seed", type=int, default=0, help="of noise, of the calibration part and of bootstrap intervals (default: 0)")
    audit.add_argument("--no-shift-check", action="store_true", help="skip the blind classifier")
    audit.add_argument("--out", metavar="FOLDER", help="write report.json, report.md, report.html and scores.parquet there")
    _add_model_options(audit)
    audit.set_defaults(run=_audit)

    attacks = commands.add_parser(
        "attacks", help="list the attacks and their parameters", description="Lists the attacks and their parameters."
    )
    attacks.set_defaults(run=_attacks)

    install = commands.add_parser(
        "install-metric",
        help="make evaluate.load('sima') work in every folder",
        description="Makes evaluate.load('sima') work in every folder.",
    )
    install.add_argument("--uninstall", action="store_true", help="undo it")
    install.set_defaults(run=_install_metric)
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="demo", help="'demo', a folder, or a Hub id such as google/ddpm-cifar10-32 (default: demo)")
    parser.add_argument("--revision", help="branch, tag or commit of the model on the Hub")
    parser.add_argument("--attack", default="sima", help="see 'mia-hub attacks' (default: sima)")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of the attack, such as p=2 or timesteps=50,100"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="rows per forward pass; halved by itself when memory runs out")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best one present)")
    parser.add_argument("--dtype", choices=["float32", "float64", "bfloat16", "float16"], help="precision of the model (default: float32)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def attack_parameters(settings: list[str]) -> dict:
    """``["p=2", "timesteps=50,100", "form=norm-mean"]`` to keyword arguments; numbers, lists of numbers, true/false, or text."""
    parameters = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name or not text:
            raise MiaHubError(f"--set takes NAME=VALUE, such as p=2 or timesteps=50,100; got {setting!r}.")
        values = [_value(part) for part in text.split(",") if part]
        parameters[name.replace("-", "_")] = tuple(values) if "," in text or name == "timesteps" else values[0]
    return parameters


def _value(text: str):
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _check(args: argparse.Namespace) -> int:
    from mia_hub.attacks import get_attack
    from mia_hub.check import Checker, readable
    from mia_hub.images import find_images
    from mia_hub.render import check_text

    attack = get_attack(args.attack, **attack_parameters(args.set))
    sources = [path for given in args.images for path in (find_images(given) if Path(given).is_dir() else [given])]
    good, problems = readable(sources)
    for problem in problems:
        print(f"mia-hub: {problem}", file=sys.stderr)
    if not good:
        return EXIT_ERROR
    nonmembers = find_images(args.nonmembers) if args.nonmembers else None
    checker = Checker(
        args.model, attack, nonmembers=nonmembers, batch_size=args.batch_size, progress=not args.quiet,
        device=args.device, dtype=args.dtype, revision=args.revision,
    )  # fmt: skip
    checks = checker.check(good, progress=not args.quiet)
    if args.json != "-":
        print(check_text(checks, model=checker.model.info.id, attack=attack.name))
    if args.json:
        _write(args.json, json.dumps(checker.to_dict(checks), indent=2))
    return EXIT_ERROR if problems else 0


def _audit(args: argparse.Namespace) -> int:
    from mia_hub.attacks import get_attack
    from mia_hub.auditing import audit

    attack = get_attack(args.attack, **attack_parameters(args.set))
    out = Path(args.out) if args.out else None
    if out:
        _make_folder(out)  # before hours of compute, not after
    report = audit(
        args.model, attack, args.split, selection=args.selection, timestep=args.timestep, fprs=args.fpr, limit=args.limit,
        batch_size=args.batch_size, seed=args.seed, shift_check=not args.no_shift_check, device=args.device, dtype=args.dtype,
        revision=args.revision, progress=not args.quiet,
    )  # fmt: skip
    print(report.to_markdown())
    if out:
        for name, text in (("report.json", report.to_json()), ("report.md", report.to_markdown()), ("report.html", report.to_html())):
            _write(out / name, text)
        report.scores.to_parquet(out / "scores.parquet")
        print(f"\nWritten to {out}: report.json, report.md, report.html, scores.parquet", file=sys.stderr)
    return 0


def _attacks(args: argparse.Namespace) -> int:
    from mia_hub.attacks import ATTACKS

    for name, attack in sorted(ATTACKS.items()):
        summary = (attack.__doc__ or "").strip().splitlines()[0]
        print(f"{name}  ({attack.access}-box, {attack().queries_per_image} queries per image by default)\n    {summary}")
        for parameter, default in attack.parameters().items():
            print(f"    {parameter} = {default!r}")
        print()
    return 0


def _install_metric(args: argparse.Namespace) -> int:
    from mia_hub.evaluate_module import install

    if args.uninstall:
        install.uninstall()
        print("evaluate.load('sima') was removed from evaluate's module cache.")
        return 0
    print(install.describe(install.install()))
    return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MiaHubError(f"The folder {folder} can't be made ({error.strerror}); give another one to --out.") from error


def _write(path: str | Path, text: str) -> None:
    if path == "-":
        print(text)
        return
    try:
        Path(path).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise MiaHubError(f"{path} can't be written ({error.strerror}).") from error


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 2 refused with a message, 130 interrupted."""
    args = build_parser().parse_args(arguments)
    try:
        return args.run(args)
    except MiaHubError as error:
        print(f"mia-hub: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("\nmia-hub: interrupted; nothing was written.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
