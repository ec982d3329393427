"""The command ``mia-hub``: its parser, put together from the commands, and what it does with their errors."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from leaderboard import cli as leaderboard_commands
from mia_hub import __version__
from mia_hub.cli import (
    app,
    attacks,
    audit,
    benchmark,
    check,
    compare,
    copies,
    install_metric,
    make_split,
    prompts,
    publish,
    reference,
    train_reference,
)
from mia_hub.cli.output import EXIT_ERROR, EXIT_INTERRUPTED, message
from mia_hub.errors import MiaHubError
from mia_hub.system.processes import launched, launched_as, launched_first
from mia_hub.system.streams import any_terminal

# In the order in which --help lists them.
COMMANDS = (
    app,
    check,
    prompts,
    reference,
    train_reference,
    audit,
    compare,
    copies,
    attacks,
    benchmark,
    make_split,
    leaderboard_commands,
    publish,
    install_metric,
)


# How alike a given and an existing name must be, by `difflib`.
CLOSE = 0.75


class CommandParser(argparse.ArgumentParser):
    """A parser that names an unknown argument itself, with the usage of its own command, and the option that was probably meant.

    argparse leaves this to the outermost parser, which shows the usage of the whole program.
    """

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]  # as typeshed has it: overloads
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        return parsed, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.nargs == argparse.PARSER and action.choices and value not in action.choices:
            self.error(self._no(str(action.metavar).lower(), value, action.choices))
        super()._check_value(action, value)

    def _unknown(self, arguments: list[str]) -> str:
        options = [argument.partition("=")[0] for argument in arguments if argument.startswith("-") and argument != "--"]
        return self._no("option", options[0], self._option_string_actions) if options else f"unexpected argument: {' '.join(arguments)}"

    def _no(self, what: str, name: str, known: Iterable[str]) -> str:
        near = difflib.get_close_matches(name, list(known), n=1, cutoff=CLOSE)
        return f"there is no {what} {name}." + (f" Did you mean {near[0]}?" if near else f" {self.prog} --help lists them all.")


def build_parser() -> CommandParser:
    """Return the parser of ``mia-hub``; what it parses has ``run``, the function of its command."""
    parser = CommandParser(
        prog="mia-hub",
        description="Audit diffusion models for training-data membership. Higher score = more likely a training image, everywhere.",
    )
    parser.add_argument("--version", action="version", version=f"mia-hub {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_command(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        arguments: those of the command line by default.

    Returns:
        0 when done, 2 when refused with a message, 3 where a figure is above a limit of ``--fail-above``, 130 when interrupted.
    """
    with any_terminal() as output:
        status = _run(build_parser().parse_args(arguments))
        output.flush()
        if output.error is None or status == EXIT_INTERRUPTED:
            return status
        message(f"standard output can't be written ({output.error.strerror}); send it elsewhere.")
        return EXIT_ERROR


def command_line() -> NoReturn:
    """Run one command as a process of its own, and end the process.

    After an interruption, threads in the middle of decoding large images are not waited for: all that is written is complete before.
    """
    status = main()
    if status == EXIT_INTERRUPTED:
        os._exit(status)
    raise SystemExit(status)


def _run(args: argparse.Namespace) -> int:
    try:
        if launched() and not getattr(args, "shares_work", False):
            if not launched_first():  # one refusal is enough
                return EXIT_ERROR
            raise MiaHubError(
                "only audit, compare and reference build share their work among processes; start this command without accelerate launch."
            )
        status: int = args.run(args)
        return status
    except MiaHubError as error:
        if not error.elsewhere:
            message(f"{launched_as()}{error}")
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(file=sys.stderr)
        message("interrupted; nothing was written.")
        return EXIT_INTERRUPTED
