"""The images in a folder, and what of it is left out: every image file is an image, or is named."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from PIL import Image
from support.image_files import RGB, SMOOTH, saved

from mia_hub.errors import ImageError
from mia_hub.images import formats
from mia_hub.images.folders import find_images, list_folder
from mia_hub.images.formats import FOREIGN_IMAGES, HEIC, SUFFIXES
from mia_hub.images.sources import as_images, left_out_of, open_image

PNG = saved(RGB, "PNG")
HEIF_HEAD = b"\0\0\0\x18ftypheic" + bytes(64)


@pytest.fixture(autouse=True)
def without_heif(monkeypatch):
    """As where the optional decoder is not installed."""
    monkeypatch.setattr(formats, "find_spec", lambda name: None)


def filled(root: Path, *names: str, data: bytes = PNG) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def names_of(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in list_folder(root).images]


def left_out(root: Path) -> list[str]:
    return [path.as_posix() for path, _ in list_folder(root).left_out]


# ---- links

TREES = {
    "to a folder outside": ({"link": "../outside"}, ["a.png", "link/b.png", "link/deep/c.png"], []),
    "to a folder inside, which is read once": ({"link": "sub", "sub/x.png": None}, ["a.png", "sub/x.png"], []),
    "two to the same folder": ({"one": "../outside", "two": "../outside"}, ["a.png", "one/b.png", "one/deep/c.png"], []),
    "to a part of another": ({"one": "../outside", "two": "../outside/deep"}, ["a.png", "one/b.png", "one/deep/c.png"], []),
    "to itself": ({"link": "."}, ["a.png"], []),
    "to the folder above": ({"sub/link": "..", "sub/x.png": None}, ["a.png", "sub/x.png"], []),
    "in a circle of two": ({"one/to": "../two", "two/to": "../one", "one/x.png": None, "two/y.png": None},
                           ["a.png", "one/x.png", "two/y.png"], []),
    "to a link": ({"first": "../outside", "second": "first"}, ["a.png", "first/b.png", "first/deep/c.png"], []),
    "to a file": ({"link.png": "../outside/b.png"}, ["a.png", "link.png"], []),
    "hidden": ({".link": "../outside", ".x.png": "../nowhere.png"}, ["a.png"], []),
    "broken, to an image": ({"link.png": "../nowhere.png"}, ["a.png"], ["link.png"]),
    "broken, without a suffix": ({"sub/link": "../nowhere", "sub/x.png": None}, ["a.png", "sub/x.png"], ["sub/link"]),
    "broken, to itself": ({"link": "link"}, ["a.png"], ["link"]),
    "broken, to a text": ({"link.txt": "../nowhere.txt"}, ["a.png"], []),
}  # fmt: skip


@pytest.mark.parametrize("case", TREES)
def test_links(case, tmp_path):
    entries, images, lost = TREES[case]
    root = filled(tmp_path / "root", "a.png")
    filled(tmp_path / "outside", "b.png", "deep/c.png")
    for name, target in entries.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG) if target is None else path.symlink_to(target)
    assert names_of(root) == images and left_out(root) == lost
    for name in lost:
        (sentence,) = list_folder(root).sentences()
        assert "nothing is where it leads" in sentence and name in sentence and "Repair or remove it" in sentence


def test_a_link_into_a_closed_folder_is_left_out(tmp_path, monkeypatch):
    root, real = filled(tmp_path / "root", "a.png"), os.stat
    (root / "link").symlink_to("../closed/pictures")

    def stat(path, **options):
        if isinstance(path, (str, Path)) and Path(path).name == "link" and options.get("follow_symlinks", True):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert names_of(root) == ["a.png"] and left_out(root) == ["link"]


@pytest.mark.parametrize("target", ["..", "../..", "/"])
@pytest.mark.parametrize("place", ["link", "sub/link"])
def test_a_link_to_a_folder_above_is_left_out(target, place, tmp_path):
    """The folder beside, such as the other side of a split, is not part of it."""
    root = filled(tmp_path / "split" / "member", "a.png", "sub/b.png")
    filled(tmp_path / "split" / "nonmember", "c.png")
    (root / place).symlink_to("../" * place.count("/") + target if target != "/" else target)
    assert names_of(root) == ["a.png", "sub/b.png"] and left_out(root) == [place]
    assert "as it leads to a folder that holds this one" in list_folder(root).sentences()[0]


def test_several_links_and_names_are_said_in_the_plural(tmp_path):
    filled(tmp_path, "a.png", "one", "two")
    for name, target in (("x", ".."), ("y", "/"), ("v.png", "nowhere"), ("w.png", "nowhere")):
        (tmp_path / name).symlink_to(target)
    assert [sentence.replace(str(tmp_path), "DIR") for sentence in list_folder(tmp_path).sentences()] == [
        "2 images in DIR are left out, as their names have no suffix of an image that is read (one, two). "
        "Rename them, to end in .png or .jpg for example.",
        "2 links in DIR are left out, as nothing is where they lead (v.png, w.png). Repair or remove them.",
        "2 links in DIR are left out, as they lead to a folder that holds this one (x, y). Remove them, or link to a part of that folder.",
    ]


def test_a_folder_behind_a_link_is_read(tmp_path):
    filled(tmp_path / "outside", "b.png")
    (tmp_path / "link").symlink_to("outside")
    assert names_of(tmp_path / "link") == ["b.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    root, real = filled(tmp_path, "a.png", "locked/b.png"), os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert names_of(root) == ["a.png"]
    assert list_folder(root).sentences("members") == (
        "1 folder of the members is left out, as it can't be read: Permission denied (locked). Check its permissions.",
    )
    with pytest.raises(ImageError, match=r"has no images that can be read\. 1 folder in .* Permission denied"):
        list_folder(root / "locked")


# ---- formats


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_suffixes_of_images_are_read(suffix, tmp_path):
    listing = list_folder(filled(tmp_path, f"a{suffix}", f"b{suffix.upper()}"))
    assert len(listing.images) == 2 and listing.sentences() == ()


@pytest.mark.parametrize("suffix", [suffix for kind in FOREIGN_IMAGES for suffix in kind.suffixes])
@pytest.mark.parametrize("upper", [False, True])
def test_suffixes_of_other_formats_are_named(suffix, upper, tmp_path):
    name = f"x{suffix.upper() if upper else suffix}"
    (sentence,) = list_folder(filled(tmp_path, "a.png", name)).sentences()
    assert sentence.startswith("1 ") and f"({name})" in sentence and "is left out, as this format is not read" in sentence
    with pytest.raises(ImageError, match="has no images that can be read") as caught:
        list_folder(filled(tmp_path / "alone", name))
    assert f"({name})" in str(caught.value)


# (name, its first bytes): files that a suffix says nothing of.
BY_CONTENT = {
    "no suffix": ("photo", PNG),
    "cut off": ("photo.png_large", PNG),
    "a backup": ("photo.jpg.bak", saved(RGB, "JPEG")),
    "an address": ("photo.jpg?size=9", saved(RGB, "JPEG")),
    "a BMP": ("photo.dib", saved(RGB, "BMP")),
    "a HEIC": ("photo", HEIF_HEAD),
    "a JPEG XL": ("photo.1", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)),
    "a Photoshop document": ("photo", b"8BPS\0\1" + bytes(40)),
    "a raw": ("photo", b"FUJIFILMCCD-RAW 0201" + bytes(40)),
}


@pytest.mark.parametrize("case", BY_CONTENT)
def test_an_image_with_another_suffix_is_named(case, tmp_path):
    name, data = BY_CONTENT[case]
    filled(tmp_path, name, data=data)
    assert left_out(filled(tmp_path, "a.png")) == [name]


@pytest.mark.parametrize("name", ["a.txt", "metadata.jsonl", "x.json", "README", "x.npz", "x.unknown", "Thumbs.db", ".x.heic", ".x/y.heic"])
def test_no_images_are_not_mentioned(name, tmp_path):
    filled(tmp_path, name, data=b"words, and BM, and II*")
    assert left_out(filled(tmp_path, "a.png")) == []


def test_files_that_a_suffix_rules_out_are_not_opened(tmp_path, monkeypatch):
    filled(tmp_path, "a.png", "a.txt", "b.heic", "metadata.csv")
    monkeypatch.setattr(Path, "open", lambda self, *args: pytest.fail(f"{self} was opened"))
    assert names_of(tmp_path) == ["a.png"]


def test_sentences_count_name_and_advise(tmp_path):
    filled(tmp_path, "a.png", *(f"sub/{i}.heic" for i in range(5)), "one.psd", "raw/x.nef", "raw/y.DNG", "noise", data=PNG)
    listing = list_folder(tmp_path)
    assert set(listing.sentences("members")) == {
        "1 image of the members is left out, as its name has no suffix of an image that is read (noise). "
        "Rename it, to end in .png or .jpg for example.",
        "1 Photoshop document of the members is left out, as this format is not read (one.psd). Export it as PNG.",
        "2 camera raw files of the members are left out, as this format is not read (x.nef, y.DNG). Develop them to PNG or TIFF "
        "in a raw converter.",
        "5 HEIC images of the members are left out, as this format is not read (0.heic, 1.heic, 2.heic and 2 more). Export them as PNG or "
        'JPEG, or install what reads them: pip install "mia_hub[heif]".',
    }
    assert any(f"5 HEIC images in {tmp_path} are left out" in sentence and "(sub/0.heic, " in sentence for sentence in listing.sentences())


def test_the_callers_of_python_are_warned(tmp_path):
    filled(tmp_path / "mine", "a.png", "b.heic")
    with pytest.warns(UserWarning, match="1 HEIC image of the folder mine is left out") as caught:
        images = as_images(tmp_path / "mine")
    assert caught[0].filename == __file__ and len(images) == 1 and left_out_of(images) == left_out_of(images[:1]) != ()
    with pytest.warns(UserWarning, match="1 HEIC image in "):
        assert len(find_images(tmp_path / "mine")) == 1
    assert left_out_of([1]) == ()


# ---- the optional decoder of HEIC


def test_where_heic_can_be_read_it_is_an_image(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: name == "pillow_heif" or None)
    listing = list_folder(filled(tmp_path, "a.heic", "b.HEIF", "c.hif"))
    assert len(listing.images) == 3 and listing.sentences() == ()


def test_without_its_decoder_a_heic_image_names_the_extra(tmp_path):
    with pytest.raises(
        ImageError, match=re.escape("this is a HEIC image, which can't be read as pixels. Export it as PNG or JPEG")
    ) as caught:
        open_image(HEIF_HEAD)
    extra = re.search(r'pip install "mia_hub\[(\w+)\]"', str(caught.value))
    assert extra and extra[1] in Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8")
    assert HEIC.advice in str(caught.value)


def test_heic_images_are_read(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    monkeypatch.undo()
    heif.from_pillow(Image.fromarray(SMOOTH)).save(tmp_path / "a.heic", quality=90)
    (image,) = as_images(tmp_path)
    assert image.pixels.shape == SMOOTH.shape and abs(image.pixels.astype(int) - SMOOTH).mean() < 4
    assert image.notes == ()
    damaged = (tmp_path / "a.heic").read_bytes()[:200]
    with pytest.raises(ImageError, match="damaged or cut short"):
        open_image(damaged)
