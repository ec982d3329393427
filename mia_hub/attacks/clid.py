"""CLiD: how much an image's own caption helps the model to denoise it (arXiv 2405.14800)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial, reduce
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.caption_variants import Importance, SwappedCaptions, without_important_words, word_importance
from mia_hub.attacks.checks import check_choice
from mia_hub.attacks.learning import TrainedAttack
from mia_hub.attacks.loss import Loss
from mia_hub.attacks.querying import QueriedModel
from mia_hub.errors import AttackError
from mia_hub.metrics.roc import auc
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel

Captions = Literal["ground-truth", "empty", "swapped"]
WEIGHTS, AUTHORS_WEIGHTS = np.linspace(0, 1, 101), np.linspace(0, 1, 11)


@dataclass(frozen=True)
class CLiDScorer:
    """CLiD's score: (1-a)·S(-L(x|c)) + a·S(CLiD), with S(v) = (v - median)/IQR of the images that it was fitted on.

    Attributes:
        median, iqr: float64 ``[2]``, of -L(x|c) and CLiD; an IQR of 0, of a feature that is constant, is taken as 1.
        a: in [0, 1].
    """

    median: npt.NDArray[np.float64]
    iqr: npt.NDArray[np.float64]
    a: float

    def __call__(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return scores ``[n, 1]`` of features ``[n, 2]``."""
        scaled = (features - self.median) / self.iqr
        return np.asarray((1 - self.a) * scaled[:, :1] + self.a * scaled[:, 1:])


@dataclass(frozen=True, kw_only=True)
class CLiD(HasAuthorsVariant, TrainedAttack):
    """CLiD: the mean over reduced captions c' of L(x|c') - L(x|c), large for members, combined with the loss L(x|c) itself.

    L(x|c) is ‖e - ε(x_t, t, c)‖₂², averaged over the timesteps. One draw of e at each timestep serves all captions of an image. The
    reduced captions are c without its most important 30, 50 and 70 % of words, and the empty caption. The score is
    (1-a)·S(-L(x|c)) + a·S(CLiD); S, the scaling by median and IQR, and a, the weight of highest AUC on a grid of 0.01 (the middle one
    of those that tie), are learnt on known images, as `TrainedAttack` says.

    The paper takes the importance of words from the model's text encoder. This attack can't rely on one, and uses the words alone: stop
    words are the least important, and of the others the longer ones are more important. Give ``importance`` to take it from an encoder.
    Words are left out, not replaced by padding tokens.

    **Captions may distinguish members by themselves**, and a caption that the model was trained with makes this attack far stronger than
    the caption that an attacker has to guess. State where the captions came from, and show the three sources side by side:

        from mia_hub.attacks.caption_variants import swapped

        for source, given in (("ground-truth", split.captions), ("empty", split.captions), ("swapped", swapped(split.captions))):
            mia_hub.audit(model, CLiD(captions=source), dataclasses.replace(split, captions=given))

    Attributes:
        timesteps: L is averaged over them; 440, 450 and 460 in the paper.
        reductions: shares of the words that are left out, each in (0, 1), increasing; the empty caption is always added.
        importance: ``importance(words)`` gives one number per word of a caption, larger for more important words; by default as above.
        captions: "ground-truth" (default): the captions passed to `score` are the images' own; "empty": the empty caption takes their
            place, which leaves L alone, at one query per timestep; "swapped": they come from `swapped`.
        variant: "ours" (default): the number of words that are left out is rounded, and a chosen on a grid of 0.01; "authors": rounded
            up, and on a grid of 0.1, of whose weights that tie the smallest is chosen.
    """

    timesteps: tuple[int, ...] = (440, 450, 460)
    reductions: tuple[float, ...] = (0.3, 0.5, 0.7)
    importance: Importance | None = None
    captions: Captions = "ground-truth"

    name: ClassVar[str] = "clid"
    paper: ClassVar[str] = "arXiv 2405.14800"
    access: ClassVar[str] = "gray"
    needs_caption: ClassVar[bool] = True
    one_score: ClassVar[bool] = True
    log_scale: ClassVar[bool] = False
    local_parameters: ClassVar[tuple[str, ...]] = ("importance",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("captions", self.captions, get_args(Captions))
        if self.importance is not None and not callable(self.importance):
            raise AttackError(
                f"importance must be a function that maps a list of words to one number each, or None; got {self.importance!r}."
            )
        given: Any = self.reductions
        try:
            shares = tuple(float(share) for share in (given if hasattr(given, "__iter__") else (given,)))
        except (TypeError, ValueError):
            shares = (-1.0,)
        if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
            raise AttackError(
                f"reductions must be different shares of words in (0, 1), increasing, such as (0.3, 0.5, 0.7); got {given!r}."
            )
        object.__setattr__(self, "reductions", shares)
        object.__setattr__(self, "ignores_captions", self.captions == "empty")

    @property
    def queries_per_image(self) -> int:
        reduced = 0 if self.captions == "empty" else len(self.reductions) + 1  # the empty caption
        return (1 + reduced) * len(self.timesteps)

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        super().check(model, captions)
        assert captions is not None, "the base class refuses an attack that needs captions and has none"
        wrong = [caption for caption in captions if not isinstance(caption, str)]
        if wrong:
            raise AttackError(f"Captions must be text; got {wrong[0]!r}. An image without a caption gets the empty one, ''.")
        if self.captions == "swapped" and not isinstance(captions, SwappedCaptions):
            raise AttackError(
                "captions='swapped' needs swapped captions; make them with mia_hub.attacks.caption_variants.swapped(captions)."
            )
        if self.captions == "ground-truth" and isinstance(captions, SwappedCaptions):
            raise AttackError(
                "These captions were swapped, and the attack would call them ground truth; make the attack with captions='swapped'."
            )

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return -L(x|c) and CLiD, ``[N, 2]``; both larger for members."""
        losses = partial(Loss(timesteps=self.timesteps).statistic, model, x0, noise=cache(noise))
        if self.captions == "empty":
            loss = losses(cond=model.condition([""] * len(x0))).mean(dim=1)
            return torch.stack([-loss, torch.zeros_like(loss)], dim=1)
        loss = losses(cond=cond).mean(dim=1)
        importance = self.importance or word_importance
        captions = model.captions or []
        shorten = partial(without_important_words, importance=importance, ceiling=self.by_authors)
        reduced = [[shorten(caption, share) for caption in captions] for share in self.reductions]
        reduced.append([""] * len(x0))
        rises = [losses(cond=model.condition(shorter)).mean(dim=1) - loss for shorter in reduced]
        return torch.stack([-loss, reduce(torch.add, rises) / len(rises)], dim=1)

    def learn(self, features: npt.NDArray[Any], is_member: npt.NDArray[Any], seed: int) -> CLiDScorer:
        low, median, high = np.percentile(features, (25, 50, 75), axis=0)
        iqr = np.where(high > low, high - low, 1.0)
        weights = AUTHORS_WEIGHTS if self.by_authors else WEIGHTS
        aucs = np.array([auc(CLiDScorer(median, iqr, a)(features)[:, 0], is_member) for a in weights])
        best = np.flatnonzero(aucs == aucs.max())
        return CLiDScorer(median, iqr, float(weights[best[0 if self.by_authors else len(best) // 2]]))
