"""Anything that counts as images, as a lazy sequence."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.image_files import (
    FLOAT,
    GREY,
    RGB,
    Listed,
    open_files,
    saved,
)

from mia_hub.errors import ImageError
from mia_hub.images.image import content_id
from mia_hub.images.sources import as_images, find_images, open_image

# ---- as_images


@pytest.fixture
def three(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for i, path in enumerate(paths):
        path.write_bytes(saved(np.roll(RGB, i, 0), "PNG"))
    return paths


def test_lazy_and_closed(three, monkeypatch):
    opened = []
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (opened.append(self.name), real(self, *a, **k))[1])
    images = as_images([*three, three[0].parent / "missing.png"])
    assert len(images) == 4 and not opened
    view = images[1:3]
    assert len(view) == 2 and not opened
    assert view[0].name == "b.png" and opened == ["b.png"]
    assert view[-1].name == "c.png" and images[-2].name == "c.png"
    assert [p.name for p in images[:3][::-1]] == ["c.png", "b.png", "a.png"]
    if Path("/proc/self/fd").is_dir():
        assert not [f for f in open_files() if f.endswith(".png")]
    with pytest.raises(IndexError):
        images[4]
    with pytest.raises(ImageError, match=r"image 4 of 4, missing\.png: there is no file"):
        images[3]
    assert as_images(images) is images


@pytest.mark.parametrize("shape", [(24, 32), (24, 32, 1), (24, 32, 3), (24, 32, 4)])
def test_one_array(shape):
    assert [p.name for p in as_images(np.zeros(shape, np.uint8))] == ["image 1"]


def test_single_things(three):
    data = three[0].read_bytes()
    for single in (
        three[0],
        str(three[0]),
        data,
        io.BytesIO(data),
        Image.fromarray(RGB),
        {"bytes": data},
        open_image(RGB),
        FLOAT,
        [RGB],
        (RGB,),
    ):
        images = as_images(single)
        assert len(images) == 1 and images[0].id == content_id(RGB)


def test_batches():
    torch = pytest.importorskip("torch")
    stack = np.stack([RGB, RGB[::-1]])
    nchw = np.moveaxis(stack, 3, 1) / np.float32(255)
    tensor = torch.from_numpy(nchw)
    for batch in (stack, nchw, tensor, list(tensor), (tensor * 255).round().to(torch.uint8)):
        images = as_images(batch)
        assert [p.id for p in images] == [content_id(RGB), content_id(RGB[::-1])]
        assert [p.name for p in images] == ["image 1", "image 2"]
    assert len(as_images(tensor[0])) == 1
    assert [p.id for p in as_images(stack[..., 0])] == [content_id(RGB[..., 0]), content_id(RGB[::-1, :, 0])]


def test_array_of_paths(three):
    assert [p.name for p in as_images(np.array([str(p) for p in three]))] == ["a.png", "b.png", "c.png"]


def test_any_indexed_object_is_lazy():
    items = Listed([RGB, b"no image", Image.fromarray(GREY)])
    images = as_images(items)
    assert len(images) == 3 and items.taken == []
    assert images[2].name == "image 3" and items.taken == [2]
    with pytest.raises(ImageError, match=r"^image 2: this is not an image file"):
        images[1]


def test_broken_collection_names_the_item():
    class Broken(Listed):
        def __getitem__(self, i):
            if i == 1:
                raise IndexError("lost")
            return super().__getitem__(i)

    with pytest.raises(ImageError, match=r"image 2: it can't be taken from the Broken \(lost\)\. Fix or drop it"):
        list(as_images(Broken([RGB, RGB, RGB])))


def test_datasets_column():
    datasets = pytest.importorskip("datasets")
    rows = {"image": [{"bytes": saved(x, "PNG"), "path": None} for x in (RGB, GREY)], "label": [0, 1]}
    data = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}))
    images = as_images(data["image"])
    assert [p.id for p in images] == [content_id(RGB), content_id(GREY)] and images[1].name == "image 2"
    raw = as_images(data.cast_column("image", datasets.Image(decode=False))["image"])
    assert [p.id for p in raw] == [p.id for p in images]
    with pytest.raises(ImageError, match=r"image 1: a dict with the keys \['image', 'label'\].*its image column"):
        as_images(data)[0]
    rows["image"][1]["bytes"] = b"broken"
    bad = datasets.Dataset.from_dict(rows, features=data.features)
    with pytest.raises(ImageError, match="image 2: it can't be taken from the Column"):
        as_images(bad["image"])[1]


@pytest.mark.parametrize(
    ("images", "what", "step"),
    [
        (None, "No images were given", "Accepted are"),
        ([], "No images were given", "at least one"),
        ((), "No images were given", "at least one"),
        (np.zeros((0, 3, 8, 8), np.float32), "No images were given", "at least one"),
        ((x for x in [RGB]), "A generator can be read only once", "Pass list(...)"),
        (iter([RGB]), "A list_iterator can be read only once", "Pass list(...)"),
        ({1, 2}, "A set", "Pass list(...)"),
        (3, "An object of type int is not an image", "a list of them"),
    ],
)
def test_as_images_refuses(images, what, step):
    with pytest.raises(ImageError) as caught:
        as_images(images)
    assert what in str(caught.value) and step in str(caught.value)


# ---- find_images


def test_find_images(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/c.tiff", "sub/deep/d.avif", ".hidden.png", ".cache/e.png", "notes.txt", "__x/._f.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [p.relative_to(tmp_path).as_posix() for p in find_images(str(tmp_path))] == ["a.jpg", "b.PNG", "sub/c.tiff", "sub/deep/d.avif"]


def test_find_images_refuses(tmp_path):
    with pytest.raises(ImageError, match=re.escape(f"{tmp_path} has no images; accepted are .png, ") + ".*Check the folder"):
        find_images(tmp_path)
    with pytest.raises(ImageError, match="doesn't exist: check the path"):
        find_images(tmp_path / "none")
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(ImageError, match="is a file, not a folder: pass it as an image"):
        find_images(tmp_path / "a.txt")


def test_import_is_light():
    code = "import sys, mia_hub.images.image; print([m for m in ('torch', 'datasets') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
