"""Who is a member in splits of any layout, and what no split is read from."""

from __future__ import annotations

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.parquet_files import bitmaps, cells, large_split, table

from mia_hub.errors import ImageError, SplitError
from mia_hub.images.image import content_id
from mia_hub.splits import image_store as image_store
from mia_hub.splits.loading import load_split

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
