"""The variant of an attack that its authors' public code computes, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

from mia_hub.attacks.base import Attack
from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.naming import LATER

Variant = Literal["ours", "authors"]


@dataclass(frozen=True, kw_only=True)
class HasAuthorsVariant(Attack):
    """An attack whose authors' public code differs from it; docs/attacks.md has a table of the differences.

    Attributes:
        variant: "ours" (default), or "authors": as the authors' public code computes it.
        authors_defaults: defaults of other parameters in the authors' variant, which `get_attack` fills in.
    """

    variant: Variant = field(default="ours", metadata=LATER)

    authors_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("variant", self.variant, get_args(Variant))

    @property
    def by_authors(self) -> bool:
        """Whether the authors' variant was chosen."""
        return self.variant == "authors"
