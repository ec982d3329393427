"""Spans of a file that are read at once: what is served, what is read of the file, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mia_hub.errors import SplitError
from mia_hub.splits.file_spans import LARGEST_GAP, FileSpans, chunk_span, merged
from mia_hub.splits.parquet_rows import LocalFiles, ParquetRows

CONTENT = np.random.default_rng(0).bytes(5 * LARGEST_GAP)


class Watched(io.BytesIO):
    """A file that records what is read of it."""

    def __init__(self, content=CONTENT):
        super().__init__(content)
        self.reads = []

    def read(self, size=-1):
        self.reads.append((self.tell(), size))
        return super().read(size)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], []),
        ([(5, 9)], [(5, 9)]),
        ([(10, 20), (0, 10)], [(0, 20)]),
        ([(0, 10), (2, 4)], [(0, 10)]),
        ([(0, 1), (1 + LARGEST_GAP, 2 + LARGEST_GAP)], [(0, 2 + LARGEST_GAP)]),
        ([(0, 1), (2 + LARGEST_GAP, 3 + LARGEST_GAP)], [(0, 1), (2 + LARGEST_GAP, 3 + LARGEST_GAP)]),
    ],
)
def test_near_spans_are_read_together(spans, expected):
    assert list(merged(spans)) == expected
    file = Watched()
    FileSpans(file, spans)
    assert file.reads == [(start, stop - start) for start, stop in expected]


def test_it_serves_its_spans_and_nothing_else():
    spans = FileSpans(Watched(), [(10, 20), (4 * LARGEST_GAP, len(CONTENT))])
    spans.seek(12)
    assert spans.read(5) == CONTENT[12:17] and spans.tell() == 17
    spans.seek(-3, io.SEEK_END)
    assert spans.read(10) == CONTENT[-3:] and spans.read(1) == b""
    spans.seek(4 * LARGEST_GAP)
    assert spans.seek(7, io.SEEK_CUR) == 4 * LARGEST_GAP + 7
    for place, count in ((0, 1), (15, 6), (100, 3)):
        spans.seek(place)
        with pytest.raises(OSError, match="were not read"):
            spans.read(count)


@pytest.mark.parametrize("span", [(0, len(CONTENT) + 1), (-1, 5), (9, 5), (2**60, 2**61)])
def test_a_span_outside_the_file_is_refused_before_anything_is_read(span):
    file = Watched()
    with pytest.raises(OSError, match="its footer names bytes"):
        FileSpans(file, [span])
    assert not file.reads


def test_a_row_group_is_read_by_one_request_and_without_threads(tmp_path):
    rows = 400
    image = pa.StructArray.from_arrays([pa.array([b"x" * 50 + bytes([row % 256]) for row in range(rows)]), pa.nulls(rows, pa.string())],
                                       ["bytes", "path"])  # fmt: skip
    table = pa.table({"image": image, "caption": [f"text {row}" for row in range(rows)], "label": range(rows)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    opened = []

    class Files(LocalFiles):
        def open(self, path):
            opened.append(Watched((tmp_path / "a.parquet").read_bytes()))
            return opened[-1]

    parquet = ParquetRows([tmp_path / "a.parquet"], Files())
    footer = pq.read_metadata(tmp_path / "a.parquet")
    opened.clear()
    for group in range(4):
        read = parquet.read(group, ["image", "caption"])
        assert read["caption"].to_pylist() == [f"text {row}" for row in range(100 * group, 100 * group + 100)]
        assert read["image"].to_pylist() == table["image"].to_pylist()[100 * group : 100 * group + 100]
        ((start, size),) = opened[group].reads
        columns = [chunk_span(footer.row_group(group).column(i)) for i in range(3)]
        assert start == columns[0][0] and start + size == columns[2][1]


def test_a_footer_that_lies_about_its_chunks_is_named(tmp_path, monkeypatch):
    pq.write_table(pa.table({"label": range(10)}), tmp_path / "a.parquet")
    parquet = ParquetRows([tmp_path / "a.parquet"])
    monkeypatch.setattr("mia_hub.splits.parquet_rows.chunk_span", lambda chunk: (4, 2**50))
    with pytest.raises(SplitError, match=r"A Parquet file can't be read \(its footer names bytes 4 to"):
        parquet.read(0, ["label"])
