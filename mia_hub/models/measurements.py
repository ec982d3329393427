"""Measurements of a model on a device, stored so that later runs use the same ones."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from mia_hub.models.protocol import DiffusionModel
from mia_hub.system.files import home_folder, write_text
from mia_hub.system.processes import current_processes


class StoredMeasurements:
    """Measurements of one kind, one for each model and device.

    Args:
        kind: names the file.
        folder: where the file lies; mia_hub's own by default.
    """

    def __init__(self, kind: str, folder: Path | None = None):
        self.path = (folder or home_folder()) / f"measured-{kind}.json"

    def of(self, model: DiffusionModel, measure: Callable[[], Any]) -> Any:
        """The stored measurement of a model, or else a new one, which is stored; the same in all processes.

        Args:
            model: nothing is stored of one without a revision.
            measure: returns the measurement, JSON-ready, or None if there is none; None is not stored.
        """

        def measurement() -> Any:
            key, stored = _key(model), self._read()
            if model.info.revision is not None and key in stored:
                return stored[key]
            measured = measure()
            if measured is None:
                return None
            with suppress(OSError):  # then it is measured again
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, json.dumps(self._read() | {key: measured}, indent=1) + "\n")
            return measured

        return current_processes().first(measurement)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def _key(model: DiffusionModel) -> str:
    cuda = model.device.type == "cuda"
    device = torch.cuda.get_device_name(model.device) if cuda else f"{model.device.type} {platform.machine()}"
    info = json.dumps(model.info.to_dict(), sort_keys=True)
    return f"{info} on {device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
