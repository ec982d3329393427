"""The models that the recipes of `training` trained, with their training images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mia_hub.splits.member_split import MemberSplit
from training.data import TrainingSet, cifar10, emoji, fashion_mnist

# Name of a run: name of the model on the pages.
MODELS = {
    "demo": "pixels, 28×28 (the demo)",
    "ddpm-512": "pixels, 16×16",
    "ddpm-512-flips": "pixels, 16×16, random flips",
    "ddpm-cifar": "pixels, CIFAR-10, 16×16",
    "ldm-b1e-6": "latents",
    "ldm-photos": "latents, CIFAR-10",
    "t2i": "text-to-image",
    "t2i-lora": "text-to-image, LoRA",
}
_CLOTHES = "512 images of Fashion-MNIST"
TRAINED_ON = {
    "demo": _CLOTHES,
    "ddpm-512": _CLOTHES,
    "ddpm-512-flips": _CLOTHES,
    "ddpm-cifar": "512 photographs of CIFAR-10, compressed again, at half size",
    "ldm-b1e-6": f"{_CLOTHES}, 32×32 with a black border",
    "ldm-photos": "512 photographs of CIFAR-10, 32×32, compressed again; its autoencoder was trained on 2,000 others",
    "t2i": "446 colour emoji at 32×32, with their Unicode names as captions",
    "t2i-lora": "the same, then 109 emoji of animals and food for the LoRA",
}
# Runs of a model's recipe with other seeds, which draw other members, other weights and other batches.
REPEATS = {
    "ddpm-cifar": ("ddpm-cifar-seed1", "ddpm-cifar-seed2"),
    "ldm-photos": ("ldm-photos-seed1", "ldm-photos-seed2"),
}
# Images of each side: few enough for a study of many models, and enough for intervals of ± .03 in AUC at worst.
MOST = 1000


@dataclass(frozen=True)
class TrainedModel:
    """A run of a recipe.

    Attributes:
        folder: the run's folder.
        snapshots: step: folder of its weights, increasing.
        facts: the finished run's ``training.json``.
    """

    folder: Path
    snapshots: dict[int, Path]
    facts: dict[str, Any]

    @property
    def final(self) -> Path:
        """The folder of the last weights."""
        return self.snapshots[self.facts["steps"]]

    @property
    def name(self) -> str:
        """The finished model's name for `mia_hub.load_model`, with its base if it has one."""
        base = self.facts["recipe"].get("base")
        # Absolute: "a/b" could be an id on the Hub.
        return " + ".join(str(Path(part).resolve()) for part in (base, self.final) if part)

    @property
    def members(self) -> int:
        """The number of training images."""
        return self.facts["members"]

    @cached_property
    def data(self) -> TrainingSet:
        """Members and non-members.

        Raises:
            SystemExit: if the recipe's images aren't those of today's `training.data`.
        """
        kind, _, side = self.facts["data"].rpartition("-")
        recipe = self.facts["recipe"]
        counts, seed, skip = (self.members, self.facts["nonmembers"]), recipe["seed"], recipe.get("skipped images", 0)
        if kind == "fashion-mnist":
            data = fashion_mnist(*counts, side=int(side), seed=seed, skip=skip)
        elif kind == "cifar10":
            data = cifar10(*counts, side=int(side), images=recipe["images"], seed=seed, skip=skip)
        else:
            data = emoji(*counts, artist=kind == "emoji-artist", side=int(side), seed=seed)
        if data.hash != self.facts["split_hash"]:
            raise SystemExit(
                f"{self.folder} was trained on the split {self.facts['split_hash']}, but the data have the hash {data.hash}. Train again."
            )
        return data

    def split(self, most: int = MOST) -> MemberSplit:
        """Return the split with at most ``most`` members and ``most`` non-members."""
        return self.data.split(most)


def load_run(folder: Path) -> TrainedModel:
    """Return a finished run.

    Raises:
        SystemExit: if there is none; the message says how to train it.
    """
    snapshots = {int(path.name[5:]): path for path in sorted(folder.glob("step-*"))}
    finished = [path for path in snapshots.values() if (path / "training.json").exists()]
    if not finished:
        raise SystemExit(f"There is no finished model in {folder}. studies/README.md has the command that trains all models.")
    return TrainedModel(folder, snapshots, json.loads((finished[-1] / "training.json").read_text()))


def quality_in(folder: Path, name: str) -> float:
    """Return the quality figure, in a model's ``training.json``, whose name begins with ``name``."""
    facts = json.loads((folder / "training.json").read_text())
    return next(value for key, value in facts["quality"].items() if key.startswith(name))
