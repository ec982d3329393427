"""Generated images and their nearest training images side by side, for the eye to judge."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from mia_hub.images.image import InputImage
from mia_hub.rendering.numbers import p_text

# Pixels: the side of an image, the gap between pairs, and the height of the line below a pair.
SIDE, GAP, LINE = 96, 14, 18
PAIRS_IN_A_ROW = 4
SHOWN = 24
INK, SOFT, COPY, PAPER = "#1c1f23", "#5b626b", "#D55E00", "#ffffff"


def contact_sheet(pairs: Sequence[tuple[InputImage, InputImage, float, float | None, bool]]) -> bytes:
    """Draw pairs of images, row by row.

    Args:
        pairs: at least one: the generated image, the training image, the ratio of their distance, its q-value (None without non-members),
            and whether the first is called a copy, which gets a coloured frame.

    Returns:
        A PNG file.
    """
    columns = min(PAIRS_IN_A_ROW, len(pairs))
    rows = -(-len(pairs) // columns)
    width, height = columns * (2 * SIDE + GAP) + GAP, rows * (SIDE + LINE + GAP) + GAP + LINE
    sheet = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    draw.text((GAP, 6), "left: generated; right: the nearest training image", fill=SOFT, font=font)
    for number, (generated, training, ratio, q_value, is_copy) in enumerate(pairs):
        left, top = GAP + number % columns * (2 * SIDE + GAP), GAP + LINE + number // columns * (SIDE + LINE + GAP)
        for place, image in enumerate((generated, training)):
            sheet.paste(_fitted(image), (left + place * SIDE, top))
        if is_copy:
            draw.rectangle((left - 2, top - 2, left + 2 * SIDE + 1, top + SIDE + 1), outline=COPY, width=2)
        text = f"ratio {ratio:.3f}" + ("" if q_value is None else f", q = {p_text(q_value)}")
        draw.text((left, top + SIDE + 4), text, fill=INK, font=font)
    buffer = BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _fitted(image: InputImage) -> Image.Image:
    """Return an image scaled to the side of the sheet: small ones in whole pixels, so that nothing is smoothed away."""
    pil = image.to_pil().convert("RGB")
    scale = SIDE / max(pil.size)
    size = (max(1, round(pil.width * scale)), max(1, round(pil.height * scale)))
    square = Image.new("RGB", (SIDE, SIDE), PAPER)
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    square.paste(pil.resize(size, resampling), ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return square
