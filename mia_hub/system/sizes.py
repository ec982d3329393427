"""Sizes in bytes, as a person writes and reads them."""

from __future__ import annotations

import re

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"(?P<number>\d{1,9}(\.\d{1,9})?) ?(?P<unit>[KMGT]i?B)", re.ASCII | re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes of a size such as "4GiB", "1.5 GB" or "500MB", in any case.

    Raises:
        ValueError: for anything else, and for a size below 1 KB.
    """
    match = _SIZE.fullmatch(text.strip())
    size = 0 if match is None else round(float(match["number"]) * UNITS[match["unit"].upper()])
    if size < UNITS["KB"]:
        raise ValueError(f"a size such as 4GiB or 500MB (units KB, MB, GB, TB, KiB, MiB, GiB, TiB); got {text!r:.80}")
    return size


def size_text(size: int) -> str:
    """Return a size in GiB, or in MiB below 1 GiB: "2 GiB", "500 MiB"."""
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"
