"""Every attack, where there is nothing to find: non-members of the demo against other non-members give an AUC of one half."""

from __future__ import annotations

import pytest

from mia_hub.attacks import ATTACKS, get_attack
from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.auditing.audit import audit
from mia_hub.metrics.intervals import delong
from mia_hub.models.loading import load_model
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.partition import calibration_part

# Fewer timesteps than by default, where more would only take longer.
SETTINGS = {
    "sima": {"timesteps": (60, 100)},
    "sima-mc": {"timesteps": (100,), "draws": 4},
    "loss": {"timesteps": (60, 100)},
    "loss-b": {"timesteps": (100,), "draws": 2},
    "secmi": {"timesteps": (50, 90)},
    "pia": {"timesteps": (100, 200)},
    "pian": {"timesteps": (100, 200)},
    "pfami": {"timesteps": (100, 200), "crops": 5},
    "rediffuse": {"variations": 4},
    "rediffuse-nns": {"variations": 4},
    "nearest-generated": {"samples": 32, "steps": 20},
    "combine": {"parts": ("sima-c", "pia"), "timesteps": (100,)},
}
CAPTIONED = {name for name in ATTACKS if ATTACKS[name].needs_caption or ATTACKS[name].needs_text}
N = 80


@pytest.fixture(scope="module")
def held_out():
    nonmembers = load_split("demo").nonmembers
    return MemberSplit("held-out", nonmembers[:N], nonmembers[N : 2 * N])


NAMES = sorted(set(ATTACKS) - CAPTIONED)
FORMS = [
    *((name, {}) for name in NAMES),
    *((name, {"variant": "authors"}) for name in NAMES if issubclass(ATTACKS[name], HasAuthorsVariant)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), FORMS, ids=lambda value: value if isinstance(value, str) else "".join(value.values()))
def test_held_out_against_held_out_gives_one_half(name, form, held_out, tiny_pixel_repo, monkeypatch):
    if name.endswith("-nns") and form:  # ResNet-18 takes minutes for all its epochs
        monkeypatch.setattr("mia_hub.attacks.map_network.EPOCHS", 2)
    other = str(tiny_pixel_repo(size=28))
    model = load_model("demo", base=other, reference_models=[other])
    report = audit(model, get_attack(name, **SETTINGS.get(name, {}) | form), held_out, shift_check=False, progress=False)
    table = report.scores
    reported = ~calibration_part(table.ids, table.is_member)
    # 99.9 %, for so many attacks.
    low, high = delong(table.at(report.timestep)[reported], table.is_member[reported], confidence=0.999)
    assert low < 0.5 < high
