"""Conditional attacks: a statistic compared with that of non-members of the same difficulty.

The norm of the predicted noise mixes two things: how near a training sample is, and how hard the image is. The second is a nuisance, and
can be predicted without knowing any member. Ancestors: dividing by the compressed size (arXiv 2603.13421), quantile regression of
thresholds (Tang et al. 2024), and the cropped neighbours of PFAMI (arXiv 2308.12143).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.delegating import DelegatingAttack, DerivedAttack
from mia_hub.attacks.learning import FittedAttack, Scorer, TrainedAttack
from mia_hub.attacks.querying import QueriedModel
from mia_hub.attacks.sima import SimA
from mia_hub.errors import AttackError
from mia_hub.images.captions import select_rows
from mia_hub.images.complexity import complexity
from mia_hub.images.sequences import SelectedSequence
from mia_hub.metrics.expected_statistic import ExpectedStatistic
from mia_hub.metrics.roc import auc
from mia_hub.models.bases import GIVE_BASE, base_available, base_captions, base_of
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import UNKNOWN
from mia_hub.splits.partition import calibration_part

COMPLEXITY = "complexity"
# That of the image reduced to the size of latents: an autoencoder passes on little of what noise and compression add to the finest scale.
COARSE = "coarse-complexity"
BASE = "base"
AUTO: Final = "auto"
# Conditions that are no neighbours.
OWN_CONDITIONS = (COMPLEXITY, COARSE, BASE)
GRID = (40, 70, 100, 130, 160)
SHIFTS = ("shift-left", "shift-right")
# Compared on the calibration part: two or three queries per timestep.
CANDIDATES = (SHIFTS, ("shift-left", "shift-up"), ("mirror",), ("mirror", "mirror+shift-right"))


def shifted(pixels: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    """Return images ``[N, C, H, W]`` moved by some pixels; the rows or columns that become empty repeat their neighbour."""
    height, width = pixels.shape[-2:]
    reach = max(abs(dy), abs(dx))
    padded = torch.nn.functional.pad(pixels, (reach,) * 4, mode="replicate")
    return padded[..., reach - dy : reach - dy + height, reach - dx : reach - dx + width]


def stride_of(model: QueriedModel) -> int:
    """Return how many pixels of an image a latent stands for, along one side; 1 on models of pixels."""
    return max(1, model.info.picture_shape[1] // model.info.sample_shape[1])


def _reduced(pixels: torch.Tensor, times: int) -> torch.Tensor:
    """Return images ``[N, C, H, W]`` whose sides are shorter by an integer factor, each pixel a mean of those that it stands for."""
    return pixels if times == 1 else torch.nn.functional.avg_pool2d(pixels, min(times, *pixels.shape[-2:]), ceil_mode=True)


# Images as hard as the one in question and, unless training mirrored or shifted its images, not in the training set.
NEIGHBOURS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mirror": lambda pixels: pixels.flip(-1),
    "flip": lambda pixels: pixels.flip(-2),
    "turn": lambda pixels: pixels.flip((-2, -1)),
    "shift-left": lambda pixels: shifted(pixels, 0, -1),
    "shift-right": lambda pixels: shifted(pixels, 0, 1),
    "shift-up": lambda pixels: shifted(pixels, -1, 0),
    "shift-down": lambda pixels: shifted(pixels, 1, 0),
}


def neighbour(name: str, pixels: torch.Tensor) -> torch.Tensor:
    """Return a neighbour of each image.

    Args:
        name: a key of `NEIGHBOURS`, or several joined by "+".
        pixels: ``[N, C, H, W]`` in [0, 1].

    Returns:
        ``[N, C, H, W]``.
    """
    for step in name.split("+"):
        pixels = NEIGHBOURS[step](pixels)
    return pixels


@dataclass(frozen=True, kw_only=True)
class ConditionalAttack(DelegatingAttack, TrainedAttack):
    """score = -(log S_t(x) - μ(z))/σ(z): how far a statistic S lies below that of non-members of the same difficulty z.

    z holds the image's complexity (`mia_hub.images.complexity.complexity`; no query), and that of the image reduced by the stride of the
    autoencoder, on a model of pixels by two; its hardness for the base of the model, with the same noise draws
    (`Attack.hardness_for_base`; as many queries of the base); and the hardness of its neighbours (`Attack.hardness`, averaged over them;
    each costs as many queries as the image itself). μ and σ are fitted on non-members alone
    (`mia_hub.metrics.expected_statistic.ExpectedStatistic`), per timestep. Given the base, these must be non-members of the base, too:
    the base finds an image that it was trained on easy, so that no other image is comparable with it.

    Attributes:
        given: "complexity", "coarse-complexity", "base" (see `mia_hub.models.bases`), and names of neighbours ("mirror", "flip", "turn",
            "shift-left", …, or several joined by "+").
    """

    given: tuple[str, ...] | Literal["auto"] = (COMPLEXITY,)

    learns_from: ClassVar[Literal["both", "nonmembers"]] = "nonmembers"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.given == AUTO:
            return
        given = (self.given,) if isinstance(self.given, str) else tuple(self.given)
        wrong = [name for name in given if name not in OWN_CONDITIONS and not set(str(name).split("+")) <= set(NEIGHBOURS)]
        if wrong or not given or len(set(given)) < len(given):
            raise AttackError(
                f"given must be 'auto', or one or more different names among {', '.join([*OWN_CONDITIONS, *NEIGHBOURS])} (neighbours "
                f"may be joined, as in 'mirror+shift-right'); got {self.given!r}."
            )
        object.__setattr__(self, "given", given)

    @property
    @abstractmethod
    def base(self) -> Attack:
        """The attack whose statistic is compared."""

    @property
    def profile(self) -> Attack:
        """The plain attack whose scores over the timesteps are shown beside a verdict."""
        return self.base

    @property
    def conditions(self) -> tuple[str, ...]:
        """`given`; for "auto", the default until `choose` has chosen."""
        return (COMPLEXITY, *SHIFTS) if self.given == AUTO else self.given

    @property
    def neighbours(self) -> tuple[str, ...]:
        """The names of neighbours among the conditions."""
        return tuple(name for name in self.conditions if name not in OWN_CONDITIONS)

    @property
    def uses_base(self) -> bool:
        return BASE in self.conditions or self.base.uses_base

    def choose(
        self,
        model: DiffusionModel,
        images: Any,
        is_member: npt.NDArray[Any],
        *,
        captions: Sequence[Any] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> tuple[dict[str, Any], int]:
        """Resolve "auto": the one of `CANDIDATES` with the highest AUC, cross-fitted on the calibration part, at the default timestep."""
        if self.given != AUTO:
            return {}, 0
        part = np.flatnonzero(calibration_part([image.id for image in images], is_member, seed=seed))
        part = part[is_member[part] != UNKNOWN]
        if not (is_member[part] == 1).any():
            return {"given": self.conditions}, 0
        calibration = {"captions": select_rows(captions, part), "is_member": is_member[part], "seed": seed}
        aucs: dict[tuple[str, ...], float] = {}
        queries = 0
        for candidate in CANDIDATES:
            attack = replace(self.at(self.default_timestep), given=(COMPLEXITY, *candidate))
            observations = attack.observe(model, SelectedSequence(images, part), **calibration, **options)
            scores = attack.cross_fitted(observations.values, observations.ids, observations.is_member, seed)[:, 0]
            aucs[candidate] = auc(scores, observations.is_member)
            queries += observations.queries
        return {"given": (COMPLEXITY, *max(aucs, key=aucs.__getitem__))}, queries

    @property
    def queries_per_image(self) -> int:
        return self.base.queries_per_image * (1 + (BASE in self.conditions) + len(self.neighbours))

    @property
    def base_queries_per_image(self) -> int:
        return self.base.queries_per_image if BASE in self.conditions else 0

    @property
    def queries_per_reference_model(self) -> int:
        return self.base.queries_per_reference_model * (1 + len(self.neighbours))

    @property
    def setup_queries(self) -> int:
        return self.base.setup_queries * (1 + (BASE in self.conditions))

    def prepare(self, model: QueriedModel, seed: int) -> Any:
        """Return what the compared attack prepares on the model, and on the base if that is queried."""
        own = self.base.prepare(model, seed)
        if BASE not in self.conditions:
            return own, None
        with model.base_queried():
            return own, self.base.prepare(model, seed)

    def at(self, timestep: int) -> ConditionalAttack:
        return replace(self, timesteps=(timestep,))

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        self.base.check(model, captions)
        if BASE in self.conditions:
            if not base_available(model):
                raise AttackError(
                    f"The attack {self.name!r} compares the model with its base, and for {model.info.id} none is known. {GIVE_BASE}"
                )
            base = base_of(model)
            self.base.check(base, base_captions(model, base, captions, 1))

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return ``[N, T, 1 + F]``: the statistic (its logarithm, if it is positive by definition), and the difficulty z."""
        prepared = model.prepared
        try:
            return self._features(model, x0, cond, noise, *prepared)
        finally:
            model.prepared = prepared

    def _features(
        self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise, prepared: Any, base_prepared: Any
    ) -> torch.Tensor:
        model.prepared = prepared
        statistic = self.base.scaled(self.base.statistic(model, x0, cond, noise)).cpu().double()
        parts = [statistic[..., None]]
        for name, reduced_by in ((COMPLEXITY, 1), (COARSE, max(2, stride_of(model)))):
            if name in self.conditions:
                rows = np.stack([complexity(image) for image in _reduced(model.pixels, reduced_by).cpu().numpy()])
                parts.append(torch.from_numpy(rows)[:, None].expand(-1, statistic.shape[1], -1))
        if BASE in self.conditions:
            model.prepared = base_prepared
            with model.on_base(x0) as (base_x0, base_cond):
                parts.append(self.base.hardness_for_base(model, base_x0, base_cond, noise).cpu().double())
            model.prepared = prepared
        hardness = []
        for name in self.neighbours:
            with model.changed(partial(neighbour, name)) as other:
                hardness.append(self.base.hardness(model, other, cond, noise).cpu().double())
        if hardness:
            # Averaged, so that z stays short however many neighbours there are: few null images can be spared for a fit.
            parts.append(torch.stack(hardness).mean(0))
        return torch.cat(parts, dim=-1)

    def learn(self, features: npt.NDArray[Any], is_member: npt.NDArray[Any], seed: int) -> Scorer:
        fits = [ExpectedStatistic(features[:, t, 1:], features[:, t, 0]) for t in range(features.shape[1])]

        def scorer(others: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
            return -np.stack([fit.deviation(others[:, t, 1:], others[:, t, 0]) for t, fit in enumerate(fits)], axis=1)

        return scorer


@dataclass(frozen=True, kw_only=True)
class Conditional(DerivedAttack, ConditionalAttack):
    """Any attack, compared with non-members of the same difficulty: ``get_attack("pia", given=("complexity", "mirror"))``.

    Attributes:
        attack: the attack whose statistic is compared.
        given: see `ConditionalAttack`.
    """

    timesteps: tuple[int, ...] = ()
    attack: Attack

    parameter: ClassVar[str] = "given"

    def __post_init__(self) -> None:
        if not isinstance(self.attack, Attack) or self.attack.needs_training or isinstance(self.attack, FittedAttack):
            raise AttackError(f"given=… compares an attack's own statistic; {self.attack!r} is fitted itself, and has none.")
        object.__setattr__(self, "timesteps", self.attack.timesteps)
        super().__post_init__()
        given = self.given if isinstance(self.given, str) else ", ".join(self.given)
        object.__setattr__(self, "name", f"{self.attack.name} given {given}")

    @property
    def base(self) -> Attack:
        return self.attack

    def at(self, timestep: int) -> ConditionalAttack:
        return replace(self, attack=self.attack.at(timestep))


@dataclass(frozen=True, kw_only=True)
class SimAC(ConditionalAttack):
    """SimA given complexity: ‖ε(x0, t)‖_p compared with non-members that are as hard to denoise; one query per timestep.

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
        _ = self.base  # refuses a wrong p

    @property
    def base(self) -> Attack:
        return SimA(timesteps=self.timesteps, p=self.p)

    @property
    def profile(self) -> Attack:
        """Plain SimA, on the authors' grid unless other timesteps were chosen."""
        return SimA() if self.timesteps == GRID else SimA(timesteps=self.timesteps)


@dataclass(frozen=True, kw_only=True)
class SimACC(SimAC):
    """SimA given complexity at two scales, the image's own and that of latents, for models of latents; one query per timestep.

    Attributes:
        timesteps, p: see `SimAC`.
        given: see `ConditionalAttack`.
    """

    given: tuple[str, ...] | Literal["auto"] = (COMPLEXITY, COARSE)

    name: ClassVar[str] = "sima-cc"


@dataclass(frozen=True, kw_only=True)
class SimACN(SimAC):
    """SimA given complexity and neighbours, which show how hard *this* image is to *this* model; two or three queries per timestep.

    Attributes:
        timesteps, p: see `SimAC`.
        given: see `ConditionalAttack`; "auto" (default) chooses the neighbours on the calibration part if members are known there, and
            otherwise takes one-pixel shifts, which lie outside most training augmentations.
    """

    given: tuple[str, ...] | Literal["auto"] = AUTO

    name: ClassVar[str] = "sima-cn"
