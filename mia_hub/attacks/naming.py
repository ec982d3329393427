"""The identity of an attack that has a function among its parameters."""

from __future__ import annotations

import re
from dataclasses import fields


def named_repr(attack) -> str:
    """The ``repr`` of a dataclass without memory addresses, which would make it another attack in every run.

    A function goes by its qualified name, so ``CLiD(…, importance=<function by_rarity>)``; an object by its own ``repr``.
    """
    values = ", ".join(f"{field.name}={getattr(attack, field.name)!r}" for field in fields(attack) if field.repr)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(attack).__qualname__}({values})")
