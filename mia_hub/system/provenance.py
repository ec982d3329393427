"""Provenance of a result: versions and time."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

RECORDED_PACKAGES = ("mia_hub", "torch", "diffusers", "numpy", "pillow", "scikit-learn")


@cache
def installed_version(package: str) -> str:
    """Return the version of a package, looked up once: to read it costs milliseconds, and it is that of what is imported.

    Raises:
        importlib.metadata.PackageNotFoundError: if it isn't installed.
    """
    return metadata.version(package)


def provenance(**details: Any) -> dict[str, Any]:
    """Return the time, the versions of the recorded packages, and further details that are needed to reproduce a result."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = installed_version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {"created": datetime.now(UTC).isoformat(timespec="seconds"), "versions": versions, **details}
