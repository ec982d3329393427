"""Folders of images with metadata beside them."""

from __future__ import annotations

import csv
import json

import numpy as np
from PIL import Image


def some_images(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8))


def in_folder(folder, count=3, seed=0) -> list:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.png" for i in range(count)]
    for path, pixels in zip(paths, some_images(count, seed)):
        Image.fromarray(pixels).save(path)
    return paths


def write_rows(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
        return
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
