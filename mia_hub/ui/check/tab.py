"""The tab "Check an image": an image goes in, a calibrated answer comes out."""

from __future__ import annotations

from mia_hub.ui.check.events import connect
from mia_hub.ui.check.layout import lay_out


def build_check_tab() -> None:
    """Build the tab."""
    connect(*lay_out())
