"""Images, read a batch ahead: while the model is asked about some, the next ones are decoded, named and brought to its size."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch

from mia_hub.images.image import InputImage
from mia_hub.models.protocol import DiffusionModel

# Decoded values (pixels times channels) that are held before they are brought to the model's size: 32 MB of 8-bit images.
HELD_VALUES = 2**25


@dataclass(frozen=True, eq=False)
class Batch:
    """Images as a model takes them.

    Attributes:
        ids, names: of the images.
        pixels: at the model's image size, ``[N, C, H, W]`` in [0, 1], on its device.
    """

    ids: list[str]
    names: list[str]
    pixels: torch.Tensor


class Reader:
    """Reads batches of images; a context manager, which ends what is being read when it is left.

    One thread reads at a time, so that the images may come from anything. Reading ahead takes a thread of its own; what can't be read
    there is read again by the thread that asks for it.

    Args:
        model: whose `pixels` are read.
        images: all of them.
    """

    def __init__(self, model: DiffusionModel, images: Sequence[InputImage]):
        self._model, self._images = model, images
        # The thread works on the same accelerator, in the same order.
        same = {"initializer": torch.cuda.set_stream, "initargs": (torch.cuda.current_stream(),)} if model.device.type == "cuda" else {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reading ahead", **same)
        self._ahead: tuple[range, Future[Batch]] | None = None
        self._dropped = False

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_) -> None:
        self.rest()
        self._thread.shutdown(wait=False)

    def __call__(self, rows: range, then: range) -> Batch:
        """The images of some rows; those of ``then``, which may be empty, are read from now on.

        Raises:
            ImageError: for a image that can't be read.
        """
        if self._ahead is not None and self._ahead[0] != rows:
            self.rest()
        # What goes wrong ahead may do so for lack of memory beside the model's pass, or since a source keeps to one thread.
        ready = self._ahead is not None and self._ahead[1].exception() is None
        found = self._ahead[1].result() if ready else self._read(rows)
        self._ahead = (then, self._thread.submit(self._read, then)) if then else None
        return found

    def rest(self) -> None:
        """Ends what is being read ahead, so that the images can be asked for elsewhere."""
        if self._ahead is not None:
            self._dropped = True
            wait([self._ahead[1]])
            self._ahead, self._dropped = None, False

    def _read(self, rows: range) -> Batch:
        ids: list[str] = []
        names: list[str] = []
        parts: list[torch.Tensor] = []
        held: list[InputImage] = []
        for row in rows:
            if self._dropped:
                raise InterruptedError("Nobody waits for these images any more.")
            image = self._images[row]
            ids.append(image.id)
            names.append(image.name)
            held.append(image)
            # Photographs are let go as soon as they have the model's size: a batch of them, decoded, would fill the memory.
            if row == rows[-1] or sum(each.pixels.size for each in held) > HELD_VALUES:
                parts.append(self._model.pixels(held))
                held = []
        return Batch(ids, names, parts[0] if len(parts) == 1 else torch.cat(parts))
