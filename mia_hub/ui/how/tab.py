"""The tab "How it works": a point to drag among training points, and what the attack sees of it. All of it runs in the browser."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr

from mia_hub.ui.how.plane import members_and_others

FOLDER = Path(__file__).parent
STYLE = FOLDER / "how.css"
MATHS = (FOLDER / "math.js").read_text(encoding="utf-8")
SCRIPT = MATHS + (FOLDER / "figure.js").read_text(encoding="utf-8")
TEMPLATE = (FOLDER / "how.html").read_text(encoding="utf-8")
# Held-out points: those that are drawn, and those that p is counted on; with 199, p can get down to 0.005.
MEMBERS, SHOWN, COUNTED, SEED = 16, 10, 199, 0


def scene() -> dict[str, list[list[float]]]:
    """Return the points: "members", "shown" and "others", which are both held out; one seeded draw for all three."""
    members, held_out = members_and_others(MEMBERS, SHOWN + COUNTED, SEED)
    # Rounded, so that page and closed form start from the same numbers.
    parts = {"members": members, "shown": held_out[:SHOWN], "others": held_out[SHOWN:]}
    return {name: points.round(3).tolist() for name, points in parts.items()}


def build_how_tab() -> None:
    """Build the tab."""
    gr.HTML(json.dumps(scene()), html_template=TEMPLATE, js_on_load=SCRIPT, apply_default_css=False, elem_id="how", label="How it works")
