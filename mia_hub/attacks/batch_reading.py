"""Batches of images, read ahead: while the model is queried with one batch, the next one is decoded, hashed and resized.

Reading shares the interpreter with whatever prepares a query, so it begins once the model is at work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Any

import torch

from mia_hub.images.decoding_ahead import decoded_ahead
from mia_hub.images.image import InputImage
from mia_hub.models.denoiser import takes_resized_images
from mia_hub.models.protocol import DiffusionModel

# Decoded values (pixels times channels) that are held before they are resized: 32 MB of 8-bit images.
MAX_DECODED_VALUES = 2**25
# The query is under way by then. Two threads that begin at once wait for each other's interpreter for milliseconds.
HEAD_START_SECONDS = 0.0002


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images as a model takes them.

    Attributes:
        ids: content ids of the N images.
        names: their names, for messages.
        pixels: ``[N, C, H, W]`` in [0, 1], at the model's image size, on its device.
    """

    ids: list[str]
    names: list[str]
    pixels: torch.Tensor


class BatchReader:
    """Reads batches of images, one ahead; a context manager, which ends the reading when it is left.

    Only one thread reads at a time, since the images may come from a source that takes no other. Reading ahead has a thread of its own; a
    batch that can't be read there is read again by the thread that needs it.

    Args:
        model: whose `pixels` are read.
        images: all of them.
    """

    def __init__(self, model: DiffusionModel, images: Sequence[InputImage]):
        self._model, self._images = model, images
        # The thread works on the same accelerator in the same order.
        same_stream: dict[str, Any] = {}
        if model.device.type == "cuda":
            same_stream = {"initializer": torch.cuda.set_stream, "initargs": (torch.cuda.current_stream(),)}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reading ahead", **same_stream)
        self._following = range(0)
        self._ahead: tuple[range, Future[ImageBatch]] | None = None
        self._cancelled = False

    def __enter__(self) -> BatchReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.cancel()
        self._thread.shutdown(wait=False)

    def read(self, rows: range, following: range) -> ImageBatch:
        """Return the images of some rows; the following ones, which may be none, are those that `begin` will read.

        Raises:
            ImageError: for an image that can't be read.
        """
        if self._ahead is not None and self._ahead[0] != rows:
            self.cancel()
        # Reading ahead may fail for lack of memory beside the model's pass, or because a source is bound to one thread.
        ready = self._ahead is not None and self._ahead[1].exception() is None
        batch = self._ahead[1].result() if self._ahead is not None and ready else self._read(rows)
        self._ahead, self._following = None, following
        return batch

    def begin(self) -> None:
        """Begin to read the following batch, unless that has begun."""
        if self._following:
            self._ahead, self._following = (self._following, self._thread.submit(self._read_ahead, self._following)), range(0)

    def cancel(self) -> None:
        """End the reading ahead, so that another reader may use the images."""
        if self._ahead is not None:
            self._cancelled = True
            wait([self._ahead[1]])
            self._ahead, self._cancelled = None, False
        self._following = range(0)

    def _read_ahead(self, rows: range) -> ImageBatch:
        time.sleep(HEAD_START_SECONDS)
        return self._read(rows)

    def _read(self, rows: range) -> ImageBatch:
        ids: list[str] = []
        names: list[str] = []
        parts: list[torch.Tensor] = []
        decoded: list[InputImage] = []
        read = decoded_ahead(self._images, rows, lambda _, images: [self._prepared(image) for image in images])
        for image in chain.from_iterable(read):
            if self._cancelled:
                raise InterruptedError("Reading ahead was cancelled.")
            ids.append(image.id)
            names.append(image.name)
            decoded.append(image)
            # Large images are released as soon as they are resized: a batch of them, decoded, would fill the memory.
            if len(ids) == len(rows) or sum(each.pixels.size for each in decoded) > MAX_DECODED_VALUES:
                parts.append(self._model.pixels(decoded))
                decoded = []
        return ImageBatch(ids, names, parts[0] if len(parts) == 1 else torch.cat(parts))

    def _prepared(self, image: InputImage) -> InputImage:
        """Return an image as the model's `pixels` takes it, hashed, and resized if it may be: work for the thread that decoded it."""
        channels, height, width = self._model.info.picture_shape
        if takes_resized_images(self._model):
            return image.at(height, width, channels if channels in (1, 3) else None)
        _ = image.id
        return image
