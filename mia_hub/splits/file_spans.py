"""Some spans of a file, read at once and then served from memory.

pyarrow can read ahead by itself, in threads that call back into Python. Python's shutdown doesn't wait for them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

# Spans that lie no further apart are read together: on the Hub a request costs more than such a gap.
LARGEST_GAP = 2**16

Span = tuple[int, int]


def chunk_span(chunk: Any) -> Span:
    """Return the first byte of a column chunk, a pyarrow ColumnChunkMetaData, and the one after its last."""
    start = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None and chunk.dictionary_page_offset > 0:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


def merged(spans: Iterable[Span]) -> Iterator[Span]:
    """Yield spans in order, those together that overlap or lie at most `LARGEST_GAP` apart."""
    ordered = sorted(spans)
    if not ordered:
        return
    start, stop = ordered[0]
    for first, last in ordered[1:]:
        if first > stop + LARGEST_GAP:
            yield start, stop
            start, stop = first, last
        stop = max(stop, last)
    yield start, stop


class FileSpans(io.RawIOBase):
    """A file, of which only some spans can be read.

    Args:
        file: the whole file; it is not needed afterwards.
        spans: first byte, and the one after the last, of each.

    Raises:
        OSError: if a span lies outside the file.
    """

    def __init__(self, file: BinaryIO, spans: Iterable[Span]):
        super().__init__()
        self._size, self._place = file.seek(0, io.SEEK_END), 0
        self._parts: list[tuple[int, memoryview]] = []
        for start, stop in merged(spans):
            # A footer may state anything.
            if not 0 <= start <= stop <= self._size:
                raise OSError(f"its footer names bytes {start:,} to {stop:,}, and it has {self._size:,}")
            file.seek(start)
            self._parts.append((start, memoryview(file.read(stop - start))))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence] + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from where the file stands, and return the number of bytes.

        Raises:
            OSError: for bytes outside the spans.
        """
        count = min(len(buffer), max(0, self._size - self._place))
        for start, content in self._parts:
            if start <= self._place and self._place + count <= start + len(content):
                first = self._place - start
                buffer[:count] = content[first : first + count]
                self._place += count
                return count
        if count:
            raise OSError(f"bytes {self._place:,} to {self._place + count:,} were not read")
        return 0
