"""How a model was loaded, and the name of its base as far as its files tell: one before a plus sign, or one on its card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mia_hub.models.repository import Access, Folder, is_hub_id

CARD = "README.md"


@dataclass(frozen=True)
class NamedBase:
    """The base of a model that isn't loaded yet.

    Attributes:
        name: a Hub id, a folder or "demo".
        reason: who names it, as a clause: "which its card names as base_model".
        revision: commit on the Hub, or None.
    """

    name: str
    reason: str
    revision: str | None = None


@dataclass(frozen=True, eq=False)
class Origin:
    """How a model was loaded, so that its base can be loaded alike.

    Attributes:
        repository: of the model, or of the one under its overlays.
        replaced: whether an overlay brought another denoiser than that of the repository.
        access: rights of the person who named the model.
        options: of loading, as far as they were set: size, latents, offload.
    """

    repository: Folder
    replaced: bool
    access: Access
    options: dict[str, Any] = field(default_factory=dict)

    def named_base(self) -> NamedBase | None:
        """Return the base that the model's name or its card states; None if neither does, or the card names several.

        Raises:
            ModelError: if the card is on the Hub, and can't be fetched.
        """
        if self.replaced:
            return NamedBase(self.repository.name, "on which the fine-tuned denoiser was put", self.repository.revision)
        name = base_on_card(self.repository.read_text(CARD))
        # A card on the Hub can't name a folder of this machine.
        if name is None or name == self.repository.name or not (is_hub_id(name) or self._is_own_folder):
            return None
        return NamedBase(name, "which its card names as base_model")

    @property
    def _is_own_folder(self) -> bool:
        return self.access.trusted and self.repository.revision is None


def base_on_card(card: str) -> str | None:
    """Return the one ``base_model`` in the front matter of a model card; None if there is none, or several."""
    import yaml  # type: ignore[import-untyped]  # ships no types

    lines = card.lstrip("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    end = next((number for number, line in enumerate(lines[1:], start=1) if line.strip() == "---"), 0)
    try:
        stated = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    names = stated.get("base_model") if isinstance(stated, dict) else None
    if isinstance(names, list) and len(names) == 1:
        (names,) = names
    return names.strip() or None if isinstance(names, str) else None
