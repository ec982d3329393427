"""Captions and classes that lie beside image files."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.captioned_folders import write_rows

from mia_hub.errors import SplitError
from mia_hub.images.captions import annotations_beside, captions_beside, require_complete

FORMATS = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
# A line separator, a paragraph separator, a next line, and a line break within a text.
TEXTS = ("a cat\u2028on a mat", 'a "dog", un café\x85', "two\nlines 日本")


def files(folder: Path, *names: str) -> list[Path]:
    """Empty files in place of images, which are not decoded here."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [folder / name for name in names]


@pytest.fixture
def images(tmp_path):
    return files(tmp_path, "0.png", "1.JPG", "2.x.webp")


def write(path: Path, rows: list[dict]) -> None:
    """Write metadata in the format of the file's name."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write_rows(path, rows)


@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("column", ["caption", "text", "prompt"])
def test_metadata_is_read(tmp_path, images, file, column):
    write(tmp_path / file, [{"file_name": p.name, column: TEXTS[i], "class": i, "other": "x"} for i, p in reversed([*enumerate(images)])])
    assert captions_beside(images) == list(TEXTS)
    assert require_complete(annotations_beside(images).classes, "class", "here") == [0, 1, 2]
    renamed = annotations_beside(images, caption_column="class", class_column="class")
    assert renamed.captions == renamed.classes == ["0", "1", "2"] and not renamed.notes


@pytest.mark.parametrize("folder, name", [
    (".", "member/imgs/{}"), ("member", "imgs/{}"), ("member/imgs", "{}"), (".", "./member//imgs/./{}"), (".", "member\\imgs\\{}"),
    ("member", ".\\imgs\\{}"),
])  # fmt: skip
@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_row_names_its_image_from_the_folder_of_the_metadata(tmp_path, monkeypatch, file, folder, name, forms):
    stored, written = (unicodedata.normalize(form, "é.png") for form in forms)
    images = files(tmp_path, f"member/imgs/{stored}", "member/imgs/1.png", "nonmember/0.png")
    write(tmp_path / folder / file, [{"file_name": name.format(n), "text": f"of {n[0]}"} for n in (written, "1.png")])
    expected = [f"of {written[0]}", "of 1", None]
    monkeypatch.chdir(tmp_path)
    for root, paths in ((tmp_path, images), (".", [path.relative_to(tmp_path) for path in images])):
        beside = annotations_beside(paths, root=root)
        assert beside[:2] == (expected, None) and len(beside.notes) == 1 and "nonmember/0.png" in beside.notes[0]
    # Metadata above the folder that was passed is another's.
    own = expected if folder == "member/imgs" else None
    assert annotations_beside(images).captions == own
    assert annotations_beside(images[:2], root=tmp_path / "member").captions == (None if folder == "." else expected[:2])


def test_the_nearest_row_counts(tmp_path):
    images = files(tmp_path, "member/0.png", "member/1.png")
    write(tmp_path / "metadata.csv", [{"file_name": f"member/{i}.png", "text": f"far {i}"} for i in range(2)])
    write(tmp_path / "member/metadata.jsonl", [{"file_name": "1.png", "text": "near"}])
    beside = annotations_beside(images, root=tmp_path)
    assert beside.captions == ["far 0", "near"]
    assert beside.notes == ("1 row of metadata is not used, since metadata nearer to the image has one, too: in metadata.csv.",)


@pytest.mark.parametrize("names", [
    ("0.txt", "1.txt", "2.x.txt"), ("0.caption", "1.caption", "2.x.caption"), ("0.png.txt", "1.JPG.txt", "2.x.webp.txt"),
    ("0.TXT", "1.png.txt", "1.JPG.CAPTION", "2.x.Caption"),
])  # fmt: skip
def test_text_files_are_read(tmp_path, images, names):
    assert annotations_beside(images) == (None, None, ())
    for name in names:
        (tmp_path / name).write_text(f" cat {name[0]}\n")
    assert captions_beside(images) == ["cat 0", "cat 1", "cat 2"]
    write(tmp_path / "metadata.jsonl", [{"file_name": p.name, "caption": [f"one {i}", "two"]} for i, p in enumerate(images)])
    assert captions_beside(images) == ["one 0", "one 1", "one 2"]


def test_a_text_file_of_a_composed_name_belongs_to_the_image_of_a_decomposed_one(tmp_path):
    (image,) = files(tmp_path, unicodedata.normalize("NFD", "é.png"))
    (tmp_path / "é.txt").write_text("a cat")
    assert annotations_beside([image], root=tmp_path) == (["a cat"], None, ())


# Each way to write a text, and whether it can be read.
ENCODINGS = {
    "utf-8": True, "utf-8-sig": True, "utf-16": True, "utf-32": True, "twice": True,
    "cp1252": False, "utf-16-le": False, "utf-16-be": False, "gb18030": False,
}  # fmt: skip


def encoded(text: str, encoding: str) -> bytes:
    if encoding == "twice":  # files put together, each with its mark
        return "".join(f"\ufeff{line}" for line in text.splitlines(keepends=True)).encode()
    return text.encode(encoding)


@pytest.mark.parametrize("encoding, readable", ENCODINGS.items())
@pytest.mark.parametrize("file", ["0.txt", "0.caption", "metadata.jsonl", "metadata.csv"])
def test_every_encoding_is_read_alike_or_refused_by_name(tmp_path, images, file, encoding, readable):
    text = {
        "metadata.jsonl": '{"file_name": "0.png", "text": "un café"}\r\n{"file_name": "9.png", "text": "-"}\r\n',
        "metadata.csv": 'text,file_name\r\n"un café",0.png\r\n',
    }.get(file, "un café\r\n")
    (tmp_path / file).write_bytes(encoded(text, encoding))
    if readable:
        assert captions_beside(images[:1]) == ["un café"]
        return
    with pytest.raises(SplitError, match=r"can't be read as text.* Save it as UTF-8\.") as refused:
        captions_beside(images[:1])
    assert str(tmp_path / file) in str(refused.value)
    (tmp_path / file).write_bytes(text.encode())
    assert captions_beside(images[:1]) == ["un café"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("file", ["0.txt", "metadata.csv"])
def test_line_ends_are_no_part_of_a_caption(tmp_path, images, file, line_end):
    text = "a\nb\n" if file == "0.txt" else 'file_name,text\n"0.png","a\nb"\n'
    (tmp_path / file).write_bytes(text.replace("\n", line_end).encode())
    assert captions_beside(images[:1]) == ["a\nb"]


def test_lines_of_json_end_at_line_feeds_only(tmp_path, images):
    odd = "".join(chr(code) for code in range(1, 0x3000) if len(f"a{chr(code)}b".splitlines()) > 1 and chr(code) not in "\r\n")
    assert {"\x0b", "\x1c", "\x85", "\u2028"} <= set(odd)
    (tmp_path / "metadata.jsonl").write_text(f'\n{{"file_name": "0.png", "text": "a{odd}b"}}\n  \n', encoding="utf-8", newline="")
    assert captions_beside(images[:1]) == [f"a{odd}b"]


EMPTY = {
    "0.txt": ["", " \n", "\ufeff"],
    "metadata.csv": ["file_name,text\n0.png,\n1.JPG,a", "file_name,text\n0.png\n1.JPG,a", 'file_name,text\n0.png," "\n1.JPG,a\n,\n'],
    "metadata.jsonl": [json.dumps({"file_name": "0.png", "text": value}) for value in ("", " ", None, [], [""], [None], float("nan"))],
    "metadata.parquet": ["", " ", None],
}


@pytest.mark.parametrize("file, content", [(file, content) for file, contents in EMPTY.items() for content in contents])
def test_an_empty_caption_is_none_in_every_format(tmp_path, images, file, content):
    path = tmp_path / file
    if path.suffix == ".parquet":
        write(path, [{"file_name": "0.png", "text": content}, {"file_name": "1.JPG", "text": "a"}])
    else:
        path.write_text(content, encoding="utf-8")
        (tmp_path / "1.txt").write_text("a")
    captions = captions_beside(images[:2])
    assert captions == [None, "a"] and captions_beside(images[:1]) is None
    with pytest.raises(SplitError, match=r"1 of the 2 images of here have no caption, while the others do.* an empty one counts as none"):
        require_complete(captions, "caption", "here")
    (tmp_path / "0.caption").write_text("b")
    assert require_complete(captions_beside(images[:2]), "caption", "here") == ["b", "a"]


@pytest.mark.parametrize("value, text", [(7, "7"), (0.5, "0.5"), (["a", "b"], "a"), ("007", "007"), (" a ", " a ")])
def test_values_become_texts(tmp_path, images, value, text):
    for file in ("metadata.parquet", "metadata.jsonl"):
        write(tmp_path / file, [{"file_name": "0.png", "caption": value}])
        assert captions_beside(images[:1]) == [text]


def jsonl(*rows: dict) -> str:
    return "\n".join(map(json.dumps, rows))


GOOD = {"file_name": "0.png", "text": "a cat"}
QUOTED = 'file_name,text\n0.png,"a cat"'
SHEET = "file_name,text\n0.png,a cat"
# File, content, what the refusal says, and the content after its advice was followed.
REFUSED = {
    "no-names": ("metadata.jsonl", jsonl({"name": "0.png", "text": "a"}), "no file_name; its columns are name, text", jsonl(GOOD)),
    "one-nameless": ("metadata.jsonl", jsonl(GOOD, {"text": "a"}), "line 2: its file_name is empty.*Give each row", jsonl(GOOD)),
    "number": ("metadata.jsonl", jsonl({"file_name": 0, "text": "a"}), "file_name is 0.*as text", jsonl(GOOD)),
    "several": ("metadata.jsonl", jsonl({"file_names": ["0.png"], "text": "a"}), "'file_names' names several images", jsonl(GOOD)),
    "list": ("metadata.jsonl", json.dumps([GOOD]), "a JSON list, not an object", jsonl(GOOD)),
    "text": ("metadata.jsonl", '"nonsense"', "a JSON str, not an object", jsonl(GOOD)),
    "no-json": ("metadata.jsonl", jsonl(GOOD) + "\n{", "line 2: it is no JSON", jsonl(GOOD)),
    "half": ("metadata.jsonl", r'{"file_name": "0.png", "text": "\ud83d"}', "'text' is no valid text", jsonl(GOOD)),
    "twice": ("metadata.jsonl", jsonl(GOOD, {"file_name": "./0.png", "text": "b"}), "has another caption .* in line 1", jsonl(GOOD, GOOD)),
    "two-names": (
        "metadata.csv", "a_file_name,b_file_name,text\n0.png,1.png,a", "which of them .* not guessed.* Call that column file_name",
        "file_name,b_file_name,text\n0.png,1.png,a cat",
    ),
    "semicolons": ("metadata.csv", "file_name;text\n0.png;a cat, b", "separated by ';'.* Save it with commas", SHEET),
    "tabs": ("metadata.csv", "file_name\ttext\n0.png\ta cat", r"separated by '\\t'.* Save it with commas", SHEET),
    "unquoted": ("metadata.csv", "file_name,text\n0.png,a cat, b", "line 2: it has 3 cells.*in double quotes", QUOTED),
    "unclosed": ("metadata.csv", 'file_name,text\n0.png,"a cat', "never closed.* Close it", QUOTED),
    "same-column": ("metadata.csv", "file_name,text,text\n0.png,a,b", "several columns 'text'.* Keep one", SHEET),
    "huge": ("metadata.csv", f"file_name,text\n0.png,{'a' * 200_000}", "field larger than field limit", SHEET),
    "no-parquet": ("metadata.parquet", "PAR1", "smaller than .*metadata.jsonl instead", None),
}  # fmt: skip


@pytest.mark.parametrize("file, content, says, repaired", REFUSED.values(), ids=REFUSED)
def test_broken_metadata_is_refused_with_a_way_out(tmp_path, images, file, content, says, repaired):
    (tmp_path / file).write_text(content, encoding="utf-8")
    with pytest.raises(SplitError, match=f"metadata of {tmp_path} can't be read .*{file}.*{says}"):
        captions_beside(images[:1])
    (tmp_path / (file if repaired else "metadata.jsonl")).write_text(repaired or jsonl(GOOD), encoding="utf-8")
    assert captions_beside(images[:1]) == ["a cat"]


@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("name", [
    "../0.png", "..\\0.png", "a/../0.png", "/0.png", "\\0.png", "C:\\0.png", "c:/0.png", "file:///0.png", "https://a.b/0.png", "..",
])  # fmt: skip
def test_no_row_names_a_file_outside_its_folder(tmp_path, images, file, name):
    write(tmp_path / file, [{"file_name": name, "text": "a"}])
    with pytest.raises(SplitError, match=r"is not within the folder.* Write paths relative"):
        captions_beside(images[:1])


@pytest.mark.parametrize("content", [
    "file_name,text\n0.png,a cat\n0.png,a cat\n", "id,file_name,text\n1,0.png,a cat\n2,0.png,a cat\n", "image_file_name,text\n0.png,a cat",
    'file_name , text\n0.png,a cat,,\n,,\n\n', 'file_name,text\n"0.png","a" cat', "file_name,text,x,x\n0.png,a cat,1,2",
])  # fmt: skip
def test_harmless_csv_is_read(tmp_path, images, content):
    (tmp_path / "metadata.csv").write_text(content)
    assert captions_beside(images[:1]) == ["a cat"]


def test_a_whole_sheet_with_quoted_lines_is_read(tmp_path, images):
    sheet = io.StringIO(newline="")
    csv.writer(sheet).writerows([("file_name", "text"), *((p.name, f'line 1\nline "{i}", end') for i, p in enumerate(images))])
    (tmp_path / "Metadata.CSV").write_bytes(sheet.getvalue().encode("utf-8-sig"))
    assert captions_beside(images) == [f'line 1\nline "{i}", end' for i in range(3)]


def test_incomplete_captions_and_classes_of_words_are_refused(tmp_path, images):
    write(tmp_path / "metadata.jsonl", [GOOD])
    with pytest.raises(SplitError, match="2 of the 3 images of the folder have no caption"):
        require_complete(captions_beside(images), "caption", "the folder")
    write(tmp_path / "metadata.jsonl", [{"file_name": p.name, "class": "cat"} for p in images])
    with pytest.raises(SplitError, match="must be integers"):
        require_complete(annotations_beside(images).classes, "class", "the folder")


@pytest.mark.parametrize("column", ["caption_column", "class_column"])
@pytest.mark.parametrize("file", FORMATS)
def test_a_missing_column_is_refused_with_those_that_are_there(tmp_path, images, file, column):
    with pytest.raises(SplitError, match=r"There is no column 'title' in a metadata.jsonl, metadata.csv or metadata.parquet"):
        annotations_beside(images, **{column: "title"})
    write(tmp_path / file, [{"file_name": p.name, "title 2": "7", "blank": ""} for p in images])
    with pytest.raises(SplitError, match=f"no column 'title' in .*{file}; it has file_name, title 2, blank. Name one of these"):
        annotations_beside(images, **{column: "title"})
    with pytest.raises(SplitError, match="no column 'blank' with values"):
        annotations_beside(images, **{column: "blank"})
    assert ["7"] * 3 in annotations_beside(images, **{column: "title 2"})[:2]
