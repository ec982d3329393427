"""What large splits cost to read, and files that would fill the memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.parquet_files import bitmaps, cells, large_split, table

from mia_hub.errors import SplitError
from mia_hub.images.image import content_id
from mia_hub.splits import hub_rows, parquet_rows
from mia_hub.splits import image_store as image_store
from mia_hub.splits.hub_rows import HubDataset
from mia_hub.splits.loading import load_split
from mia_hub.splits.parquet_rows import ParquetRows
from mia_hub.splits.reading import images_of

LARGE, SMALL = 30_000, 300


@pytest.fixture(scope="module")
def sized(loopback_hub):
    for name, count in (("large", LARGE), ("small", SMALL)):
        loopback_hub.add_repo("dataset", f"sized/{name}", large_split(count, 300, side=16))
    yield
    for name in ("large", "small"):
        loopback_hub.delete_repo("dataset", f"sized/{name}")


SCAN = """
import json, os, sys
from pathlib import Path
import datasets, numpy, PIL.Image, pyarrow.parquet, huggingface_hub
import mia_hub
from mia_hub.splits import hub_rows, parquet_rows
from mia_hub.images.image import encoded_file
hub_rows.LARGEST_CACHED, parquet_rows.CACHED_BYTES, parquet_rows.AHEAD_BYTES = 0, 2**20, 2**18
def peak():  # of this process alone: getrusage's begins with that of the process which started it
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
mia_hub.load_split("sized/small").images[0].id
before = peak()
split = mia_hub.load_split(sys.argv[1])
seen = sum(len(encoded_file(split.images, row)) for row in range(0, len(split.images), 20))
ids = [split.images[row].id for row in range(0, len(split.images), len(split.images) // 50)]
captions = sum(len(split.captions[row]) for row in range(0, len(split.images), 20))
after = peak()
kept = sum(path.stat().st_size for path in Path(os.environ["HF_HOME"]).rglob("*") if path.is_file())
print(json.dumps({"seen": seen, "captions": captions, "mib": (after - before) / 1024, "kept": kept, "n": len(split.images)}), flush=True)
"""


@pytest.mark.slow
def test_a_large_split_needs_no_more_memory_or_disk_than_a_small_one(sized, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # each of Arrow's threads holds memory of its own
    found = {}
    for name in ("small", "large"):
        done = subprocess.run([sys.executable, "-c", SCAN, f"sized/{name}"], capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    small, large = found["small"], found["large"]
    assert (small["n"], large["n"]) == (2 * SMALL, 2 * LARGE)
    assert large["seen"] == LARGE * small["seen"] // SMALL and large["captions"] > 50 * small["captions"]
    data = 20 * large["seen"] / 2**20
    assert data > 45
    assert large["mib"] - small["mib"] < 12, f"{large} against {small}"
    assert large["kept"] < 2**20, "images were copied to disk"


def ranges(hub, name) -> int:
    """Bytes of Parquet files that were asked for."""
    asked = [entry for entry in hub.log if entry.method == "GET" and f"/{name}/resolve/" in entry.path and entry.path.endswith(".parquet")]
    assert all(entry.range for entry in asked), "a whole file was fetched"
    bounds = [entry.range.removeprefix("bytes=").split("-") for entry in asked]
    return sum(int(last) - int(first) + 1 for first, last in bounds)


def test_a_draw_fetches_little_and_gives_the_same_images(loopback_hub, monkeypatch):
    monkeypatch.setattr(hub_rows, "SMALL_FILE", 0)
    count = 20_000
    loopback_hub.add_repo("dataset", "sized/fine", large_split(count, per_group=50))
    loopback_hub.log.clear()
    few = load_split("sized/fine", limit=20, seed=3)
    ids, captions = [image.id for image in few.images], list(few.captions)
    whole = sum(HubDataset("sized/fine").sizes.values())
    # Their row groups, and the footers.
    assert len(ids) == 40 and ranges(loopback_hub, "sized/fine") < 0.15 * whole
    rng = np.random.default_rng(3)
    for seed, (label, place) in enumerate((("member", 0), ("nonmember", 20))):
        rows, pixels = np.sort(rng.permutation(count)[:20]), bitmaps(count, seed)[0]
        assert ids[place : place + 20] == [content_id(pixels[row]) for row in rows]
        assert captions[place : place + 20] == [f"{label} {row}" for row in rows]
    loopback_hub.delete_repo("dataset", "sized/fine")


def test_what_is_read_whole_is_fetched_about_once(loopback_hub, monkeypatch):
    """With the cache, a second pass costs nothing; without it, nothing is kept, and the images are the same."""
    monkeypatch.setattr(hub_rows, "SMALL_FILE", 0)
    loopback_hub.add_repo("dataset", "sized/kept", large_split(1000))
    hashes = []
    for largest, again in ((0, True), (2**40, False)):
        monkeypatch.setattr(hub_rows, "LARGEST_CACHED", largest)
        split = load_split("sized/kept")
        hashes.append(split.hash)
        monkeypatch.setattr(parquet_rows, "CACHED_BYTES", 0)
        loopback_hub.log.clear()
        assert split.hash != load_split("sized/kept").limited(5).hash
        list(split.captions)
        assert bool([path for path in loopback_hub.files_fetched("sized/kept") if path.endswith(".parquet")]) == again
    assert hashes[0] == hashes[1]
    loopback_hub.delete_repo("dataset", "sized/kept")


# Small files that would fill the memory


def repeating(values: dict, count: int) -> bytes:
    """A file in which the same value stands in each row of a column, and takes its place once."""
    arrays = {name: pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([value])) for name, value in values.items()}
    image = pa.StructArray.from_arrays([arrays.pop("image"), pa.nulls(count, pa.string())], ["bytes", "path"])
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": image} | arrays), buffer, compression="zstd", store_schema=False)
    return buffer.getvalue()


def test_what_a_file_repeats_is_in_memory_once(tmp_path):
    image = bitmaps(1, 0)[1][0].as_py() + bytes(2**20)
    for name in ("member", "nonmember"):
        (tmp_path / f"{name}-0.parquet").write_bytes(repeating({"image": image, "caption": "c" * 2**20}, 300))
    assert (tmp_path / "member-0.parquet").stat().st_size < 2000
    rows = ParquetRows([tmp_path / "member-0.parquet"])
    before = pa.total_allocated_bytes()
    read = rows.read(0, ["image", "caption"])
    assert pa.total_allocated_bytes() - before < 20 * 2**20 and read.num_rows == 300
    assert len({id(value) for value in rows.column("caption")}) == 1
    split = load_split(tmp_path)
    assert split.members[299].id == split.nonmembers[0].id
    with pytest.raises(SplitError, match="A caption has 1,048,576 characters; at most 65,536 are read"):
        list(split.captions)


def test_a_row_group_or_a_table_that_is_too_large_is_refused(tmp_path, monkeypatch):
    numbers = pa.array(np.zeros(2**18, np.int64))
    image = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**18, np.int32)), pa.array([b"x"]))
    pq.write_table(pa.table({"image": image, "label": numbers}), tmp_path / "train.parquet")
    assert (tmp_path / "train.parquet").stat().st_size < 5000
    rows = ParquetRows([tmp_path / "train.parquet"])
    assert (rows.memory_of(0, ["image"]), rows.memory_of(0, ["label"])) == (2**20, 2**21)
    monkeypatch.setattr(parquet_rows, "MOST_GROUP_BYTES", 2**20)
    assert len(rows.read(0, ["image"])) == 2**18
    for read in (lambda: rows.read(0, ["label"]), lambda: rows.numbers("label"), lambda: list(rows.take([5], ["label"]))):
        with pytest.raises(
            SplitError, match=r"train.parquet has a row group whose label would need 2 MiB of memory; at most 1 MiB are read"
        ):
            read()
    monkeypatch.setattr(parquet_rows, "MOST_ROWS", 1000)
    with pytest.raises(SplitError, match="262,144 rows; at most 1,000 are read"):
        ParquetRows([tmp_path / "train.parquet"])
    assert len(ParquetRows([tmp_path / "train.parquet"], pool=1000)) == 1000


def test_a_hub_that_fails_while_reading_ahead_is_no_bad_image(loopback_hub, monkeypatch):
    """Else the images would be left out, and the same seed would draw others."""
    monkeypatch.setattr(parquet_rows, "FOOTERS_KEPT", 1)
    files = {f"data/train-{i:05}-of-00003.parquet": table({"image": cells(10)}) for i in range(3)}
    loopback_hub.add_repo("dataset", "alice/shards", files)
    dataset = HubDataset("alice/shards")
    rows = dataset.open("train", dataset.splits["train"])
    images = images_of(rows.lazy("image"))
    assert images[0].id
    with loopback_hub.broken(403), pytest.raises(SplitError, match="The data set alice/shards could not be read"):
        _ = images[10].id
    assert images[10].id
    loopback_hub.delete_repo("dataset", "alice/shards")
