"""A logistic combination of attacks, and of one attack's timesteps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.learning import Scorer, TrainedAttack
from mia_hub.attacks.querying import QueriedModel
from mia_hub.errors import AttackError
from mia_hub.models.noise import SampleNoise
from mia_hub.models.protocol import DiffusionModel
from mia_hub.scores import UNKNOWN

# Inverse strength of the L2 penalty, on standardised columns. Neighbouring timesteps are nearly alike, and members are often recognised by
# their difference, a direction of small variance that a stronger penalty suppresses; with a few dozen images a weaker one overfits.
INVERSE_PENALTY = 1.0
# Converged so far that neither batch size nor the order of the images has an effect.
TOLERANCE, MAX_ITERATIONS = 1e-8, 10_000
ACCESS = ("black", "gray", "white")


@dataclass(frozen=True, kw_only=True)
class Combination(TrainedAttack):
    """Log-odds of membership, by logistic regression on the scores that several attacks give an image at all their timesteps.

    Each part queries the model as it does alone, and nothing is shared: a combination costs the sum of its parts. Columns are
    standardised; the penalty is L2 with C = 1. Parts that learn are nested: the regression is fitted on their scores of images that they
    were not fitted on, so that it doesn't take their memory of their own training part for skill.

    Attributes:
        timesteps: of every part that is given by name; by default each has its own. Afterwards, the union of the parts' timesteps.
        parts: attacks, or names of attacks.
    """

    timesteps: tuple[int, ...] = ()
    parts: tuple[Attack | str, ...] = ("sima", "loss", "pia", "secmi")

    name: ClassVar[str] = "combine"
    paper: ClassVar[str] = "as in CDI, arXiv 2411.12858, but per image"
    # Of the default parts; each combination sets its own.
    access: ClassVar[str] = "gray"
    one_score: ClassVar[bool] = True

    def __post_init__(self) -> None:
        from mia_hub.attacks.registry import get_attack

        given = self.parts if isinstance(self.parts, (tuple, list)) else ()
        if not given or not all(isinstance(part, (Attack, str)) for part in given):
            raise AttackError(f"parts must be one or more attacks or names of attacks, such as ('sima', 'pia'); got {self.parts!r}.")
        steps = tuple(self.timesteps) if hasattr(self.timesteps, "__iter__") else (self.timesteps,)
        own = {"timesteps": steps} if steps else {}
        parts = tuple(get_attack(part, **own) if isinstance(part, str) else part for part in given)
        for i, part in enumerate(parts):
            if part in parts[:i]:
                raise AttackError(f"A combination needs each part once; {part!r} is there twice.")
        union = tuple(sorted({t for part in parts for t in part.timesteps}))
        if own and not any(isinstance(part, str) for part in given) and steps != union:
            raise AttackError(
                f"timesteps={steps!r} can't be set, since the parts have theirs already, {union!r} together: give them to the "
                "parts, or give the parts by name."
            )
        set_ = object.__setattr__
        set_(self, "timesteps", union)
        set_(self, "parts", parts)
        set_(self, "access", max((part.access for part in parts), key=ACCESS.index))
        for need in ("needs_caption", "needs_text", "needs_gradients", "needs_samples"):
            set_(self, need, any(getattr(part, need) for part in parts))
        set_(self, "ignores_captions", all(part.ignores_captions for part in parts))
        super().__post_init__()

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The parts, all of them attacks."""
        return cast(tuple[Attack, ...], self.parts)

    @property
    def queries_per_image(self) -> int:
        return sum(part.queries_per_image for part in self.attacks)

    @property
    def setup_queries(self) -> int:
        return sum(part.setup_queries for part in self.attacks)

    @property
    def uses_base(self) -> bool:
        return any(part.uses_base for part in self.attacks)

    @property
    def base_queries_per_image(self) -> int:
        return sum(part.base_queries_per_image for part in self.attacks)

    @property
    def queries_per_reference_model(self) -> int:
        return sum(part.queries_per_reference_model for part in self.attacks)

    def check(self, model: DiffusionModel, captions: Sequence[Any] | None = None) -> None:
        for part in self.attacks:
            part.check(model, captions)

    def check_labels(self, is_member: npt.NDArray[Any]) -> None:
        super().check_labels(is_member)
        for part in self.attacks:
            part.check_labels(is_member)

    def choose(self, model: DiffusionModel, images: Any, is_member: npt.NDArray[Any], **options: Any) -> tuple[dict[str, Any], int]:
        choices = [part.choose(model, images, is_member, **options) for part in self.attacks]
        chosen = [chosen for chosen, _ in choices]
        return {"parts": chosen} if any(chosen) else {}, sum(queries for _, queries in choices)

    def with_chosen(self, chosen: dict[str, Any]) -> Attack:
        if not chosen:
            return self
        parts = tuple(part.with_chosen(own) for part, own in zip(self.attacks, chosen["parts"], strict=True))
        return replace(self, timesteps=(), parts=parts)

    def prepare(self, model: QueriedModel, seed: int) -> Any:
        return tuple(part.prepare(model, seed) for part in self.attacks)

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """Return ``[N, F]`` float64: for each part its scores or, if it learns, its features; each block as `_as_block` lays it out."""
        prepared, blocks = model.prepared, []
        try:
            for part, own in zip(self.attacks, prepared):
                model.prepared = own
                values = part.statistic(model, x0, cond, noise).cpu().double().numpy()
                if not part.needs_training:
                    # Its scores depend on no other image and no label.
                    values = part.conclude(values, noise.ids, np.full(len(values), UNKNOWN, np.int8), noise.seed)
                blocks.append(_as_block(values))
        finally:
            model.prepared = prepared
        return torch.from_numpy(np.concatenate(blocks, axis=1))

    def learn(self, features: npt.NDArray[Any], is_member: npt.NDArray[Any], seed: int) -> Scorer:
        """Fit as if no two rows were copies of one image."""
        return self.learn_images(features, [str(row) for row in range(len(features))], is_member, seed)

    def learn_images(self, features: npt.NDArray[Any], ids: Sequence[str], is_member: npt.NDArray[Any], seed: int) -> Scorer:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        # The fit of a part may depend on the order of its examples, and a score must not depend on the order of the images.
        order = np.argsort(np.asarray(ids), kind="stable")
        features, ids, is_member = features[order], [ids[i] for i in order], is_member[order]
        all_rows = np.ones(len(ids), bool)
        columns: list[npt.NDArray[Any]] = []
        scorers: list[Scorer] = []
        for part, block in zip(self.attacks, _blocks(features)):
            if isinstance(part, TrainedAttack):
                columns.append(part.cross_fitted(block, ids, is_member, seed))
                scorers.append(part.learn_from(all_rows, block, ids, is_member, seed))
            else:
                columns.append(block)
                scorers.append(np.asarray)
        classifier = LogisticRegression(C=INVERSE_PENALTY, tol=TOLERANCE, max_iter=MAX_ITERATIONS)
        regression = make_pipeline(StandardScaler(), classifier).fit(np.hstack(columns), is_member)

        def log_odds(others: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
            if not len(others):
                return np.empty((0, 1))
            scores = np.hstack([scorer(block) for scorer, block in zip(scorers, _blocks(others))])
            return np.asarray(regression.decision_function(scores)[:, None])

        return log_odds


def _as_block(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``[N, …]`` as ``[N, F]``; each row begins with the number of further axes and their lengths, which depend on the model."""
    layout = np.array([values.ndim - 1, *values.shape[1:]], float)
    return np.hstack([np.tile(layout, (len(values), 1)), values.reshape(len(values), -1)])


def _blocks(rows: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The inverse of `_as_block`, for blocks side by side."""
    blocks, start = [], 0
    while start < rows.shape[1]:
        axes = int(rows[0, start])
        shape = rows[0, start + 1 : start + 1 + axes].astype(int)
        start, length = start + 1 + axes, int(np.prod(shape))
        blocks.append(rows[:, start : start + length].reshape(len(rows), *shape))
        start += length
    return blocks


def alone(part: Attack, queries: int, model: DiffusionModel, captions: Sequence[Any] | None = None) -> Combination:
    """Return a part of a combination by itself, given as many queries per image as the combination has.

    The rule: the part is run at n integer timesteps, evenly spaced from the first to the last of its own (of its default ones, if it has
    just one), n the largest number that the queries pay for, and its scores are combined by the same logistic regression. If it can't run
    at these, as SecMI can only at multiples of its step, they are spaced evenly among its own. An attack that has no use for more
    timesteps stays as it is, and costs less than it might.

    Args:
        part: the part, as it is in the combination.
        queries: the combination's queries per image.
        model, captions: as for `Attack.check`.
    """
    default = next(field.default for field in fields(part) if field.name == "timesteps")
    grid = part.timesteps if len(part.timesteps) > 1 or not isinstance(default, tuple) or not default else default
    grid = tuple(t for t in grid if t < model.info.num_train_timesteps)
    best = part
    for n in range(len(part.timesteps) + 1, queries + 1):
        for timesteps in (_spaced(range(grid[0], grid[-1] + 1), n), _spaced(grid, n)) if grid else ():
            larger = _at(part, timesteps, model, captions)
            if larger is not None and len(larger.timesteps) == n and larger.queries_on(model) <= queries:
                best = larger
                break
    return Combination(parts=(best,))


def _spaced(grid: Sequence[int], n: int) -> tuple[int, ...]:
    """n members of a grid, evenly spaced from its first to its last; all of them if there are fewer."""
    return tuple(grid[i] for i in sorted(set(np.linspace(0, len(grid) - 1, n).round().astype(int).tolist())))


def _at(attack: Attack, timesteps: tuple[int, ...], model: DiffusionModel, captions: Sequence[Any] | None) -> Attack | None:
    """The attack at other timesteps; None if it can't run at these."""
    try:
        other = replace(attack, timesteps=timesteps)
        other.check(model, captions)
    except AttackError:
        return None
    return other
