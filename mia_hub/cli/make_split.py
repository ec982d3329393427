"""``mia-hub make-split SOURCE``: members and non-members drawn, written, and published. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from mia_hub.errors import SplitError


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds ``make-split`` to the sub-commands of mia-hub."""
    parser = commands.add_parser(
        "make-split",
        help="draw members and non-members, and publish them on the Hub",
        description="Draws members and non-members at random from one source, so that nothing but their use in training tells them apart; "
        "writes them as Parquet files with a card, and publishes them on the Hub. Then train on the members. A source that says already "
        "which images are members is written as it is.",
        epilog="Example: mia-hub make-split images/ --members 500 --nonmembers 500 --seed 0 --out my-split --license cc0-1.0",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a data set on the Hub, a folder of images, or a Parquet file (or a folder of them)"
    )
    parser.add_argument("--members", type=int, metavar="N", help="how many to draw; left out for a source that is a split already")
    parser.add_argument("--nonmembers", type=int, metavar="N", help="how many to draw; likewise")
    parser.add_argument(
        "--nonmembers-from", metavar="SOURCE", help="draw the non-members from another source; they may then differ by themselves"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--out", metavar="FOLDER", help="write the split there; needed without --push")
    parser.add_argument("--push", metavar="OWNER/NAME", help="publish it as this data set on the Hub")
    parser.add_argument("--private", action="store_true", help="with --push: only you can see it")
    parser.add_argument("--dry-run", action="store_true", help="draw and check, and show the card; write and publish nothing")
    parser.add_argument("--license", metavar="NAME", help="of the images, as the Hub names it, such as cc-by-4.0 (default: unknown)")
    parser.add_argument("--model", metavar="NAME", help="whose training images the members are, or will be; for the card")
    parser.add_argument("--config", help="configuration of the source on the Hub")
    parser.add_argument("--source-split", metavar="NAME", help="the source's split to draw from (default: train, or its only one)")
    parser.add_argument("--revision", help="branch, tag or commit of the source on the Hub")
    parser.add_argument("--image-column", metavar="NAME", help="where it isn't image")
    parser.add_argument("--caption-column", metavar="NAME", help="where it isn't caption, text or prompt")
    parser.add_argument("--class-column", metavar="NAME", help="where it isn't class")
    parser.add_argument(
        "--fetch", action="store_true", help="of a split that holds addresses of images: fetch them, from public hosts only"
    )
    parser.add_argument("--no-shift-check", action="store_true", help="skip the blind classifier")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the split; what can be refused is refused before images are read."""
    from mia_hub.splits.card import card_text, check_license_name, check_model_name, shift_text
    from mia_hub.splits.publishing import find_target, push_folder
    from mia_hub.splits.writing import check_folder, earlier_record, split_record, write_decoded

    _check_options(args)
    check_license_name(args.license)
    check_model_name(args.model)
    if args.out:
        check_folder(args.out)
    target = find_target(args.push, private=args.private) if args.push else None
    drawn, origins, seed = _drawn(args)
    _say_left_out(drawn)
    shown = {"shift_check": not args.no_shift_check, "progress": not args.quiet}
    record = split_record(drawn, origins=origins, seed=seed, license=args.license, model=args.model, **shown)
    record = _with_earlier(record, earlier_record(args.source))
    if args.dry_run:
        print(card_text(record, name=args.push))
        print(
            f"mia-hub: this is what README.md would say; nothing was {'published' if target else 'written'}. Sizes are filled in then.",
            file=sys.stderr,
        )
        return 0
    with tempfile.TemporaryDirectory(prefix="mia_hub_split_") as temporary:
        folder = Path(args.out or Path(temporary) / "split")
        write_decoded(drawn, record, folder, name=args.push, progress=not args.quiet)
        commit = push_folder(folder, target) if target else None
    print(f"{record.n_members:,} members and {record.n_nonmembers:,} non-members, {record.hash}")
    print(f"Shift check: {shift_text(record).replace('**', '')}")
    if args.out:
        print(f'Written to {folder}. To load it:\n\n    mia_hub.load_split("{folder}")')
    if target:
        print(f'Published as {target.name} at commit {commit}. To load it:\n\n    mia_hub.load_split("{target.name}", revision="{commit}")')
    if record.license == "unknown":
        print("mia-hub: no licence was given; the card says that it is unknown. Name it with --license.", file=sys.stderr)
    return 0


def _with_earlier(record, earlier):
    """A split that was written before keeps what was known of it, if it is still the same one."""
    if earlier is None or earlier.hash != record.hash:
        return record
    license = earlier.license if record.license == "unknown" else record.license
    known = {"origins": earlier.origins, "seed": earlier.seed, "left_out": earlier.left_out, "model": record.model or earlier.model}
    notes = (*earlier.notes, *(note for note in record.notes if note not in earlier.notes))
    return replace(record, license=license, notes=notes, **known)


def _check_options(args: argparse.Namespace) -> None:
    if not (args.out or args.push or args.dry_run):
        raise SplitError("Say where the split is to go: --out FOLDER, --push owner/name, or --dry-run to see its card only.")
    if args.private and not args.push:
        raise SplitError("--private is for a data set that is published; it goes with --push owner/name.")
    if (args.members is None) != (args.nonmembers is None):
        raise SplitError("--members and --nonmembers go together: give both, or neither for a source that is a split already.")
    if args.nonmembers_from and args.members is None:
        raise SplitError("--nonmembers-from draws from two sources; say how many with --members and --nonmembers.")


def _drawn(args: argparse.Namespace) -> tuple:
    """The images, where they come from, and the seed if they were drawn."""
    from mia_hub.splits.drawing import decode_split, draw_split
    from mia_hub.splits.member_split import MemberSplit
    from mia_hub.splits.parts import ColumnNames, FetchOptions
    from mia_hub.splits.sources import open_source

    columns = ColumnNames(args.image_column, args.caption_column, args.class_column)
    options = {"columns": columns, "fetching": FetchOptions(args.fetch, None, args.seed, not args.quiet)}
    hub = {"config": args.config, "revision": args.revision, "source_split": args.source_split}
    source, origin = open_source(args.source, **hub, **options)
    if isinstance(source, MemberSplit):
        if args.members is not None:
            raise SplitError(f"{args.source} says already which images are members; leave --members and --nonmembers out.")
        for note in source.notes:
            print(f"mia-hub: {note}", file=sys.stderr)
        return decode_split(source, progress=not args.quiet), (origin,), None
    if args.members is None:
        raise SplitError(
            f"{args.source} doesn't say which images are members; say how many are to be drawn with --members and --nonmembers."
        )
    other, origins = None, (origin,)
    if args.nonmembers_from:
        other, second = open_source(args.nonmembers_from, **options)
        origins = (origin, second)
        if isinstance(other, MemberSplit):
            raise SplitError(f"{args.nonmembers_from} is a split itself; give a source of images.")
        print(
            "mia-hub: members and non-members come from two sources and may differ by themselves; an attack can then tell them apart "
            "without the model. The shift check below says what is to be seen of it.",
            file=sys.stderr,
        )
    return draw_split(source, args.members, args.nonmembers, seed=args.seed, other=other, progress=not args.quiet), origins, args.seed


def _say_left_out(drawn) -> None:
    from mia_hub.splits.drawing import left_out_text

    if drawn.left_out:
        print(f"mia-hub: some images were not used{left_out_text(drawn.left_out)}.", file=sys.stderr)
    if drawn.example:
        print(f"mia-hub: the first that can't be read: {drawn.example}", file=sys.stderr)
