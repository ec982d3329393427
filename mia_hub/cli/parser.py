"""The command line: thin sub-commands over the functions that scripts use. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from leaderboard.cli import add_commands as add_leaderboard_commands
from mia_hub import __version__
from mia_hub.cli.benchmark import add_command as add_benchmark_command
from mia_hub.cli.make_split import add_command as add_split_command
from mia_hub.cli.output import EXIT_ERROR, INTERRUPTED, write_comparison
from mia_hub.cli.publish import add_command as add_publish_command
from mia_hub.defaults import VERDICT_ATTACK
from mia_hub.errors import MiaHubError
from mia_hub.system.files import make_output_folder, write_output
from mia_hub.system.processes import joined_processes, launched, launched_as, launched_first


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mia-hub",
        description="Audit diffusion models for training-data membership. Higher score = more likely a training image, everywhere.",
    )
    parser.add_argument("--version", action="version", version=f"mia-hub {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    for name, question, answer in (
        ("check", "was this image in the model's training set?", _one_by_one),
        ("check-set", "were these images, as a set, in the training data?", _as_a_set),
    ):
        check = commands.add_parser(name, help=question, description=question[0].upper() + question[1:])
        check.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
        check.add_argument(
            "--nonmembers",
            metavar="FOLDER",
            help="images certainly not in the training set, of the same kind; needed for any model but the demo: "
            + ("99 or more, since with fewer no image can get evidence" if answer is _one_by_one else "20 or more, better some hundreds"),
        )
        told = check.add_mutually_exclusive_group()
        told.add_argument(
            "--captions",
            action="store_true",
            help="for a model conditioned on text: the captions that lie beside the images, and beside the non-members (cat.txt for "
            "cat.png, or metadata.jsonl or metadata.csv in the folder; default: empty captions)",
        )
        told.add_argument("--caption", metavar="TEXT", help="one caption for all images and non-members, or one class index")
        check.add_argument("--json", metavar="FILE", help="also write the answer as JSON; '-' prints it in place of the text")
        _add_attack_options(check, VERDICT_ATTACK)
        _add_model_options(check)
        check.set_defaults(run=_check, answer=answer)

    audit = commands.add_parser(
        "audit",
        help="measure an attack on known members and non-members",
        description="Measures how well an attack tells members from non-members.",
    )
    audit.add_argument("--timestep", type=int, metavar="T", help="a timestep fixed beforehand, instead of choosing one")
    _add_measuring_options(audit)
    audit.add_argument(
        "--out", metavar="FOLDER", help="write report.json, report.md, report.html and scores.parquet there; an interrupted audit goes on"
    )
    _add_attack_options(audit, "sima")
    _add_model_options(audit)
    audit.set_defaults(run=_audit)

    compare = commands.add_parser(
        "compare",
        help="lay several attacks side by side on one split",
        description="Runs several attacks over one split and lays their figures side by side.",
        epilog="An attack is written as NAME or NAME:PARAMETER=VALUE,…, such as sima-mc:draws=30,timesteps=50,100; "
        "a combination as its parts with a plus sign between them, such as sima+pia:timesteps=200.",
    )
    compare.add_argument("--attacks", nargs="+", metavar="ATTACK", help="default: all that can run on this model and split")
    compare.add_argument(
        "--combine",
        nargs="+",
        default=[],
        metavar="ATTACK+ATTACK",
        help="logistic combinations; each gets a row, and so does each part alone at as many queries",
    )
    _add_measuring_options(compare)
    compare.add_argument(
        "--out",
        metavar="FOLDER",
        help="write comparison.json, .md, .html and .svg and a scores-….parquet for each attack there; an interrupted comparison goes on",
    )
    _add_model_options(compare)
    compare.set_defaults(run=_compare)

    attacks = commands.add_parser(
        "attacks", help="list the attacks and their parameters", description="Lists the attacks and their parameters."
    )
    attacks.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    attacks.set_defaults(run=_attacks)
    add_benchmark_command(commands)
    add_leaderboard_commands(commands)
    add_publish_command(commands)
    add_split_command(commands)

    install = commands.add_parser(
        "install-metric",
        help="make evaluate.load('sima') work in every folder",
        description="Makes evaluate.load('sima') work in every folder.",
    )
    install.add_argument("--uninstall", action="store_true", help="undo it")
    install.set_defaults(run=_install_metric)
    return parser


def _add_measuring_options(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--seed", type=int, default=0, help="of noise, of the calibration part and of bootstrap intervals (default: 0)")
    parser.add_argument("--no-shift-check", action="store_true", help="skip the blind classifier")
    parser.add_argument(
        "--captions",
        choices=["split", "empty"],
        default="split",
        help="for a model conditioned on text or classes: those of the split, if it has any, or empty ones (default: split)",
    )
    parser.add_argument("--caption-column", metavar="NAME", help="where it isn't caption, text or prompt")
    parser.add_argument("--class-column", metavar="NAME", help="where it isn't class")


def _add_attack_options(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--attack", default=default, help="see 'mia-hub attacks' (default: %(default)s)")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of the attack, such as p=2 or timesteps=50,100"
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="demo",
        help="'demo', a folder, or a Hub id such as google/ddpm-cifar10-32; with a LoRA, a fine-tuned part or a single-file checkpoint on "
        "top: 'base + lora' (default: demo)",
    )
    parser.add_argument("--revision", help="branch, tag or commit of the model on the Hub")
    parser.add_argument("--batch-size", type=int, metavar="N", help="rows per forward pass; halved by itself when memory runs out")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the best one present)")
    parser.add_argument(
        "--dtype",
        choices=["float32", "float64", "bfloat16", "float16"],
        help="precision of the model (default: float32)",
    )
    parser.add_argument("--size", type=int, metavar="PIXELS", help="side of the images as the model gets them (default: its own)")
    parser.add_argument("--latents", choices=["mode", "sample"], help="of a model on latents (default: mode)")
    parser.add_argument("--offload", choices=["model", "sequential"], help="diffusers' offloading, for a model larger than the accelerator")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _check(args: argparse.Namespace) -> int:
    checker, good, captions, problems = _asked(args)
    if checker is None:
        return EXIT_ERROR
    text, values = args.answer(checker, good, len(problems), captions=captions, progress=not args.quiet)
    if args.json != "-":
        print(text)
    if args.json:
        write_output(args.json, json.dumps(values, indent=2))
    return EXIT_ERROR if problems else 0


def _one_by_one(checker, images: list, unreadable: int, **options) -> tuple[str, dict]:
    """The answers, for people and for programs."""
    from mia_hub.checking.image_pages import check_text

    checks = checker.check(images, **options)
    return check_text(checks, model=checker.model.info.id, attack=checker.attack.name), checker.to_dict(checks)


def _as_a_set(checker, images: list, unreadable: int, **options) -> tuple[str, dict]:
    from mia_hub.checking.set_pages import set_text

    found = checker.check_set(images, **options).without(unreadable)
    return set_text(found), found.to_dict()


def _asked(args: argparse.Namespace) -> tuple:
    """The checker, the images that can be read with their captions, and what is wrong with the others; no checker if there are none."""
    if args.json not in (None, "-") and Path(args.json).exists() and Path(args.json).suffix.lower() != ".json":
        raise MiaHubError(f"{args.json} exists and is no .json file, so it is not overwritten; name another file, or '-' to print.")
    from mia_hub.attacks import get_attack
    from mia_hub.attacks.spelling import attack_parameters
    from mia_hub.checking.checker import Checker
    from mia_hub.checking.checks import readable_images
    from mia_hub.images.sources import find_images

    attack = get_attack(args.attack, **attack_parameters(args.set))
    sources = [path for given in args.images for path in (find_images(given) if Path(given).is_dir() else [given])]
    good, problems = readable_images(sources)
    for problem in problems:
        print(f"mia-hub: {problem}", file=sys.stderr)
    if not good:
        return None, good, None, problems
    nonmembers, unreadable = readable_images(find_images(args.nonmembers)) if args.nonmembers else (None, [])
    for problem in unreadable:
        print(f"mia-hub: left out of the non-members: {problem}", file=sys.stderr)
    if unreadable and not nonmembers:
        return None, good, None, problems
    captions, others = _captions(args, good), None if nonmembers is None else _captions(args, nonmembers)
    checker = Checker(
        _model(args), attack, nonmembers=nonmembers, nonmember_captions=others, batch_size=args.batch_size, progress=not args.quiet
    )
    return checker, good, captions, problems


def _captions(args: argparse.Namespace, paths: list):
    """What the images' model is told beside them."""
    from mia_hub.images.captions import captions_beside, require_complete

    if not args.captions:
        return args.caption
    found = captions_beside(paths)
    if found is None:
        raise MiaHubError(
            f"There are no captions beside {paths[0]}: a text file of the same name, or metadata.jsonl or metadata.csv in its folder. Add "
            "them, or leave --captions out."
        )
    return require_complete(found, "caption", f"the folder of {paths[0]}")


def _model(args: argparse.Namespace):
    from mia_hub.models.loading import load_model

    options = {name: getattr(args, name) for name in ("device", "dtype", "revision", "size", "latents", "offload")}
    return load_model(args.model, **options)


def _split(args: argparse.Namespace):
    from mia_hub.splits.loading import load_split

    columns = {"caption_column": args.caption_column, "class_column": args.class_column}
    return load_split(args.split, revision=args.split_revision, limit=args.limit, seed=args.seed, **columns)


def _interrupted(out: Path) -> int:
    print(f"\nmia-hub: interrupted; what was finished is in {out}, and the same command goes on from there.", file=sys.stderr)
    return INTERRUPTED


def _audit(args: argparse.Namespace) -> int:
    from mia_hub.attacks import get_attack
    from mia_hub.attacks.spelling import attack_parameters
    from mia_hub.auditing.audit import audit
    from mia_hub.auditing.stored_scores import BATCHES

    attack = get_attack(args.attack, **attack_parameters(args.set))
    out = Path(args.out) if args.out else None
    try:
        with joined_processes() as processes, _output_folder(out):
            report = audit(
                _model(args), attack, _split(args), selection=args.selection, timestep=args.timestep, fprs=args.fpr,
                batch_size=args.batch_size, seed=args.seed, captions=args.captions, shift_check=not args.no_shift_check,
                folder=out, progress=not args.quiet and processes.is_first,
            )  # fmt: skip
    except KeyboardInterrupt:
        if not out or not (out / BATCHES).exists():
            raise
        return _interrupted(out)
    if not processes.is_first:
        return 0
    print(report.to_markdown())
    if out:
        for name, text in (("report.json", report.to_json()), ("report.md", report.to_markdown()), ("report.html", report.to_html())):
            write_output(out / name, text)
        print(f"\nWritten to {out}: report.json, report.md, report.html, scores.parquet", file=sys.stderr)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from mia_hub.attacks.spelling import attack_from, parts_from
    from mia_hub.auditing.compare import compare

    attacks = None if args.attacks is None else [attack_from(text) for text in args.attacks]
    combine = [parts_from(text) for text in args.combine]
    out = Path(args.out) if args.out else None
    if out:
        make_output_folder(out)
    try:
        with joined_processes() as processes:
            comparison = compare(
                _model(args), _split(args), attacks, combine=combine, selection=args.selection, fprs=args.fpr, batch_size=args.batch_size,
                seed=args.seed, captions=args.captions, shift_check=not args.no_shift_check, folder=out,
                progress=not args.quiet and processes.is_first,
            )  # fmt: skip
    except KeyboardInterrupt:
        if not out:
            raise
        return _interrupted(out)
    if not processes.is_first:
        return 0
    print(comparison.to_markdown())
    if out:
        write_comparison(out, comparison)
        print(f"\nWritten to {out}: comparison.json, .md, .html, .svg, and scores-….parquet for each attack", file=sys.stderr)
    return 0


def _attacks(args: argparse.Namespace) -> int:
    from mia_hub.attacks import ATTACKS
    from mia_hub.attacks.spelling import attack_from

    names = [attack_from(name).name for name in args.names] or sorted(ATTACKS)
    for name, attack in ((name, ATTACKS[name]) for name in names):
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


@contextmanager
def _output_folder(folder: Path | None):
    """Makes the folder before hours of compute, not after, and takes it away again if nothing comes of them."""
    made = [] if folder is None else [part for part in (folder, *folder.parents) if not part.exists()]
    if folder is not None:
        make_output_folder(folder)
    try:
        yield
    except BaseException:
        for part in made:
            with suppress(OSError):  # it isn't empty
                part.rmdir()
        raise


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 2 refused with a message, 130 interrupted."""
    args = build_parser().parse_args(arguments)
    try:
        if launched() and args.run not in (_audit, _compare):
            if not launched_first():  # one refusal is enough
                return EXIT_ERROR
            raise MiaHubError("only audit and compare share their work among processes; start this command without accelerate launch.")
        return args.run(args)
    except MiaHubError as error:
        if not error.elsewhere:
            print(f"mia-hub: {launched_as()}{error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("\nmia-hub: interrupted; nothing was written.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
