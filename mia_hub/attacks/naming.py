"""The identity of an attack: its ``repr``."""

from __future__ import annotations

import re
from dataclasses import Field, fields
from types import MappingProxyType
from typing import Any

# Metadata of a parameter that an attack got after scores of it were stored. At its default, which must be what the attack did before, the
# ``repr`` leaves it out, so that these scores keep their identity.
LATER = MappingProxyType({"later": True})


def named_repr(attack: Any) -> str:
    """Return the ``repr`` of a dataclass without memory addresses, which would make it another attack in every run.

    A function is shown by its qualified name, as in ``CLiD(…, importance=<function by_rarity>)``; an object by its own ``repr``. A
    parameter of metadata `LATER` is shown where it differs from its default.
    """
    values = ", ".join(f"{field.name}={getattr(attack, field.name)!r}" for field in fields(attack) if _is_shown(field, attack))
    return re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(attack).__qualname__}({values})")


def _is_shown(field: Field[Any], attack: Any) -> bool:
    return field.repr and not (field.metadata == LATER and getattr(attack, field.name) == field.default)
