"""The lower bound on ε in the report of an audit: which method the split allows, and on which images it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from mia_hub.errors import MetricError, SplitError
from mia_hub.metrics.epsilon import ONE_RUN, RATES, EpsilonBound
from mia_hub.metrics.epsilon_choices import clopper_pearson_audit, one_run_audit
from mia_hub.metrics.roc import auc
from mia_hub.scores import ScoreTable
from mia_hub.splits.partition import calibration_mask, calibration_part

if TYPE_CHECKING:
    from mia_hub.attacks import Attack
    from mia_hub.splits.coins import CoinDraw
    from mia_hub.splits.member_split import MemberSplit

Method = Literal["auto", "one-run", "clopper-pearson", "none"]
DELTAS = (0.0, 1e-5)
NOT_BY_COINS = (
    "was not drawn by coins, or is only a part of one that was (a limit fixes the numbers on its sides). The one-run method needs every "
    "image to be in or out by its own fair coin"
)
FITTED = "the attack learns or chooses on a part that is balanced by label, so what it learned depends on the coins of the reported images"


@dataclass(frozen=True)
class EpsilonFinding:
    """The lower bounds on ε of an audit.

    Attributes:
        bounds: one for each δ. Each holds with its confidence by itself.
        timestep: of the scores; chosen on the calibration part, or fixed beforehand.
        reason: why there is no one-run bound, where the split was drawn by coins; "" otherwise.
    """

    bounds: tuple[EpsilonBound, ...]
    timestep: int
    reason: str = ""

    @property
    def method(self) -> str:
        """The method of all bounds, as in `mia_hub.metrics.epsilon.EpsilonBound`."""
        return self.bounds[0].method

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        return {"bounds": [asdict(bound) for bound in self.bounds], "timestep": self.timestep, "reason": self.reason}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EpsilonFinding:
        """Return the finding that `to_dict` gave these values for."""
        return cls(tuple(EpsilonBound(**bound) for bound in values["bounds"]), values["timestep"], values["reason"])


def check_epsilon(method: str, split: MemberSplit, attack: Attack) -> None:
    """Refuse a bound that the split or the attack doesn't allow, before any compute is spent.

    Raises:
        MetricError: for an unknown method, or an attack that learns from labels.
        SplitError: for a one-run bound on a split that coins did not draw.
    """
    if method not in get_args(Method):
        raise MetricError(f"epsilon must be one of {', '.join(map(repr, get_args(Method)))}; got {method!r}.")
    if method != ONE_RUN:
        return
    if split.coins is None:
        raise SplitError(
            f"The split {split.name} {NOT_BY_COINS}. Draw one with mia-hub make-split --coin-flip before training, and use it whole; or "
            "take epsilon='clopper-pearson' (--epsilon clopper-pearson), which says less."
        )
    if attack.learns:
        raise MetricError(f"{attack!r} can't give a one-run bound: {FITTED}. Choose an attack that learns nothing, such as 'sima'.")


def check_coins(method: str, split: MemberSplit, split_hash: str) -> None:
    """Refuse a one-run bound on images that are not those of the draw; see `CoinDraw.check`.

    Raises:
        SplitError: with both hashes.
    """
    if method == ONE_RUN and split.coins is not None:
        split.coins.check(split_hash, (), ())


def measure_epsilon(
    table: ScoreTable,
    method: str = "auto",
    *,
    coins: CoinDraw | None = None,
    timestep: int | None = None,
    fitted: bool = False,
    seed: int = 0,
) -> EpsilonFinding | None:
    """Return the lower bounds on ε at each of `DELTAS`.

    The timestep, and the numbers of guesses or the threshold, are chosen on the calibration part. For the one-run method that part is
    drawn without the labels, as a part that is balanced by label would depend on the coins of the rest.

    Args:
        table: scores of all images of the split, with its hash.
        method: "one-run", "clopper-pearson", "none", or "auto": the first where the split and the attack allow it, else the second.
        coins: the draw of the split, if coins drew it.
        timestep: one fixed beforehand; None to choose it.
        fitted: whether the attack learned or chose anything on the calibration part.
        seed: of the calibration part and of ties.

    Returns:
        None for "none", and for "auto" if there are too few images.

    Raises:
        SplitError: if "one-run" is wanted and the images aren't those of the coins.
        MetricError: if there are too few images for the method that is wanted.
    """
    if method == "none":
        return None
    reason = ""
    if method == ONE_RUN or (method == "auto" and coins is not None):
        try:
            return _one_run(table, coins, timestep, fitted, seed)
        except (MetricError, SplitError) as error:
            if method == ONE_RUN:
                raise
            reason = str(error)
    mask = calibration_part(table.ids, table.is_member, seed=seed)
    try:
        at = _timestep(table, mask) if timestep is None else timestep
        return EpsilonFinding(_bounds(clopper_pearson_audit, table, at, mask), at, reason)
    except MetricError:
        if method == RATES:
            raise
        return None


def _one_run(table: ScoreTable, coins: CoinDraw | None, timestep: int | None, fitted: bool, seed: int) -> EpsilonFinding:
    if coins is None:
        raise SplitError(f"The split {NOT_BY_COINS}.")
    coins.check(str((table.split or {}).get("hash")), table.ids, table.is_member.tolist())
    if fitted:
        raise MetricError(f"{table.attack} can't give a one-run bound: {FITTED}.")
    mask = calibration_mask(table.ids, seed=seed)
    at = _timestep(table, mask) if timestep is None else timestep
    return EpsilonFinding(_bounds(one_run_audit, table, at, mask, seed=seed), at)


def _timestep(table: ScoreTable, mask: npt.NDArray[np.bool_]) -> int:
    """Return the timestep of the highest AUC on the calibration part."""
    aucs = [auc(table.scores[mask, i], table.is_member[mask]) for i in range(len(table.timesteps))]
    return int(table.timesteps[int(np.argmax(aucs))])


def _bounds(
    bound: Callable[..., EpsilonBound], table: ScoreTable, timestep: int, mask: npt.NDArray[np.bool_], **options: Any
) -> tuple[EpsilonBound, ...]:
    return tuple(bound(table.at(timestep), table.is_member, mask, delta=delta, **options) for delta in DELTAS)
