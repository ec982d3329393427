"""Known members and non-members of the demo: to click on, and to compare an answer with the truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from mia_hub.checking.image_answers import ImageCheck
from mia_hub.checking.verdicts import EVIDENCE
from mia_hub.images.image import InputImage
from mia_hub.metrics.p_values import ALPHA
from mia_hub.references.demo_reference import demo_reference
from mia_hub.rendering.html import fragment
from mia_hub.rendering.numbers import in_ten, share
from mia_hub.splits.loading import load_split

TEMPLATE = "mia_hub/ui/check/templates/check.html"
PER_KIND = 6
SEED = 7
PIXELS = 112


@dataclass(frozen=True, eq=False)
class Examples:
    """Known members, or known non-members, of the demo.

    Attributes:
        kind: "member" or "nonmember".
        label: heading on the page.
        images: a seeded draw from the part of the split that chose nothing.
    """

    kind: str
    label: str
    images: tuple[InputImage, ...]


def draw_examples() -> list[Examples]:
    """Return members and non-members; the same ones each time."""
    split = load_split("demo")
    drawn = []
    for kind, label, part in (
        ("member", "In the demo's training set", split.members),
        ("nonmember", "Not in the demo's training set", split.nonmembers),
    ):
        shuffled = (part[int(row)] for row in np.random.default_rng(SEED).permutation(len(part)))
        drawn.append(Examples(kind, label, tuple(islice((image for image in shuffled if image.id in _labels()), PER_KIND))))
    return drawn


def enlarged(image: InputImage) -> Image.Image:
    """Return the image with its own pixels visible."""
    return image.to_pil().resize((PIXELS, PIXELS), Image.Resampling.NEAREST)


@lru_cache(maxsize=1)
def _labels() -> dict[str, int]:
    """Return 1 or 0 by content id, of the demo's reported part."""
    profiles = demo_reference().profiles
    return dict(zip(profiles.ids, profiles.is_member.tolist()))


def truth_html(check: ImageCheck, reference: dict[str, Any] | None) -> Markup:
    """Return what is known of an example, beside the attack's answer; nothing for any other image.

    Args:
        check: the answer.
        reference: as `mia_hub.Checker.to_dict` returns it; its power gives the share of members that the attack misses.
    """
    label = _labels().get(check.id) if check.model == "demo" else None
    if label is None:
        return Markup()
    evidence, power = check.verdict == EVIDENCE, reference and reference["power_at_p_0.01"]
    if label:
        text = "This one was in the training set" + ("; the answer is right." if evidence else ".")
        if power:
            text += f" The attack misses {in_ten(1 - power['value'])} such images{'' if evidence else ', and this is one of them'}."
    elif evidence:
        text = f"This one was not in the training set: a false alarm, as {share(ALPHA)} of such images raise by design."
    else:
        text = "This one was not in the training set, and for such an image there is no better answer than this: the attack never acquits."
    return fragment("truth", text, template=TEMPLATE)
