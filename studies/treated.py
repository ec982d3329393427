"""Evidence on treated copies of a fine-tune's images, by the attacks that may give verdicts there; and where all such counts are stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.treatments import GENERATED, MEMBERS, NONMEMBERS, NULL, Images, generated, rate_text
from mia_hub.attacks.spelling import parse_attack
from mia_hub.checking.checker import Checker
from mia_hub.checking.treated_images import MEASURED, OWN_OUTPUT
from mia_hub.images.sources import as_images
from mia_hub.images.treatments import TREATMENTS, treated
from mia_hub.metrics.p_values import ALPHA
from mia_hub.models.protocol import DiffusionModel
from mia_hub.splits.member_split import MemberSplit
from mia_hub.system.files import write_text
from studies.measuring import once

# Timesteps were fixed beforehand: those at which a pilot found SimA given neighbours, and given the base, best. "sima-b, neighbours" and
# "sima-lpb" were added when sima-b had failed on these images.
ATTACKS = {
    "sima": "sima:timesteps=220",
    "sima-cn": "sima-cn:timesteps=100,given=complexity,shift-left,shift-right",
    "sima-lp": "sima-lp:timesteps=100",
    "sima-b": "sima-b:timesteps=220",
    "sima-b, neighbours": "sima-b:timesteps=220,given=base,complexity,shift-left,shift-right",
    "sima-lpb": "sima-lpb:timesteps=220",
    "loss-b": "loss-b:timesteps=220",
}

# [images with evidence, images] by treatment.
Counts = dict[str, list[int]]


def write_false_evidence(study: str, about: Mapping[str, Any], counts: Mapping[str, Counts]) -> None:
    """Write a study's counts of false evidence where `mia_hub.checking.treated_images` reads them.

    Args:
        study: its name.
        about: what was measured: the models, the size of the null set, p.
        counts: of each attack.
    """
    stored = json.loads(MEASURED.read_text(encoding="utf-8"))
    stored[study] = {**about, "false_evidence": counts}
    write_text(MEASURED, json.dumps(stored, indent=1, ensure_ascii=False) + "\n")


def evidence(
    model: DiffusionModel, attack: str, split: MemberSplit, drawn: Images | None = None, *, captioned: bool = False
) -> dict[str, Counts]:
    """Return how many treated images get evidence, and how many there are, by kind ("members", "non-members") and treatment.

    An image that the comparability check refuses gets none. The model's own output is a treatment of non-members.

    Args:
        model: with its base.
        attack: as the command line spells it, at one timestep.
        split: whose first non-members are the null set.
        drawn: the model's own output; None leaves it out.
        captioned: whether the images, and the null set, are judged with their captions.
    """
    nonmembers, captions = _pixels(split.nonmembers, NULL + NONMEMBERS), list(split.captions or ()) if captioned else None
    first = len(split.members)
    null_captions = captions and captions[first : first + NULL]
    checker = Checker(
        model, parse_attack(attack), nonmembers=nonmembers[:NULL], nonmember_captions=null_captions, keep=False, progress=False
    )

    def count(pixels: Images, own_captions: list[Any] | None = None) -> list[int]:
        images, reference = as_images(pixels), checker.reference
        assert reference is not None, "non-members are known"
        judged = checker.judge(images, captions=own_captions, progress=False)
        return [sum(one.p_value <= ALPHA and reference.is_comparable(image) for image, one in zip(images, judged)), len(judged)]

    kinds = {
        "members": (_pixels(split.members, MEMBERS), captions and captions[:MEMBERS]),
        "non-members": (nonmembers[NULL:], captions and captions[first + NULL : first + NULL + NONMEMBERS]),
    }
    counts = {
        kind: {name: count([treated(name, image) for image in pixels], own) for name in TREATMENTS} for kind, (pixels, own) in kinds.items()
    }
    if drawn is not None:
        counts["non-members"][OWN_OUTPUT] = count(drawn)
    return counts


def _pixels(images: Any, count: int) -> Images:
    return [np.asarray(images[row].to_pil()) for row in range(count)]


def evidence_of(
    name: str,
    load: Callable[[], tuple[DiffusionModel, MemberSplit]],
    attacks: Sequence[str],
    folder: Path,
    *,
    captioned: bool = False,
) -> dict[str, Any]:
    """Return `evidence` by some of `ATTACKS` on one model, with captions or without; finished work is kept in a folder."""
    loaded, drawn = cache(load), cache(lambda: generated(loaded()[0], range(GENERATED)))

    def measured(attack: str) -> dict[str, Counts]:
        model, split = loaded()
        # A model of captioned images draws what a prompt says.
        return evidence(model, ATTACKS[attack], split, None if split.captions else drawn(), captioned=captioned)

    stem = f"treated-{name}{'-captioned' * captioned}"
    return {attack: once(folder / f"{stem}-{attack}.json", partial(measured, attack)) for attack in attacks}


def summed(parts: Sequence[Mapping[str, dict[str, Counts]]]) -> dict[str, dict[str, Counts]]:
    """Return the sum of what `evidence_of` returns of several models: by attack, kind and treatment; not every model has every attack."""
    totals: dict[str, dict[str, Counts]] = {}
    for attack in (name for name in ATTACKS if any(name in part for part in parts)):
        here = [part[attack] for part in parts if attack in part]
        totals[attack] = {
            kind: {name: [sum(part[kind][name][place] for part in here) for place in (0, 1)] for name in here[0][kind]} for kind in here[0]
        }
    return totals


def rates(counts: Mapping[str, dict[str, Counts]], kind: str) -> list[list[str]]:
    """Return the rows of a table: treatment, and the share of images with evidence by each attack, with 95 % intervals."""
    treatments = next(iter(counts.values()))[kind]
    return [[treatment, *(rate_text(*counts[attack][kind][treatment]) for attack in counts)] for treatment in treatments]
