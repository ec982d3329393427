"""``mia-hub app``: the web page."""

from __future__ import annotations

import argparse
import os

from mia_hub.cli.options import Commands
from mia_hub.errors import MiaHubError, first_line
from mia_hub.system.malloc import share_arenas, unused_memory_returned


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
    parser.add_argument(
        "--largest-weights",
        metavar="SIZE",
        help="refuse models with larger weights, such as 4GiB or 500MB (default: MIA_HUB_LARGEST_WEIGHTS; else 2GiB on a public page, and "
        "no limit at home)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve the page until it is interrupted."""
    launch(
        host=args.host,
        port=args.port,
        share=args.share,
        public=args.public or args.share,
        largest_weights=args.largest_weights,
    )
    return 0


def launch(
    *,
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
    public: bool = False,
    largest_weights: str | None = None,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        host: address to listen at; by default that of GRADIO_SERVER_NAME, or 127.0.0.1.
        port: by default that of GRADIO_SERVER_PORT, or the first free one from 7860.
        share: also makes a temporary public address, through Gradio's servers.
        public: whether strangers use it, so that limits hold and nothing of theirs is kept. On a Space they always do.
        largest_weights: size of the largest weights of a model, such as "4GiB"; by default that of MIA_HUB_LARGEST_WEIGHTS, or 2 GiB where
            strangers use the page, and no limit at home.

    Raises:
        MiaHubError: if the page can't be served there, or a limit is no size.
    """
    from mia_hub.ui import build_app, hardware, launch_options

    if port is not None and not 0 < port < 2**16:
        raise MiaHubError(f"--port takes an integer from 1 to 65535; got {port}.")
    if public:
        os.environ[hardware.PUBLIC] = "1"
    if largest_weights is not None:
        hardware.weights_limit(largest_weights, "--largest-weights")
        os.environ[hardware.LARGEST_WEIGHTS] = largest_weights
    hardware.largest_weights()  # refused before the page is built
    share_arenas()
    page = build_app(keep=True)
    try:
        with unused_memory_returned():
            # None, not False, leaves the choice to GRADIO_SHARE.
            page.launch(server_name=host, server_port=port, share=share or None, **launch_options())
    except OSError as error:
        reason = first_line(error).partition(". ")[0]  # Gradio's advice, which follows, is for scripts
        raise MiaHubError(f"The page can't be served there ({reason}); give another --host or --port.") from error
