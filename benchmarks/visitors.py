"""Visitors of the running page, each with a connection of their own, who upload images and wait for the answers of the demo model."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from benchmarks.reporting import Row
from mia_hub.errors import MiaHubError
from mia_hub.splits.loading import load_split

# Growth of the server's memory that is allowed while visitors come and go.
SLACK_MB = 10
# An answer that takes longer never comes.
PATIENCE_SECONDS = 120


def write_uploads(folder: Path, count: int) -> list[str]:
    """Write non-members of the demo as PNG files; return their paths."""
    split, paths = load_split("demo"), []
    for i in range(count):
        paths.append(str(folder / f"{i}.png"))
        split.nonmembers[i].to_pil().save(paths[-1])
    return paths


class Visitor:
    """One visitor.

    Args:
        url: of the page.
    """

    def __init__(self, url: str):
        self._url = url
        self._client = self._connected()

    def _connected(self) -> Any:
        from gradio_client import Client

        return Client(self._url, verbose=False)

    def check(self, image: str) -> tuple[float, dict[str, Any]]:
        """Upload an image, and wait for its answer.

        Returns:
            The seconds that it took, and the answer: an entry of `Checker.to_dict`.

        Raises:
            MiaHubError: if there is no answer.
        """
        started = time.perf_counter()
        try:
            shown, *_, answer = self._submitted(image).result(timeout=PATIENCE_SECONDS)
        except Exception as error:  # of whatever kind: the visitor has no answer
            raise MiaHubError(f"The page gave no answer: {error!r}") from error
        if "mia-problem" in str(shown):
            raise MiaHubError(f"The page could not answer: {shown}")
        return time.perf_counter() - started, answer["images"][0]

    def cancel(self, image: str, most_seconds: float) -> bool:
        """Upload an image, and cancel its check after a random time; return whether it was still running then."""
        job = self._submitted(image)
        time.sleep(random.uniform(0, most_seconds))
        running = not job.done()
        job.cancel()
        return running

    def reload(self, image: str, most_seconds: float) -> bool:
        """Upload an image, leave the page after a random time, and come back; return whether its check was still running then."""
        job = self._submitted(image)
        time.sleep(random.uniform(0, most_seconds))
        running = not job.done()
        self._client.close()
        self._client = self._connected()
        return running

    def _submitted(self, image: str) -> Any:
        from gradio_client import handle_file

        return self._client.submit(
            image=handle_file(image), several=None, model="demo", nonmembers=None, question="One by one", caption="", api_name="/check"
        )


def memory_row(what: str, readings: list[float], growth: float, when: str) -> Row:
    """Return the row of the server's memory.

    Args:
        what: it was measured over.
        readings: the resident memory in MiB, in order.
        growth: in MiB, of the part that must not grow.
        when: that part.
    """
    shown = ", ".join(f"{mb:,.0f}" for mb in readings)
    return Row(
        f"memory of the server over {what}, MiB", f"{shown}: {growth:+.1f} {when}", f"< {SLACK_MB}", growth < SLACK_MB, {"mb": readings}
    )
