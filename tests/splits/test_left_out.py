"""Whatever the folders of a split leave out is said of each side, in its notes, in the report and on the card."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.command_line import run

import mia_hub
from mia_hub.auditing.preparation import describe_split

RNG = np.random.default_rng(3)


def filled(folder, images: int, *others: str):
    folder.mkdir(parents=True)
    for i in range(images):
        Image.fromarray(RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    for name in others:
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def split(tmp_path):
    filled(tmp_path / "split" / "member", 5, "a.heic", "b.heic", "c.heic", "d.heic")
    filled(tmp_path / "split" / "nonmember", 5, "x.jp2")
    return tmp_path / "split"


MEMBERS = "4 HEIC images of the members are left out, as this format is not read (a.heic, b.heic, c.heic and 1 more). Export them as PNG"
NONMEMBERS = "1 JPEG 2000 image of the non-members is left out, as this format is not read (x.jp2). Convert it to PNG."


def test_each_side_is_named_in_notes_warnings_and_reports(split):
    with pytest.warns(UserWarning, match="of the members are left out") as caught:
        loaded = mia_hub.load_split(split)
    assert len(caught) == len(loaded.notes) == 2 and loaded.notes[0].startswith(MEMBERS) and loaded.notes[1] == NONMEMBERS
    assert describe_split(loaded, SimpleNamespace(ids=[image.id for image in loaded.images]))["notes"] == list(loaded.notes)
    assert loaded.limited(3).notes == loaded.notes


def test_a_side_of_other_formats_alone_is_refused(tmp_path):
    filled(tmp_path / "member", 0, "a.heic")
    filled(tmp_path / "nonmember", 5)
    with pytest.raises(mia_hub.MiaHubError, match=r'member has no images that can be read\. 1 HEIC image .*pip install "mia_hub\[heif\]"'):
        mia_hub.load_split(tmp_path)


def test_folders_given_in_python_are_named(tmp_path):
    folders = [filled(tmp_path / side, 3, f"{side}.psd") for side in ("seen", "unseen")]
    with pytest.warns(UserWarning, match="Photoshop document"):
        split = mia_hub.make_split(*folders)
    assert [note.split(" is left out")[0] for note in split.notes] == [
        "1 Photoshop document of the folder seen",
        "1 Photoshop document of the folder unseen",
    ]


def test_the_card_of_a_drawn_split_says_what_its_source_leaves_out(tmp_path, capsys):
    source = filled(tmp_path / "photos", 8, "a.heic")
    status, out, err = run(capsys, "make-split", source, "--members", "3", "--nonmembers", "3", "--dry-run", "--quiet", "--no-shift-check")
    sentence = "1 HEIC image of the source photos is left out, as this format is not read (a.heic)."
    assert status == 0 and sentence in err and sentence in out.replace("\\", "") and str(tmp_path) not in out


def test_the_card_of_a_written_split_says_it_of_each_side(split, capsys):
    status, out, err = run(capsys, "make-split", split, "--dry-run", "--quiet", "--no-shift-check")
    assert status == 0 and NONMEMBERS in err and MEMBERS in err and out.replace("\\", "").count("**Note:**") == 2
