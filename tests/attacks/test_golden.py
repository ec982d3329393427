"""Attacks give the values of their authors' own code on the same images and noise; see tests/attacks/golden/README.md.

The values are statistics, and what classifiers read. No values of fitted classifiers are stored: the authors' draw weights and orders from
random states of their own, and XGBoost is not installed.
"""

from __future__ import annotations

import pytest

from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.registry import ATTACKS
from studies.agreement import CASES, GOLDEN


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.attack)
def test_an_attack_gives_the_values_of_the_authors_code(case):
    ours, theirs = case.values()
    assert ours.shape == theirs.shape
    assert case.difference() < case.tolerance


CHANGES = [case for case in CASES if "variant=authors" in case.attack and case.attack.split(":")[0] not in ("secmi-nns", "clid")]


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.attack)
def test_without_the_authors_variant_the_values_are_others(case):
    """SecMI's maps, and CLiD's features of ten words, are the same in both variants; what is made of them differs."""
    assert case.difference(case.attack.replace(",variant=authors", "").replace(":variant=authors", "")) > 1e3 * case.tolerance


def test_every_attack_with_an_authors_variant_is_compared_and_every_file_is_used():
    with_variant = {name for name, attack in ATTACKS.items() if issubclass(attack, HasAuthorsVariant)}
    assert with_variant <= {case.attack.split(":")[0] for case in CASES}
    assert {case.file for case in CASES} == {path.stem for path in GOLDEN.glob("*.npz")}
    assert max(path.stat().st_size for path in GOLDEN.iterdir()) < 80_000
