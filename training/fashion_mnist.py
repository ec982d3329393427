"""Fashion-MNIST as a member/non-member draw: the data behind the demo model.

Source: Xiao, Rasul, Vollgraf (2017), "Fashion-MNIST", MIT licence. Read from the IDX files of Debian's
``dataset-fashion-mnist`` where they are installed, else from the Hub's ``zalando-datasets/fashion_mnist``.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

DEBIAN_FILE = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
DEBIAN_LABELS = DEBIAN_FILE.with_name("train-labels-idx1-ubyte.gz")


def read_idx_images(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of images as uint8 ``[N, H, W]``."""
    with gzip.open(path, "rb") as file:
        data = file.read()
    magic, count, height, width = np.frombuffer(data, ">i4", 4)
    if magic != 2051:
        raise ValueError(f"{path} is not an IDX file of images (magic number {magic}, expected 2051).")
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, height, width)


def load_train_images() -> np.ndarray:
    """Return the 60,000 training images in their published order, uint8 ``[60000, 28, 28]``."""
    if DEBIAN_FILE.exists():
        return read_idx_images(DEBIAN_FILE)
    from datasets import load_dataset

    return np.stack([np.asarray(image) for image in load_dataset("zalando-datasets/fashion_mnist", split="train")["image"]])


def load_train_labels() -> np.ndarray:
    """Return the class of each of the 60,000 training images, 0 … 9, uint8 ``[60000]``."""
    if DEBIAN_LABELS.exists():
        with gzip.open(DEBIAN_LABELS, "rb") as file:
            return np.frombuffer(file.read(), np.uint8, offset=8)
    from datasets import load_dataset

    return np.array(load_dataset("zalando-datasets/fashion_mnist", split="train")["label"], np.uint8)


def draw_rows(images: np.ndarray, seed: int, n_members: int, n_nonmembers: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw members and non-members from the same pool by one seeded permutation, so that both have one distribution.

    Exact duplicates are dropped first, except for their first occurrence: an image must not be on both sides.

    Args:
        images: uint8 ``[N, H, W]``.

    Returns:
        The rows of the members ``[n_members]`` and of the non-members ``[n_nonmembers]``, disjoint.
    """
    first = {}
    for row, image in enumerate(images):
        first.setdefault(image.tobytes(), row)
    order = np.random.default_rng(seed).permutation(list(first.values()))
    return order[:n_members], order[n_members : n_members + n_nonmembers]
