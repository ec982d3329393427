"""Files of noise images."""

import io

import numpy as np
from PIL import Image


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def noise(n, side=16, seed=0):
    """PNG files of square colour images."""
    return [png(pixels) for pixels in np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)]
