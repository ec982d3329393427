"""The page as a whole: its tabs, its theme, and how it is launched."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr

TITLE = "mia_hub · was this image in the training set?"
STYLE = Path(__file__).parent / "style.css"
# Gradio's temporary folder keeps uploads until they are this old; the page says so.
DELETE_UPLOADS_AFTER_SECONDS = 600
# Gradio keeps 200 kB of each visitor's page, so that later events know what earlier ones changed of its fields. No event of this page needs
# to, and so nothing is lost to a visitor after whom so many others came.
VISITORS_KEPT = 200


def build_app(*, keep: bool = False) -> gr.Blocks:
    """Return the page, ready to be launched with `launch_options`.

    Args:
        keep: whether this process serves the page and nothing else (see `warm_up`).
    """
    import gradio as gr

    from leaderboard.page.api import add_endpoints
    from leaderboard.page.board_tab import build_board_tab
    from leaderboard.page.submit_tab import build_submit_tab
    from mia_hub.ui.check.answering import warm_up
    from mia_hub.ui.check.running import disconnect
    from mia_hub.ui.check.tab import build_check_tab
    from mia_hub.ui.how.tab import build_how_tab

    page: gr.Blocks
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, DELETE_UPLOADS_AFTER_SECONDS)) as page:
        gr.HTML(
            "<h1>Was this image in the training set?</h1>"
            "<p>An audit of diffusion models for training-data membership: a calibrated answer, or an honest “cannot tell”.</p>",
            elem_classes="mia-header",
        )
        with gr.Tabs() as pages:
            with gr.Tab("Check an image", id="check"):
                build_check_tab()
            with gr.Tab("Leaderboard", id="leaderboard") as board:
                build_board_tab(page, pages, board)
            with gr.Tab("Submit", id="submit") as submit:
                build_submit_tab(submit)
            with gr.Tab("How it works", id="how-it-works"):
                build_how_tab()
        add_endpoints()
        page.unload(disconnect)
    warm_up(keep=keep)
    return page


def launch_options() -> dict[str, Any]:
    """Return the arguments that `Blocks.launch` needs for this page."""
    import gradio as gr

    from leaderboard.page.board_tab import STYLE as BOARD_STYLE
    from mia_hub.ui.how.tab import STYLE as HOW_STYLE

    theme = gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    # In the light theme, white on Gradio's own blue has too little contrast.
    theme.set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_border_color="*primary_600",
        color_accent="*primary_600",
        # And its help texts are too pale to read.
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
    )
    return {
        "theme": theme,
        "css_paths": [STYLE, BOARD_STYLE, HOW_STYLE],
        "max_file_size": "50mb",
        "state_session_capacity": VISITORS_KEPT,
        "footer_links": ["api"],
        # The endpoints are tools for agents as well, where gradio's extra for that is installed.
        "mcp_server": find_spec("mcp") is not None,
    }
