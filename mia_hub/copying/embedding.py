"""Images embedded once, in portions that are stored on disk: neither the images nor their vectors have to fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from mia_hub.attacks.finished_batches import FinishedBatch, FinishedBatches
from mia_hub.attacks.identity import computed_by
from mia_hub.copying.embedders import Embedder
from mia_hub.errors import MiaHubError, ModelError
from mia_hub.images.image import InputImage

# Images whose vectors lie in one file, and images that are embedded at once.
PORTION, AT_ONCE = 1024, 32
# Values of a block of queries: 128 MiB. Each block reads all vectors that it is compared with.
QUERY_VALUES, MOST_QUERIES = 2**25, 4096
PROGRESS_DELAY_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class EmbeddedImages:
    """Some images, and where their vectors are.

    Attributes:
        ids: content ids, n of them.
        names: their names, for people.
        rows: int64 ``[n]``, increasing: their rows among all images that are stored.
        repeats: int64 ``[n]``: how often each image is there.
        all_ids: content ids of all images that are stored.
        store, portions: the files that hold the vectors.
    """

    ids: list[str]
    names: list[str]
    rows: npt.NDArray[np.int64]
    repeats: npt.NDArray[np.int64]
    all_ids: list[str]
    store: FinishedBatches
    portions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, places: npt.NDArray[np.int64]) -> EmbeddedImages:
        """Return the images at these increasing places."""
        ids, names = ([values[place] for place in places.tolist()] for values in (self.ids, self.names))
        return replace(self, ids=ids, names=names, rows=self.rows[places], repeats=self.repeats[places])

    def distinct(self) -> EmbeddedImages:
        """Return the images without those that have the pixels, or the vector, of an earlier one: they are counted in `repeats`."""
        first: dict[bytes, int] = {}
        place_of_id: dict[str, int] = {}
        of: list[int] = []
        place = 0
        for block in self:
            for vector in block + np.float32(0):  # -0.0 and 0.0 are the same
                digest = hashlib.blake2b(vector.tobytes(), digest_size=16).digest()
                known = place_of_id.setdefault(self.ids[place], first.setdefault(digest, place))
                of.append(known)
                place += 1
        places, counts = np.unique(np.array(of, np.int64), return_counts=True)
        return replace(self.select(places), repeats=counts)

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the vectors in blocks ``[m, F]``, one for each file that holds any; every iteration reads the files again."""
        for number, portion in enumerate(self.portions):
            inside = self.rows[slice(*np.searchsorted(self.rows, (number * PORTION, (number + 1) * PORTION)))] - number * PORTION
            if len(inside):
                yield self._read(portion)[inside]

    def queries(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the vectors in larger blocks."""
        waiting: list[npt.NDArray[np.float32]] = []
        for block in self:
            waiting.append(block)
            count = sum(map(len, waiting))
            if count >= MOST_QUERIES or (count + PORTION) * block.shape[1] > QUERY_VALUES:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)

    def _read(self, portion: str) -> npt.NDArray[np.float32]:
        stored = self.store.read(portion)
        if stored is None:
            raise MiaHubError(
                f"The file {portion}.npz in {self.store.folder} is gone or damaged. Start again: what is whole is used again."
            )
        return stored.values


def embed(images: Sequence[InputImage], embedder: Embedder, folder: Path, name: str, *, progress: bool = False) -> EmbeddedImages:
    """Embed images in portions; a stored portion is used again if its images are still the same.

    Args:
        images: at least one; decoded one portion at a time.
        embedder: maps images to vectors.
        folder: where the portions are stored.
        name: of the images among others in this folder, such as "training".
        progress: shows a progress bar.
    """
    store = FinishedBatches(folder, {"embedder": embedder.identity, **computed_by(embedder)})
    ids: list[str] = []
    names: list[str] = []
    portions: list[str] = []
    with tqdm(total=len(images), unit="image", desc=f"embedding {name}", delay=PROGRESS_DELAY_SECONDS, disable=not progress) as bar:
        for start in range(0, len(images), PORTION):
            rows = range(start, min(start + PORTION, len(images)))
            portion = f"{name}-{start:09}"
            seen, seen_names = _portion(images, rows, embedder, store, portion)
            ids += seen
            names += seen_names
            portions.append(portion)
            bar.update(len(rows))
    count = len(images)
    return EmbeddedImages(ids, names, np.arange(count), np.ones(count, np.int64), ids, store, tuple(portions))


def _portion(
    images: Sequence[InputImage], rows: range, embedder: Embedder, store: FinishedBatches, portion: str, *, anew: bool = False
) -> tuple[list[str], list[str]]:
    """Make sure that a portion is stored; return ids and names of its images."""
    stored = None if anew else store.read(portion)
    ids: list[str] = []
    names: list[str] = []
    vectors: list[npt.NDArray[np.float32]] = []
    for start in range(rows.start, rows.stop, AT_ONCE):
        batch = [images[row] for row in range(start, min(start + AT_ONCE, rows.stop))]
        ids += [image.id for image in batch]
        names += [image.name for image in batch]
        if stored is None:
            vectors.append(_checked(embedder.vectors(batch), len(batch), embedder))
    if stored is None:
        store.write(portion, FinishedBatch(ids, np.concatenate(vectors), AT_ONCE, 0, 0.0))
    elif stored.ids != ids:  # other images are here now
        return _portion(images, rows, embedder, store, portion, anew=True)
    return ids, names


def _checked(vectors: npt.NDArray[np.float32], count: int, embedder: Embedder) -> npt.NDArray[np.float32]:
    """Return the vectors of some images; a ModelError where they are none."""
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or len(vectors) != count or not np.isfinite(vectors).all():
        raise ModelError(
            f"The embedder ({embedder.identity}) must return one vector of finite numbers for each of {count} images; it returned an array "
            f"of shape {vectors.shape}. Choose another embedder, such as 'pixels'."
        )
    return vectors
