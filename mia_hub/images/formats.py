"""The image formats that are read, those that are not, and how the content or the name of a file tells them."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

# Passed to Image.open, so that nothing exotic is ever opened (EPS would start ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
ACCEPTED_FILES = "Accepted are PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF files"
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
HEIF_INSTALL = 'pip install "mia_hub[heif]"'
# Bytes at the start of a file from which its format is told.
HEAD = 4096
KNOWN_MAGIC = re.compile(rb"(?s)\x89PNG|\xff\xd8\xff|RIFF....WEBP|GIF8[79]a|II\*\0|MM\0\*|....ftypavi[fs]")
_HEIF_MAGIC = rb"....ftyp(hei|hev|mif1|msf1)"


class Foreign(NamedTuple):
    """A kind of file that is not read.

    Attributes:
        kind: such as "a HEIC image".
        plural: of the kind, such as "HEIC images".
        advice: the next step, for one file.
        suffixes: of names, in lower case.
        magic: pattern of the first `HEAD` bytes, in which a dot is any byte; None where only the name tells.
    """

    kind: str
    plural: str
    advice: str
    suffixes: tuple[str, ...] = ()
    magic: bytes | None = None


_DEVELOP = "Develop it to PNG or TIFF in a raw converter and pass that"
_CONVERT = "Convert it to PNG and pass that"
_EXPORT = "Export it as PNG and pass that"
_RAW_SUFFIXES = (
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw", ".3fr", ".fff", ".iiq",
    ".rwl", ".x3f", ".erf", ".kdc", ".dcr", ".mrw", ".mef", ".mos", ".raw",
)  # fmt: skip
_RAW_MAGIC = rb"II\*\0....CR\x02|....ftypcrx |FUJIFILMCCD-RAW|IIU\0|IIR[OS]|MMOR|FOVb|\0MRM"
HEIC = Foreign(
    "a HEIC image",
    "HEIC images",
    f"Export it as PNG or JPEG and pass that, or install what reads it: {HEIF_INSTALL}",
    (*HEIF_SUFFIXES, ".heics", ".avci"),
    _HEIF_MAGIC,
)
CAMERA_RAW = Foreign("a camera raw file", "camera raw files", _DEVELOP, _RAW_SUFFIXES, _RAW_MAGIC)
SVG = Foreign("an SVG drawing", "SVG drawings", _EXPORT, (".svg", ".svgz"), rb".*<svg[\s>]")
POSTSCRIPT = Foreign("a PostScript file", "PostScript files", _EXPORT, (".eps", ".epsf", ".ps"), rb"%!PS|\xc5\xd0\xd3\xc6")
FOREIGN_IMAGES = (
    HEIC,
    Foreign(
        "a JPEG 2000 image",
        "JPEG 2000 images",
        _CONVERT,
        (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc", ".jpm", ".jph"),
        rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    ),
    Foreign("a JPEG XL image", "JPEG XL images", _CONVERT, (".jxl",), rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a"),
    Foreign("a JPEG XR image", "JPEG XR images", _CONVERT, (".jxr", ".wdp", ".hdp"), rb"II\xbc"),
    CAMERA_RAW,
    Foreign("a Photoshop document", "Photoshop documents", _EXPORT, (".psd", ".psb"), rb"8BPS"),
    SVG,
    POSTSCRIPT,
    Foreign("an icon file", "icon files", _EXPORT, (".ico", ".cur", ".icns"), rb"\0\0[\1\2]\0[^\0]\0|icns"),
    Foreign("an OpenEXR image", "OpenEXR images", _CONVERT, (".exr",), rb"\x76\x2f\x31\x01"),
    Foreign("a Radiance HDR image", "Radiance HDR images", _CONVERT, (".hdr", ".rgbe"), rb"#\?(RADIANCE|RGBE)"),
    Foreign("a DirectDraw texture", "DirectDraw textures", _CONVERT, (".dds",), rb"DDS \x7c"),
    Foreign("a KTX texture", "KTX textures", _CONVERT, (".ktx", ".ktx2"), rb"\xabKTX "),
    Foreign("a DICOM image", "DICOM images", _EXPORT, (".dcm", ".dicom"), rb".{128}DICM"),
    Foreign("a FITS image", "FITS images", _EXPORT, (".fits", ".fts"), rb"SIMPLE  ="),
    Foreign("a QOI image", "QOI images", _CONVERT, (".qoi",), rb"qoif"),
    Foreign("a BPG image", "BPG images", _CONVERT, (".bpg",), rb"BPG\xfb"),
    Foreign("a FLIF image", "FLIF images", _CONVERT, (".flif",), rb"FLIF"),
    Foreign("a GIMP document", "GIMP documents", _EXPORT, (".xcf",), rb"gimp xcf"),
    Foreign("a Krita or OpenRaster document", "Krita or OpenRaster documents", _EXPORT, (".kra", ".ora")),
    Foreign("a Targa image", "Targa images", _CONVERT, (".tga",)),
    Foreign("a Netpbm image", "Netpbm images", _CONVERT, (".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm")),
    Foreign("a PCX image", "PCX images", _CONVERT, (".pcx", ".dcx")),
    Foreign("an SGI image", "SGI images", _CONVERT, (".sgi",)),
    Foreign("a Sun raster image", "Sun raster images", _CONVERT, (".ras",)),
    Foreign("a DPX or Cineon image", "DPX or Cineon images", _CONVERT, (".dpx", ".cin")),
    Foreign("an X11 image", "X11 images", _CONVERT, (".xbm", ".xpm", ".xwd")),
    Foreign("an MNG or JNG image", "MNG or JNG images", _CONVERT, (".mng", ".jng"), rb"\x8a[MJ]NG|\x8bJNG"),
    Foreign("a Windows metafile", "Windows metafiles", _EXPORT, (".wmf", ".emf")),
)
# Other files that are passed by mistake.
_NOT_IMAGES = (
    Foreign("a web page", "web pages", "Download the image itself and pass that", (), rb"(?i:\s*(?:<!doctype html|<html))"),
    Foreign("a PDF document", "PDF documents", "Export the page as PNG and pass that", (), rb"%PDF"),
    Foreign("a Git LFS pointer", "Git LFS pointers", "Run `git lfs pull` to get the image itself", (), rb"version https://git-lfs"),
    Foreign("a zip archive", "zip archives", "Unpack it and pass the images in it", (), rb"PK\x03\x04"),
)
_FOREIGN = [(kind, re.compile(kind.magic, re.DOTALL)) for kind in (*_NOT_IMAGES, *FOREIGN_IMAGES) if kind.magic]
# One search instead of some twenty, for each image that is read.
_ANY_FOREIGN = re.compile(b"|".join(b"(?:%b)" % magic.pattern for _, magic in _FOREIGN), re.DOTALL)
_BY_SUFFIX = {suffix: foreign for foreign in FOREIGN_IMAGES for suffix in foreign.suffixes}
# Suffixes of files that lie beside images and are none: they are not looked into.
OTHER_SUFFIXES = frozenset(
    f".{suffix}"
    for suffixes in (
        "txt caption captions tags md rst log html htm pdf doc docx xls xlsx ppt pptx xml xmp aae thm url lnk md5 sha1 sha256",
        "json jsonl ndjson csv tsv yaml yml toml ini cfg lock parquet arrow feather npy npz pt pth ckpt bin safetensors pkl pickle h5",
        "hdf5 mat tfrecord lmdb mdb db sqlite idx zip tar gz tgz bz2 xz zst 7z rar py ipynb sh ps1 js css c h cpp java exe dll so",
        "mp4 mov avi mkv webm m4v mpg mpeg mp3 wav flac ogg m4a ttf otf woff",
    )
    for suffix in suffixes.split()
)


def not_readable(head: bytes) -> Foreign | None:
    """Return the kind of a file that is not read, from its first `HEAD` bytes; None where they tell none."""
    if not _ANY_FOREIGN.match(head):
        return None
    return next(kind for kind, magic in _FOREIGN if magic.match(head))


def foreign_by_name(name: str) -> Foreign | None:
    """Return the kind of image that is not read, from the suffix of a file name; None for any other file."""
    return _BY_SUFFIX.get(suffix_of(name))


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case, with its dot; "" for none."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and dot else ""


def accepted_suffixes() -> tuple[str, ...]:
    """Return the suffixes of files that are read: `SUFFIXES`, and those of HEIC where it can be read."""
    return (*SUFFIXES, *HEIF_SUFFIXES) if reads_heif() else SUFFIXES


def is_heif(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a HEIC or HEIF image."""
    return re.match(_HEIF_MAGIC, head, re.DOTALL) is not None


def reads_heif() -> bool:
    """Whether the optional decoder of HEIC images is installed."""
    return find_spec("pillow_heif") is not None


@lru_cache(maxsize=1)
def register_heif() -> None:
    """Make Pillow able to open HEIC images, by the format name "HEIF"."""
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False)
