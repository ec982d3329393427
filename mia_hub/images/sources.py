"""Everything that counts as images (files, folders, arrays, tensors, columns), as a lazy sequence of `InputImage`."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, overload

import numpy as np
import PIL.Image

from mia_hub.errors import ImageError, MiaHubError
from mia_hub.images.arrays import is_tensor
from mia_hub.images.decoding import ACCEPTED_TYPES, decode
from mia_hub.images.folders import find_images as find_images
from mia_hub.images.folders import list_folder, warn_of
from mia_hub.images.image import InputImage, deferred, encoded_file
from mia_hub.images.messages import failure_reason, image_error, printable

Taken = TypeVar("Taken")
# Open files and PIL images are read where they stand, and one may be given several times.
_ONE_AT_A_TIME = Lock()
_URL = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)


def open_image(source: Any, name: str | None = None) -> InputImage:
    """Decode one image.

    Transparent pixels are put on white, EXIF rotation is undone, CMYK and 16 bits become 8-bit RGB or grey, and only the first frame of
    several is used; each such change is noted. ICC profiles are ignored.

    Args:
        source: one of
            - a path (str or Path), the bytes of an image file, or an open binary file (which stays open);
            - a PIL image;
            - a NumPy array: uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (RGBA), or float in [0, 1]: [H, W], [C, H, W] if the first
              dimension is 1 or 3 and the last isn't, else [H, W, C];
            - a tensor, always [C, H, W] (or [H, W]): float in [0, 1], or uint8;
            - a dict {"bytes", "path"}, as the `datasets` library represents undecoded images;
            - an `InputImage`, which is returned as it is.
        name: for messages; the file name by default, or else "image".

    Returns:
        The image. Floats that are all k / 255 are stored as the uint8 image that they are, so that both forms share one id and one score.

    Raises:
        ImageError: if the source can't be read or isn't fit to be scored, with the reason and the next step.
    """
    return _open(source, name, "image")


def as_images(images: Any) -> Sequence[InputImage]:
    """Return a lazy sequence of images: each is decoded when it is indexed, and none is stored.

    Args:
        images: one of
            - anything that `open_image` takes: a sequence of one;
            - a folder: the images in it, as `find_images` finds them; what it leaves out becomes a warning;
            - a list or tuple of such things;
            - a NumPy array: uint8 [N, H, W] or [N, H, W, C] (three dimensions that end in 1, 3 or 4 are one image), float [N, C, H, W];
            - a tensor [N, C, H, W];
            - an image column of a `datasets` Dataset, or any object with a length and integer indices.

    Returns:
        A sequence with `len`, integer indices (negative ones too), lazy slices and iteration. An image without a file name is called
        "image 1", "image 2"... Indexing raises an `ImageError` that names the image.

    Raises:
        ImageError: for no images, or for something that is neither an image nor a sequence, such as a generator.
    """
    if isinstance(images, _Images):
        return images
    if images is None:
        raise ImageError(f"No images were given (None). {ACCEPTED_TYPES}, or a list of them.")
    left_out: tuple[str, ...] = ()
    if isinstance(images, (str, os.PathLike)) and os.path.isdir(images):
        listing = list_folder(images)
        images, left_out = listing.images, listing.sentences(f"folder {listing.folder.resolve().name}")
        warn_of(left_out)
    if isinstance(images, np.ndarray) and images.dtype.kind in "OU":
        images = images.tolist()  # an array of paths, or of images of several sizes
    if _is_single(images):
        items: Any = (images,)
    elif isinstance(images, (list, tuple)):
        items = tuple(images)
    elif hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        items = images
    elif hasattr(images, "__iter__"):
        raise ImageError(
            f"A {type(images).__name__} can be read only once, or in no fixed order; the audit needs images with a length and an order. "
            "Pass list(...) of it (of its first part, if it has no end)."
        )
    else:
        raise ImageError(
            f"An object of type {type(images).__name__} is not an image. {ACCEPTED_TYPES}, or a list of them: pass one of these."
        )
    if len(items) == 0:
        raise ImageError(f"No images were given (the {type(images).__name__} is empty). Pass at least one image.")
    return _Images(items, range(len(items)), left_out)


def left_out_of(images: Sequence[Any]) -> tuple[str, ...]:
    """Return what the folder leaves out that a sequence of `as_images` was read from, one sentence each; nothing for other sequences."""
    sentences: tuple[str, ...] = getattr(images, "left_out", ())
    return sentences


class _Images(Sequence[InputImage]):
    """A lazy view of the items at some indices."""

    def __init__(self, items: Any, indices: range, left_out: tuple[str, ...] = ()) -> None:
        self._items, self._indices, self.left_out = items, indices, left_out

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> InputImage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[InputImage]: ...
    def __getitem__(self, index: int | slice) -> InputImage | Sequence[InputImage]:
        if isinstance(index, slice):
            return _Images(self._items, self._indices[index], self.left_out)
        return self._decode(self._indices[operator.index(index)])

    def __iter__(self) -> Iterator[InputImage]:
        # Sequence's own would take an IndexError from inside a broken collection for the end.
        return map(self._decode, self._indices)

    def encoded_file(self, index: int) -> bytes | None:
        """Return the file that an image came in; None for an array, a tensor or a PIL image."""
        row = self._indices[operator.index(index)]
        if hasattr(self._items, "encoded_file"):  # a sequence that decodes its own images
            return encoded_file(self._items, row)
        item = self._items[row]
        if isinstance(item, Mapping):
            item = item.get("bytes") if item.get("bytes") is not None else item.get("path")
        if isinstance(item, (bytes, bytearray, memoryview)):
            return bytes(item)
        if isinstance(item, (str, os.PathLike)) and os.path.isfile(item):
            return Path(os.fsdecode(item)).read_bytes()
        return None

    def deferred(self, index: int) -> Callable[[], InputImage]:
        """See `mia_hub.images.image.deferred`."""
        row = self._indices[operator.index(index)]
        take = self._taken(row, lambda: deferred(self._items, row))
        return lambda: self._opened(row, self._taken(row, take))

    def _decode(self, i: int) -> InputImage:
        return self._opened(i, self._taken(i, lambda: self._items[i]))

    def _taken(self, i: int, take: Callable[[], Taken]) -> Taken:
        """Return what `take` returns of the item at an index."""
        try:
            return take()
        except MiaHubError:
            raise  # its own message is better, and the fault need not be the image's
        except Exception as err:  # a column decodes its images on access, and may fail in any way
            problem = f"it can't be taken from the {type(self._items).__name__} ({failure_reason(err)})"
            raise image_error(f"image {i + 1}", problem, "Fix or drop it") from err

    def _opened(self, i: int, item: Any) -> InputImage:
        default = f"image {i + 1}"
        try:
            return _open(item, None, default)
        except ImageError as err:
            if len(self._items) == 1 or str(err).startswith(f"{default}:"):
                raise
            raise ImageError(f"{default} of {len(self._items)}, {err}") from err


def _is_single(images: Any) -> bool:
    """Whether this is one image, or meant as one, rather than a collection."""
    if isinstance(images, np.ndarray) or is_tensor(images):
        stack = images.ndim == 3 and not is_tensor(images) and images.dtype == np.uint8 and images.shape[2] not in (1, 3, 4)
        return images.ndim < 4 and not stack
    kinds = (InputImage, str, os.PathLike, bytes, bytearray, memoryview, PIL.Image.Image, Mapping)
    return isinstance(images, kinds) or hasattr(images, "read")


def _open(source: Any, name: str | None, default: str) -> InputImage:
    """As `open_image`, with the name of last resort."""
    if isinstance(source, InputImage):
        return source
    if isinstance(source, Mapping):
        data, path = source.get("bytes"), source.get("path")
        if data is None and path is None:
            raise image_error(
                name or default,
                f"a dict with the keys {sorted(map(str, source))} is not an image",
                'Pass the image in it (for a dataset, its image column: data["image"]), or a dict with "bytes" or "path"',
            )
        name = name or (_own_file_name(path) if path is not None else None)
        source = path if data is None else data
    if isinstance(source, str) and _URL.match(source):
        raise image_error(
            name or default,
            f"{printable(source)} is a URL, and nothing is fetched from the network",
            "Download the image and pass the path of the file",
        )
    name = printable(name or _own_file_name(source) or default)
    with _ONE_AT_A_TIME if isinstance(source, PIL.Image.Image) or hasattr(source, "read") else nullcontext():
        pixels, notes = decode(source, name)
    pixels.setflags(write=False)  # the id is cached: it must stay true
    return InputImage(pixels, name, notes)


def _own_file_name(source: Any) -> str | None:
    """Return the file name that a source carries."""
    if isinstance(source, PIL.Image.Image):
        source = getattr(source, "filename", None)
    elif hasattr(source, "read"):
        source = getattr(source, "name", None)
    return Path(os.fsdecode(source)).name or None if isinstance(source, (str, os.PathLike)) else None
