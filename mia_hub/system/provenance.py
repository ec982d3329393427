"""Provenance of a result: versions and time."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

RECORDED_PACKAGES = ("mia_hub", "torch", "diffusers", "numpy", "pillow", "scikit-learn")


def provenance(**details: Any) -> dict[str, Any]:
    """Return the time, the versions of the recorded packages, and further details that are needed to reproduce a result."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {"created": datetime.now(UTC).isoformat(timespec="seconds"), "versions": versions, **details}
