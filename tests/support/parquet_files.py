"""Parquet files of many small images."""

from __future__ import annotations

import io

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def bitmaps(count: int, seed: int, side: int = 8) -> tuple[np.ndarray, pa.Array]:
    """Pixels uint8 ``[n, side, side, 3]``, and the images as 24-bit BMP files, made all at once."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "BMP")
    head = np.frombuffer(buffer.getvalue()[: -3 * side * side], np.uint8)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    files = np.concatenate([np.tile(head, (count, 1)), pixels[:, ::-1, :, ::-1].reshape(count, -1)], axis=1)
    return pixels, pa.array(list(files.view(f"V{files.shape[1]}").ravel().tolist()), pa.binary())


def large_split(count: int, per_group: int = 1000, side: int = 8) -> dict[str, bytes]:
    """Two splits of ``count`` images each, with captions."""
    files = {}
    for seed, name in enumerate(("member", "nonmember")):
        cells = bitmaps(count, seed, side)[1]
        image = pa.StructArray.from_arrays([cells, pa.nulls(count, pa.string())], ["bytes", "path"])
        table = pa.table({"image": image, "caption": [f"{name} {i}" for i in range(count)]})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, row_group_size=per_group, compression="none", use_dictionary=False)
        files[f"data/{name}-00000-of-00001.parquet"] = buffer.getvalue()
    return files


def cells(count: int, seed: int = 0) -> list[dict]:
    return [{"bytes": content, "path": None} for content in bitmaps(count, seed)[1].to_pylist()]


def table(columns: dict, **features) -> bytes:
    images = {"image": datasets.Image()} if "image" in columns else {}
    found = datasets.Dataset.from_dict(columns)
    for name, feature in (images | features).items():
        found = found.cast_column(name, feature)
    buffer = io.BytesIO()
    found.to_parquet(buffer)
    return buffer.getvalue()
