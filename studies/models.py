"""The models that the recipes of `training` made, found again with the pictures that they were trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mia_hub.splits.member_split import MemberSplit
from training.data import TrainingSet, emoji, fashion_mnist

# By the names of their runs.
MODELS = {
    "demo": "pixels, 28×28 (the demo)",
    "ddpm-512": "pixels, 16×16",
    "ddpm-512-flips": "pixels, 16×16, random flips",
    "ldm-b1e-6": "latents",
    "t2i": "text-to-image",
    "t2i-lora": "text-to-image, LoRA",
}
_CLOTHES = "512 pictures of Fashion-MNIST"
TRAINED_ON = {
    "demo": _CLOTHES,
    "ddpm-512": _CLOTHES,
    "ddpm-512-flips": _CLOTHES,
    "ldm-b1e-6": f"{_CLOTHES}, 32×32 with a black border",
    "t2i": "446 colour emoji at 32×32, with their Unicode names as captions",
    "t2i-lora": "the same, and on top 109 emoji of animals and food",
}
# Of each side, so that a study of many models ends; enough for intervals of ± .03 in AUC at worst.
MOST = 1000


@dataclass(frozen=True)
class TrainedModel:
    """A run of a recipe.

    Attributes:
        folder: of the run.
        snapshots: step to the folder of its weights, rising.
        facts: what the recipe wrote of the finished run (``training.json``).
    """

    folder: Path
    snapshots: dict[int, Path]
    facts: dict[str, Any]

    @property
    def final(self) -> Path:
        return self.snapshots[self.facts["steps"]]

    @property
    def name(self) -> str:
        """The finished model, as `mia_hub.load_model` takes it: with what it lies on top of, if it does."""
        base = self.facts["recipe"].get("base")
        # Absolute, since "a/b" could be a name on the Hub.
        return " + ".join(str(Path(part).resolve()) for part in (base, self.final) if part)

    @property
    def members(self) -> int:
        return self.facts["members"]

    @cached_property
    def data(self) -> TrainingSet:
        """Members and non-members.

        Raises:
            SystemExit: if the recipe's pictures aren't those of today's `training.data`.
        """
        kind, _, side = self.facts["data"].rpartition("-")
        counts, seed = (self.members, self.facts["nonmembers"]), self.facts["recipe"]["seed"]
        if kind == "fashion-mnist":
            found = fashion_mnist(*counts, side=int(side), seed=seed)
        else:
            found = emoji(*counts, artist=kind == "emoji-artist", side=int(side), seed=seed)
        if found.hash != self.facts["split_hash"]:
            raise SystemExit(
                f"{self.folder} was trained on the split {self.facts['split_hash']}, which is {found.hash} today; train it again."
            )
        return found

    def split(self, most: int = MOST) -> MemberSplit:
        """At most so many members and non-members."""
        return self.data.split(most)


def trained(folder: Path) -> TrainedModel:
    """A finished run.

    Raises:
        SystemExit: if there is none, with the way to it.
    """
    snapshots = {int(path.name[5:]): path for path in sorted(folder.glob("step-*"))}
    finished = [path for path in snapshots.values() if (path / "training.json").exists()]
    if not finished:
        raise SystemExit(f"There is no finished model in {folder}. studies/README.md has the commands that train all of them.")
    return TrainedModel(folder, snapshots, json.loads((finished[-1] / "training.json").read_text()))


def quality_in(folder: Path, name: str) -> float:
    """The figure that a recipe wrote of a model, whose name begins so."""
    facts = json.loads((folder / "training.json").read_text())
    return next(value for key, value in facts["quality"].items() if key.startswith(name))
