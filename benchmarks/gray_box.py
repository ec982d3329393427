"""The attacks that a benchmark measures by default."""

from __future__ import annotations

from mia_hub.attacks import Attack, get_attack
from mia_hub.auditing.compare import default_attacks
from mia_hub.errors import AttackError
from mia_hub.splits.member_split import MemberSplit


def gray_box(model, split: MemberSplit) -> list[Attack]:
    """All registered gray-box attacks that can run on this model and split, and that query it at all."""
    attacks = []
    for attack in map(get_attack, default_attacks()):
        try:
            attack.check(model, split.captions)
        except AttackError:
            continue
        if attack.access == "gray" and attack.queries_per_image:
            attacks.append(attack)
    return attacks
