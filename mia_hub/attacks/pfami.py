"""PFAMI: how much cropping a image raises its loss (arXiv 2308.12143)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar, Literal, get_args

import numpy as np
import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.loss import Loss
from mia_hub.errors import AttackError, whole_number

AUTHORS_GRID = tuple(range(0, 451, 50))
LARGEST_SIDE, SMALLEST_SIDE = 0.95, 0.70
Form = Literal["relative", "difference"]


def centre_crop(pixels: torch.Tensor, side: float) -> torch.Tensor:
    """The middle ``round(side·H)`` by ``round(side·W)`` pixels (1 at least), brought back to ``[N, C, H, W]`` bilinearly.

    Pixel centres keep their place (``align_corners=False``), as in the usual training pipelines. A crop is only ever enlarged, where
    an antialiased bilinear filter is the plain one (they agree to rounding), so ``antialias`` stays off: the plain one is faster.
    """
    size = pixels.shape[-2:]
    height, width = (max(1, round(side * length)) for length in size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    crop = pixels[..., top : top + height, left : left + width]
    return torch.nn.functional.interpolate(crop, size=tuple(size), mode="bilinear", align_corners=False)


@dataclass(frozen=True, kw_only=True)
class PFAMI(Attack):
    """PFAMI: mean over crops x' and timesteps of (L_t(x) - L_t(x'))/L_t(x), small for members.

    A member is a local maximum of the likelihood, so that cropping it raises its loss L_t(x) = ‖e - ε(x_t, t)‖₂² more than cropping a
    image that was never trained on. One draw of e at each timestep serves x and all its crops. Crops are made of the pixels, before
    any encoder. On a image of few pixels several crops come out alike, and the largest may be the image itself.

    Attributes:
        timesteps: all go into the one score; the authors' grid, 0, 50, …, 450, by default.
        crops: how many centre crops; their sides run evenly from 0.95 down to 0.70 of the image's. 10 in the paper.
        form: "relative" (default), as above, or "difference": the mean of L_t(x) - L_t(x'), unnormalised. On a perfect memory the
            first tells members without error; the second doesn't, as how far crops stray differs more between images than L_t(x) does.
    """

    timesteps: tuple[int, ...] = AUTHORS_GRID
    crops: int = 10
    form: Form = "relative"

    name: ClassVar[str] = "pfami"
    paper: ClassVar[str] = "arXiv 2308.12143"
    access: ClassVar[str] = "gray"
    one_score: ClassVar[bool] = True
    log_scale: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "crops", whole_number("crops", self.crops, 1, AttackError))
        check_choice("form", self.form, get_args(Form))

    @property
    def sides(self) -> tuple[float, ...]:
        """The crops' sides, as shares of the image's."""
        return tuple(np.linspace(LARGEST_SIDE, SMALLEST_SIDE, self.crops).tolist())

    @property
    def queries_per_image(self) -> int:
        return (1 + self.crops) * len(self.timesteps)

    def statistic(self, model, x0, cond, noise) -> torch.Tensor:
        draws = cache(noise)
        loss = partial(Loss(timesteps=self.timesteps).statistic, model, cond=cond, noise=draws)
        own = loss(x0)
        fall = sum(own - loss(model.variant(partial(centre_crop, side=side))) for side in self.sides) / self.crops
        if self.form == "relative":
            # A perfect memory's loss may round to nothing. One below the rounding of ε itself is not known to be smaller than that.
            fall = fall / own.clamp(min=x0[0].numel() * torch.finfo(x0.dtype).eps ** 2)
        return fall.mean(dim=1, keepdim=True)
