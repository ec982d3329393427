"""Results with their uncertainty and provenance. No bare number leaves as a result."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


RECORDED_PACKAGES = ("mia_hub", "torch", "diffusers", "numpy", "pillow", "scikit-learn")


def provenance(**details: Any) -> dict[str, Any]:
    """Versions, time and whatever else is needed to make a result again."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {"created": datetime.now(UTC).isoformat(timespec="seconds"), "versions": versions, **details}
