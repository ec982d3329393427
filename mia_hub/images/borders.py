"""Borders of one colour around an image, as of a screenshot or a scan."""

from __future__ import annotations

import numpy as np

from mia_hub.images.image import InputImage

# Grey levels by which a pixel of a border may differ from its colour; compression changes some.
TOLERANCE = 8


def border_share(image: InputImage) -> float:
    """Return the share of the outermost pixels of an image, at its own size, that have the same colour as most of them; in [0, 1].

    The colour is the median of the outermost pixels in each channel; the same is what differs by at most `TOLERANCE` grey levels.
    """
    pixels = image.pixels
    edge = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    levels = np.asarray(InputImage(edge[None], image.name).to_pil().convert("RGB"), dtype=np.int16)[0]
    return float((np.abs(levels - np.median(levels, axis=0)).max(axis=1) <= TOLERANCE).mean())
