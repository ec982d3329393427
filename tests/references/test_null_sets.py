"""What the p-values of a reference hold for: by default this reference where many people share it, and it is large enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mia_hub.defaults import VERDICT_ATTACK
from mia_hub.errors import SplitError
from mia_hub.metrics.calibration_conditional import enough_for, holds_for_reference
from mia_hub.metrics.p_values import ALPHA, ConditionalNull, NullDistribution
from mia_hub.metrics.split_null import SplitNull
from mia_hub.references.demo_reference import demo_reference
from mia_hub.references.null_sets import NullSets
from mia_hub.references.reference import Reference


def reference(n: int, *, plain: bool, shared: bool = True) -> Reference:
    """A reference of n of the demo's non-members, and its known members."""
    whole = demo_reference("sima" if plain else VERDICT_ATTACK)
    rows = np.concatenate([np.flatnonzero(whole.profiles.is_member == 0)[:n], np.flatnonzero(whole.profiles.is_member == 1)[:30]])
    return replace(whole, profiles=whole.profiles.select(rows), observations=whole.observations[rows], further=None, shared=shared)


ENOUGH = enough_for(ALPHA)


@pytest.mark.parametrize(
    ("n", "plain", "shared", "calibration", "n_compared"),
    [
        (ENOUGH, True, True, "conditional", ENOUGH),
        (ENOUGH - 1, True, True, "marginal", ENOUGH - 1),
        (ENOUGH, True, False, "marginal", ENOUGH),
        (600, False, True, "conditional", 450),
        (540, False, True, "marginal", 540),
        (600, False, False, "marginal", 600),
        (99, False, True, "marginal", 99),
    ],
)
def test_the_default_calibration(n, plain, shared, calibration, n_compared):
    made = reference(n, plain=plain, shared=shared)
    assert (made.calibration, len(made.null), made.n_nonmembers) == (calibration, n_compared, n)
    judged = made.judge(made.observations[0], made.profiles.ids[0])
    assert judged.calibration == calibration
    assert judged.p_value == (judged.p_conditional if calibration == "conditional" else judged.p_marginal)
    assert made.to_dict()["calibration"] == calibration and made.to_dict()["n_compared"] == n_compared
    # Whichever decides, both are known where there are enough images to fit on a part of them.
    assert (judged.p_conditional is None) == (n == 99)
    assert (made.power.n_nonmembers, made.power.value) == (n_compared, np.mean([each.p_value <= ALPHA for each in made.members]))


def test_the_calibration_can_be_asked_for():
    made = reference(600, plain=False)
    other = made.calibrated("marginal")
    assert isinstance(made.null, SplitNull) and isinstance(other.null, ConditionalNull) and made.calibrated(None) is made
    one = made.observations[-1]
    assert other.judge(one).p_conditional == made.judge(one).p_conditional == made.judge(one).p_value
    assert other.judge(one).p_value == other.judge(one).p_marginal != made.judge(one).p_value
    with pytest.raises(SplitError, match=r"its 99 non-members are too few.*Leave calibration='conditional' out"):
        reference(99, plain=False).calibrated("conditional")
    with pytest.raises(SplitError, match="got 'both'"):
        made.calibrated("both")


def test_a_part_serves_the_fit_and_the_others_the_comparison_whatever_their_order():
    whole = demo_reference()
    rows = np.flatnonzero(whole.profiles.is_member == 0)
    ids, observed = tuple(whole.profiles.ids[row] for row in rows), whole.observations[rows]
    orders = (np.arange(len(ids)), np.arange(len(ids))[::-1])
    split = [NullSets.of(ConditionalNull(observed[order], tuple(ids[row] for row in order))).conditional for order in orders]
    assert all(isinstance(each, SplitNull) for each in split)
    (fitted, compared), turned = ((set(each.fit_ids), set(each.ids)) for each in split)
    assert (fitted, compared) == turned
    assert not fitted & compared and fitted | compared == set(ids) and len(fitted) == 500


def test_plain_scores_need_no_split():
    made = reference(450, plain=True)
    assert isinstance(made.null, NullDistribution)
    judged = made.judge(made.observations[-1])
    assert judged.p_conditional == holds_for_reference(judged.p_marginal, 450)
