"""Images that are decoded once, though they are read several times: to be described, and to be scored by each attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from mia_hub.images.image import InputImage, ResizedImage, deferred
from mia_hub.images.sequences import LazySequence

# Of the images at the model's size; those beyond it are decoded again.
MOST_BYTES = 2**30
# What an image takes besides its pixels: objects, id and name.
BYTES_PER_IMAGE = 800


class KeptImages(LazySequence[InputImage]):
    """The images of a sequence at a model's size. What was read once stays in memory, up to `MOST_BYTES` in each process.

    Only one thread reads at a time, as for any sequence of images; several may decode, see `mia_hub.images.decoding_ahead`.

    Args:
        images: as they were found.
        shape: of an image at the model's size, ``(C, H, W)``.
    """

    def __init__(self, images: Sequence[InputImage], shape: tuple[int, int, int]):
        self._images = images
        channels, self._height, self._width = shape
        self._channels = channels if channels in (1, 3) else None
        self._kept: dict[int, ResizedImage] = {}
        self._bytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._images)

    def item(self, index: int) -> InputImage:
        return self.deferred(index)()

    def deferred(self, index: int) -> Callable[[], InputImage]:
        """See `mia_hub.images.image.deferred`."""
        kept = self._kept.get(index)
        if kept is not None:
            return lambda: kept
        decode = deferred(self._images, index)
        return lambda: self._keep(index, decode())

    @property
    def originals(self) -> Sequence[InputImage]:
        """The images at their own size; each is decoded anew, and then kept."""
        return _Originals(self._images, self._keep_original)

    def _keep_original(self, index: int, image: InputImage) -> None:
        if index not in self._kept and self._bytes < MOST_BYTES:
            self._keep(index, image)

    def _keep(self, index: int, image: InputImage) -> InputImage:
        """Return the image at the model's size, and keep it if there is room."""
        resized = image.at(self._height, self._width, self._channels)
        size = resized.pixels.nbytes + BYTES_PER_IMAGE
        with self._lock:
            if self._bytes + size <= MOST_BYTES and index not in self._kept:
                self._bytes += size
                self._kept[index] = resized
        return resized


class _Originals(LazySequence[InputImage]):
    """Images, of which each is reported when it has been decoded: its index, and the image."""

    def __init__(self, images: Sequence[InputImage], decoded: Callable[[int, InputImage], None]):
        self._images, self._decoded = images, decoded

    def __len__(self) -> int:
        return len(self._images)

    def item(self, index: int) -> InputImage:
        return self.deferred(index)()

    def deferred(self, index: int) -> Callable[[], InputImage]:
        """See `mia_hub.images.image.deferred`."""
        decode = deferred(self._images, index)

        def decoded() -> InputImage:
            image = decode()
            self._decoded(index, image)
            return image

        return decoded
