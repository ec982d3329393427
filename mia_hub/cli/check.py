"""``mia-hub check IMAGE …`` and ``mia-hub check-set IMAGE …``: was an image, or a set of images, in a model's training set?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mia_hub.cli.check_batch import add_batch, answer_batch, check_batch_options
from mia_hub.cli.options import DEFAULT_VERDICT_ATTACK, Commands, add_attack_options, add_model_options, model_from, verdict_attack_from
from mia_hub.cli.output import EXIT_ERROR, message, output_folder, report_files
from mia_hub.cli.reference import SOURCES, check_nonmember_options, offer_reference, stored_revision
from mia_hub.errors import MiaHubError
from mia_hub.system.files import write_output

if TYPE_CHECKING:
    from mia_hub.attacks import Attack
    from mia_hub.checking.checker import Checker
    from mia_hub.references.reference import Reference
    from mia_hub.references.verdict_attack import DefaultAttack

DEMO = "demo"


class Source(NamedTuple):
    """Images in a folder; or images on their own, without one."""

    folder: str | None
    files: list[Any]


def add_command(commands: Commands) -> None:
    """Add ``check`` and ``check-set`` to the commands of mia-hub."""
    for name, question, enough, answer in (
        (
            "check",
            "was this image in the model's training set?",
            "99 or more, since with fewer no image can get evidence",
            _answer_each,
        ),
        ("check-set", "were these images, as a set, in the training data?", "20 or more, better some hundreds", _answer_set),
    ):
        parser = commands.add_parser(name, help=question, description=question[0].upper() + question[1:])
        parser.add_argument("images", nargs="*" if name == "check" else "+", metavar="IMAGE", help="image files, or folders of them")
        parser.add_argument(
            "--nonmembers",
            metavar="SOURCE",
            help="images certainly not in the training set (for a LoRA, or with --base: nor in that of the base), of the same kind: "
            f"{enough}. {SOURCES[0].upper()}{SOURCES[1:]}",
        )
        parser.add_argument(
            "--reference", metavar="NAME", help="in place of --nonmembers: id on this machine, a folder, or a data set on the Hub"
        )
        if name == "check":
            parser.add_argument(
                "--calibration",
                choices=("conditional", "marginal"),
                help="what p-values hold for: this one reference, with 95 %% confidence (conditional), or the average over references "
                "(marginal); default: conditional for shipped and published references, if they are large enough",
            )
        parser.add_argument("--yes", action="store_true", help="build or fetch a reference for a well-known model without a question")
        if answer is _answer_set:
            parser.add_argument(
                "--method",
                choices=("permutation", "cdi"),
                default="permutation",
                help="the test: in a direction that is fixed beforehand (permutation, the default), or that of CDI (arXiv 2411.12858), "
                "which fits a classifier of 26 features on half of 25 images or more and of as many non-members",
            )
        if answer is _answer_each:
            add_batch(parser)
            parser.add_argument(
                "--copies",
                action="store_true",
                help="the images may be altered copies of training images: re-encoded, mirrored, or of lower contrast (takes 500 "
                "non-members)",
            )
        condition = parser.add_mutually_exclusive_group()
        condition.add_argument(
            "--captions",
            action="store_true",
            help="for a model conditioned on text: the captions beside the images, and beside the non-members (cat.txt or cat.caption for "
            "cat.png, or metadata.jsonl, metadata.csv or metadata.parquet in the folder; default: empty captions)",
        )
        condition.add_argument("--caption", metavar="TEXT", help="one caption for all images and non-members, or one class index")
        parser.add_argument("--caption-column", metavar="NAME", help="of --captions in metadata, where it isn't caption, text or prompt")
        parser.add_argument("--out", metavar="FOLDER", help=f"write {name}.html, a page with the plots, and {name}.json there")
        parser.add_argument("--json", metavar="FILE", help="also write the answer as JSON; '-' prints it in place of the text")
        add_attack_options(parser, None, shown=f"that of the reference, or else {DEFAULT_VERDICT_ATTACK}")
        add_model_options(parser)
        parser.set_defaults(run=run, answer=answer)


def run(args: argparse.Namespace) -> int:
    """Print the answer; images that can't be read, in a file or in a folder, are named, and make the exit status 2."""
    if args.json not in (None, "-") and Path(args.json).exists() and Path(args.json).suffix.lower() != ".json":
        raise MiaHubError(f"{args.json} exists and is no .json file, so it is not overwritten; name another file, or '-' to print.")
    if args.caption_column and not args.captions:
        raise MiaHubError(f"--caption-column {args.caption_column} names a column of captions; it goes with --captions.")
    check_nonmember_options(args)
    if args.command == "check":
        check_batch_options(args)
    batch = getattr(args, "batch", None)
    attack = verdict_attack_from(args)
    if attack is not None and getattr(args, "method", None) == "cdi":
        raise MiaHubError("--method cdi combines attacks of its own; leave --attack and --set out.")
    images = _files_of([batch] if batch else args.images, progress=not args.quiet)
    for problem in images.problems:
        message(problem)
    if not images.readable:
        return EXIT_ERROR
    nonmembers = _nonmember_files(args.nonmembers)
    for problem in nonmembers.problems:
        message(problem)
    if nonmembers.sources and not nonmembers.readable:
        return EXIT_ERROR
    captions = _captions(args, images)
    checker = _checker(args, attack, nonmembers)
    left_out = nonmembers._replace(unreadable=images.unreadable, not_read=[*images.not_read, *nonmembers.problems])
    out = Path(args.out) if args.out else None
    options: dict[str, Any] = {"captions": captions, "progress": not args.quiet}
    if args.command == "check-set":
        options["method"] = args.method
    if batch:
        return answer_batch(args, checker, images.readable, images.named_problems, left_out.not_read, **options)
    with output_folder(out):
        text, page, values = args.answer(checker, images.readable, left_out, **options)
    if args.json:
        write_output(args.json, json.dumps(values, indent=2))
    if out:
        names = f"{args.command}.html", f"{args.command}.json"
        for name, written in zip(names, (page(), json.dumps(values, indent=2))):
            write_output(out / name, written)
        report_files(out, names)
    if args.json != "-":
        print(text)
    return EXIT_ERROR if images.problems else 0


class _Files(NamedTuple):
    """Files that the user named.

    Attributes:
        sources: folders with the images in them, and images on their own.
        readable: paths of the images.
        unreadable: what is wrong with each file that can't be read.
        not_read: sentences on what the folders leave out.
    """

    sources: list[Source]
    readable: list[Any]
    unreadable: list[str]
    not_read: list[str]

    @property
    def problems(self) -> list[str]:
        return [*self.not_read, *self.unreadable]

    @property
    def named_problems(self) -> list[tuple[Any, str]]:
        """The files that can't be read, each with what is wrong with it."""
        readable = set(self.readable)
        return list(zip([path for part in self.sources for path in part.files if path not in readable], self.unreadable))


def _files_of(sources: Sequence[str], owner: str = "", *, progress: bool = False) -> _Files:
    """Return the images in files and folders; those of an ``owner``, such as the non-members, come from folders alone."""
    from mia_hub.checking.checks import readable_images
    from mia_hub.images.folders import list_folder

    inputs: list[Source] = []
    not_read: list[str] = []
    for source in sources:
        if owner or Path(source).is_dir():
            listing = list_folder(source)
            inputs.append(Source(source, listing.images))
            not_read += listing.sentences(owner)
        else:
            inputs.append(Source(None, [source]))
    readable, unreadable = readable_images([path for part in inputs for path in part.files], progress=progress)
    return _Files(inputs, readable, [f"left out of the {owner}: {problem}" for problem in unreadable] if owner else unreadable, not_read)


def _nonmember_files(source: str | None) -> _Files:
    """Return the non-members in a folder; nothing for any other source, which is opened by its name."""
    from mia_hub.references.source import check_no_members, is_source

    if source is None or is_source(source):
        return _Files([], [], [], [])
    check_no_members(source)
    return _files_of([source], "non-members")


Answer = tuple[str, Callable[[], str], dict[str, Any]]


def _answer_each(checker: Checker, images: list[Any], left_out: _Files, **options: Any) -> Answer:
    """Return answers for each image: as text, as a page that is yet to be drawn, and as JSON values."""
    from mia_hub.checking.answer_page import images_page
    from mia_hub.checking.image_pages import check_text

    checks = checker.check(images, **options)
    text = check_text(checks, model=checker.model.info.id, attack=checker.attack.name, left_out=left_out.problems)
    values = checker.to_dict(checks) | ({"left_out": left_out.problems} if left_out.problems else {})
    return text, partial(images_page, checks, left_out.problems), values


def _answer_set(checker: Checker, images: list[Any], left_out: _Files, **options: Any) -> Answer:
    """Return one answer for all images, as `_answer_each` does."""
    from mia_hub.checking.answer_page import set_page
    from mia_hub.checking.set_pages import set_text

    check = checker.check_set(images, **options).without(len(left_out.unreadable), left_out.not_read)
    return set_text(check), partial(set_page, check), check.to_dict()


def _checker(args: argparse.Namespace, attack: Attack | DefaultAttack | None, nonmembers: _Files) -> Checker:
    from mia_hub.checking.checker import Checker

    options: dict[str, Any] = {"batch_size": args.batch_size, "progress": not args.quiet, "base": args.base}
    options["reference_models"] = args.reference_models
    options["copies"] = getattr(args, "copies", False)
    options["calibration"] = getattr(args, "calibration", None)
    if nonmembers.sources:
        null = {"nonmembers": nonmembers.readable, "nonmember_captions": _captions(args, nonmembers)}
    else:
        captions = True if args.captions else args.caption
        null = {"nonmembers": args.nonmembers, "nonmember_captions": captions if args.nonmembers else None}
    reference = _named_reference(args)  # before the model: it may name that
    checker = Checker(model_from(args), attack, **null, reference=reference, **options)
    if checker.reference is None:
        offer_reference(args, checker.model, checker.attack)
        attack = checker.attack if args.base or args.reference_models or options["copies"] else attack
        checker = Checker(checker.model, attack, **options | {"base": None, "reference_models": None})
    return checker


def _named_reference(args: argparse.Namespace) -> Reference | None:
    """The reference that --reference names; its own model is checked where --model names no other."""
    if args.reference is None:
        return None
    from mia_hub.references.reference import Reference

    reference = Reference.load(args.reference, keep=False)
    stored = reference.profiles.model
    args.dtype = args.dtype or reference.profiles.precision.partition(" ")[0]
    if args.model == DEMO and stored["id"] != DEMO:
        args.model = stored["id"]
        args.revision = args.revision or stored_revision(stored)
    return reference


def _captions(args: argparse.Namespace, files: _Files) -> Any:
    """Return captions, one for each of the images that can be read, or one for all; None without any."""
    from mia_hub.images.captions import annotations_beside, require_complete

    if not args.captions:
        return args.caption
    captions: dict[Path, str | None] = {}
    sources, images, readable = files.sources, files.readable, set(files.readable)
    alone = [file for source in sources if source.folder is None for file in source.files if file in readable]
    for folder, paths in [source for source in sources if source.folder is not None] + ([Source(None, alone)] if alone else []):
        beside = annotations_beside(paths, root=folder, caption_column=args.caption_column)
        for note in beside.notes:
            message(note)
        captions = dict(zip(map(Path, paths), beside.captions or [None] * len(paths))) | captions
    selected = [captions[Path(image)] for image in images]
    if all(caption is None for caption in selected):
        raise MiaHubError(
            f"There are no captions beside {images[0]}: a text file of the same name, or metadata.jsonl, metadata.csv or metadata.parquet "
            "in its folder (or in one above it, up to the folder that you pass). Add them, or leave --captions out."
        )
    return require_complete(selected, "caption", f"the folder of {images[0]}")
