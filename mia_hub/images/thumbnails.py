"""Small copies of images, for pages that hold them themselves."""

from __future__ import annotations

import base64
from io import BytesIO

from mia_hub.images.image import InputImage

# Of a thumbnail, in pixels.
LONGEST_SIDE = 96


def thumbnail_png(image: InputImage) -> bytes:
    """Return a small copy of an image, as a PNG file: at most `LONGEST_SIDE` pixels wide and high."""
    small = image.to_pil()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()


def png_address(png: bytes) -> str:
    """Return a PNG file as a ``data:`` address, which a page shows without a request."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
