"""Offers for a model without a reference on this machine: fetch a published one, or build one of known non-members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mia_hub.attacks import Attack
from mia_hub.auditing.known_models import KnownModel, known_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.building import cost_text
from mia_hub.references.reference import Reference
from mia_hub.references.verdict_attack import default_verdict_attack

UNVERIFIED = "Nobody has run this yet: the names are from public pages and papers."


@dataclass(frozen=True)
class Offer:
    """A reference that could be had for a model.

    Attributes:
        model: that it would be of.
        known: what is known about it.
        attack: that will give the verdicts.
        caption: of the images that will be checked: one for all, True for their own, or None.
    """

    model: DiffusionModel
    known: KnownModel
    attack: Attack
    caption: Any = None

    @property
    def possible(self) -> bool:
        """Whether a reference can be fetched or built; otherwise `text` says what a person can do."""
        return bool(self.known.published or self.known.nonmembers)

    def text(self) -> str:
        """Return what would be fetched and scored, at what cost, in some sentences."""
        known, name = self.known, self.model.info.id
        if known.published:
            return f"The reference {known.published} is published for the model {name}. Fetching it costs no queries."
        if not known.nonmembers:
            return known.note
        sides = [("non-members", known.nonmembers)] + ([("members", known.members)] if known.members else [])
        sources = " and ".join(f"up to {known.limit:,} {what} of {source}" for what, source in sides)
        parts = [f"A reference of the model {name} can be built of {sources}, which are fetched from the Hub: {self.cost()}."]
        parts += [] if known.verified else [UNVERIFIED]
        return " ".join([*parts, *known.caveats])

    def cost(self) -> str:
        """Return the cost, as `mia_hub.references.building.cost_text` words it."""
        has_members, caption = self.known.members is not None, None if self.caption is True else self.caption
        count = self.known.limit * (2 if has_members else 1)
        return cost_text(self.model, self.attack, count, has_members=has_members, caption=caption)

    def accept(
        self, *, batch_size: int | None = None, progress: bool = True, on_batch: Callable[[int, int], None] | None = None
    ) -> Reference:
        """Fetch or build the reference, which is kept on this machine.

        Raises:
            MiaHubError: if that fails.
        """
        known = self.known
        if known.published:
            reference = Reference.load(known.published)
            reference.check_fits(self.model)
            return reference
        return Reference.build(
            self.model,
            known.nonmembers,
            self.attack,
            members=known.members,
            captions=True if known.captions else self.caption,
            limit=known.limit,
            caveats=known.caveats,
            batch_size=batch_size,
            progress=progress,
            on_batch=on_batch,
        )


def offer_for(model: DiffusionModel, attack: Attack | None = None, caption: Any = None) -> Offer | None:
    """Return what can be done for a model; None where nothing is known about it.

    Args:
        model: the model.
        attack: that will give the verdicts; None for the default.
        caption: of the images that will be checked; see `Offer`.

    Raises:
        SplitError: if one's own table of references can't be understood.
    """
    known = known_model(model.info.id)
    return None if known is None else Offer(model, known, attack or default_verdict_attack(model), caption)
