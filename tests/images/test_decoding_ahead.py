"""Images are decoded ahead in several threads: in order, the same to the bit, few at a time, and read from their source by one thread."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from mia_hub.errors import ImageError
from mia_hub.images import decoding_ahead
from mia_hub.images.decoding_ahead import decoded_ahead
from mia_hub.images.image import deferred
from mia_hub.images.kept_images import KeptImages
from mia_hub.images.sequences import ConcatenatedSequence, SelectedSequence
from mia_hub.images.sources import as_images

RNG = np.random.default_rng(0)
ARRAYS = [RNG.integers(0, 256, (9 + i % 3, 8, 3), dtype=np.uint8) for i in range(150)]
# Every image, no image, and some of them are worth a thread.
SLOW = {"all in threads": 0.0, "none in threads": 60.0, "some in threads": 0.0001}


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def sources():
    """The images as sequences of every kind that reads ahead."""
    files = [png(array) for array in ARRAYS]
    images = as_images(files)
    half = ConcatenatedSequence(as_images(files[:50]), as_images(files[50:]))
    return {
        "files": images,
        "arrays": as_images(ARRAYS),
        "PIL images": as_images([Image.open(io.BytesIO(file)) for file in files]),
        "open files": as_images([io.BytesIO(file) for file in files]),
        "one after the other": half,
        "selected": SelectedSequence(SelectedSequence(images, range(149, -1, -1)), range(149, -1, -1)),
        "sources that are selected": as_images(SelectedSequence(files, range(150))),
        "kept": KeptImages(half, (3, 9, 8)).originals,
    }


@pytest.mark.parametrize("slow", SLOW)
@pytest.mark.parametrize("kind", sources())
def test_images_are_those_of_one_thread_in_their_order(kind, slow, monkeypatch):
    monkeypatch.setattr(decoding_ahead, "SLOW_SECONDS", SLOW[slow])
    results = list(decoded_ahead(sources()[kind], range(3, 150), lambda rows, images: (rows, [image.pixels for image in images])))
    assert [row for rows, _ in results for row in rows] == list(range(3, 150))
    for row, pixels in zip(range(3, 150), (each for _, images in results for each in images), strict=True):
        np.testing.assert_array_equal(pixels, ARRAYS[row])


def test_one_thread_reads_from_the_source_and_others_decode(monkeypatch):
    monkeypatch.setattr(decoding_ahead, "SLOW_SECONDS", 0.0)
    readers, decoders = set(), set()

    class Files(list):
        def __getitem__(self, index):
            readers.add(threading.current_thread().name)
            return super().__getitem__(index)

    class Column:
        def __init__(self, files):
            self.files = files

        def __len__(self):
            return len(self.files)

        def __getitem__(self, index):
            return self.files[index]

    images = as_images(Column(Files(png(array) for array in ARRAYS)))
    list(decoded_ahead(images, range(150), lambda rows, images: decoders.add(threading.current_thread().name)))
    assert readers == {threading.current_thread().name}
    # The first image tells that it is worth a thread.
    assert all(name.startswith("decoding") for name in decoders - readers) and len(decoders) > 1


@pytest.mark.parametrize("slow", SLOW)
def test_a_broken_image_is_named_and_ends_the_reading(slow, monkeypatch):
    monkeypatch.setattr(decoding_ahead, "SLOW_SECONDS", SLOW[slow])
    files = [png(array) for array in ARRAYS]
    files[70] = files[70][:40]
    with pytest.raises(ImageError, match="image 71:"):
        list(decoded_ahead(as_images(files), range(150), lambda rows, images: rows))


def test_few_images_are_decoded_ahead_and_none_after_the_reader_has_gone(monkeypatch):
    monkeypatch.setattr(decoding_ahead, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(decoding_ahead, "_processors", lambda: 2)
    taken = []

    class Arrays(list):
        def __getitem__(self, index):
            taken.append(index)
            return super().__getitem__(index)

    reading = decoded_ahead(as_images(SelectedSequence(Arrays(ARRAYS), range(150))), range(150), lambda rows, images: rows)
    for expected in range(20):
        assert next(reading) == [expected]
        assert len(taken) <= expected + 1 + 4
    reading.close()
    assert len(taken) <= 24


def test_images_that_wait_for_a_thread_are_not_decoded_after_the_reader_has_gone(monkeypatch):
    monkeypatch.setattr(decoding_ahead, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(decoding_ahead, "_processors", lambda: 2)
    decoded, gone = [], threading.Event()

    def work(rows, images):
        decoded.extend(rows)
        if rows[0] >= 2:
            gone.wait()
        return rows

    reading = decoded_ahead(as_images(ARRAYS), range(150), work)
    assert [next(reading), next(reading)] == [[0], [1]]  # of the rows 2 to 4, two keep both threads busy at most
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("decoding")]
    reading.close()
    gone.set()
    for thread in threads:
        thread.join()
    assert 4 not in decoded


def test_what_is_kept_is_kept_once_however_many_threads_decode(monkeypatch):
    monkeypatch.setattr(decoding_ahead, "SLOW_SECONDS", 0.0)
    kept = KeptImages(as_images([png(array) for array in ARRAYS]), (3, 8, 8))
    list(decoded_ahead(kept.originals, range(150), lambda rows, images: rows))
    again = KeptImages(as_images(ARRAYS), (3, 8, 8))
    for row in range(150):
        np.testing.assert_array_equal(kept[row].pixels, again[row].pixels)
        assert deferred(kept, row)() is kept[row] and kept[row].id == again[row].id
