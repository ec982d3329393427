"""Text that people and their editors wrote, in UTF-8 or with a byte-order mark; another encoding is refused, and never guessed."""

from __future__ import annotations

import codecs
from pathlib import Path

from mia_hub.errors import SplitError
from mia_hub.images.file_names import whole_path
from mia_hub.images.messages import failure_reason

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARK = "\ufeff"


def read_text(path: Path) -> str:
    r"""Return the text of a file, without byte-order marks, and with ``\n`` at the end of each line.

    Raises:
        SplitError: if it can't be read, or is in another encoding than UTF-8 and has no byte-order mark.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SplitError(f"{whole_path(path)} can't be read ({failure_reason(error)}). Make it readable, or remove it.") from error
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise SplitError(
            f"{whole_path(path)} can't be read as text: it is not {encoding.upper()} (see byte {error.start + 1}), and its encoding is not "
            "guessed. Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise SplitError(
            f"{whole_path(path)} can't be read as text: it has zero bytes, as UTF-16 without a byte-order mark does. Save it as UTF-8."
        )
    text = text.lstrip(_MARK).replace("\r\n", "\n").replace("\r", "\n")
    return text.replace(f"\n{_MARK}", "\n")  # in a file put together of several
