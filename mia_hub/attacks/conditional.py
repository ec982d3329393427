"""Conditional attacks: a statistic judged against non-members of the same difficulty.

The norm of the predicted noise says two things at once: how near a training sample is, and how hard the image is. The second is
nuisance, and can be predicted without knowing any member. Ancestors: dividing by the compressed size (arXiv 2603.13421), quantile
regression of thresholds (Tang et al. 2024), and the cropped neighbours of PFAMI (arXiv 2308.12143).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.delegating import AsksFor, DeclaredBy
from mia_hub.attacks.learning import FittedAttack, Scorer, TrainedAttack, auc_of
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import SimA
from mia_hub.errors import AttackError
from mia_hub.images.captions import select_rows
from mia_hub.images.complexity import complexity
from mia_hub.images.sequences import SelectedSequence
from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.models.noise import SampleNoise
from mia_hub.scores import UNKNOWN
from mia_hub.splits.partition import calibration_part

COMPLEXITY, AUTO = "complexity", "auto"
GRID = (40, 70, 100, 130, 160)
SHIFTS = ("shift-left", "shift-right")
# Tried on the calibration part: two or three queries per timestep.
CANDIDATES = (SHIFTS, ("shift-left", "shift-up"), ("mirror",), ("mirror", "mirror+shift-right"))


def _shifted(pixels: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    """Moved by one pixel; the row or column that this leaves empty repeats its neighbour."""
    height, width = pixels.shape[-2:]
    padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
    return padded[..., 1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]


# Images as hard as the one in question and, unless training mirrored or shifted its images, not in the training set.
NEIGHBOURS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mirror": lambda pixels: pixels.flip(-1),
    "flip": lambda pixels: pixels.flip(-2),
    "turn": lambda pixels: pixels.flip((-2, -1)),
    "shift-left": lambda pixels: _shifted(pixels, 0, -1),
    "shift-right": lambda pixels: _shifted(pixels, 0, 1),
    "shift-up": lambda pixels: _shifted(pixels, -1, 0),
    "shift-down": lambda pixels: _shifted(pixels, 1, 0),
}


def neighbour(name: str, pixels: torch.Tensor) -> torch.Tensor:
    """A neighbour ``[N, C, H, W]`` of images in [0, 1]; ``name`` is a key of `NEIGHBOURS`, or several joined by "+"."""
    for step in name.split("+"):
        pixels = NEIGHBOURS[step](pixels)
    return pixels


@dataclass(frozen=True, kw_only=True)
class ConditionalAttack(AsksFor, TrainedAttack):
    """score = -(log S_t(x) - μ(z))/σ(z): how far a statistic S lies below what non-members of the same difficulty z show.

    z holds the image's complexity (`mia_hub.images.complexity.complexity`; no query) and what the attack sees of its neighbours
    (`Attack.hardness`, averaged over them; as many queries each as the image itself). μ and σ are fitted on non-members alone
    (`mia_hub.metrics.expected_statistic.ExpectedStatistic`), per timestep.

    Attributes:
        given: "complexity" and names of neighbours ("mirror", "flip", "turn", "shift-left", …, or several joined by "+").
    """

    given: tuple[str, ...] | Literal["auto"] = (COMPLEXITY,)

    learns_from: ClassVar[str] = "nonmembers"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.given == AUTO:
            return
        given = (self.given,) if isinstance(self.given, str) else tuple(self.given)
        wrong = [name for name in given if name != COMPLEXITY and not set(str(name).split("+")) <= set(NEIGHBOURS)]
        if wrong or not given or len(set(given)) < len(given):
            raise AttackError(
                f"given must be 'auto', or one or more different names among {', '.join([COMPLEXITY, *NEIGHBOURS])} (neighbours may be "
                f"joined, as in 'mirror+shift-right'); got {self.given!r}."
            )
        object.__setattr__(self, "given", given)

    @property
    @abstractmethod
    def base(self) -> Attack:
        """The attack whose statistic is judged."""

    @property
    def profile(self) -> Attack:
        """The plain attack whose scores over the timesteps are shown beside a verdict."""
        return self.base

    @property
    def conditions(self) -> tuple[str, ...]:
        """`given`, with what "auto" stands for until `choose` has settled it."""
        return (COMPLEXITY, *SHIFTS) if self.given == AUTO else self.given

    @property
    def neighbours(self) -> tuple[str, ...]:
        return tuple(name for name in self.conditions if name != COMPLEXITY)

    def choose(
        self, model, images, is_member, *, captions=None, batch_size=None, seed=0, progress=True, resume=None
    ) -> tuple[dict[str, Any], int]:
        """Settles "auto": of `CANDIDATES` the one of highest AUC on the calibration part, at the default timestep, cross-fitted there."""
        if self.given != AUTO:
            return {}, 0
        part = np.flatnonzero(calibration_part([image.id for image in images], is_member, seed=seed))
        part = part[is_member[part] != UNKNOWN]
        if not (is_member[part] == 1).any():
            return {"given": self.conditions}, 0
        found, spent = {}, 0
        for candidate in CANDIDATES:
            attack = replace(self.at(self.default_timestep), given=(COMPLEXITY, *candidate))
            seen = attack.observe(
                model,
                SelectedSequence(images, part),
                captions=select_rows(captions, part),
                batch_size=batch_size,
                seed=seed,
                is_member=is_member[part],
                progress=progress,
                resume=resume,
            )
            scores = attack.cross_fitted(seen.values, seen.ids, seen.is_member, seed)[:, 0]
            found[candidate] = auc_of(scores, seen.is_member)
            spent += seen.queries
        return {"given": (COMPLEXITY, *max(found, key=found.get))}, spent

    @property
    def queries_per_image(self) -> int:
        return self.base.queries_per_image * (1 + len(self.neighbours))

    def check(self, model, captions=None) -> None:
        super().check(model, captions)
        self.base.check(model, captions)

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """``[N, T, 1 + F]``: the statistic (its logarithm, where it is positive by definition), and the difficulty z."""
        statistic = self.base.scaled(self.base.statistic(model, x0, cond, noise)).cpu().double()
        parts = [statistic[..., None]]
        if COMPLEXITY in self.conditions:
            rows = np.stack([complexity(image) for image in model.pixels.cpu().numpy()])
            parts.append(torch.from_numpy(rows)[:, None].expand(-1, statistic.shape[1], -1))
        seen = []
        for name in self.neighbours:
            with model.changed(lambda pixels, name=name: neighbour(name, pixels)) as other:
                seen.append(self.base.hardness(model, other, cond, noise).cpu().double())
        if seen:
            # Averaged, so that z stays short however many neighbours there are: few null images can be spared for a fit.
            parts.append(torch.stack(seen).mean(0))
        return torch.cat(parts, dim=-1)

    def learn(self, features: np.ndarray, is_member: np.ndarray, seed: int) -> Scorer:
        fits = [ExpectedStatistic(features[:, t, 1:], features[:, t, 0]) for t in range(features.shape[1])]

        def scorer(other: np.ndarray) -> np.ndarray:
            return -np.stack([fit.deviation(other[:, t, 1:], other[:, t, 0]) for t, fit in enumerate(fits)], axis=1)

        return scorer


@dataclass(frozen=True, kw_only=True)
class Conditional(DeclaredBy, ConditionalAttack):
    """Any attack, judged against non-members of the same difficulty: ``get_attack("pia", given=("complexity", "mirror"))``.

    Attributes:
        attack: the attack whose statistic is judged.
        given: see `ConditionalAttack`.
    """

    timesteps: tuple[int, ...] = ()
    attack: Attack

    name = property(lambda self: f"{self.attack.name} given {', '.join(self.given)}")

    def __post_init__(self) -> None:
        if not isinstance(self.attack, Attack) or self.attack.needs_training or isinstance(self.attack, FittedAttack):
            raise AttackError(f"given=… judges an attack's own statistic; {self.attack!r} is fitted itself, and has none.")
        object.__setattr__(self, "timesteps", self.attack.timesteps)
        super().__post_init__()

    @property
    def base(self) -> Attack:
        return self.attack

    def at(self, timestep: int) -> Attack:
        return replace(self, attack=self.attack.at(timestep))


@dataclass(frozen=True, kw_only=True)
class SimAC(ConditionalAttack):
    """SimA given complexity: ‖ε(x0, t)‖_p judged against non-members that are as hard to denoise; one query per timestep.

    Attributes:
        timesteps: 40, 70, …, 160 by default.
        p: order of the norm. Once difficulty is accounted for, 2 does better than SimA's 4 on the demo's calibration part.
        given: see `ConditionalAttack`.
    """

    timesteps: tuple[int, ...] = GRID
    p: float = 2

    name: ClassVar[str] = "sima-c"
    paper: ClassVar[str] = "this project"
    access: ClassVar[str] = "gray"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.base

    @property
    def base(self) -> Attack:
        return SimA(timesteps=self.timesteps, p=self.p)

    @property
    def profile(self) -> Attack:
        """Plain SimA: on the authors' grid, or on this attack's own where one was asked for."""
        return SimA() if self.timesteps == GRID else SimA(timesteps=self.timesteps)


@dataclass(frozen=True, kw_only=True)
class SimACN(SimAC):
    """SimA given complexity and neighbours, which show how hard *this* image is to *this* model; two or three queries per timestep.

    Attributes:
        timesteps, p: as SimAC's.
        given: see `ConditionalAttack`; "auto" (default) chooses the neighbours on the calibration part where members are known there, and
            takes one-pixel shifts, which lie outside most training augmentations, where none are.
    """

    given: tuple[str, ...] | Literal["auto"] = AUTO

    name: ClassVar[str] = "sima-cn"
