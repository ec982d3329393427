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
    pixels = np.asarray(image.to_pil().convert("RGB"), dtype=np.int16)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    return float((np.abs(edge - np.median(edge, axis=0)).max(axis=1) <= TOLERANCE).mean())
