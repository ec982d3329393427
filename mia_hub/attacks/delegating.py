"""Mixins of attacks that are made of another one: what is true of that one is said once."""

from __future__ import annotations

from typing import Any

from mia_hub.attacks.base import Attack
from mia_hub.attacks.querying import QueriedModel


class AsksFor:
    """Mixin of an attack that asks the model what another one, its `base`, asks: its costs, its columns, its preparation."""

    base: Attack

    @property
    def queries_per_image(self) -> int:
        return self.base.queries_per_image

    @property
    def setup_queries(self) -> int:
        return self.base.setup_queries

    @property
    def columns(self) -> tuple[int, ...]:
        return self.base.columns

    def prepare(self, model: QueriedModel, seed: int) -> Any:
        return self.base.prepare(model, seed)


class DeclaredBy(AsksFor):
    """Mixin of an attack that is made of another one at run time: what that one declares of itself is true of it too."""

    name = property(lambda self: self.base.name)
    paper = property(lambda self: self.base.paper)
    access = property(lambda self: self.base.access)
    needs_caption = property(lambda self: self.base.needs_caption)
    needs_gradients = property(lambda self: self.base.needs_gradients)
    needs_samples = property(lambda self: self.base.needs_samples)
    ignores_captions = property(lambda self: self.base.ignores_captions)
    one_score = property(lambda self: self.base.one_score)
