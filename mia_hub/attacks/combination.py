"""A logistic combination of attacks, and of one attack's timesteps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch

from mia_hub.attacks.base import Attack
from mia_hub.attacks.learning import Scorer, TrainedAttack
from mia_hub.attacks.querying import QueriedModel
from mia_hub.errors import AttackError
from mia_hub.models.noise import SampleNoise
from mia_hub.scores import UNKNOWN

# Inverse strength of the L2 penalty, on standardised columns. Neighbouring timesteps are nearly alike, and what tells members is often
# their difference, a direction of small variance that a stronger penalty suppresses; at a few dozen images a weaker one overfits.
INVERSE_PENALTY = 1.0
# Converged far enough that neither batch size nor the order of the images shows.
TOLERANCE, MOST_ITERATIONS = 1e-8, 10_000
ACCESS = ("black", "gray", "white")


@dataclass(frozen=True, kw_only=True)
class Combination(TrainedAttack):
    """Log-odds of membership, by logistic regression on all the scores that several attacks give an image at all their timesteps.

    Each part queries the model by itself, as it does alone, and nothing is shared: a combination costs the sum of its parts. Columns are
    standardised; the penalty is L2 with C = 1. Parts that learn are nested: the regression is fitted on scores that they give images which
    they were not fitted on, so that it doesn't take their memory of their own training part for skill.

    Attributes:
        timesteps: of every part given by name; by default each has its own. Read back, it is the union of the parts' timesteps.
        parts: attacks, or names of attacks.
    """

    timesteps: tuple[int, ...] = ()
    parts: tuple[Attack | str, ...] = ("sima", "loss", "pia", "secmi")

    name: ClassVar[str] = "combine"
    paper: ClassVar[str] = "as in CDI, arXiv 2411.12858, but per image"
    # Those of the default parts; each combination sets its own.
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
                f"timesteps={steps!r} can't be set, for the parts have theirs already, {union!r} together: give them to the "
                "parts, or name the parts."
            )
        set_ = object.__setattr__
        set_(self, "timesteps", union)
        set_(self, "parts", parts)
        set_(self, "access", max((part.access for part in parts), key=ACCESS.index))
        for need in ("needs_caption", "needs_gradients", "needs_samples"):
            set_(self, need, any(getattr(part, need) for part in parts))
        set_(self, "ignores_captions", all(part.ignores_captions for part in parts))
        super().__post_init__()

    @property
    def queries_per_image(self) -> int:
        return sum(part.queries_per_image for part in self.parts)

    @property
    def setup_queries(self) -> int:
        return sum(part.setup_queries for part in self.parts)

    def check(self, model, captions=None) -> None:
        for part in self.parts:
            part.check(model, captions)

    def check_labels(self, is_member: np.ndarray) -> None:
        super().check_labels(is_member)
        for part in self.parts:
            part.check_labels(is_member)

    def choose(self, model, images, is_member, **options) -> tuple[dict[str, Any], int]:
        found = [part.choose(model, images, is_member, **options) for part in self.parts]
        chosen = [chosen for chosen, _ in found]
        return {"parts": chosen} if any(chosen) else {}, sum(spent for _, spent in found)

    def settled(self, chosen: dict[str, Any]) -> Attack:
        if not chosen:
            return self
        parts = tuple(part.settled(own) for part, own in zip(self.parts, chosen["parts"], strict=True))
        return replace(self, timesteps=(), parts=parts)

    def prepare(self, model: QueriedModel, seed: int) -> Any:
        return tuple(part.prepare(model, seed) for part in self.parts)

    def features(self, model: QueriedModel, x0: torch.Tensor, cond: Any, noise: SampleNoise) -> torch.Tensor:
        """``[N, F]`` float64: for each part its scores, or, if it learns, its features; each block laid out as `_as_block` says."""
        prepared, blocks = model.prepared, []
        try:
            for part, own in zip(self.parts, prepared):
                model.prepared = own
                values = part.statistic(model, x0, cond, noise).cpu().double().numpy()
                if not part.needs_training:
                    # Its scores need no other image, and no label is given to it.
                    values = part.conclude(values, noise.ids, np.full(len(values), UNKNOWN, np.int8), noise.seed)
                blocks.append(_as_block(values))
        finally:
            model.prepared = prepared
        return torch.from_numpy(np.concatenate(blocks, axis=1))

    def learn(self, features: np.ndarray, is_member: np.ndarray, seed: int) -> Scorer:
        """Takes every row for a image of its own."""
        return self.learn_images(features, [str(row) for row in range(len(features))], is_member, seed)

    def learn_images(self, features: np.ndarray, ids: Sequence[str], is_member: np.ndarray, seed: int) -> Scorer:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        # What a part learns may depend on the order of its examples, and a score must not depend on the images'.
        order = np.argsort(np.asarray(ids), kind="stable")
        features, ids, is_member = features[order], [ids[i] for i in order], is_member[order]
        everything = np.ones(len(ids), bool)
        columns, scorers = [], []
        for part, block in zip(self.parts, _blocks(features)):
            if part.needs_training:
                columns.append(part.cross_fitted(block, ids, is_member, seed))
                scorers.append(part.learn_from(everything, block, ids, is_member, seed))
            else:
                columns.append(block)
                scorers.append(np.asarray)
        classifier = LogisticRegression(C=INVERSE_PENALTY, tol=TOLERANCE, max_iter=MOST_ITERATIONS)
        regression = make_pipeline(StandardScaler(), classifier).fit(np.hstack(columns), is_member)

        def log_odds(other: np.ndarray) -> np.ndarray:
            if not len(other):
                return np.empty((0, 1))
            seen = np.hstack([scorer(block) for scorer, block in zip(scorers, _blocks(other))])
            return regression.decision_function(seen)[:, None]

        return log_odds


def _as_block(values: np.ndarray) -> np.ndarray:
    """``[N, …]`` to ``[N, F]``, each row preceded by the number of further axes and their lengths, which only the model decides."""
    layout = np.array([values.ndim - 1, *values.shape[1:]], float)
    return np.hstack([np.tile(layout, (len(values), 1)), values.reshape(len(values), -1)])


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    """The inverse of `_as_block`, for blocks side by side."""
    blocks, start = [], 0
    while start < rows.shape[1]:
        axes = int(rows[0, start])
        shape = rows[0, start + 1 : start + 1 + axes].astype(int)
        start, length = start + 1 + axes, int(np.prod(shape))
        blocks.append(rows[:, start : start + length].reshape(len(rows), *shape))
        start += length
    return blocks


def alone(part: Attack, queries: int, model, captions: Sequence[str] | None = None) -> Combination:
    """A part of a combination by itself, given as many queries per image as the combination has.

    The rule: the part is asked at n whole timesteps, evenly spaced from the first to the last of its own (of its default ones, where it
    has just one), n the largest number that the queries pay for, and its scores are combined by the same logistic regression. Where it
    can't be asked at these, as SecMI can only at multiples of its step, they are spaced evenly among its own. An attack that has no use
    for more timesteps stays as it is, and costs less than it might.

    Args:
        part: the part, as it is in the combination.
        queries: the combination's queries per image.
        model, captions: as for `Attack.check`.
    """
    default = next(field.default for field in fields(part) if field.name == "timesteps")
    grid = part.timesteps if len(part.timesteps) > 1 or not isinstance(default, tuple) or not default else default
    grid = [t for t in grid if t < model.info.num_train_timesteps]
    best = part
    for n in range(len(part.timesteps) + 1, queries + 1):
        for timesteps in (_spaced(range(grid[0], grid[-1] + 1), n), _spaced(grid, n)) if grid else ():
            larger = _at(part, timesteps, model, captions)
            if larger is not None and len(larger.timesteps) == n and larger.queries_per_image <= queries:
                best = larger
                break
    return Combination(parts=(best,))


def _spaced(grid: Sequence[int], n: int) -> tuple[int, ...]:
    """n members of a grid, evenly spaced from its first to its last; all of them where there are fewer."""
    return tuple(grid[i] for i in sorted(set(np.linspace(0, len(grid) - 1, n).round().astype(int).tolist())))


def _at(attack: Attack, timesteps: tuple[int, ...], model, captions) -> Attack | None:
    """The attack at other timesteps; None where it can't be asked at these."""
    try:
        other = replace(attack, timesteps=timesteps)
        other.check(model, captions)
    except AttackError:
        return None
    return other
