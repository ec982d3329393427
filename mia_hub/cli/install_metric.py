"""``mia-hub install-metric``: makes ``evaluate.load("sima")`` work in every folder."""

from __future__ import annotations

import argparse

from mia_hub.cli.options import Commands


def add_command(commands: Commands) -> None:
    """Add ``install-metric`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "install-metric",
        help="make evaluate.load('sima') work in every folder",
        description="Makes evaluate.load('sima') work in every folder.",
    )
    parser.add_argument("--uninstall", action="store_true", help="undo it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Install the metric into evaluate's module cache, or remove it."""
    from mia_hub.evaluate_module import install

    if args.uninstall:
        install.uninstall()
        print("evaluate.load('sima') was removed from evaluate's module cache.")
        return 0
    print(install.usage_text(install.install()))
    return 0
