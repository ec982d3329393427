"""How often each attack calls treated images evidence that were never used, as measured; and which attacks that rules out.

``treated_images.json`` holds the counts by study. `python -m studies.copies` measures attacks on the demo;
`python -m studies.copies_on_latents` those on models of latents; `python -m studies.fine_tunes` those given the base of a fine-tune.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mia_hub.metrics.intervals import clopper_pearson

if TYPE_CHECKING:
    from mia_hub.attacks import Attack

# Attacks of one formula, by what they are given besides complexity, under the name of the one that was run.
ONE_FORMULA = {
    "sima-c": "sima",
    "sima-cc": "sima",
    "sima-cn": "sima",
    "sima-b": "sima",
    "sima-lp": "sima-lp",
    "sima-lpb": "sima-lp",
    "loss-b": "loss",
}
MEASURED_GIVEN = {
    ("sima", "nothing"): "sima-c",
    ("sima", "coarse complexity"): "sima-cc",
    ("sima", "neighbours"): "sima-cn",
    ("sima", "base"): "sima-b",
    ("sima", "base and neighbours"): "sima-b, neighbours",
    ("sima-lp", "nothing"): "sima-lp, no neighbours",
    ("sima-lp", "neighbours"): "sima-lp",
    ("sima-lp", "base and neighbours"): "sima-lpb",
    ("loss", "base"): "loss-b",
}
# Attacks that are made for models of latents, and were not run on pixels: by which attack's figures they are judged there.
ON_PIXELS_AS = {"sima-cc": "sima-c", "sima-cc-copies": "sima-c", "sima-b-copies": "sima-b"}
MEASURED = Path(__file__).parent / "treated_images.json"
# The name of the model's own output among the treatments. It is no image that was never used: a model that remembers draws what it
# remembers. So it is reported, and rules no attack out.
OWN_OUTPUT = "the model's own output"
# At p ≤ 0.01. An attack for which the lower end of the 95 % interval lies above it, under any treatment, gives no verdict on images that
# bear signs of treatment.
MOST_FALSE = 0.02


@dataclass(frozen=True)
class FalseEvidence:
    """How often non-members under one treatment got evidence.

    Attributes:
        treatment: a key of `mia_hub.images.treatments.TREATMENTS`, or the model's own output.
        count: how many of them.
        n: of how many.
    """

    treatment: str
    count: int
    n: int

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval (Clopper-Pearson) of the rate."""
        return clopper_pearson(self.count, self.n)[0]


CountsByAttack = dict[str, dict[str, list[int]]]


@lru_cache(maxsize=1)
def _measured() -> CountsByAttack:
    """CountsByAttack on models of pixels, by attack and treatment."""
    return _counts_of(on_latents=False)


@lru_cache(maxsize=1)
def _measured_on_latents() -> CountsByAttack:
    """CountsByAttack on models of latents, of the few attacks that were measured there."""
    return _counts_of(on_latents=True)


def _counts_of(*, on_latents: bool) -> CountsByAttack:
    studies = json.loads(MEASURED.read_text(encoding="utf-8"))
    counts: CountsByAttack = {}
    # Of an attack that several studies ran, the first counts; on pixels it is of the model whose null set everybody shares.
    for study in studies.values():
        if study.get("on_latents", False) == on_latents:
            counts = study["false_evidence"] | counts
    return counts


def measured_name(attack: Attack) -> str | None:
    """Return under which name an attack was run on treated images; None for one that wasn't.

    What an attack is given decides how it takes treatment, and not its class: given complexity alone, `sima-cn` is `sima-c`.
    """
    from mia_hub.attacks.conditional import COARSE, COMPLEXITY, ConditionalAttack
    from mia_hub.attacks.latent_copies import LatentCopies

    name: str | None = f"{attack.name}, shifts" if getattr(attack, "shifts", False) else attack.name
    if isinstance(attack, ConditionalAttack) and attack.name in ONE_FORMULA:
        if COARSE in attack.conditions:
            given = "coarse complexity" if set(attack.conditions) == {COMPLEXITY, COARSE} else "coarse complexity and more"
        elif attack.uses_base:
            # Measured with complexity.
            given = ("base and neighbours" if attack.neighbours else "base") if COMPLEXITY in attack.conditions else "base alone"
        else:
            given = "neighbours" if attack.neighbours else "nothing"
        name = MEASURED_GIVEN.get((ONE_FORMULA[attack.name], given))
    if isinstance(attack, LatentCopies) and not attack.is_default_family:
        return None
    return name if name in _measured() or name in _measured_on_latents() else None


def is_measured(attack: Attack, *, on_pixels: bool) -> bool:
    """Return whether an attack was run on treated images, on models of pixels or of latents."""
    name = measured_name(attack)
    return name is not None and name in (_measured() if on_pixels else _measured_on_latents())


def _counts(name: str, *, on_pixels: bool) -> dict[str, list[int]] | None:
    """Return the counts of an attack by treatment; where it wasn't run on models of the kind, those of the other kind."""
    on_latents = None if on_pixels else _measured_on_latents().get(name)
    return _measured().get(ON_PIXELS_AS.get(name, name)) if on_latents is None else on_latents


def worst(attack: str, *, on_pixels: bool = True) -> FalseEvidence:
    """Return the treatment under which an attack gives most false evidence, by the lower end of the interval.

    Args:
        attack: its name in the measurements.
        on_pixels: whether on models of pixels. On models of latents, an attack that wasn't measured there is judged by its figures on
            pixels.
    """
    counts = _counts(attack, on_pixels=on_pixels)
    assert counts is not None, f"{attack} was measured"
    rows = [FalseEvidence(treatment, *count) for treatment, count in counts.items()]
    return max((row for row in rows if row.treatment != OWN_OUTPUT), key=lambda row: (row.low, row.count))


def ruled_out(attack: Attack, *, on_pixels: bool = True) -> FalseEvidence | None:
    """Return why an attack gives no verdict on images that bear signs of treatment; None for one that does, or isn't measured.

    Args:
        attack: that gives verdicts.
        on_pixels: as for `worst`.
    """
    name = measured_name(attack)
    if name is None or _counts(name, on_pixels=on_pixels) is None:
        return None
    found = worst(name, on_pixels=on_pixels)
    return found if found.low > MOST_FALSE else None
