"""The text form of an attack, read and written."""

from __future__ import annotations

import pytest

from mia_hub.attacks import get_attack
from mia_hub.attacks.combination import Combination
from mia_hub.attacks.spelling import parse_attack, parse_parts, spell


@pytest.mark.parametrize(
    ("text", "attack"),
    [
        ("sima", get_attack("sima")),
        ("sima-mc:draws=30", get_attack("sima-mc", draws=30)),
        ("sima-mc:timesteps=50,100,draws=30", get_attack("sima-mc", draws=30, timesteps=(50, 100))),
        ("sima-mc:draws=4,form=norm-mean,antithetic=true", get_attack("sima-mc", draws=4, form="norm-mean", antithetic=True)),
        ("sima-cn:given=complexity,mirror+shift-right", get_attack("sima-cn", given=("complexity", "mirror+shift-right"))),
        ("pfami:variant=authors", get_attack("pfami", variant="authors")),
        ("pfami:variant=authors,form=stat", get_attack("pfami", variant="authors", form="stat")),
        ("gsa1:variant=authors", get_attack("gsa1", timesteps=tuple(range(99, 1000, 100)), variant="authors")),
        ("gsa1:timesteps=50,100,variant=authors", get_attack("gsa1", timesteps=(50, 100), variant="authors")),
        ("sima-cn:given=mirror,", get_attack("sima-cn", given=("mirror",))),
        ("pia:timesteps=100,given=complexity,mirror", get_attack("pia", timesteps=(100,), given=("complexity", "mirror"))),
    ],
)
def test_attacks_in_one_word(text, attack):
    assert parse_attack(text) == attack
    assert spell(attack) == text


def test_combinations_in_one_word():
    assert parse_parts("sima+sima-cn:given=complexity,mirror+shift-right+pia:timesteps=100") == [
        get_attack("sima"), get_attack("sima-cn", given=("complexity", "mirror+shift-right")), get_attack("pia", timesteps=(100,))
    ]  # fmt: skip
    parts = Combination(parts=("sima", get_attack("pia", timesteps=(100,))))
    assert spell(parts) == "sima+pia:timesteps=100"
    assert tuple(parse_parts(spell(parts))) == parts.parts
    assert spell(get_attack("sima", timesteps=range(0, 100, 10))) == "sima:timesteps=0,…,90"
