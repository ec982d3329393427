"""``mia-hub make-split SOURCE``: members and non-members, drawn, written and published."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mia_hub.cli.options import Commands, add_condition_columns, add_quiet_option, add_shift_check_option
from mia_hub.cli.output import message
from mia_hub.errors import SplitError

if TYPE_CHECKING:
    from mia_hub.splits.card import SplitRecord
    from mia_hub.splits.drawing import DecodedSplit
    from mia_hub.splits.origins import Origin
    from mia_hub.splits.publishing import PushTarget


def add_command(commands: Commands) -> None:
    """Add ``make-split`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "make-split",
        help="draw members and non-members, and publish them on the Hub",
        description="Draws members and non-members at random from one source, so that nothing but their use in training tells them apart; "
        "writes them as Parquet files with a card, and publishes them on the Hub. Then train on the members. A source that already says "
        "which images are members is written as it is.",
        epilog="Example: mia-hub make-split images/ --members 500 --nonmembers 500 --seed 0 --out my-split --license cc0-1.0",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="a data set on the Hub, a folder of images, or a Parquet file (or a folder of them)"
    )
    _add_draw_options(parser)
    _add_source_options(parser)
    parser.add_argument("--out", metavar="FOLDER", help="write the split there; needed without --push")
    parser.add_argument("--push", metavar="OWNER/NAME", help="publish it as this data set on the Hub")
    parser.add_argument("--private", action="store_true", help="with --push: only you can see it")
    parser.add_argument("--dry-run", action="store_true", help="draw and check, and show the card; write and publish nothing")
    parser.add_argument("--license", metavar="NAME", help="of the images, as the Hub names it, such as cc-by-4.0 (default: unknown)")
    parser.add_argument("--model", metavar="NAME", help="the model that is, or will be, trained on the members; for the card")
    add_shift_check_option(parser)
    add_quiet_option(parser)
    parser.set_defaults(run=run)


def _add_draw_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--members", type=int, metavar="N", help="number to draw; left out for a source that is already a split")
    parser.add_argument("--nonmembers", type=int, metavar="N", help="number to draw; left out likewise")
    parser.add_argument(
        "--coin-flip",
        action="store_true",
        help="put each image in or out by its own fair coin, in place of fixed numbers: needed for a bound on ε from one training run",
    )
    parser.add_argument("--images", type=int, metavar="N", help="with --coin-flip: number of images to draw (default: all)")
    parser.add_argument(
        "--nonmembers-from",
        metavar="SOURCE",
        help="draw the non-members from another source; the two sides may then differ in more than their use in training",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    parser.add_argument(
        "--canaries",
        type=int,
        metavar="N",
        help="also make N random patterns, which a model can only memorise, and divide them by coins into a split of their own, "
        "FOLDER-canaries: trained on with the members, they give a tighter bound on ε",
    )


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", help="configuration of the source on the Hub")
    parser.add_argument("--source-split", metavar="NAME", help="the source's split to draw from (default: train, or its only one)")
    parser.add_argument("--revision", help="branch, tag or commit of the source on the Hub")
    parser.add_argument("--image-column", metavar="NAME", help="where it isn't image")
    add_condition_columns(parser)
    parser.add_argument(
        "--fetch", action="store_true", help="for a split that holds addresses of images: fetch them, from public hosts only"
    )


def run(args: argparse.Namespace) -> int:
    """Make the split; refuse what can be refused before any image is read."""
    from mia_hub.splits.canaries import LICENSE, SUFFIX, draw_canaries
    from mia_hub.splits.card import card_text, check_license_name, check_model_name
    from mia_hub.splits.origins import Origin
    from mia_hub.splits.writing import earlier_record, split_record

    _check_options(args)
    check_license_name(args.license)
    check_model_name(args.model)
    place = _Place.of(args)
    place_of_canaries = None if args.canaries is None else _Place.of(args, SUFFIX)
    drawn, origins, seed = _draw(args)
    _report_left_out(drawn)
    # Made before anything is written, so that what can't be made is refused.
    canaries = None if args.canaries is None else draw_canaries(args.canaries, drawn.split, seed=args.seed)
    shown = {"shift_check": not args.no_shift_check, "progress": not args.quiet}
    record = split_record(drawn, origins=origins, seed=seed, license=args.license, model=args.model, **shown)
    record = _with_earlier(record, earlier_record(args.source))
    if args.dry_run:
        print(card_text(record, name=args.push))
        message(f"this is the README.md to come, without sizes; nothing was {'published' if args.push else 'written'}.")
        return 0
    place.write(drawn, record, progress=not args.quiet)
    if canaries is not None and place_of_canaries is not None:
        # Their captions are those of the members.
        license = LICENSE if canaries.split.captions is None else record.license
        of_canaries = split_record(canaries, origins=(Origin(canaries.split.name),), license=license, model=args.model, **shown)
        print("\nCanaries:")
        place_of_canaries.write(canaries, of_canaries, progress=not args.quiet)
    if record.license == "unknown":
        message("no licence was given; the card says that it is unknown. Name it with --license.")
    return 0


@dataclass(frozen=True)
class _Place:
    """Where a split goes: a folder, a data set on the Hub, or both; neither for a dry run."""

    folder: Path | None
    target: PushTarget | None

    @classmethod
    def of(cls, args: argparse.Namespace, suffix: str = "") -> _Place:
        """Return the place that the options name, checked before any image is read."""
        from mia_hub.splits.publishing import find_target
        from mia_hub.splits.writing import check_folder

        folder = Path(f"{args.out.rstrip('/')}{suffix}") if args.out else None
        if folder:
            check_folder(folder)
        return cls(folder, find_target(args.push + suffix, private=args.private) if args.push else None)

    def write(self, drawn: DecodedSplit, record: SplitRecord, *, progress: bool) -> None:
        """Write a split, publish it, and say where it is."""
        from mia_hub.splits.card import shift_text
        from mia_hub.splits.publishing import push_folder
        from mia_hub.splits.writing import write_decoded

        with tempfile.TemporaryDirectory(prefix="mia_hub_split_") as temporary:
            folder = self.folder or Path(temporary) / "split"
            write_decoded(drawn, record, folder, name=self.target.name if self.target else None, progress=progress)
            commit = push_folder(folder, self.target) if self.target else None
        print(f"{record.n_members:,} members and {record.n_nonmembers:,} non-members, {record.hash}")
        print(f"Shift check: {shift_text(record).replace('**', '')}")
        if self.folder:
            print(f'Written to {folder}. To load it:\n\n    mia_hub.load_split("{folder}")')
        if self.target:
            name = self.target.name
            print(f'Published as {name} at commit {commit}. To load it:\n\n    mia_hub.load_split("{name}", revision="{commit}")')


def _with_earlier(record: SplitRecord, earlier: SplitRecord | None) -> SplitRecord:
    """The record, with what an earlier one of the same split says of its source, seed, licence and model."""
    if earlier is None or earlier.hash != record.hash:
        return record
    return replace(
        record,
        license=earlier.license if record.license == "unknown" else record.license,
        notes=(*earlier.notes, *(note for note in record.notes if note not in earlier.notes)),
        origins=earlier.origins,
        seed=earlier.seed,
        coins=earlier.coins,
        left_out=earlier.left_out,
        model=record.model or earlier.model,
    )


def _check_options(args: argparse.Namespace) -> None:
    if not (args.out or args.push or args.dry_run):
        raise SplitError("Say where to write the split: --out FOLDER, --push owner/name, or --dry-run to see its card only.")
    if args.private and not args.push:
        raise SplitError("--private is for a data set that is published; it goes with --push owner/name.")
    if args.coin_flip and not (args.members is None and args.nonmembers is None and args.nonmembers_from is None):
        raise SplitError(
            "With --coin-flip, coins decide how many images of one source are members: leave --members, --nonmembers and --nonmembers-from "
            "out. --images N draws N images in all."
        )
    if args.images is not None and not args.coin_flip:
        raise SplitError("--images is the number of images that --coin-flip divides; give --members and --nonmembers for fixed numbers.")
    if (args.members is None) != (args.nonmembers is None):
        raise SplitError("--members and --nonmembers go together: give both, or neither for a source that is already a split.")
    if args.nonmembers_from and args.members is None:
        raise SplitError("--nonmembers-from draws from two sources; give both numbers, --members and --nonmembers.")


def _draw(args: argparse.Namespace) -> tuple[DecodedSplit, tuple[Origin, ...], int | None]:
    """The images, their sources, and the seed if they were drawn."""
    from mia_hub.splits.drawing import decode_split, draw_by_coins, draw_split
    from mia_hub.splits.member_split import MemberSplit
    from mia_hub.splits.sources import open_source
    from mia_hub.splits.split_part import ColumnNames, FetchOptions

    columns = ColumnNames(args.image_column, args.caption_column, args.class_column)
    fetching = FetchOptions(args.fetch, None, args.seed, not args.quiet)
    hub = {"config": args.config, "revision": args.revision, "source_split": args.source_split}
    source, origin = open_source(args.source, **hub, columns=columns, fetching=fetching)
    for note in source.notes:
        message(note)
    if isinstance(source, MemberSplit):
        if args.members is not None or args.coin_flip:
            options = "--coin-flip" if args.coin_flip else "--members and --nonmembers"
            raise SplitError(f"{args.source} already says which images are members; leave {options} out.")
        return decode_split(source, progress=not args.quiet), (origin,), None
    if args.coin_flip:
        return draw_by_coins(source, args.images, seed=args.seed, progress=not args.quiet), (origin,), args.seed
    if args.members is None:
        raise SplitError(
            f"{args.source} doesn't say which images are members; give the numbers to draw with --members and --nonmembers, or toss a coin "
            "for each image with --coin-flip."
        )
    other, origins = None, [origin]
    if args.nonmembers_from:
        second, second_origin = open_source(args.nonmembers_from, columns=columns, fetching=fetching)
        if isinstance(second, MemberSplit):
            raise SplitError(f"{args.nonmembers_from} is a split itself; give a source of images.")
        for note in second.notes:
            message(note)
        other, origins = second, [origin, second_origin]
        message(
            "members and non-members come from two sources, which may differ in more than their use in training; an attack can then tell "
            "them apart without the model. The shift check below says whether that can be seen."
        )
    return (
        draw_split(source, args.members, args.nonmembers, seed=args.seed, other=other, progress=not args.quiet),
        tuple(origins),
        args.seed,
    )


def _report_left_out(drawn: DecodedSplit) -> None:
    from mia_hub.splits.drawing import left_out_text

    if drawn.left_out:
        message(f"some images were not used{left_out_text(drawn.left_out)}.")
    if drawn.example:
        message(f"the first that can't be read: {drawn.example}")
