"""The Gradio page. It asks no other server for anything, and stores no upload."""

from importlib import import_module
from typing import Any

__all__ = ["TITLE", "build_app", "launch_options"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mia_hub.ui' has no attribute {name!r}")
    # Imported when first used, so that `mia_hub.ui` alone costs milliseconds.
    return getattr(import_module("mia_hub.ui.page"), name)
