"""Splits of any size and layout: what they cost to read, who is a member in them, and images that lie behind addresses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.constants import HF_HOME
from PIL import Image
from support.loopback_web import Web, dripping

from mia_hub.errors import ImageError, SplitError
from mia_hub.images.image import content_id
from mia_hub.splits import hub_rows, parquet_rows
from mia_hub.splits import image_store as image_store
from mia_hub.splits.fetching import ON_BOTH_SIDES
from mia_hub.splits.hub_rows import HubDataset
from mia_hub.splits.loading import load_split
from mia_hub.splits.parquet_rows import ParquetRows
from mia_hub.splits.reading import images_of
from mia_hub.system import web as fetching
from mia_hub.system.web import NOT_PUBLIC, FetchResult, fetch, fetch_all, is_public

LARGE, SMALL = 30_000, 300


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
print(json.dumps({"seen": seen, "captions": captions, "mib": (after - before) / 1024, "kept": kept, "n": len(split.images)}))
"""


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


# Who is a member


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


NAMED = datasets.ClassLabel(names=["Non-Member", "Member"])
SAYS_WHO = [
    ({"members-00000-of-00001": {"image": 3}, "nonmembers-00000-of-00001": {"image": 2}}, {}, (3, 2)),
    ({"train-00000-of-00001": {"image": 5, "label": [1, 0, 0, 1, 0]}}, {"label": NAMED}, (2, 3)),
    ({"train-00000-of-00001": {"image": 4, "is_member": [True, False, True, True]}}, {}, (3, 1)),
    ({"train-00000-of-00001": {"image": 4, "member": [True, False, True, True]}}, {}, (3, 1)),
]
DOES_NOT_SAY = [
    ({"train-00000-of-00001": {"image": 2, "label": [True, False]}}, {}, "is not guessed"),
    ({"train-00000-of-00001": {"image": 2, "is_member": [1, 0]}}, {}, "is not guessed"),
    ({"train-00000-of-00001": {"image": 2, "label": [1, 0]}}, {"label": datasets.ClassLabel(num_classes=2)}, "is not guessed"),
    ({"train-00000-of-00001": {"image": 2, "label": [1, 0]}}, {"label": datasets.ClassLabel(names=["no", "yes"])}, "is not guessed"),
    ({"train-00000-of-00001": {"image": 3, "is_member": [True, None, False]}}, {}, "1 rows have no 'is_member'"),
    ({"train-00000-of-00001": {"image": 2, "is_member": [True, True]}}, {}, "has no non-members"),
    ({"member-00000-of-00001": {"image": 2}, "nonmember-00000-of-00001": {"caption": ["a"]}}, {}, "has no column 'image'; it has caption"),
]


def stored(where: str, files: dict, features: dict, tmp_path, hub) -> str:
    """A data set in a folder, or on the Hub."""
    made = {}
    for name, columns in files.items():
        filled = {column: cells(value) if column == "image" else value for column, value in columns.items()}
        made[f"data/{name}.parquet"] = table(filled, **{c: f for c, f in features.items() if c in columns})
    if where == "hub":
        hub.add_repo("dataset", "alice/layout", made)
        return "alice/layout"
    for path, content in made.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return str(tmp_path)


@pytest.fixture
def forget(loopback_hub):
    yield
    if ("dataset", "alice/layout") in loopback_hub._repos:
        loopback_hub.delete_repo("dataset", "alice/layout")


@pytest.mark.parametrize("where", ["folder", "hub"])
@pytest.mark.parametrize("files, features, counts", SAYS_WHO)
def test_layouts_that_say_who_is_a_member(where, files, features, counts, tmp_path, loopback_hub, forget):
    split = load_split(stored(where, files, features, tmp_path, loopback_hub))
    assert (len(split.members), len(split.nonmembers)) == counts
    if len(files) == 1:
        columns = next(iter(files.values()))
        order = [content_id(pixels) for pixels in bitmaps(columns["image"], 0)[0]]
        labels = next(value for name, value in columns.items() if name != "image")
        assert [image.id for image in split.members] == [id for id, label in zip(order, labels) if label]


# On the Hub, `datasets` itself refuses two splits with different columns.
REFUSED = [(where, *case) for case in DOES_NOT_SAY for where in ("folder", "hub") if where == "folder" or "has no column" not in case[2]]


@pytest.mark.parametrize("where, files, features, says", REFUSED)
def test_layouts_that_do_not(where, files, features, says, tmp_path, loopback_hub, forget):
    with pytest.raises(SplitError, match=says):
        load_split(stored(where, files, features, tmp_path, loopback_hub))


def test_a_parquet_file_alone_and_one_that_is_none(tmp_path):
    path = tmp_path / "all.parquet"
    path.write_bytes(table({"image": cells(3), "is_member": [True, False, True]}))
    assert len(load_split(path).members) == 2
    path.write_bytes(b"nonsense")
    with pytest.raises(SplitError, match="A Parquet file can't be read"):
        load_split(path)
    with pytest.raises(SplitError, match="config='x' is for data sets on the Hub"):
        load_split(path, config="x")


def card_of(members, nonmembers, more: str = "") -> str:
    """A README that names the files of the two splits."""
    files = f"  - split: member\n    path: {members}\n  - split: nonmember\n    path: {nonmembers}\n"
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}{more}---\n"


def test_a_path_in_a_cell_is_never_opened(tmp_path, loopback_hub, forget):
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    own = tmp_path / "own"
    (own / "data").mkdir(parents=True)
    hostile = [{"bytes": None, "path": str(tmp_path / "private.png")}]
    for name in ("member", "nonmember"):
        pq.write_table(pa.table({"image": hostile}), own / "data" / f"{name}-00000-of-00001.parquet")
    with pytest.raises(ImageError, match="is not an image"):
        _ = load_split(own).members[0]
    # And not in what `datasets` reads either.
    card = card_of("a.jsonl", "b.jsonl", "dataset_info:\n  features:\n  - name: image\n    dtype: image\n")
    rows = {"a.jsonl": {"image": str(tmp_path / "private.png")}, "b.jsonl": {"image": "http://127.0.0.1:9/x.png"}}
    loopback_hub.add_repo("dataset", "alice/layout", {"README.md": card} | {name: json.dumps(row) + "\n" for name, row in rows.items()})
    for part in (load_split("alice/layout").members, load_split("alice/layout").nonmembers):
        with pytest.raises(ImageError, match="is not an image"):
            _ = part[0]


def test_a_data_set_that_names_files_of_this_machine_is_refused(tmp_path, loopback_hub, forget):
    for name in ("member", "nonmember"):
        (tmp_path / f"{name}.parquet").write_bytes(table({"image": cells(2)}))
    card = card_of(tmp_path / "member.parquet", tmp_path / "nonmember.parquet")
    loopback_hub.add_repo("dataset", "alice/layout", {"README.md": card, "data/train.csv": "a,b\n"})
    with pytest.raises(SplitError, match="Data files don't belong to alice/layout"):
        load_split("alice/layout")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_card_that_names_files_of_another_commit_is_refused(loopback_hub, kind):
    """They could change after it was written down which commit is read."""
    # A name of its own: the client keeps listings of branches.
    rows, name = table({"image": cells(2)}) if kind == "parquet" else "image\nx.png\n", f"alice/moving-{kind}"
    paths = [f"{part}.{kind}" for part in ("member", "nonmember")]
    card = card_of(*(f"hf://datasets/{name}@main/{path}" for path in paths))
    commit = loopback_hub.add_repo("dataset", name, dict.fromkeys(paths, rows) | {"README.md": card})
    for revision in (None, commit):
        with pytest.raises(SplitError, match="isn't one of its own at the commit"):
            load_split(name, revision=revision)


def test_a_path_into_the_files_of_another_data_set_is_never_opened(loopback_hub, forget):
    """The reader's cache holds a private data set's image, and another commit's; a stranger's CSV names them."""
    from huggingface_hub import hf_hub_download

    image = bitmaps(1, 3)[1].to_pylist()[0]
    loopback_hub.add_repo("dataset", "victim/private", {"0.png": image}, private=True)
    old = loopback_hub.add_repo("dataset", "alice/layout", {"0.png": image})
    try:
        named = [
            hf_hub_download("victim/private", "0.png", repo_type="dataset", token="hf_victim"),
            hf_hub_download("alice/layout", "0.png", repo_type="dataset", revision=old),
        ]
        features = "dataset_info:\n  features:\n  - name: image\n    dtype: image\n"
        rows = "image\n" + "".join(f"{path}\n" for path in named)
        loopback_hub.commit("dataset", "alice/layout", {"README.md": card_of("a.csv", "b.csv", features), "a.csv": rows, "b.csv": rows})
        split = load_split("alice/layout")
        for images in (split.members, split.nonmembers):
            for place in range(len(named)):
                with pytest.raises(ImageError, match="is not an image"):
                    _ = images[place]
    finally:
        loopback_hub.delete_repo("dataset", "victim/private")


def test_images_as_files_on_the_hub(loopback_hub, forget):
    """Not Parquet: `datasets` downloads them, and what it gives is paths."""
    files = {
        f"images/{name}/{i}.bmp": content for k, name in enumerate(("in", "out")) for i, content in enumerate(bitmaps(3, k)[1].to_pylist())
    }
    loopback_hub.add_repo("dataset", "alice/layout", files | {"README.md": card_of("images/in/*", "images/out/*")})
    split = load_split("alice/layout")
    assert [p.id for p in split.images] == [content_id(pixels) for k in (0, 1) for pixels in bitmaps(3, k)[0]]


def test_gated_and_failing_data_sets_are_said_clearly(loopback_hub):
    loopback_hub.add_repo("dataset", "alice/gated", large_split(2), gated=True)
    with pytest.raises(SplitError, match=r"The data set alice/gated is gated: accept its terms on https://.*hf auth login"):
        load_split("alice/gated")
    loopback_hub.add_repo("dataset", "alice/breaks", large_split(1000))
    split = load_split("alice/breaks")
    with loopback_hub.broken(403), pytest.raises(SplitError, match="The data set alice/breaks could not be read"):
        _ = split.members[999]
    assert split.members[999].id, "and it goes on once the Hub is back"


def labelled(names: list[str], labels: list[int], **more) -> bytes:
    return table({"image": cells(len(labels)), "label": labels} | more, label=datasets.ClassLabel(names=names))


def readme_of(names: list[str]) -> str:
    """A card that names the classes of the column ``label``."""
    classes = "".join(f"        '{i}': {name}\n" for i, name in enumerate(names))
    features = f"  - name: image\n    dtype: image\n  - name: label\n    dtype:\n      class_label:\n        names:\n{classes}"
    indented = features.replace("        '", "          '")
    return f"---\ndataset_info:\n  features:\n{indented}---\n"


@pytest.mark.parametrize("where", ["folder", "hub"])
def test_the_names_of_classes_in_the_card_are_those_of_load_dataset(where, tmp_path, loopback_hub, forget):
    """The files name none; where they do, and the card says otherwise, one of the two has members and non-members swapped."""
    swapped = ["member", "nonmember"]

    def stored(content: bytes, card: str = readme_of(swapped)) -> str:
        files = {"data/train-00000-of-00001.parquet": content, "README.md": card.encode()}
        if where == "hub":
            if ("dataset", "alice/layout") in loopback_hub._repos:
                loopback_hub.delete_repo("dataset", "alice/layout")
            loopback_hub.add_repo("dataset", "alice/layout", files)
            return "alice/layout"
        (tmp_path / "data").mkdir(exist_ok=True)
        for path, content in files.items():
            (tmp_path / path).write_bytes(content)
        return str(tmp_path)

    name = stored(table({"image": cells(5), "label": [0, 1, 1, 0, 1]}))
    expected = datasets.load_dataset(name, split="train", cache_dir=str(tmp_path / "cache"))
    named = [expected.features["label"].int2str(label) for label in expected["label"]]
    assert named == ["member", "nonmember", "nonmember", "member", "nonmember"]
    ids = [content_id(pixels) for pixels in bitmaps(5, 0)[0]]
    assert [image.id for image in load_split(name).members] == [ids[0], ids[3]]
    with pytest.raises(
        SplitError, match="card says that the classes of 'label' are member, nonmember, and its files say nonmember, member"
    ):
        load_split(stored(labelled(swapped[::-1], [0, 1, 1, 0, 1])))
    with pytest.raises(SplitError, match=r"The column 'label' of .* holds string; needed are class indices"):
        load_split(stored(table({"image": cells(2), "label": ["member", "nonmember"]})))
    with pytest.raises(SplitError, match=r"README.md can't be read" if where == "folder" else "could not be read"):
        load_split(stored(labelled(swapped, [0, 1]), "---\ndataset_info:\n  features:\n  - name: 3\n    dtype: [\n---\n"))
    assert len(load_split(stored(labelled(swapped, [0, 1]), "# No more than a text\n")).members) == 1


NAMES = ["nonmember", "member"]
ODD_SHARDS = [
    (labelled(NAMES[::-1], [0, 1]), r"has other class names in the column 'label', \['member', 'nonmember'\] in place of \['non"),
    (table({"image": cells(2), "label": [0, 1]}), "has other class names in the column 'label', None in place of"),
    (table({"image": cells(2)}), "has no column 'label'"),
    (labelled(NAMES, [0, 1], caption=["a", "b"]), "has a further column 'caption'"),
    (table({"image": cells(2), "label": ["a", "b"]}), "has another type in the column 'label', string in place of int64"),
]


@pytest.mark.parametrize("other, says", ODD_SHARDS, ids=[says[:40] for _, says in ODD_SHARDS])
@pytest.mark.parametrize("where", ["folder", "hub"])
def test_files_of_one_split_that_differ(where, other, says, tmp_path, loopback_hub, forget):
    files = {"data/train-00000-of-00002.parquet": labelled(NAMES, [0, 1]), "data/train-00001-of-00002.parquet": other}
    if where == "hub":
        loopback_hub.add_repo("dataset", "alice/layout", files)
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    with pytest.raises(SplitError, match=f"data/train-00001-of-00002.parquet {says}"):
        load_split("alice/layout" if where == "hub" else tmp_path)


def test_files_of_one_split_that_differ_in_nothing_that_matters(tmp_path):
    """Another order of columns, whole numbers as pandas writes them where one is missing, a column that is empty throughout."""
    image = pa.StructArray.from_arrays([bitmaps(2, 0)[1], pa.nulls(2)], ["bytes", "path"])
    files = {
        "train-00000-of-00003": {"image": image, "is_member": [True, False], "caption": ["a", "b"], "class": pa.array([1, 2], pa.int64())},
        "train-00001-of-00003": {
            "class": pa.array([1, None], pa.float64()), "caption": pa.nulls(2), "is_member": [True, True], "image": image,
        },
        "train-00002-of-00003": {"image": image, "is_member": [False, False], "caption": pa.array(["c", "d"], pa.large_string()),
                                 "class": pa.nulls(2)},
    }  # fmt: skip
    for name, columns in files.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    split = load_split(tmp_path)
    assert list(split.captions) == ["a", None, None, "b", "c", "d"] and list(split.classes) == [1, 1, None, 2, None, None]
    pq.write_table(pa.table([image, image], names=["image", "image"]), tmp_path / "train-00000-of-00003.parquet")
    with pytest.raises(SplitError, match="has two columns named 'image'"):
        load_split(tmp_path)


@pytest.mark.parametrize("named", ["{}-0", "{}-00", "{}-00000-of-00001", "{}-00000-of-00001-abcdef0123456789", "{}", "{}/0", "{}s-3-of-12"])
def test_files_by_whose_name_it_is_known_who_is_a_member(named, tmp_path):
    for name, count in (("member", 2), ("nonmember", 3)):
        path = tmp_path / "data" / f"{named.format(name)}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(table({"image": cells(count)}))
    split = load_split(tmp_path)
    assert (len(split.members), len(split.nonmembers)) == (2, 3)


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


# Behind addresses


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(fetching, "ALLOWED_INSIDE", frozenset({"127.0.0.1"}))
    server = Web(bitmaps(64, 5)[1].to_pylist())
    yield server
    server.stop()


def by_address(hub, members, nonmembers) -> str:
    """LAION-mi's layout."""
    files = {
        f"data/{name}-00000-of-00001-{'ab' * 8}.parquet": table({"url": urls, "caption": [f"{name} {i}" for i in range(len(urls))]})
        for name, urls in (("members", members), ("nonmembers", nonmembers))
    }
    hub.add_repo("dataset", "alice/layout", files)
    return "alice/layout"


def test_addresses_are_fetched_on_request_and_the_missing_said(web, loopback_hub, forget):
    members = [f"{web.url}/{'gone' if i < 18 else 'good'}/{i}" for i in range(30)] + [f"{web.url}/good/60"]
    nonmembers = [f"{web.url}/good/{i}" for i in range(30, 56)] + [f"{web.url}/good/55?again", f"{web.url}/good/60?placeholder", None]
    name = by_address(loopback_hub, members, nonmembers)
    with pytest.raises(SplitError, match=r"holds no images, but their addresses \(in the column 'url'\).*fetch=True"):
        load_split(name)
    assert not web.asked, "nothing is fetched unasked"
    with pytest.warns(UserWarning) as said:
        split = load_split(name, fetch=True)
    assert (len(split.members), len(split.nonmembers)) == (12, 26)
    assert split.name == "alice/layout, with 12 of 31 members and 26 of 29 non-members that could be had"
    assert split.notes[0] == f"19 of the 31 members are missing: 18 HTTP 404, 1 {ON_BOTH_SIDES}."
    assert split.notes[1].startswith("3 of the 29 non-members are missing: 1 no web address, 1 the same image as another row, 1 ")
    assert split.notes[2].startswith("The share of missing images differs between members (61.3 %) and non-members (10.3 %)")
    assert [str(one.message) for one in said] == list(split.notes) and len(split.notes) == 3
    assert list(split.captions) == [f"members {i}" for i in range(18, 30)] + [f"nonmembers {i}" for i in range(26)]
    assert [p.id for p in split.members] == [content_id(pixels) for pixels in bitmaps(64, 5)[0][18:30]]
    # What was had is not asked for again, and a draw asks for what it draws alone.
    web.asked.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_split(name, fetch=True).hash == split.hash and not web.asked


def test_images_of_one_configuration_are_not_those_of_another(web, loopback_hub, forget):
    urls = [[f"{web.url}/good/{10 * k + i}" for i in range(3)] for k in range(4)]
    card, files = "---\nconfigs:\n", {}
    for k, config in enumerate("ab"):
        card += f"- config_name: {config}\n  data_files:\n"
        for j, side in enumerate(("member", "nonmember")):
            files[f"{config}/{side}.parquet"] = table({"url": urls[2 * k + j]})
            card += f"  - split: {side}\n    path: {config}/{side}.parquet\n"
    loopback_hub.add_repo("dataset", "alice/layout", files | {"README.md": f"{card}---\n"})
    pixels = bitmaps(64, 5)[0]
    for k, config in enumerate("ab"):
        split = load_split("alice/layout", config=config, fetch=True)
        assert [image.id for image in split.images] == [content_id(pixels[20 * k + 10 * j + i]) for j in (0, 1) for i in range(3)]
    web.asked.clear()
    load_split("alice/layout", config="a", fetch=True)
    assert not web.asked


def test_a_draw_fetches_what_it_draws(web, loopback_hub, forget):
    name = by_address(loopback_hub, [f"{web.url}/good/{i}" for i in range(20)], [f"{web.url}/good/{i}" for i in range(20, 40)])
    split = load_split(name, fetch=True, limit=4)
    assert len(web.asked) == 8 and len(split.members) == 4 and not split.notes
    whole = load_split(name, fetch=True)
    assert split.hash == whole.limited(4).hash


def test_what_is_fetched_is_written_before_it_fills_the_memory(web, monkeypatch, loopback_hub, forget):
    addresses = [f"{web.url}/good/{i % 64}?{i}" for i in range(200)]
    came = fetch_all(addresses)
    taken = [next(came) for _ in range(20)]
    # What was taken, and what may be on its way.
    assert len(web.asked) <= 20 + fetching.WORKERS
    taken += came
    assert sorted(place for place, _ in taken) == list(range(200)) and len(web.asked) == 200
    files = bitmaps(64, 5)[1].to_pylist()
    assert all(file.content == files[place % 64] for place, file in taken)
    size = len(files[0])
    monkeypatch.setattr(image_store, "BYTES_AT_ONCE", 10 * size)
    monkeypatch.setattr(image_store, "GROUP_BYTES", 3 * size)
    name = by_address(loopback_hub, addresses[:25], addresses[25:50])
    split = load_split(name, fetch=True)
    assert [image.id for image in split.images] == [content_id(pixels) for pixels in bitmaps(64, 5)[0][:50]]
    stored = sorted(Path(HF_HOME, "mia_hub", "fetched").glob("alice-layout-members/*/*.parquet"), key=lambda path: path.stat().st_mtime)[
        -3:
    ]
    footers = [pq.read_metadata(path) for path in stored]
    assert sorted([footer.row_group(i).num_rows for i in range(footer.num_row_groups)] for footer in footers) == [
        [3, 2], [3, 3, 3, 1], [3, 3, 3, 1],
    ]  # fmt: skip


def test_nothing_inside_is_asked(web, monkeypatch, loopback_hub, forget):
    """A data set from a stranger must not make this machine ask its own network."""
    assert fetch(f"{web.url}/inside/3") == FetchResult(reason=NOT_PUBLIC), "by a redirect"
    assert web.asked == ["/inside/3"]
    monkeypatch.setattr(fetching, "ALLOWED_INSIDE", frozenset())
    web.asked.clear()
    port = web.server.server_address[1]
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0", "169.254.169.254", "10.0.0.1"):
        found = fetch(f"http://{host}:{port}/good/1")
        assert found.content is None and found.reason in (NOT_PUBLIC, "no answer"), host
        assert found.reason == NOT_PUBLIC or host == "[::1]"
    # urllib undoes these escapes; what it would then ask was never looked at.
    for host in ("127.0.0.%31", "%6cocalhost", "127.0.0.\uff051", "[::1%25lo]"):
        assert fetch(f"http://{host}:{port}/good/1") == FetchResult(reason="no web address"), host
    with monkeypatch.context() as only_here:
        only_here.setattr(fetching, "ALLOWED_INSIDE", frozenset({"127.0.0.1"}))
        assert fetch(f"{web.url}/escaped/3") == FetchResult(reason="no web address") and web.asked == ["/escaped/3"]
        web.asked.clear()
    monkeypatch.setattr(
        fetching.socket, "getaddrinfo", lambda *_: [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("127.0.0.1", port))]
    )
    assert fetch(f"http://two-faced.example:{port}/good/1") == FetchResult(reason=NOT_PUBLIC), "a name with a public and a private address"
    monkeypatch.undo()
    name = by_address(loopback_hub, [f"{web.url}/good/1"] * 3, [f"{web.url}/good/2"] * 3)
    with pytest.raises(SplitError, match=f"None of the 3 images of the members of alice/layout is available: 3 {NOT_PUBLIC}"):
        load_split(name, fetch=True)
    assert not web.asked


def test_a_proxy_may_lie_inside_but_not_what_it_is_asked_for(web, monkeypatch):
    monkeypatch.setattr(fetching, "ALLOWED_INSIDE", frozenset())
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", web.url)
    assert fetch("http://10.1.2.3/good/1") == FetchResult(reason=NOT_PUBLIC) and not web.asked
    fetch("http://93.184.216.34/good/1")
    assert len(web.asked) <= 1
    web.asked.clear()
    for host in ("jenkins.corp.invalid", "127.0.0.%31"):  # only the proxy knows what the first one is
        assert fetch(f"http://{host}/good/1").content is None and not web.asked


TROUBLE = {
    "100 and so on": (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a status line": (b"HTTP/1.1 ", b"2"),
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"x"),
    "what is behind a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /y.png\r\nContent-Length: 5000\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("kind", TROUBLE)
def test_a_server_that_never_ends_is_left(kind, monkeypatch):
    monkeypatch.setattr(fetching, "ALLOWED_INSIDE", frozenset({"127.0.0.1"}))
    monkeypatch.setattr(fetching, "IMAGE_SECONDS", 0.5)
    with dripping(*TROUBLE[kind]) as address:
        begun = time.monotonic()
        found = fetch(address)
    if kind.startswith("what"):  # is not waited for; the address leads to itself
        assert found.reason == "HTTP 302"
    else:
        assert found == FetchResult(reason="too slow", lasting=False)
    assert time.monotonic() - begun < 3


def test_an_answer_with_a_wrong_length_may_be_right_another_time(web):
    for kind in ("lengthless", "short"):
        assert fetch(f"{web.url}/{kind}/1") == FetchResult(reason="no answer", lasting=False)


@pytest.mark.parametrize(
    "address, public",
    [
        ("93.184.216.34", True), ("2606:2800:220:1::1", True), ("127.0.0.1", False), ("10.0.0.1", False), ("192.168.1.1", False),
        ("172.16.0.1", False), ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("0.0.0.0", False), ("::1", False),
        ("::", False), ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:10.0.0.1", False), ("::ffff:93.184.216.34", True),
        ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False), ("64:ff9b::5db8:d822", True), ("ff02::1", False),
        ("fec0::1", False), ("64:ff9b:1::7f00:1", False), ("::7f00:1", False), ("2002:5db8:d822::", True), ("4000::1", False),
    ],
)  # fmt: skip
def test_public_addresses(address, public):
    assert is_public(address) == public
