"""CIFAR-10 as a member/non-member draw: colour photographs of ten classes, with a caption made from the class.

Source: Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny Images". Read from the Hub's ``uoft-cs/cifar10``, a folder or a
Parquet file with the columns ``img`` and ``label``.
"""

from __future__ import annotations

import numpy as np

from mia_hub.images.image import content_id
from mia_hub.references.source import open_known_images
from mia_hub.splits.split_part import ColumnNames

HUB = "uoft-cs/cifar10:train"
SIDE = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def caption_of(label: int) -> str:
    """Return the caption of a class, 0 … 9."""
    name = CLASSES[label]
    return f"a small photo of {'an' if name[0] in 'aeiou' else 'a'} {name}"


def draw_cifar10(source: str, seed: int, count: int) -> tuple[np.ndarray, list[str] | None]:
    """Draw different images by one seeded permutation of the source.

    Args:
        source: a data set on the Hub, a folder or a Parquet file; see `mia_hub.references.source.open_known_images`.
        seed: of the permutation.
        count: number of images; fewer, if the source has no more.

    Returns:
        uint8 ``[count, 32, 32, 3]``, and their captions; None if the source has no classes.

    Raises:
        SystemExit: for images of another size.
    """
    columns = ColumnNames(class_column="label") if source.endswith(".parquet") else ColumnNames()
    known = open_known_images(source, columns=columns)
    images: dict[str, np.ndarray] = {}
    labels = []
    for row in np.random.default_rng(seed).permutation(len(known.images)).tolist():
        if len(images) == count:
            break
        image = known.images[row].pixels
        if image.shape != (SIDE, SIDE, 3):
            raise SystemExit(f"Image {row} of {source} has the shape {image.shape}; CIFAR-10 has {SIDE}×{SIDE} images in colour.")
        # An image must not occur twice: it could be on both sides.
        key = content_id(image)
        if key not in images:
            images[key] = image
            labels += [] if known.classes is None else [int(known.classes[row])]
    return np.stack(list(images.values())), [caption_of(label) for label in labels] or None
