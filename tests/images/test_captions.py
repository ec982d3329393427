"""Captions and classes that lie beside image files."""

from __future__ import annotations

import pytest
from support.captioned_folders import in_folder, write_rows

from mia_hub.errors import SplitError
from mia_hub.images.captions import annotations_beside, captions_beside, require_complete


@pytest.mark.parametrize("file", ["metadata.jsonl", "metadata.csv"])
@pytest.mark.parametrize("column", ["caption", "text", "prompt"])
def test_metadata_is_read(tmp_path, file, column):
    paths = in_folder(tmp_path)
    write_rows(tmp_path / file, [{"file_name": p.name, column: f'a "cat", no {i}', "class": i} for i, p in reversed([*enumerate(paths)])])
    assert captions_beside(paths) == [f'a "cat", no {i}' for i in range(3)]
    assert require_complete(annotations_beside(paths).classes, "class", "here") == [0, 1, 2]
    assert annotations_beside(paths, caption_column="class").captions == ["0", "1", "2"]


def test_text_files_are_read_and_the_first_of_several_captions_counts(tmp_path):
    paths = in_folder(tmp_path)
    assert annotations_beside(paths) == (None, None)
    for i, path in enumerate(paths):
        path.with_suffix(".txt").write_text(f" cat {i}\n")
    assert captions_beside(paths) == ["cat 0", "cat 1", "cat 2"]
    write_rows(tmp_path / "metadata.jsonl", [{"file_name": p.name, "caption": [f"one {i}", "two"]} for i, p in enumerate(paths)])
    assert captions_beside(paths) == ["one 0", "one 1", "one 2"]


@pytest.mark.parametrize(
    "rows, says",
    [
        ([{"file_name": "0.png", "caption": "a"}], "2 of the 3 images of the folder have no caption"),
        ([{"name": "0.png", "caption": "a"}], "metadata of .* can't be read .*file_name"),
        (["nonsense"], "metadata of .* can't be read"),
    ],
)
def test_incomplete_or_broken_metadata_is_refused(tmp_path, rows, says):
    paths = in_folder(tmp_path)
    write_rows(tmp_path / "metadata.jsonl", rows)
    with pytest.raises(SplitError, match=says):
        require_complete(captions_beside(paths), "caption", "the folder")
    write_rows(tmp_path / "metadata.jsonl", [{"file_name": p.name, "class": "cat"} for p in paths])
    with pytest.raises(SplitError, match="must be integers"):
        require_complete(annotations_beside(paths).classes, "class", "the folder")
