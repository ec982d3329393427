"""Copies: an image may be a mirrored, re-toned or shifted copy of a training image, so candidates of what was trained on are judged too."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.conditional import COMPLEXITY, NEIGHBOURS, ConditionalAttack
from mia_hub.attacks.learning import Scorer
from mia_hub.attacks.low_pass import CROSS, SimALP, low_pass_statistic
from mia_hub.attacks.querying import QueriedModel
from mia_hub.errors import AttackError
from mia_hub.images.complexity import complexity
from mia_hub.metrics.candidates import AS_IT_IS, TailMaximum, candidate_scores
from mia_hub.models.noise import SampleNoise


class Judged(Protocol):
    """What every candidate has; see `Candidate`."""

    @property
    def weight(self) -> float: ...

    @property
    def words(self) -> str: ...


class Candidate(NamedTuple):
    """A copy that is judged.

    Attributes:
        change: what is done to the image, a key of `CENTRES`.
        shift: a one-pixel shift of that, one of `CROSS`; "" without.
        weight: how probable it is, relative to the others.
        words: what it means if this one looks most like a training image, as a clause about the image.
    """

    change: str
    shift: str
    weight: float
    words: str


def autocontrast(pixels: torch.Tensor) -> torch.Tensor:
    """Return each image of ``[N, C, H, W]`` stretched to the range from 0 to 1; one of a single value is returned as it is."""
    low, high = pixels.amin((1, 2, 3), keepdim=True), pixels.amax((1, 2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (pixels - low) / torch.where(spread > 0, spread, 1), pixels)


CENTRES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    AS_IT_IS: lambda pixels: pixels,
    "mirror": NEIGHBOURS["mirror"],
    "autocontrast": autocontrast,
}
# The family "lean"; the shifts are left out by default. The image itself comes first: where candidates can't be compared, it alone is
# judged.
LEAN = (
    Candidate(AS_IT_IS, "", 10, "as it is"),
    *(Candidate(AS_IT_IS, shift, 1, f"shifted {shift.removeprefix('shift-')} by one pixel") for shift in CROSS),
    Candidate("mirror", "", 3, "mirrored"),
    Candidate("autocontrast", "", 3, "stretched to full contrast"),
)


@dataclass(frozen=True, kw_only=True)
class CopiesAttack(ConditionalAttack):
    """A conditional attack on the image and on what it may be a copy of; the best of these candidates counts.

    Each candidate is compared with the same candidate of the non-members, given its own neighbours; the score is the tail-normalised
    maximum (`mia_hub.metrics.candidates.TailMaximum`). `features` returns ``[N, T, K, 1 + F]``: of each candidate, the statistic and the
    difficulty.
    """

    @property
    @abstractmethod
    def candidates(self) -> tuple[Judged, ...]:
        """The K candidates; the image itself comes first."""

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights of the K candidates; only their ratios matter."""
        return tuple(candidate.weight for candidate in self.candidates)

    @property
    def words(self) -> tuple[str, ...]:
        """What it means if a candidate looks most like a training image, as a clause about the image, of each of the K."""
        return tuple(candidate.words for candidate in self.candidates)

    @property
    @abstractmethod
    def judged_too(self) -> str:
        """What is judged besides the image, in words."""

    def learn(self, features: npt.NDArray[Any], is_member: npt.NDArray[Any], seed: int) -> Scorer:
        tails = [TailMaximum(candidate_scores(at), self.weights) for at in np.moveaxis(features, 1, 0)]

        def scorer(others: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
            return np.stack(
                [tail(candidate_scores(features[:, t], others[:, t]))[0] for t, tail in enumerate(tails)],
                axis=1,
            )

        return scorer


@dataclass(frozen=True, kw_only=True)
class SimACopies(SimALP, CopiesAttack):
    """`SimALP` of the image and of what it may be a copy of: its mirror image, and it with full contrast; the best of them counts.

    Made for models of pixels. The neighbours of each candidate are one pixel away. 15 queries per timestep.

    Attributes:
        timesteps: 40, 70, …, 160 by default.
        given: complexity and the four shifts; nothing else is accepted.
        shifts: whether the four one-pixel shifts are candidates, too, for the same queries. On the demo this recognises most training
            images that were shifted by a pixel, and wrongly calls shifted non-members evidence several times as often as it should: what
            is shifted back looks like a training image wherever those are aligned in the same way (docs/studies/copies.md).
    """

    given: tuple[str, ...] | Literal["auto"] = (COMPLEXITY, *CROSS)
    shifts: bool = False

    name: ClassVar[str] = "sima-copies"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.shifts, bool):
            raise AttackError(f"shifts must be True or False; got {self.shifts!r}.")
        if self.given != (COMPLEXITY, *CROSS):
            raise AttackError(
                f"The attack {self.name!r} compares each candidate given complexity and its four shifts; got given={self.given!r}. Leave "
                "it out, or choose sima-lp for other neighbours."
            )

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What is judged; the image itself comes first."""
        return LEAN if self.shifts else tuple(candidate for candidate in LEAN if not candidate.shift)

    @property
    def judged_too(self) -> str:
        return "its mirror image, and it at full contrast"

    @property
    def queries_per_image(self) -> int:
        return self.base.queries_per_image * len(CENTRES) * (1 + len(CROSS))

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return ``[N, T, K, 1 + F]``: of each candidate, the statistic and the difficulty."""
        parts = []
        for change, move in CENTRES.items():
            rows = [*self._cross(model, move, cond, noise)]
            total = torch.stack([hardness for hardness, _ in rows]).sum(0)
            for candidate in self.candidates:
                if candidate.change == change:
                    hardness, hard = rows[("", *CROSS).index(candidate.shift)]
                    z = torch.from_numpy(hard)[:, None].expand(-1, hardness.shape[1], -1)
                    neighbours = (total - hardness) / len(CROSS)
                    parts.append(torch.cat([low_pass_statistic(hardness)[..., None], z, neighbours], dim=-1))
        return torch.stack(parts, dim=2)

    def _cross(
        self, model: QueriedModel, move: Callable[[torch.Tensor], torch.Tensor], cond: Any, noise: SampleNoise
    ) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.float64]]]:
        """Yield hardness ``[N, T, 4]`` and complexity ``[N, 5]`` of the changed images, then of its four shifts."""
        for shift in (None, *CROSS):
            step = NEIGHBOURS[shift] if shift else CENTRES[AS_IT_IS]
            with model.changed(lambda pixels, step=step: step(move(pixels))) as other:  # type: ignore[misc]  # the default binds it
                hardness = self.base.hardness(model, other, cond, noise).cpu().double()
                yield hardness, np.stack([complexity(image) for image in model.pixels.cpu().numpy()])
