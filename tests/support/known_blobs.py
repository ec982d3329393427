"""A tiny model and images of one kind, as folders and on the loopback Hub: what a reference is built of."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from support.blobs import blobs

ATTACK = "sima:timesteps=20,60,100"


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def folder_of(images, folder: Path) -> Path:
    """Write images into a folder."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(images):
        (folder / f"{number:04}.png").write_bytes(png(pixels))
    return folder


def parquet_of(images) -> bytes:
    """A Parquet file with a column of images."""
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": pa.array([{"bytes": png(pixels), "path": f"{i}.png"} for i, pixels in enumerate(images)])}), buffer)
    return buffer.getvalue()


def nonmembers(n=40):
    return blobs(n, 7, side=8)


def members(n=40):
    return blobs(n, 8, side=8)


def split_of_blobs(folder: Path) -> None:
    """Write a split into a folder: members and non-members."""
    folder_of(members(), folder / "member")
    folder_of(nonmembers(), folder / "nonmember")
