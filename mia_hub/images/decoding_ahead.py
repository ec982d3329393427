"""Images that are decoded ahead, slow ones in several threads; their order, and what is made of them, are those of one thread.

Only the caller's thread reads from the sequence, since its source may take no other; what `deferred` returns may be decoded in any.
Decoding, hashing and resizing release the interpreter. Of a small image most of the time is the interpreter's own: threads would hinder.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mia_hub.images.image import InputImage, deferred

Result = TypeVar("Result")
Work = Callable[[list[int], list[InputImage]], Result]
# Of processor time for decoding, from which on an image is worth a thread.
SLOW_SECONDS = 0.004
# Other images are worked on together: at most so many, and none after so many pixels.
MOST_TOGETHER, MOST_PIXELS = 64, 2**16
# Images that are decoded at the same time; as many again may wait, encoded or done.
MOST_THREADS = 8


def decoded_ahead(images: Sequence[InputImage], rows: Sequence[int], work: Work[Result]) -> Iterator[Result]:
    """Yield the results of some work on the images of some rows, in their order.

    Images that take long are decoded and worked on ahead, one by one in as many threads as there are processors; others together, several
    at a time, in the caller's thread. An image is expected to take as long as the one before it.

    Args:
        images: only the caller's thread reads from it.
        rows: numbers of the images.
        work: is given consecutive ones of the rows, and the images in them; called in any thread, and in several at the same time.

    Raises:
        ImageError: for an image that can't be read.
    """
    most = min(MOST_THREADS, _processors())
    threads = ThreadPoolExecutor(most, thread_name_prefix="decoding")
    try:
        yield from _results(images, rows, work, threads, 2 * most)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _results(
    images: Sequence[InputImage], rows: Sequence[int], work: Work[Result], threads: ThreadPoolExecutor, most_pending: int
) -> Iterator[Result]:
    slow, pixels = False, 0
    # At most one of them holds anything.
    pending: deque[Future[tuple[Result, bool]]] = deque()
    together_rows, together = list[int](), list[InputImage]()

    def alone(row: int, decode: Callable[[], InputImage]) -> tuple[Result, bool]:
        image, slow = _timed(decode)
        return work([row], [image]), slow

    for row in rows:
        decode = deferred(images, row)
        if slow:
            pending.append(threads.submit(alone, row, decode))
            if len(pending) == most_pending:
                result, slow = pending.popleft().result()
                yield result
            while pending and not slow:
                yield pending.popleft().result()[0]
            continue
        image, slow = _timed(decode)
        together_rows.append(row)
        together.append(image)
        pixels += image.height * image.width
        if slow or len(together) == MOST_TOGETHER or pixels >= MOST_PIXELS:
            yield work(together_rows, together)
            together_rows, together, pixels = [], [], 0
    while pending:
        yield pending.popleft().result()[0]
    if together:
        yield work(together_rows, together)


def _timed(decode: Callable[[], InputImage]) -> tuple[InputImage, bool]:
    """Return an image, and whether decoding it took long."""
    started = time.thread_time()
    image = decode()
    return image, time.thread_time() - started >= SLOW_SECONDS


def _processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
