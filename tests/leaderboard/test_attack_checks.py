"""Attacks that strangers may have run."""

import re

import pytest
from support.made_requests import DEMO_REQUEST

from leaderboard.errors import SubmissionError
from leaderboard.requests.request import Request


def test_no_folder_is_looked_into_for_a_stranger(monkeypatch):
    from mia_hub.attacks import nearest_generated

    monkeypatch.setattr(nearest_generated, "find_images", lambda folder: pytest.fail(f"{folder} was looked into"))
    for text in ("nearest-generated:generated=/tmp", "nearest-generated:neighbours=1,generated=/tmp,given=complexity"):
        with pytest.raises(SubmissionError, match="can't be submitted"):
            Request.from_dict(DEMO_REQUEST | {"attacks": [text]})


def test_every_parameter_that_is_no_plain_value_is_local():
    from typing import get_type_hints

    from mia_hub.attacks import ATTACKS

    plain = {"int", "float", "str", "bool"}
    for attack in ATTACKS.values():
        hints = get_type_hints(attack)
        for name in attack.parameters():
            words = {word.split(".")[-1] for word in re.findall(r"[A-Za-z_.]+", re.sub(r"'[^']*'", "", str(hints[name])))}
            odd = words - plain - {"", "class", "tuple", "Literal", "Union", "Attack"}
            assert bool(odd) == (name in attack.local_parameters), (attack.name, name, odd)


@pytest.mark.parametrize(
    "text", ["lira", "rmia:timesteps=100", "bavaria:prior=variances", "lira:given=complexity", "combine:parts=lira,sima"]
)
def test_an_attack_that_needs_reference_models_is_refused(text):
    with pytest.raises(SubmissionError, match="reference models, which a submission can't name"):
        Request.from_dict(DEMO_REQUEST | {"attacks": [text]})
