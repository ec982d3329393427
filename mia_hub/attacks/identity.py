"""Identity of an attack's numbers besides its images: its code, versions of libraries, and the model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from mia_hub.defaults import PACKAGE_FOLDER
from mia_hub.models.bases import base_of, base_record
from mia_hub.models.precision import precision_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.reference_models import reference_model_records, reference_models
from mia_hub.system.provenance import installed_version

# Code of these packages is identified by a version or never changes.
VERSIONED_PACKAGES = ("mia_hub", "builtins", "abc", "numpy")
# Another version of these may change the last digits of a number.
LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pillow", "scikit-learn")


def computed_by(attack: Any) -> dict[str, Any]:
    """Return what computes an attack's numbers: a hash of its code and of this package's, and versions of libraries.

    Returns:
        A JSON-ready dict; empty if a part of the attack has code that can't be identified, such as a function.
    """
    code = _code_hash(attack)
    return {} if code is None else {"code": code, "versions": {name: installed_version(name) for name in LIBRARIES}}


def model_identity(model: DiffusionModel, attack: Any = None) -> dict[str, Any]:
    """Return a JSON-ready dict that identifies a model, with what an attack compares it with; see `is_identified`."""
    schedule = content_hash(model.schedule.signals.numpy().tobytes(), model.schedule.noises.numpy().tobytes())
    return {"model": recorded_model(model, attack), "schedule": schedule, "precision": precision_of(model)}


def recorded_model(model: DiffusionModel, attack: Any = None) -> dict[str, Any]:
    """Return what results of an attack record of a model: `ModelInfo.to_dict`, and what the attack compares it with.

    That is its base, under "base", and its reference models, under "reference_models".
    """
    described = model.info.to_dict()
    if attack is not None and attack.uses_base:
        described["base"] = base_record(model)
    if attack is not None and attack.uses_reference_models:
        described["reference_models"] = reference_model_records(model)
    return described


def is_identified(model: DiffusionModel, attack: Any) -> bool:
    """Return whether the weights that an attack queries are known by their revision; those of wrapped functions aren't."""
    queried = [model, *([base_of(model)] if attack.uses_base else []), *(reference_models(model) if attack.uses_reference_models else [])]
    return all(each.info.revision is not None for each in queried)


def content_hash(*contents: bytes) -> str:
    """Return the SHA-256 over the hashes of some contents, as hexadecimal digits."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _code_hash(attack: Any) -> str | None:
    """A hash of the code that an attack runs; None if a part of it lies in no file that could be compared."""
    files: set[str] = set()
    for each in _constituents(attack):
        if callable(each):
            return None
        for kind in type(each).__mro__:
            if kind.__module__.partition(".")[0] not in VERSIONED_PACKAGES:
                try:
                    files.add(inspect.getfile(kind))
                except (TypeError, OSError):
                    return None
    try:
        return content_hash(_package_hash(), *(_read(file) for file in sorted(files)))
    except OSError:
        return None


def _constituents(attack: Any) -> Iterator[Any]:
    """An attack and its parameters, with the attacks among them and their parameters."""
    yield attack
    for parameter in fields(attack) if is_dataclass(attack) else ():
        if parameter.repr:
            value = getattr(attack, parameter.name)
            for part in value if isinstance(value, tuple) else (value,):
                yield from _constituents(part)


@cache
def _package_hash() -> bytes:
    return content_hash(*(path.read_bytes() for path in sorted(PACKAGE_FOLDER.rglob("*.py")))).encode()


def _read(file: str) -> bytes:
    with open(file, "rb") as opened:
        return opened.read()
