"""``mia-hub`` on images that take long to decode, in a process that tells when it may be interrupted.

    python -m support.interrupted DECODED NUMBER given-up audit …
    python -m support.interrupted DECODED NUMBER never audit …

Two threads decode. From the image with this number on, each decoding waits until the reading is given up, or for ever; once both threads
wait, the process writes a line to standard output. It appends a character to the file DECODED for each image whose decoding begins.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import count
from typing import Any

from mia_hub.attacks import batch_reading
from mia_hub.cli import command_line
from mia_hub.images import decoding_ahead, kept_images

THREADS = 2
_given_up = threading.Event()
_waiting: list[int] = []


class _Threads(ThreadPoolExecutor):
    def shutdown(self, *arguments: Any, **how: Any) -> None:
        super().shutdown(*arguments, **how)
        _give_up()


def _give_up() -> None:
    if len(_waiting) >= THREADS:
        _given_up.set()


def _wait(futures: Any) -> None:
    """As `wait`, which a reader calls after it has cancelled the reading."""
    _give_up()
    wait(futures)


def run(decoded: str, number: int, ends: str, arguments: list[str]) -> None:
    """Run a command.

    Args:
        decoded: file of the decodings that have begun.
        number: of the first image that waits, from 0, over all readings of all images.
        ends: when the waiting ends, "given-up" or "never".
        arguments: of ``mia-hub``.
    """
    log, numbers, deferred, lock = (
        os.open(decoded, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
        count(),
        decoding_ahead.deferred,
        threading.Lock(),
    )

    def waiting(images: Any, row: int) -> Any:
        # Numbered in the order of the reading, in which threads take the images but do not always begin with them.
        own, decode = next(numbers), deferred(images, row)

        def decoding() -> Any:
            os.write(log, b".")
            if own >= number:
                with lock:
                    _waiting.append(own)
                    if len(_waiting) == THREADS:
                        print("waiting", flush=True)
                (_given_up if ends == "given-up" else threading.Event()).wait()
            return decode()

        return decoding

    decoding_ahead.deferred = waiting
    # Each image is worth a thread, and is decoded again whenever it is read.
    decoding_ahead.SLOW_SECONDS, kept_images.MOST_BYTES = 0.0, 0
    decoding_ahead._processors = lambda: THREADS
    decoding_ahead.ThreadPoolExecutor, batch_reading.wait = _Threads, _wait
    # A shell that starts processes in the background lets them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["mia-hub", *arguments]
    command_line()


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
