"""Where members and non-members come from."""

from __future__ import annotations

import io

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mia_hub.errors import ImageError, SplitError
from mia_hub.images.sources import as_images
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import make_split

rng = np.random.default_rng(0)


def noise_images(n, low=0, high=256, size=12):
    return rng.integers(low, high, (n, size, size), dtype=np.uint8)


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(folder, names=("member", "nonmember"), counts=(3, 4)):
    for name, count in zip(names, counts):
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(noise_images(count)):
            Image.fromarray(image).save(folder / name / f"{i}.png")
    return folder


def rows(n):
    return [{"bytes": png(image), "path": None} for image in noise_images(n)]


def hub_dataset(splits, features=None) -> dict[str, bytes]:
    """Files of a data set repository: one Parquet file per split."""
    files = {}
    for name, columns in splits.items():
        feature = datasets.Features({"image": datasets.Image()} | (features or {}))
        buffer = io.BytesIO()
        datasets.Dataset.from_dict(columns, features=feature).to_parquet(buffer)
        files[f"data/{name}-00000-of-00001.parquet"] = buffer.getvalue()
    return files


@pytest.mark.parametrize("names", [("member", "nonmember"), ("members", "non-members"), ("Member", "NonMember")])
def test_folders(tmp_path, names):
    split = load_split(write_folder(tmp_path / "split", names))
    assert (len(split.members), len(split.nonmembers)) == (3, 4)
    assert split.is_member.tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert [image.id for image in split.images] == [p.id for p in split.members] + [p.id for p in split.nonmembers]
    assert split.images[-1].id == split.nonmembers[3].id


def test_hash_is_of_content_and_label_and_not_of_order_or_storage(tmp_path):
    images = noise_images(6)
    one = make_split(images[:3], images[3:])
    other = make_split([png(image) for image in images[2::-1]], list(images[:2:-1]))
    swapped = make_split(images[3:], images[:3])
    assert one.hash == other.hash
    assert one.hash.startswith("sha256:")
    assert one.hash != swapped.hash


def test_limit_is_a_seeded_draw():
    split = make_split(noise_images(50), noise_images(40))
    small, again, other = split.limited(10), split.limited(10), split.limited(10, seed=1)
    assert (len(small.members), len(small.nonmembers)) == (10, 10)
    assert small.hash == again.hash != other.hash
    assert split.limited(None) is split
    assert len(split.limited(45).members) == 45
    with pytest.raises(SplitError, match="≥ 2"):
        split.limited(1)


def test_hub_splits_by_name_and_by_label_over_http(loopback_hub):
    loopback_hub.add_repo("dataset", "alice/split", hub_dataset({"member": {"image": rows(3)}, "nonmember": {"image": rows(4)}}))
    split = load_split("alice/split")
    assert (len(split.members), len(split.nonmembers)) == (3, 4)
    assert len(split.revision) == 40

    label = {"label": datasets.ClassLabel(names=["nonmember", "member"])}
    loopback_hub.add_repo("dataset", "alice/labelled", hub_dataset({"train": {"image": rows(5), "label": [1, 0, 1, 0, 0]}}, label))
    assert load_split("alice/labelled").is_member.tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("splits", "features", "says"),
    [
        ({"train": {"image": 3}}, {}, "doesn't say which images are members"),
        ({"train": {"image": 3, "label": [0, 1, 1]}}, {"label": datasets.Value("int8")}, "is not guessed"),
        ({"train": {"image": 3}, "test": {"image": 3}}, {}, "needed are 'member' and 'nonmember'"),
    ],
)
def test_hub_data_sets_that_do_not_say_who_is_a_member(loopback_hub, splits, features, says):
    filled = {name: {k: rows(v) if k == "image" else v for k, v in columns.items()} for name, columns in splits.items()}
    loopback_hub.add_repo("dataset", "alice/unclear", hub_dataset(filled, features))
    with pytest.raises(SplitError, match=says):
        load_split("alice/unclear")
    loopback_hub.delete_repo("dataset", "alice/unclear")


def test_bad_names_and_folders(tmp_path, loopback_hub):
    write_folder(tmp_path / "half", ("member",))
    (tmp_path / "empty").mkdir()
    (tmp_path / "noimages" / "member").mkdir(parents=True)
    (tmp_path / "noimages" / "nonmember").mkdir()
    for given, says in (
        ("nonsense", "neither 'demo', nor an existing folder"),
        ("alice/absent", "no data set 'alice/absent'"),
        (tmp_path / "half", "but not the other"),
        (tmp_path / "empty", "needs a folder 'member'"),
    ):
        with pytest.raises(SplitError, match=says):
            load_split(given)
    with pytest.raises(ImageError, match="has no images"):
        load_split(tmp_path / "noimages")


def test_parquet_folders_are_read_by_row_group(tmp_path):
    images = noise_images(30)
    table = datasets.Dataset.from_dict(
        {"image": [{"bytes": png(i), "path": None} for i in images]}, features=datasets.Features({"image": datasets.Image()})
    )
    (tmp_path / "data").mkdir()
    for kind, rows in (("member", range(17)), ("nonmember", range(17, 30))):
        part = table.select(rows).data.table
        pq.write_table(part.slice(0, 9), tmp_path / "data" / f"{kind}-00000-of-00002.parquet", row_group_size=4)
        pq.write_table(part.slice(9), tmp_path / "data" / f"{kind}-00001-of-00002.parquet", row_group_size=3)
    split = load_split(tmp_path)
    assert [image.id for image in split.images] == [image.id for image in as_images(images)]
    assert split.members[16].id == split.images[16].id == as_images(images)[16].id


def test_options_without_effect_are_refused():
    for given, options in (
        ("demo", {"config": "x"}),
        ("demo", {"revision": "main"}),
        (make_split(*[noise_images(2)] * 2), {"image_column": "x"}),
    ):
        with pytest.raises(SplitError, match="leave it out"):
            load_split(given, **options)
    with pytest.raises(SplitError, match="seed must be an integer ≥ 0"):
        make_split(noise_images(5), noise_images(5)).limited(2, seed=-1)


def test_a_hub_that_breaks_off_without_a_word_is_one_clear_message(monkeypatch):
    def silent(*args, **kwargs):
        raise TimeoutError

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", silent)
    with pytest.raises(SplitError, match=r"could not be read \(TimeoutError: TimeoutError\)"):
        load_split("alice/any")
