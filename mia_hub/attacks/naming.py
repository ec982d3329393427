"""The identity of an attack that has a function among its parameters."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any


def named_repr(attack: Any) -> str:
    """Return the ``repr`` of a dataclass without memory addresses, which would make it another attack in every run.

    A function is shown by its qualified name, as in ``CLiD(…, importance=<function by_rarity>)``; an object by its own ``repr``.
    """
    values = ", ".join(f"{field.name}={getattr(attack, field.name)!r}" for field in fields(attack) if field.repr)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(attack).__qualname__}({values})")
