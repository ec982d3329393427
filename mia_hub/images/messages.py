"""Messages about images: safe lines, and errors that name the image, the problem and the next step."""

from __future__ import annotations

from mia_hub.errors import ImageError


def printable(text: object) -> str:
    """Return one safe line: file names can hold line breaks, terminal codes and bytes that are no text."""
    line = str(text)
    if not line.isprintable():
        line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= 120 else f"{line[:80]}...{line[-30:]}"


def failure_reason(err: BaseException | None) -> str:
    """Return what an error says, in one safe line; its type if it says nothing."""
    return printable(getattr(err, "strerror", None) or err or type(err).__name__)


def image_error(name: str, problem: str, advice: str) -> ImageError:
    """Return the error about an image: its name, the problem, and the next step."""
    return ImageError(f"{printable(name)}: {problem}. {advice}.")
