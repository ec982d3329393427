"""A limit to the total time of connections, whatever happens in them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class TimeLimit:
    """Shuts down the connections that it watches when its time is over; used in a ``with`` statement.

    A socket's own time-out is per read: a server that sends a byte now and then, even before its answer begins, never meets it.

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

    def __exit__(self, *_: object) -> None:
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
        """Whether the time is over."""
        return self.left < 0

    def watch(self, connection: socket.socket) -> None:
        """Shut this connection down at the end, too."""
        # A copy of the handle: TLS takes over the socket's own, and any handle can shut the connection down.
        with self._lock:
            self._sockets.append(connection.dup())
        if self.passed:
            self._shut()

    def _shut(self) -> None:
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):  # closed by the other side already
                    connection.shutdown(socket.SHUT_RDWR)
