"""An end to connections that last too long, whatever is going on in them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class TimeLimit:
    """For everything that happens inside a ``with``: once the time is over, the connections it watches are shut down.

    A time-out of the socket is per read; a server that sends a byte now and then, even before its answer begins, never meets it.

    Args:
        seconds: from the beginning of the ``with``.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._sockets: list[socket.socket] = []
        self._lock, self._timer = threading.Lock(), threading.Timer(max(seconds, 0), self._shut)
        self._timer.daemon = True

    def __enter__(self) -> TimeLimit:
        self._end = time.monotonic() + self.seconds
        self._timer.start()
        return self

    def __exit__(self, *_) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()

    @property
    def left(self) -> float:
        """Seconds until the end; below 0 after it."""
        return self._end - time.monotonic()

    @property
    def passed(self) -> bool:
        return self.left < 0

    def watch(self, connection: socket.socket) -> None:
        """Shuts this connection down, too, at the end."""
        # A copy of the handle: TLS takes the socket's own away, and shutting down works through any.
        with self._lock:
            self._sockets.append(connection.dup())
        if self.passed:
            self._shut()

    def _shut(self) -> None:
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):  # closed by the other side already
                    connection.shutdown(socket.SHUT_RDWR)
