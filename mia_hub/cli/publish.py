"""``mia-hub publish PART OWNER``: shows what would be pushed where; with ``--yes`` pushes it."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from mia_hub.cli.options import Commands

if TYPE_CHECKING:
    from mia_hub.cli.publishing.repositories import Names, PublishedRepository

PARTS = {
    "space": "this page, with the leaderboard, as a Gradio Space",
    "metric": "the metric, for evaluate.load('OWNER/sima')",
    "demo-model": "the demo model, as a model repository",
    "demo-split": "the demo's members and non-members, as a data set",
    "all": "all four",
}


def add_command(commands: Commands) -> None:
    """Add ``publish`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "publish",
        help="put the page, the metric, the demo model or its split on the Hub",
        description="Shows what would be pushed to the Hub; with --yes, pushes it. The same content twice makes no second commit.",
        epilog="; ".join(f"{name}: {what}" for name, what in PARTS.items()) + ".",
    )
    parser.add_argument("part", choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("owner", metavar="OWNER", help="your user name on the Hub, or an organisation of yours")
    parser.add_argument("--name", help="of the repository (default: mia_hub, sima, mia_hub-demo and mia_hub-demo)")
    parser.add_argument("--private", action="store_true", help="make new repositories private")
    confirmation = parser.add_mutually_exclusive_group()
    confirmation.add_argument("--yes", action="store_true", help="push")
    confirmation.add_argument("--dry-run", action="store_true", help="only show what would be pushed (the default)")
    of_space = parser.add_argument_group("of the Space")
    of_space.add_argument("--hardware", help="to request, such as zero-a10g (ZeroGPU) or t4-small (default: unchanged)")
    of_space.add_argument(
        "--stores",
        action="store_true",
        help="create the data sets OWNER/NAME-requests and OWNER/NAME-results, and name them to the Space",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Describe the repositories, and push them with ``--yes``."""
    from mia_hub.cli.publishing.push import check_names, endpoint
    from mia_hub.cli.publishing.repositories import REPOSITORIES, Names, PublishError

    chosen = list(REPOSITORIES) if args.part == "all" else [args.part]
    if args.name and len(chosen) > 1:
        raise PublishError("--name is for one repository, and 'all' makes four; leave it out, or publish them one by one.")
    if "space" not in chosen and (args.hardware or args.stores):
        raise PublishError(f"--hardware and --stores are for the Space; leave them out with {args.part!r}.")
    check_names(args.owner, *([args.name] if args.name else []))
    names = Names(args.owner)
    if args.name:
        names = replace(names, **{args.part.replace("-", "_"): args.name})
    repositories = [REPOSITORIES[name](names, endpoint()) for name in chosen]
    for repository in repositories:
        _describe(repository, listed=not args.yes)
        if args.yes:
            _push(repository, args)
    if not args.yes:
        _describe_settings(names, args)
        print(f"Nothing was pushed. This does it:\n\n    {_command(args)}")
    return 0


def _describe(repository: PublishedRepository, *, listed: bool) -> None:
    from mia_hub.cli.publishing.push import endpoint

    kind, sizes = {"space": "Space", "model": "model", "dataset": "data set"}[repository.kind], repository.sizes
    folder = "" if repository.kind == "model" else f"{repository.kind}s/"
    total = f"{len(sizes)} files, {_size(sum(sizes.values()))}"
    print(f"{kind} {repository.repo_id}: {repository.what}. {total}, to {endpoint()}/{folder}{repository.repo_id}", flush=True)
    if listed:
        for path, size in sizes.items():
            print(f"    {_size(size):>10}  {path}")
    for remark in repository.remarks:
        print(f"    {remark}")
    if listed:
        print()


def _describe_settings(names: Names, args: argparse.Namespace) -> None:
    from mia_hub.cli.publishing.push import STORES

    if args.hardware:
        print(f"Hardware of {names.id('space')}: {args.hardware}")
    if args.stores:
        for variable, name in STORES.items():
            print(f"Data set {names.id('space')}-{name}, named to the Space as {variable}")


def _push(repository: PublishedRepository, args: argparse.Namespace) -> None:
    from mia_hub.cli.publishing.push import configure, make_stores, push

    pushed = push(repository, private=args.private)
    print(f"    {'pushed' if pushed.new else 'already up to date'}: commit {pushed.commit}")
    if repository.sdk != "gradio":
        return
    variables = make_stores(repository.repo_id, private=args.private) if args.stores else {}
    for line in configure(repository.repo_id, hardware=args.hardware, variables=variables):
        print(f"    {line}")
    if variables:
        print(
            "    For the Space to write requests there, add a secret HF_TOKEN in its settings: a fine-grained token with write access to "
            "these two data sets alone."
        )


def _command(args: argparse.Namespace) -> str:
    """The command that pushes what this one described."""
    words = ["mia-hub", "publish", args.part, args.owner]
    for option in ("name", "hardware"):
        words += [f"--{option}", getattr(args, option)] if getattr(args, option) else []
    words += [f"--{option}" for option in ("private", "stores") if getattr(args, option)]
    return shlex.join([*words, "--yes"])


def _size(count: int) -> str:
    for unit, factor in (("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
