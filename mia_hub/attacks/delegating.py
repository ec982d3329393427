"""Bases of attacks that are made of another attack, from which they take what it declares."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from mia_hub.attacks.base import Attack
from mia_hub.attacks.querying import QueriedModel

DECLARATIONS = (
    "name",
    "paper",
    "access",
    "needs_caption",
    "needs_text",
    "needs_gradients",
    "needs_samples",
    "ignores_captions",
    "one_score",
)


@dataclass(frozen=True, kw_only=True)
class DelegatingAttack(Attack):
    """An attack that makes the queries of another one, its `base`: with the costs, columns and preparation of that one."""

    @property
    @abstractmethod
    def base(self) -> Attack:
        """The attack that this one is made of."""

    @property
    def queries_per_image(self) -> int:
        return self.base.queries_per_image

    @property
    def setup_queries(self) -> int:
        return self.base.setup_queries

    @property
    def uses_base(self) -> bool:
        return self.base.uses_base

    @property
    def base_queries_per_image(self) -> int:
        return self.base.base_queries_per_image

    @property
    def queries_per_reference_model(self) -> int:
        return self.base.queries_per_reference_model

    @property
    def columns(self) -> tuple[int, ...]:
        return self.base.columns

    def prepare(self, model: QueriedModel, seed: int) -> Any:
        return self.base.prepare(model, seed)


@dataclass(frozen=True, kw_only=True)
class DerivedAttack(DelegatingAttack):
    """A delegating attack that is made at run time, and declares of itself what its `base` declares.

    Attributes:
        parameter: the parameter of `mia_hub.get_attack` that makes it of any attack; "" if none does.
    """

    parameter: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in DECLARATIONS:
            object.__setattr__(self, name, getattr(self.base, name))
