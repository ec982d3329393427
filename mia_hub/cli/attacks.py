"""``mia-hub attacks``: the attacks and their parameters."""

from __future__ import annotations

import argparse

from mia_hub.cli.options import Commands

FURTHER = """Two parameters make a new attack of one of these:
    given=complexity,mirror  any attack that is not fitted: its statistic is compared with that of images of the same difficulty
    filtered=5,0.2  sima, loss, secmi, pia, pian: high frequencies count less (FreMIA)"""


def add_command(commands: Commands) -> None:
    """Add ``attacks`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "attacks", help="list the attacks and their parameters", description="Lists the attacks and their parameters."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print each attack with its access, its queries, its formula and its parameters."""
    from mia_hub.attacks import ATTACKS, get_attack
    from mia_hub.attacks.registry import decomposed
    from mia_hub.attacks.spelling import parse_attack

    names = [decomposed(parse_attack(name))[0].name for name in args.names] or sorted(ATTACKS)
    for name in names:
        attack = get_attack(name)
        summary = (attack.__doc__ or "").strip().splitlines()[0]
        print(f"{name}  ({attack.access}-box, {attack.queries_per_image} queries per image by default)\n    {summary}")
        for parameter, default in attack.parameters().items():
            print(f"    {parameter} = {default!r}")
        print()
    print(FURTHER)
    return 0
