"""A web server on 127.0.0.1 that serves images, and gets into every kind of trouble."""

from __future__ import annotations

import io
import re
import socketserver
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


def small_png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((9, 9, 3), number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Web:
    """Images over HTTP on 127.0.0.1, ``/good/3.png``, and others in trouble; ``requested`` has every request's path."""

    def __init__(self, images):
        self.images, self.requested, self.mended, web = images, [], False, self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                web.requested.append(self.path)
                kind, number = re.match(r"/(\w+)/(\d+)", self.path).groups()
                status, content, headers = web.answer(kind, int(number))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, kind, number):
        image = self.images[number % len(self.images)]
        status, content, headers = {
            "good": (200, image, {}),
            "gone": (404, b"<html>not found</html>", {}),
            "page": (200, b"<html>buy this image</html>", {}),
            "huge": (200, image + b"\0" * 60_000, {}),
            "small": (200, small_png(number), {}),
            "moved": (302, b"", {"Location": f"/good/{number}?a=\u00e4".encode().decode("latin-1")}),
            "away": (302, b"", {"Location": "file:///etc/hostname"}),
            "inside": (302, b"", {"Location": f"http://localhost:{self.server.server_address[1]}/good/{number}"}),
            "escaped": (302, b"", {"Location": f"http://%6cocalhost:{self.server.server_address[1]}/good/{number}"}),
            "lengthless": (200, image, {"Content-Length": "abc"}),
            "short": (200, image, {"Content-Length": str(len(image) + 1)}),
            "busy": (200, image, {}) if self.mended else (503, b"", {}),
        }[kind]
        # Of a huge file the length isn't announced.
        return status, content, ({} if kind == "huge" else {"Content-Length": str(len(content))}) | headers

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def dripping(first: bytes, again: bytes):
    """The address of a server that says something and then, ten times a second, something more, and never comes to an end."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(2**16)
            try:
                self.request.sendall(first)
                while True:
                    time.sleep(0.1)
                    self.request.sendall(again)
            except OSError:  # the other side has had enough
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/x.png"
        server.shutdown()
