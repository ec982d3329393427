"""The first directory of a TIFF file, read without Pillow, and what Pillow is to be told, or must not read, of the pixels."""

from __future__ import annotations

import re
import struct
from typing import Any, BinaryIO, NamedTuple, cast

from PIL import ImageFile, TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from mia_hub.images.arrays import MAX_PIXELS
from mia_hub.images.formats import CAMERA_RAW
from mia_hub.images.messages import image_error

# Pillow also takes those with the number in the other byte order.
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
# Strips and tiles of 50 megapixels in tiles of 16 x 16, the smallest, and several planes.
MOST_PARTS = 2**20
# Strips or tiles that Pillow reads one by one, in Python; more are left to libtiff.
MANY_PARTS = 2**12
# Bytes of tags that overlap: as many tags as a file holds may each claim all of it.
MOST_CLAIMED = 2**26
_UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _SAMPLES, _ROWS = 254, 256, 257, 258, 259, 262, 273, 277, 278
_PLANES, _TILE_WIDTH, _TILE_LENGTH, _TILES, _SUB_DIRECTORIES, _INKS, _EXTRA, _SAMPLE_FORMAT = 284, 322, 323, 324, 330, 332, 338, 339
_DNG_VERSION = 50706
# The directories that Pillow reads with the first: EXIF, GPS and interoperability.
_FURTHER = (34665, 34853, 40965)
_MIN_IS_WHITE, _CMYK, _YCBCR, _OLD_JPEG = 0, 5, 6, 6
SAVE_AGAIN = "Save it as RGB or grey with 8 or 16 bits per channel"
# libtiff returns samples in the machine's byte order, whatever the file's; Pillow swaps those of 16-bit integers only.
_NATIVE = {"F;32BF": "F;32NF", "I;16BS": "I;16NS", "I;32BS": "I;32NS"}
_COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "LAB", 9: "ICC LAB", 10: "ITU LAB"}

# Channels that a file of each kind of colours has, of those that are read.
_USUAL_SAMPLES = {0: (1,), 1: (1,), 2: (3, 4), 3: (1,), 5: (4,), 6: (1, 3)}


class Directory(NamedTuple):
    """The first directory of a TIFF file, or of EXIF data.

    Attributes:
        values: the first integers of each tag.
        counts: the number of values of each tag.
        claimed: bytes of values outside the directories, as far as they are within the file; values that overlap are counted each.
        size: of the file in bytes.
    """

    values: dict[int, tuple[int, ...]]
    counts: dict[int, int]
    claimed: int
    size: int

    @property
    def is_bomb(self) -> bool:
        """Whether reading its values takes far more memory than the file has bytes."""
        return self.claimed > 2 * self.size + MOST_CLAIMED

    def first(self, tag: int, default: int = 0) -> int:
        return self.values.get(tag, (default,))[0]


def read_directory(stream: BinaryIO) -> Directory | None:
    """Return the first directory of a TIFF stream; None if there is none. The position of the stream is not preserved."""
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(16)
    if head[:4] not in MAGIC:
        return None
    endian, big = "<" if head[:1] == b"I" else ">", b"+" in head[2:4]
    try:
        (start,) = struct.unpack(endian + "Q", head[8:16]) if big else struct.unpack(endian + "I", head[4:8])
        directory = _read_at(stream, start, size, endian, big)
        claimed = directory.claimed
        for tag in _FURTHER:
            if directory.first(tag):
                claimed += _read_at(stream, directory.first(tag), size, endian, big).claimed
    except struct.error:
        return None
    return directory._replace(claimed=claimed)


def _read_at(stream: BinaryIO, start: int, size: int, endian: str, big: bool) -> Directory:
    """Read the directory at an offset, up to the end of the file."""
    head, entry, inline = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 4)
    values: dict[int, tuple[int, ...]] = {}
    counts: dict[int, int] = {}
    claimed, width = 0, struct.calcsize(endian + entry)
    stream.seek(min(start, size))
    (number,) = struct.unpack(endian + head, stream.read(struct.calcsize(endian + head)))
    table = stream.read(min(number, size // width) * width)
    for at in range(0, len(table) - width + 1, width):
        tag, kind, count, field = struct.unpack_from(endian + entry, table, at)
        length = count * _UNIT_BYTES.get(kind, 0)
        if length > inline:
            (offset,) = struct.unpack(endian + ("Q" if big else "I"), field)
            if offset + length > size:
                continue
            claimed += length
            stream.seek(offset)
            field = stream.read(min(length, 64))
        counts[tag] = count
        if length and kind in _INTEGERS:
            number = min(length, len(field)) // _UNIT_BYTES[kind]
            values[tag] = struct.unpack_from(f"{endian}{number}{_INTEGERS[kind]}", field)
    return Directory(values, counts, claimed, size)


def check_work(directory: Directory, name: str) -> None:
    """Refuse a file whose reading takes far more than its pixels and its bytes do.

    Raises:
        ImageError: for a directory of overlapping values, too many strips or tiles, or tiles with more than `MAX_PIXELS`.
    """
    problem = ""
    parts = max(directory.counts.get(_STRIPS, 0), directory.counts.get(_TILES, 0))
    tile = directory.first(_TILE_WIDTH) * directory.first(_TILE_LENGTH)
    if directory.is_bomb:
        problem = f"its tags claim {directory.claimed:,} bytes, and the file has {directory.size:,}"
    elif parts > MOST_PARTS:
        problem = f"its pixels are in {parts:,} strips or tiles; at most {MOST_PARTS:,} are read"
    elif tile > MAX_PIXELS:
        problem = f"its tiles have {tile:,} pixels each; at most {MAX_PIXELS:,} are read"
    elif 0 < parts < (needed := _needed_parts(directory)):
        problem = f"the file is damaged or cut short ({parts:,} of {needed:,} strips or tiles are there)"
        raise image_error(name, problem, "Save or download the image again")
    if problem:
        raise image_error(name, problem, "Open it in an image editor, and save it again")


def _needed_parts(directory: Directory) -> int:
    """Return the number of strips or tiles that cover the image: Pillow takes what is missing for black."""
    width, height = directory.first(_WIDTH), directory.first(_LENGTH)
    if _STRIPS in directory.counts:
        across, down = 1, -(-height // (directory.first(_ROWS) or height or 1))
    else:
        across, down = (-(-side // (directory.first(tag) or 1)) for side, tag in ((width, _TILE_WIDTH), (height, _TILE_LENGTH)))
    planes = directory.first(_SAMPLES, 1) if directory.first(_PLANES, 1) == 2 else 1
    return 0 if directory.first(_COMPRESSION, 1) == _OLD_JPEG else across * down * planes


def unread_layout(directory: Directory) -> str:
    """Return the layout of the pixels of a file that Pillow doesn't open, in words; "" if it is an ordinary one, in a damaged file."""
    if not (directory.first(_WIDTH) and directory.first(_LENGTH) and (_STRIPS in directory.values or _TILES in directory.values)):
        return ""
    compression, bits = directory.first(_COMPRESSION, 1), directory.first(_BITS, 1)
    colour, sample = directory.first(_PHOTOMETRIC), directory.first(_SAMPLE_FORMAT, 1)
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        return f"its compression (number {compression} in TIFF) is not read"
    samples, planar = directory.first(_SAMPLES, 1), directory.first(_PLANES, 1) == 2
    if sample == 1 and bits in (1, 2, 4, 8) and samples in _USUAL_SAMPLES.get(colour, ()) and not planar:
        return ""
    kind = {1: "unsigned integers", 2: "signed integers", 3: "floats"}.get(sample, "samples of an unknown kind")
    colours = _COLOURS.get(colour, f"colours of kind {colour}")
    channels = f"{samples} {'channels' if samples > 1 else 'channel'}{', stored one after the other' if planar and samples > 1 else ''}"
    return f"a TIFF file of {bits}-bit {kind} ({colours}, {channels}) is not read"


def prepare(im: TiffImageFile, name: str) -> None:
    """Make Pillow read the pixels as the file means them, before they are loaded.

    Raises:
        ImageError: for a layout that Pillow would read wrongly.
    """
    tags: Any = im.tag_v2
    if _DNG_VERSION in tags or (tags.get(_SUBFILE, 0) & 1 and _SUB_DIRECTORIES in tags):
        raise image_error(name, f"this is {CAMERA_RAW.kind}, and what can be read of it is a preview", CAMERA_RAW.advice)
    if tags.get(_PHOTOMETRIC) == _CMYK and tags.get(_INKS, 1) != 1:
        raise image_error(name, "its inks are not cyan, magenta, yellow and black", "Save it as RGB")
    if not im.tile:
        return
    planar = tags.get(_PLANES, 1) == 2
    if planar and im.mode in ("LA", "PA"):
        raise image_error(name, "its transparency is stored apart from its colours (PlanarConfiguration 2)", SAVE_AGAIN)
    compression, codec = tags.get(_COMPRESSION, 1), im.tile[0][0]
    ycbcr = tags.get(_PHOTOMETRIC) == _YCBCR and tags.get(_SAMPLES, 1) == 3
    reversed_bits = cast(Any, im.tile[0][3])[0] == "L;IR"
    if compression == 1 and (len(im.tile) > MANY_PARTS or ycbcr or reversed_bits or (planar and not _reads_planes(im))):
        _read_with_libtiff(im)
    elif codec == "libtiff":
        _, extents, offset, args = im.tile[0]
        rawmode, *others = cast(tuple[Any, ...], args)
        im.tile = [ImageFile._Tile(codec, extents, offset, (_NATIVE.get(rawmode, rawmode), *others))]


def _reads_planes(im: TiffImageFile) -> bool:
    """Whether Pillow reads planes of this mode, one after the other, as they are: of 8 bits, and not multiplied with transparency."""
    tags: Any = im.tag_v2
    modes = ("RGB", "RGBA", "CMYK", "LAB") if tags.get(_PHOTOMETRIC, 0) != 1 else ("L",)
    plain = im.mode in modes or (im.mode == "L" and tags.get(_PHOTOMETRIC) == _YCBCR)
    return plain and set(tags.get(_BITS, (1,))) == {8} and all(str(cast(Any, tile[3])[0]).isupper() for tile in im.tile)


def _read_with_libtiff(im: TiffImageFile) -> None:
    """Let libtiff read uncompressed pixels, which Pillow otherwise reads itself."""
    tags: Any = im.tag_v2
    bits, extra, samples = tuple(tags.get(_BITS, (1,))), tuple(tags.get(_EXTRA, ())), tags.get(_SAMPLES, 1)
    if tags.get(_PLANES, 1) == 2 and extra and max(extra) == 0:
        bits, samples, extra = bits[: -len(extra)], samples - len(extra), ()
    bits = bits[:samples] if len(bits) >= samples else bits * samples
    layout = (tags.prefix, tags.get(_PHOTOMETRIC, 0), tuple(tags.get(_SAMPLE_FORMAT, (1,)))[:1], 1, bits, extra)
    _, rawmode = TiffImagePlugin.OPEN_INFO[layout]
    rawmode = _NATIVE.get(rawmode, "I;16N" if rawmode == "I;16" else re.sub(";16[BL]$", ";16N", rawmode))
    size = (0, 0, tags[_WIDTH], tags[_LENGTH])
    im.tile = [ImageFile._Tile("libtiff", size, 0, (rawmode, "raw", False, tags.offset))]
    im.use_load_libtiff = True


def is_inverted(im: TiffImageFile) -> bool:
    """Whether 0 means white, and Pillow has not inverted the pixels: it does for up to 8 bits."""
    return im.mode in ("F", "I;16", "I;16B") and im.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE


def has_signed_bytes(im: TiffImageFile) -> bool:
    """Whether the samples are signed integers of 8 bits, which Pillow takes for unsigned ones."""
    return im.mode == "L" and set(im.tag_v2.get(_SAMPLE_FORMAT, (1,))) == {2}
