"""Prompts from a file, and what is checked of prompts from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mia_hub.errors import PromptError
from mia_hub.images.captions import annotations_beside
from mia_hub.images.file_names import whole_path
from mia_hub.images.folders import list_folder
from mia_hub.images.text_files import read_text
from mia_hub.rendering.text import one_line

# Characters. The longest text encoders take some 500 tokens; a longer line is a text and no prompt, or the file has no line breaks.
LONGEST = 10_000
SHOWN = 60


@dataclass(frozen=True)
class Prompts:
    """Different prompts of one kind.

    Attributes:
        texts: the prompts, in the order in which they were given.
        repeated: number of entries that were left out, since they repeat an earlier one.
    """

    texts: tuple[str, ...]
    repeated: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def checked(cls, given: Any, what: str) -> Prompts:
        """Return the prompts without blanks around them, each once.

        Args:
            given: texts; one text stands for itself alone.
            what: what they are, for messages: "prompts", "unmemorised prompts" or "memorised prompts".

        Raises:
            PromptError: if there are none, or one is no text, is blank, is too long, or can't be encoded.
        """
        texts = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
        stripped = [_checked(text, f"{what}, entry {number}") for number, text in enumerate(texts, start=1)]
        if not stripped:
            raise PromptError(f"There are no {what}; give at least one text.")
        different = tuple(dict.fromkeys(stripped))
        return cls(different, len(stripped) - len(different))


def _checked(given: Any, where: str) -> str:
    if not isinstance(given, str):
        raise PromptError(f"{where}: a prompt must be text; got {given!r:.80}.")
    text = given.strip()
    if not text:
        raise PromptError(f"{where} is blank. The empty prompt is what every other one is compared with, so it has no score; leave it out.")
    if len(text) > LONGEST:
        raise PromptError(
            f"{where} has {len(text):,} characters, and a prompt has at most {LONGEST:,}: {one_line(text, SHOWN)!r}. Give one prompt per "
            "line, or shorten it."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(f"{where} has a character that no encoding has ({text[error.start]!r}); leave it out.") from error
    return text


def read_prompts(path: str | Path) -> list[str]:
    """Return the prompts in a text file, one per line, without blank lines; or the captions of the images in a folder.

    Args:
        path: of a file in UTF-8; or of a folder of images with captions beside them (`mia_hub.images.captions.annotations_beside`).

    Raises:
        PromptError: if there is no prompt in it, or a line is too long.
        SplitError: if it can't be read, or is in another encoding.
        ImageError: for a folder without images.
    """
    path = Path(path)
    if path.is_dir():
        captions = annotations_beside(list_folder(path).images, root=path).captions or []
        texts = [caption for caption in captions if caption is not None]
        if not texts:
            raise PromptError(f"No image in {whole_path(path)} has a caption; add captions, or name a text file with one prompt per line.")
        return texts
    numbered = [(number, line) for number, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]
    if not numbered:
        raise PromptError(f"{whole_path(path)} has no prompt in it: it is empty, or has blank lines alone. Write one prompt per line.")
    return [_checked(line, f"{whole_path(path)}, line {number}") for number, line in numbered]


def check_apart(one: Prompts, other: Prompts, kinds: tuple[str, str]) -> None:
    """Refuse two kinds of prompts that have some in common.

    Args:
        one, other: the prompts.
        kinds: what they are, for the message.

    Raises:
        PromptError: with the number of common ones, and the first.
    """
    known = set(other.texts)
    common: Sequence[str] = [text for text in one.texts if text in known]
    if common:
        raise PromptError(
            f"{len(common):,} of the {kinds[0]} {'is' if len(common) == 1 else 'are'} also among the {kinds[1]}: "
            f"{one_line(common[0], SHOWN)!r}. Leave {'it' if len(common) == 1 else 'them'} out of one of the two."
        )
