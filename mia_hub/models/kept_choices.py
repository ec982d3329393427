"""Choices that were measured, kept so that the next run makes the same ones and can go on from what an earlier one finished."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from mia_hub.models.protocol import DiffusionModel
from mia_hub.system.files import write_text
from mia_hub.system.home import home
from mia_hub.system.processes import current


class KeptChoices:
    """One kind of choice, for each model and device.

    Args:
        kind: its name.
        folder: where the file lies; mia_hub's own by default.
    """

    def __init__(self, kind: str, folder: Path | None = None):
        self.path = (folder or home()) / f"measured-{kind}.json"

    def of(self, model: DiffusionModel, measured: Callable[[], Any], *, more: str = "") -> Any:
        """The choice that was made before, or else is made now and kept; the same in all processes.

        Args:
            model: with a revision, or nothing can be kept of it.
            measured: makes the choice, JSON-ready; one that it can't make, None, is not kept.
            more: what else it depends on.
        """

        def chosen() -> Any:
            key, known = _key(model) + more, self._read()
            if model.info.revision is not None and key in known:
                return known[key]
            found = measured()
            if found is None:
                return None
            with suppress(OSError):  # then it is measured again
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, json.dumps(self._read() | {key: found}, indent=1) + "\n")
            return found

        return current().first(chosen)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _key(model: DiffusionModel) -> str:
    cuda = model.device.type == "cuda"
    device = torch.cuda.get_device_name(model.device) if cuda else f"{model.device.type} {platform.machine()}"
    told = json.dumps(model.info.to_dict(), sort_keys=True)
    return f"{told} on {device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
