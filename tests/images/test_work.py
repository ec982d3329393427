"""Files that take a decoder out of proportion are refused before it begins; ordinary ones are read, and no further than needed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFile, TiffImagePlugin
from support.bombs import bombs, chunky_png, many_frames, run_length_bmp
from support.image_files import GREY, RGB, SMOOTH, exif, frames, saved
from support.tiff_files import tiff

from mia_hub.errors import ImageError
from mia_hub.images import tiff as tiff_reading
from mia_hub.images import work
from mia_hub.images.image import content_id
from mia_hub.images.sources import open_image

BOMBS = {name: (data, words) for name, data, words in bombs()}


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_refused_before_it_is_opened(case, monkeypatch):
    data, words = BOMBS[case]
    monkeypatch.setattr(Image, "open", lambda *args, **options: pytest.fail("it was opened"))
    with pytest.raises(ImageError) as caught:
        open_image(data, name="the upload")
    message = str(caught.value)
    assert message.startswith("the upload: ") and words in message and ("save it again" in message or "download" in message)


def test_a_webp_of_too_many_pixels_is_refused_before_it_is_opened(monkeypatch):
    data = saved(RGB, "WEBP", lossless=True, **frames(2))
    at = data.index(b"VP8X") + 12
    monkeypatch.setattr(Image, "open", lambda *args, **options: pytest.fail("it was opened"))
    with pytest.raises(ImageError, match="16,000 x 16,000 pixels are too many"):
        open_image(data[:at] + (15_999).to_bytes(3, "little") * 2 + data[at + 6 :])


def test_many_chunks_of_metadata_cost_the_metadata_alone():
    image = open_image(chunky_png(work.MOST_CHUNKS + 1))
    assert image.id == content_id(GREY) and image.notes == ("Damaged metadata in the file was ignored.",)
    assert open_image(chunky_png(100)).notes == ()


# Ordinary files with much metadata, many frames or many passes.
ORDINARY = {
    "progressive JPEG": lambda: saved(SMOOTH, "JPEG", progressive=True),
    "JPEG with metadata": lambda: saved(SMOOTH, "JPEG", exif=exif(1), icc_profile=bytes(300_000), comment=b"x" * 60_000),
    "PNG with metadata": lambda: saved(RGB, "PNG", exif=exif(1), icc_profile=bytes(300_000)),
    "WebP with metadata": lambda: saved(RGB, "WEBP", lossless=True, exif=exif(1), icc_profile=bytes(300_000)),
    "AVIF with metadata": lambda: saved(SMOOTH, "AVIF", exif=exif(1)),
    "GIF with a comment": lambda: saved(GREY, "GIF", comment=b"x" * 20_000),
    "GIF frames": lambda: saved(RGB, "GIF", **frames(20)),
    "MPO": lambda: saved(SMOOTH, "MPO", save_all=True, append_images=[Image.fromarray(SMOOTH)] * 5),
    "TIFF in strips of a row": lambda: tiff(np.repeat(GREY, 9, axis=0)[..., None].astype(int), 8, 1, rows_per_strip=1),
    "TIFF with metadata": lambda: saved(RGB, "TIFF", exif=exif(1), icc_profile=bytes(300_000)),
    "TIFF pages": lambda: saved(RGB, "TIFF", **frames(20)),
    "BMP in run lengths": lambda: run_length_bmp(40, 30),
    "BigTIFF": lambda: saved(RGB, "TIFF", big_tiff=True),
}


@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_files_are_read(case):
    data = ORDINARY[case]()
    with Image.open(io.BytesIO(data)) as im:
        expected = np.asarray(im.convert("L" if im.mode == "L" else "RGB"))
    image = open_image(data)
    np.testing.assert_array_equal(image.pixels.reshape(expected.shape), expected)
    assert [note for note in image.notes if "only the first was used" not in note] == []


class Watched(io.BytesIO):
    """A file that remembers how far it was read, from the moment that it is watched."""

    furthest = 0

    def read(self, *size):
        data = super().read(*size)
        self.furthest = max(self.furthest, self.tell())
        return data


def test_of_many_frames_at_most_the_second_is_read():
    data = many_frames(2000)
    stream = Watched(data)
    with Image.open(stream) as im:
        stream.furthest = 0
        assert open_image(im).notes == ("It holds several frames or pages; only the first was used.",)
    assert stream.furthest < len(data) / 10


def test_of_many_pages_the_first_directory_alone_is_read(monkeypatch):
    data, read = saved(RGB, "TIFF", **frames(20)), []
    load = TiffImagePlugin.ImageFileDirectory_v2.load
    monkeypatch.setattr(TiffImagePlugin.ImageFileDirectory_v2, "load", lambda self, fp: (read.append(fp.tell()), load(self, fp))[1])
    assert "only the first was used" in open_image(data).notes[0]
    assert len(set(read)) <= 2


@pytest.mark.parametrize("endian", ["<", ">"])
def test_many_uncompressed_strips_are_read_by_libtiff(endian, monkeypatch):
    samples, decoders = np.random.default_rng(5).integers(0, 256, (tiff_reading.MANY_PARTS + 1, 8, 3)), []
    get = Image._getdecoder
    monkeypatch.setattr(Image, "_getdecoder", lambda mode, name, *args: (decoders.append(name), get(mode, name, *args))[1])
    np.testing.assert_array_equal(open_image(tiff(samples, 8, 2, endian=endian, rows_per_strip=1)).pixels, samples)
    assert decoders == ["libtiff"]


def test_truncated_files_are_not_completed():
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_files_cut_anywhere_end_in_an_answer_or_a_message(kind):
    data = saved(SMOOTH, kind)
    for end in np.linspace(1, len(data) - 1, 40).astype(int):
        with io.BytesIO(data[:end]) as stream:
            try:
                open_image(stream)
            except ImageError as error:
                assert str(error).startswith("image: ")
