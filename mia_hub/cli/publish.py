"""``mia-hub publish PART OWNER``: shows what would be pushed where; with ``--yes`` pushes it."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace

PARTS = {
    "space": "this page, with the leaderboard, as a Gradio Space",
    "metric": "the metric, for evaluate.load('OWNER/sima')",
    "demo-model": "the demo model, as a model repository",
    "demo-split": "the demo's members and non-members, as a data set",
    "all": "all four",
}


def add_command(commands: argparse._SubParsersAction) -> None:
    """Adds ``publish`` to the sub-commands of mia-hub."""
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
    told = parser.add_mutually_exclusive_group()
    told.add_argument("--yes", action="store_true", help="push")
    told.add_argument("--dry-run", action="store_true", help="only show what would be pushed (the default)")
    of_space = parser.add_argument_group("of the Space")
    of_space.add_argument("--hardware", help="to ask for, such as zero-a10g (ZeroGPU) or t4-small (default: as it is)")
    of_space.add_argument(
        "--stores", action="store_true", help="make the data sets OWNER/NAME-requests and OWNER/NAME-results, and name them to the Space"
    )
    parser.set_defaults(run=_publish)


def _publish(args: argparse.Namespace) -> int:
    from mia_hub.cli.publishing.parts import PARTS as MAKERS
    from mia_hub.cli.publishing.parts import Names, PublishError
    from mia_hub.cli.publishing.push import check_names, endpoint

    chosen = list(MAKERS) if args.part == "all" else [args.part]
    if args.name and len(chosen) > 1:
        raise PublishError("--name is for one repository, and 'all' makes four; leave it out, or publish them one by one.")
    if "space" not in chosen and (args.hardware or args.stores):
        raise PublishError(f"--hardware and --stores are for the Space; leave them out with {args.part!r}.")
    check_names(args.owner, *([args.name] if args.name else []))
    names = Names(args.owner)
    if args.name:
        names = replace(names, **{args.part.replace("-", "_"): args.name})
    parts = [MAKERS[name](names, endpoint()) for name in chosen]
    for part in parts:
        _describe(part, listed=not args.yes)
        if args.yes:
            _push(part, args)
    if not args.yes:
        _say_settings(names, args)
        print(f"Nothing was pushed. This does it:\n\n    {_command(args)}")
    return 0


def _describe(part, *, listed: bool) -> None:
    from mia_hub.cli.publishing.push import endpoint

    kind, sizes = {"space": "Space", "model": "model", "dataset": "data set"}[part.kind], part.sizes
    folder = "" if part.kind == "model" else f"{part.kind}s/"
    total = f"{len(sizes)} files, {_size(sum(sizes.values()))}"
    print(f"{kind} {part.repo_id}: {part.what}. {total}, to {endpoint()}/{folder}{part.repo_id}", flush=True)
    if listed:
        for path, size in sizes.items():
            print(f"    {_size(size):>10}  {path}")
    for remark in part.remarks:
        print(f"    {remark}")
    if listed:
        print()


def _say_settings(names, args: argparse.Namespace) -> None:
    from mia_hub.cli.publishing.push import STORES

    if args.hardware:
        print(f"Hardware of {names.id('space')}: {args.hardware}")
    if args.stores:
        for variable, name in STORES.items():
            print(f"Data set {names.id('space')}-{name}, named to the Space as {variable}")


def _push(part, args: argparse.Namespace) -> None:
    from mia_hub.cli.publishing.push import configure, make_stores, push

    done = push(part, private=args.private)
    print(f"    {'pushed' if done.new else 'already up to date'}: commit {done.commit}")
    if part.sdk != "gradio":
        return
    variables = make_stores(part.repo_id, private=args.private) if args.stores else {}
    for line in configure(part.repo_id, hardware=args.hardware, variables=variables):
        print(f"    {line}")
    if variables:
        print(
            "    For the Space to write requests there, add a secret HF_TOKEN in its settings: a fine-grained token with write access to "
            "these two data sets alone."
        )


def _command(args: argparse.Namespace) -> str:
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
