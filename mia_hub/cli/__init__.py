"""The command line: one file for each command."""

from mia_hub.cli.parser import build_parser, command_line, main

__all__ = ["build_parser", "command_line", "main"]
