"""``mia-hub app``: the web page."""

from __future__ import annotations

import argparse
import os

from mia_hub.cli.options import Commands
from mia_hub.errors import MiaHubError, first_line


def add_command(commands: Commands) -> None:
    """Add ``app`` to the commands of mia-hub."""
    parser = commands.add_parser(
        "app",
        help="open the web page",
        description="Starts the web page on this machine, until it is interrupted (Ctrl+C).",
    )
    parser.add_argument("--host", metavar="ADDRESS", help="0.0.0.0 lets other machines in (default: GRADIO_SERVER_NAME, or 127.0.0.1)")
    parser.add_argument("--port", type=int, metavar="N", help="default: GRADIO_SERVER_PORT, or the first free one from 7860")
    parser.add_argument(
        "--share",
        action="store_true",
        help="also make a temporary public address; everything sent to it passes through Gradio's servers",
    )
    parser.add_argument(
        "--public",
        action="store_true",
        help="the page is for strangers: models are limited to 2 GiB of weights, and nothing that visitors bring is kept (as on a Space)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve the page until it is interrupted."""
    launch(host=args.host, port=args.port, share=args.share, public=args.public or args.share)
    return 0


def launch(*, host: str | None = None, port: int | None = None, share: bool = False, public: bool = False) -> None:
    """Serve the page until it is interrupted.

    Args:
        host: address to listen at; by default that of GRADIO_SERVER_NAME, or 127.0.0.1.
        port: by default that of GRADIO_SERVER_PORT, or the first free one from 7860.
        share: also makes a temporary public address, through Gradio's servers.
        public: whether strangers use it, so that limits hold and nothing of theirs is kept. On a Space they always do.

    Raises:
        MiaHubError: if the page can't be served there.
    """
    from mia_hub.ui import build_app, launch_options
    from mia_hub.ui.hardware import PUBLIC

    if port is not None and not 0 < port < 2**16:
        raise MiaHubError(f"--port takes an integer from 1 to 65535; got {port}.")
    if public:
        os.environ[PUBLIC] = "1"
    page = build_app()
    try:
        # None, not False, leaves the choice to GRADIO_SHARE.
        page.launch(server_name=host, server_port=port, share=share or None, **launch_options())
    except OSError as error:
        reason = first_line(error).partition(". ")[0]  # Gradio's advice, which follows, is for scripts
        raise MiaHubError(f"The page can't be served there ({reason}); give another --host or --port.") from error
