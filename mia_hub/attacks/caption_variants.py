"""Variants of captions for attacks on text-to-image models: without their most important words, or swapped between images."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from mia_hub.errors import AttackError, integer_at_least

# Maps the words of a caption to one number each, larger for more important words.
Importance = Callable[[list[str]], Sequence[float]]
STOP_WORDS = frozenset(
    """
    a about above after all also am an and another any are as at be been before behind being below beside between both but by can each for
    from had has have having he her hers him his i if in into is it its itself me my near no nor not of off on onto or other our out over
    own same she so some such than that the their them then there these they this those through to too under until up upon us very was we
    were what when where which while who whom whose will with within without you your
    """.split()  # noqa: SIM905
)
PUNCTUATION = "\"'()[]{}<>.,;:!?-"


def word_importance(words: list[str]) -> list[int]:
    """Return the letters and digits of each word, since longer words are rarer and more specific; 0 for an English stop word."""
    lengths = [sum(character.isalnum() for character in word) for word in words]
    return [0 if word.lower().strip(PUNCTUATION) in STOP_WORDS else length for word, length in zip(words, lengths)]


def without_important_words(caption: str, share: float, importance: Importance = word_importance, *, ceiling: bool = False) -> str:
    """Return a caption without its most important words.

    Args:
        caption: its words are separated by blanks.
        share: of the words that are removed, in (0, 1); the number of words is rounded (halves up) and at least 1.
        importance: a number per word, larger for more important ones; of equally important words the earlier one is removed first.
        ceiling: rounds the number of words up instead, unless it exceeds a whole number by less than 0.01.

    Raises:
        AttackError: if ``importance`` doesn't give one finite number per word.
    """
    words = caption.split()
    if not words:
        return ""
    weights = np.asarray(importance(words), dtype=np.float64)
    if weights.shape != (len(words),) or not np.isfinite(weights).all():
        raise AttackError(f"importance must give one finite number per word; for the {len(words)} words of {caption!r} got {weights!r}.")
    count = int(share * len(words) - 0.01) + 1 if ceiling else max(1, int(share * len(words) + 0.5))
    removed = set(np.argsort(-weights, kind="stable")[:count].tolist())
    return " ".join(word for i, word in enumerate(words) if i not in removed)


class SwappedCaptions(tuple[str, ...]):
    """The result of `swapped`. The type tells swapped captions from true ones, so that no table can call them ground truth."""


def swapped(captions: Sequence[str], seed: int = 0) -> SwappedCaptions:
    """Return the captions, swapped: each image gets a different one, that of another image, and each is used as often as before.

    No label is used. If all captions differ, the result for an image doesn't depend on the order. (An attack can't swap captions itself:
    the caption of an image would depend on the images that are scored along with it.)

    Args:
        captions: one per image.
        seed: of the order in which captions are exchanged.

    Raises:
        AttackError: if more than half of the captions are the same, so that no such exchange exists.
    """
    seed = integer_at_least("seed", seed, 0, AttackError)
    if not len(captions):
        raise AttackError("There are no captions to swap; give one per image.")
    commonest, most = Counter(captions).most_common(1)[0]
    if 2 * most > len(captions):
        raise AttackError(
            f"{most} of {len(captions)} captions are {commonest!r}, so they can't be swapped: at most half of them may be the same. Use "
            "captions='empty' to measure an attack without captions."
        )
    order = sorted(range(len(captions)), key=lambda i: (hashlib.sha256(f"{seed}:{captions[i]}".encode()).digest(), captions[i]))
    # In this order equal captions are neighbours, at most `most` of them: `most` places further there is always a different caption.
    exchanged = list(captions)
    for place, i in enumerate(order):
        exchanged[i] = captions[order[(place + most) % len(order)]]
    return SwappedCaptions(exchanged)
