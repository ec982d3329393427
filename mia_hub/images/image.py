"""One decoded image: its pixels, its identity by content, and its resizing to a model's size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import PIL.Image

from mia_hub.errors import ImageError
from mia_hub.images.arrays import as_array, as_pil, as_uint8

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False, repr=False)
class InputImage:
    """One decoded image.

    Attributes:
        pixels: uint8 [H, W, C], or float32 [H, W, C] in [0, 1]; C is 1 or 3.
        name: for tables and messages: the file name, if there is one.
        notes: changes made while decoding, one sentence each.
    """

    pixels: npt.NDArray[Any]
    name: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        height, width, channels = self.pixels.shape
        return f"<{type(self).__name__} {self.name!r}: {height}×{width}, {'RGB' if channels == 3 else 'grey'}, {self.pixels.dtype}>"

    @cached_property
    def id(self) -> str:
        """The `content_id` of the pixels: equal for the same image, whatever file or array it came in."""
        return content_id(self.pixels)

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    def to_pil(self) -> PIL.Image.Image:
        """Return the image as an 8-bit PIL image, mode "L" or "RGB"."""
        return as_pil(self.pixels if self.pixels.dtype == np.uint8 else np.rint(self.pixels * 255).astype(np.uint8))

    def resized(self, height: int, width: int, channels: int | None = None) -> npt.NDArray[np.float32]:
        """Return the image at a model's size: scaled until it covers the size (antialiased bicubic), then cropped at the centre.

        An image of that size is not resampled. uint8 pixels are resampled as 8 bits, as the usual training pipeline does
        (PIL image, Resize of the short side, CenterCrop), and agree with it to within one of 255 levels in rare pixels; float pixels
        are resampled as float.

        Args:
            height, width: of the result.
            channels: 1 (ITU-R 601 luma), 3 (grey is repeated), or None to keep the image's own.

        Returns:
            float32 [height, width, C] in [0, 1]; a new array, which the caller may change.

        Raises:
            ImageError: for a size below 1, or channels other than 1, 3 and None.
        """
        pixels = self._pixels_at(height, width, channels)
        if channels == 3 and pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        if pixels.dtype == np.uint8:
            return pixels.astype(np.float32) / np.float32(255)
        return _clipped(pixels)

    def at(self, height: int, width: int, channels: int | None = None) -> ResizedImage:
        """Return the image at a model's size, with its identity: `resized` of the result is that of the image, to the bit.

        Args, Raises: as for `resized`.
        """
        pixels = self._pixels_at(height, width, channels)
        return ResizedImage(pixels if pixels.dtype == np.uint8 else _clipped(pixels), self.name, self.notes, self.id)

    def _pixels_at(self, height: int, width: int, channels: int | None) -> npt.NDArray[Any]:
        """Return pixels of a size, in their own dtype; grey for one channel, and still grey if the image is, for three."""
        if height < 1 or width < 1 or channels not in (None, 1, 3):
            raise ImageError(
                f"{self.name}: can't be resized to {height} x {width} with {channels} channels. "
                "Height and width are at least 1, and channels is 1, 3 or None: pass the size of the model's images."
            )
        pixels, size = self.pixels, (height, width, channels)
        of_size, to_grey = pixels.shape[:2] == (height, width), channels == 1 and pixels.shape[2] == 3
        if of_size and not to_grey:
            return pixels
        if size not in self._sizes:
            pixels = _luma(pixels) if to_grey else pixels
            self._sizes[size] = pixels if of_size else _cover(pixels, height, width)
        return self._sizes[size]

    @cached_property
    def _sizes(self) -> dict[tuple[int, int, int | None], npt.NDArray[Any]]:
        """Pixels by size, for `_pixels_at`: an answer needs a large image at one size several times."""
        return {}


@dataclass(frozen=True, eq=False, repr=False)
class ResizedImage(InputImage):
    """An image at a model's size, which keeps the identity of the one that it was made of.

    Attributes:
        original_id: `InputImage.id` of that image.
    """

    original_id: str = ""

    @cached_property
    def id(self) -> str:
        """The id of the image that this one was made of."""
        return self.original_id


# The name under which earlier versions offered it.
Picture = InputImage


def content_id(pixels: npt.NDArray[Any]) -> str:
    """Return the identity of an image's content: 32 hex digits of a SHA-256 over its size and RGB values.

    Args:
        pixels: uint8, or float in [0, 1]; [H, W], [H, W, 1] or [H, W, 3]. Grey counts as RGB with equal channels. Floats that are all
            k / 255 (within 1e-6) count as the uint8 image they are, so that a ToTensor'd image and its PNG share an id.

    Raises:
        ImageError: for another dtype or shape.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not (pixels.dtype == np.uint8 or pixels.dtype.kind == "f"):
        raise ImageError(
            f"content_id: an array of {pixels.dtype} {list(pixels.shape)} is not decoded pixels. Expected is uint8, or float in [0, 1], "
            "[H, W, 1] or [H, W, 3]: pass `open_image(...).pixels`."
        )
    kind = "rgb8"
    if pixels.dtype != np.uint8:
        exact = as_uint8(pixels)
        if exact is not None:
            pixels = exact
        else:
            kind, pixels = "rgbf", pixels.astype("<f4") + np.float32(0)  # adding zero makes -0.0 and 0.0 the same bytes
    rgb = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    digest = hashlib.sha256(f"{kind}:{rgb.shape[0]}x{rgb.shape[1]}:".encode())
    digest.update(rgb.data)
    return digest.hexdigest()[:32]


def encoded_file(images: Sequence[Any], index: int) -> bytes | None:
    """Return the unchanged file that an image of a sequence came in; None if it did not come as a file."""
    method: Callable[[int], bytes | None] | None = getattr(images, "encoded_file", None)
    return method(index) if method else None


def deferred(items: Sequence[Item], index: int) -> Callable[[], Item]:
    """Return a function that returns an item of a sequence, in any thread; what only this thread may read is read now."""
    method: Callable[[int], Callable[[], Item]] | None = getattr(items, "deferred", None)
    if method:
        return method(index)
    item = items[index]
    return lambda: item


def _clipped(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return float pixels as float32 in [0, 1], which resampling may leave; a new array."""
    clipped: npt.NDArray[np.float32] = np.clip(pixels, 0, 1).astype(np.float32, copy=False)
    return clipped


def _luma(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ITU-R 601 grey [H, W, 1] of RGB pixels, in the same dtype."""
    if pixels.dtype == np.uint8:
        return as_array(as_pil(pixels).convert("L"))
    grey: npt.NDArray[Any] = pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return grey


def _cover(pixels: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Return pixels scaled until they cover the size, and cropped at the centre; dtype and channels stay."""
    h, w = pixels.shape[:2]
    # The size before the crop. The crop is taken from the source, not from the scaled image: the pixels are the same, and the whole scaled
    # image, which would be huge for an image of 8 x 1,000,000, is never made.
    if height * w >= width * h:
        full_h, full_w = height, max(width, height * w // h)
    else:
        full_h, full_w = max(height, width * h // w), width
    top, left = round((full_h - height) / 2), round((full_w - width) / 2)
    box = (left * w / full_w, top * h / full_h, (left + width) * w / full_w, (top + height) * h / full_h)
    if pixels.dtype == np.uint8:
        return as_array(as_pil(pixels).resize((width, height), PIL.Image.Resampling.BICUBIC, box))
    planes = [as_pil(plane[..., None]).resize((width, height), PIL.Image.Resampling.BICUBIC, box) for plane in np.moveaxis(pixels, 2, 0)]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)
