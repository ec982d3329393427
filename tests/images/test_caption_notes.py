"""Notes on captions beside images that no image used, and on images without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mia_hub.images.captions import annotations_beside


def jsonl(*rows: dict) -> str:
    return "\n".join(map(json.dumps, rows))


def rows(*names: str, **values: str) -> str:
    return jsonl(*({"file_name": name, **values} for name in names))


IMAGES = ("member/0.png", "member/1.png", "nonmember/0.png")
TEXTS = {path.replace(".png", ".txt"): "a cat" for path in IMAGES}
ROOT = {"metadata.jsonl": rows(*IMAGES, text="a cat")}
# The files beside the images, and each note with whether it is still given when images are passed on their own.
UNUSED = {
    "texts of no image": (
        TEXTS | {"member/2.txt": "", "captions/0.txt": "", "README.txt": "", "member/no.CAPTION": "", ".hidden.txt": "", ".git/a.txt": ""},
        [("4 text files are not used, since no image of the same name is in the same folder: README.txt, captions/0.txt, "
          "member/2.txt and 1 more.",
          0)],
    ),
    "texts of images that were not passed": (TEXTS | {"other/3.png": "", "other/3.txt": "", "other/metadata.csv": ""}, []),
    "rows of no image": (
        TEXTS | {"metadata.jsonl": rows("member/9.png", "0.png", text="a"), "member/metadata.csv": "file_name,text\nx.png,a\n"},
        [("3 rows of metadata are not used, since no image has this file_name: member/9.png, 0.png, member/x.png.", 0)],
    ),
    "an unknown column": (
        {"member/metadata.jsonl": rows("0.png", "1.png", additional_feature="a", n="1"),
         "nonmember/metadata.jsonl": rows("0.png", additional_feature="b")},
        [("No caption was read from member/metadata.jsonl, nonmember/metadata.jsonl, since no column is called caption, captions, text or "
          "prompt. The columns are additional_feature, n: name that of the captions with caption_column=… (--caption-column), or call it "
          "caption.", 1)],
    ),
    "only classes": ({"metadata.jsonl": rows(*IMAGES, **{"class": "1"})}, []),
    "classes, and captions in texts": (TEXTS | {"metadata.jsonl": rows(*IMAGES, **{"class": "1", "id": "7"})}, []),
    "texts beside metadata": (
        TEXTS | ROOT,
        [("3 text files are not used, since the captions of the same images are read from metadata: member/0.txt, member/1.txt, "
          "nonmember/0.txt.", 0)],
    ),
    "two texts": (
        TEXTS | {"member/1.caption": "a", "member/1.png.txt": "b"},
        [("2 text files are not used, since another text file of the same image is read: member/1.caption, member/1.png.txt.", 1)],
    ),
    "an empty text, and another": ({**TEXTS, "member/1.txt": "\n", "member/1.caption": "a"}, []),
    "two metadata files": (
        {**ROOT, "metadata.csv": "file_name,text\n"},
        [("1 metadata file is not used, since of several in a folder one is read, in the order metadata.jsonl, metadata.csv, "
          "metadata.parquet: metadata.csv.", 0)],
    ),
    "metadata without file names, above the images": (
        TEXTS | {"metadata.csv": "a,b\n1,2\n"},
        [("1 metadata file is not used, since no column is called file_name: metadata.csv.", 0)],
    ),
    "metadata elsewhere": (
        TEXTS | {"captions/metadata.csv": "file_name,text\n0.png,a\n"},
        [("1 metadata file is not used, since no image is in the same folder or below it: captions/metadata.csv.", 0)],
    ),
    "tables of other names": (
        {"metadata.json": "{}", "member/captions.csv": "", "member/0.json": "{}"},
        [("3 files are not read: metadata.json, member/0.json, member/captions.csv. Captions are read from text files, "
          "metadata.jsonl, metadata.csv or metadata.parquet.", 0)],
    ),
    "tables beside captions": (TEXTS | {"metadata.json": "{}", "member/0.json": "{}"}, []),
    "a caption that is missing, and classes that are": (
        {**TEXTS, "member/1.txt": "\n", "metadata.csv": "file_name,class\nnonmember/0.png,0\n"},
        [("1 image is without a caption, or with an empty one, while others have one: member/1.png.", 1),
         ("2 images are without a class, or with an empty one, while others have one: member/0.png, member/1.png.", 0)],
    ),
    "nothing": (TEXTS, []),
}  # fmt: skip


@pytest.mark.parametrize("files, notes", UNUSED.values(), ids=UNUSED)
def test_each_kind_of_unused_or_missing_file_is_said_once_with_its_count(tmp_path, files, notes):
    for name, text in (dict.fromkeys(IMAGES, "") | files).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    images = [tmp_path / name for name in IMAGES]
    assert list(annotations_beside(images, root=tmp_path).notes) == [note for note, _ in notes]
    alone = annotations_beside(images).notes
    assert len(alone) == sum(stays for _, stays in notes) and str(tmp_path) not in str(alone)


def test_texts_beside_a_named_column_are_said_not_to_count(tmp_path):
    (tmp_path / "0.png").touch()
    (tmp_path / "0.txt").write_text("b")
    (tmp_path / "metadata.jsonl").write_text(rows("0.png", title="a"))
    beside = annotations_beside([tmp_path / "0.png"], root=tmp_path, caption_column="title")
    assert beside.captions == ["a"] and "1 text file is not used" in beside.notes[0]


def test_names_of_files_stay_on_one_line(tmp_path):
    (tmp_path / "0.png").touch()
    Path(tmp_path / "a\x1b[31m\nb.txt").touch()
    (note,) = annotations_beside([tmp_path / "0.png"], root=tmp_path).notes
    assert note.endswith("a?[31m?b.txt.")
