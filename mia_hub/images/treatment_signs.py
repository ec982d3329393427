"""Signs of what was done to an image, apart from what it shows: JPEG compression, noise, blur, a reduced range, a tint."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from mia_hub.images.complexity import complexity
from mia_hub.images.image import InputImage

# Saved again at the quality that it was compressed with, an image changes little: "JPEG ghosts" (Farid 2009).
QUALITIES = (30, 40, 50, 60, 70, 75, 80, 85, 90, 95)
BLOCK, LONGEST_SIDE = 8, 256
# A twentieth of a grey level: keeps the logarithm of no change finite.
FLOOR = 0.05
# The columns of `treatment_signs`.
COMPLEXITY = slice(0, 5)
EQUAL, GHOST, SHARPNESS, RANGE, TINT = range(5, 10)
COLUMNS = 10


def treatment_signs(image: InputImage, height: int, width: int) -> npt.NDArray[np.float64]:
    """Return signs of treatment of an image.

    - 0 to 4: its complexity, on which the next one depends.
    - 5: the share of neighbouring pixels that are equal, which noise of any kind reduces.
    - 6: the depth of the deepest JPEG ghost (`jpeg_ghost`), at the image's own size.
    - 7: sharpness: log of the mean second difference over the mean first difference.
    - 8: range: the largest grey level minus the smallest, in [0, 1].
    - 9: tint: mean distance between the largest and the smallest of red, green and blue, in [0, 1].

    Args:
        image: the image.
        height, width: the model's size, at which all but the ghost is measured.

    Returns:
        float64 ``[10]``.
    """
    rgb = image.resized(height, width, 3).astype(np.float64)
    grey = np.rint(image.resized(height, width, 1)[..., 0] * 255)
    steps = np.concatenate([np.abs(np.diff(grey, axis=axis)).ravel() for axis in (0, 1)])
    bends = np.concatenate([np.abs(np.diff(grey, n=2, axis=axis)).ravel() for axis in (0, 1)])
    sharpness = np.log(bends.mean() + FLOOR) - np.log(steps.mean() + FLOOR)
    tint = (rgb.max(axis=2) - rgb.min(axis=2)).mean()
    signs = [(steps == 0).mean(), jpeg_ghost(image), sharpness, np.ptp(grey) / 255, tint]
    return np.concatenate([complexity(grey[None] / 255), signs])


def jpeg_ghost(image: InputImage) -> float:
    """Return by how much less an image changes when it is saved at one quality than at the qualities beside it, in logarithms.

    Args:
        image: in its own size, of which a part in the middle is measured; blocks of 8 × 8 stay where they are.
    """
    top, left = (max(0, (side - LONGEST_SIDE) // 2 // BLOCK * BLOCK) for side in (image.height, image.width))
    middle = image.pixels[top : top + LONGEST_SIDE, left : left + LONGEST_SIDE]
    grey = InputImage(middle, image.name).to_pil().convert("L")
    levels, changes = np.asarray(grey, dtype=np.float64), []
    for quality in QUALITIES:
        file = io.BytesIO()
        grey.save(file, "JPEG", quality=quality)
        changes.append(np.log(np.abs(np.asarray(Image.open(file), dtype=np.float64) - levels).mean() + FLOOR))
    change = np.array(changes)
    expected = np.concatenate([change[1:2], (change[:-2] + change[2:]) / 2, 2 * change[-2:-1] - change[-3:-2]])
    return float((expected - change).max())
