"""Settings of benchmarks with some values changed."""

from __future__ import annotations

import json

from mia_hub.auditing.published_settings.setting import SETTINGS

FAST = [{"name": "sima", "parameters": {"timesteps": [50, 100]}}, {"name": "pia", "parameters": {"timesteps": [100]}}]


def edited(tmp_path, name, changes, stem="own"):
    """A setting's file with some values changed: {"members.count": 3, "notes": None}; None takes a field out."""
    values = json.loads((SETTINGS / f"{name}.json").read_text())
    for place, value in changes.items():
        *parents, last = place.split(".")
        target = values
        for parent in parents:
            target = target[int(parent) if isinstance(target, list) else parent]
        if value is None:
            target.pop(last)
        else:
            target[last] = value
    path = tmp_path / f"{stem}.json"
    path.write_text(json.dumps(values))
    return path
