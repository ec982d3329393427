"""PFAMI: how much cropping an image raises its loss (arXiv 2308.12143)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial, reduce
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch

from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.loss import Loss
from mia_hub.attacks.querying import QueriedModel
from mia_hub.errors import AttackError, integer_at_least
from mia_hub.models.noise import SampleNoise

AUTHORS_GRID = tuple(range(0, 451, 50))
LARGEST_SIDE, SMALLEST_SIDE = 0.95, 0.70
# The crop that the authors' "stat" attack reads, counted from 0.
STAT_CROP = 5
Form = Literal["relative", "difference", "stat"]


def centre_crop(pixels: torch.Tensor, side: float, *, whole: Callable[[float], int] = round) -> torch.Tensor:
    """Return the middle ``whole(side·H)`` by ``whole(side·W)`` pixels (at least 1), enlarged to ``[N, C, H, W]`` bilinearly.

    Pixel centres keep their place (``align_corners=False``), as in the usual training pipelines. Since a crop is always enlarged, an
    antialiased bilinear filter would equal the plain one (to rounding), which is faster.

    Args:
        pixels: ``[N, C, H, W]``.
        side: of the crop, as a share of the image's, in (0, 1].
        whole: makes a whole number of pixels of a length: ``round``, or ``int`` to truncate it.
    """
    size = pixels.shape[-2:]
    height, width = (max(1, whole(side * length)) for length in size)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    crop = pixels[..., top : top + height, left : left + width]
    return torch.nn.functional.interpolate(crop, size=tuple(size), mode="bilinear", align_corners=False)


@dataclass(frozen=True, kw_only=True)
class PFAMI(HasAuthorsVariant):
    """PFAMI: mean over crops x' and timesteps of (L_t(x) - L_t(x'))/L_t(x), small for members.

    A member is a local maximum of the likelihood, so that cropping it raises its loss L_t(x) = ‖e - ε(x_t, t)‖₂² more than cropping an
    image that was never trained on. One draw of e at each timestep serves x and all its crops. Crops are made of the pixels, before
    any encoder. Of an image of few pixels several crops are equal, and the largest may be the image itself.

    Attributes:
        timesteps: all go into the one score; the authors' grid, 0, 50, …, 450, by default.
        crops: the number of centre crops; their sides run evenly from 0.95 down to 0.70 of the image's. 10 in the paper.
        form: "relative" (default), as above; "difference": the mean of L_t(x) - L_t(x'), unnormalised. On a perfect memory the
            first recognises members without error; the second doesn't, since L_t(x') varies more between images than L_t(x).
            "stat": as "relative", of the sixth crop alone, as the authors' attack of that name; it needs 6 crops or more, and queries
            one of them.
        variant: "ours" (default): the sides of crops are rounded to whole pixels; "authors": truncated.
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
        object.__setattr__(self, "crops", integer_at_least("crops", self.crops, 1, AttackError))
        check_choice("form", self.form, get_args(Form))
        if self.form == "stat" and self.crops <= STAT_CROP:
            raise AttackError(f"form='stat' reads the sixth crop, and crops={self.crops} makes fewer; set crops=10, as the authors do.")

    @property
    def sides(self) -> tuple[float, ...]:
        """The sides of the crops that are queried, as shares of the image's."""
        sides = tuple(np.linspace(LARGEST_SIDE, SMALLEST_SIDE, self.crops).tolist())
        return sides[STAT_CROP : STAT_CROP + 1] if self.form == "stat" else sides

    @property
    def queries_per_image(self) -> int:
        return (1 + len(self.sides)) * len(self.timesteps)

    def statistic(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        loss = partial(Loss(timesteps=self.timesteps).statistic, model, cond=cond, noise=cache(noise))
        own = loss(x0)
        whole = int if self.by_authors else round
        falls = [own - loss(model.variant(partial(centre_crop, side=side, whole=whole))) for side in self.sides]
        fall = reduce(torch.add, falls) / len(falls)
        if self.form != "difference":
            # A perfect memory's loss may round to 0. A loss below the rounding error of ε is not known to be smaller than that.
            fall = fall / own.clamp(min=x0[0].numel() * torch.finfo(x0.dtype).eps ** 2)
        return fall.mean(dim=1, keepdim=True)
