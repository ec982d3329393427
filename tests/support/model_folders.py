"""Changes of model folders, to make variants of them or to damage them: ``change(folder)`` applies one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[Path], Any]
DROP = object()


def change_json(path: Path, **changes: Any) -> None:
    """Change entries of a JSON file; those that are `DROP` are removed."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not DROP}))


def changed(path: str, **changes: Any) -> Change:
    return lambda folder: change_json(folder / path, **changes)


def index(**changes: Any) -> Change:
    return changed("model_index.json", **changes)


def unet(**changes: Any) -> Change:
    return changed("unet/config.json", **changes)


def scheduler(**changes: Any) -> Change:
    return changed("scheduler/scheduler_config.json", **changes)


def another_scheduler(name: str, **changes: Any) -> Change:
    return all_of(index(scheduler=["diffusers", name]), scheduler(_class_name=name, **changes))


def removed(*paths: str) -> Change:
    def change(folder: Path) -> None:
        for path in paths:
            shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()

    return change


def written(path: str, content: bytes) -> Change:
    return lambda folder: (folder / path).write_bytes(content)


def all_of(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change
