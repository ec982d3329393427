"""Captions for attacks on text-to-image models: without their most important words, or swapped between images."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from mia_hub.errors import AttackError, whole_number

# The words of a caption to one number each, larger for more important ones.
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
    """Letters and digits of each word, as longer words are rarer and say more; 0 for an English stop word."""
    lengths = [sum(character.isalnum() for character in word) for word in words]
    return [0 if word.lower().strip(PUNCTUATION) in STOP_WORDS else length for word, length in zip(words, lengths)]


def without_important_words(caption: str, share: float, importance: Importance = word_importance) -> str:
    """A caption without its most important words.

    Args:
        caption: words are what blanks separate.
        share: of the words that go, in (0, 1), rounded to a whole number (halves up) of at least one.
        importance: a number per word, larger for more important ones; of equally important words the earlier one goes first.

    Raises:
        AttackError: if ``importance`` doesn't give one finite number per word.
    """
    words = caption.split()
    if not words:
        return ""
    weights = np.asarray(importance(words), dtype=np.float64)
    if weights.shape != (len(words),) or not np.isfinite(weights).all():
        raise AttackError(f"importance must give one finite number per word; for the {len(words)} words of {caption!r} got {weights!r}.")
    gone = set(np.argsort(-weights, kind="stable")[: max(1, int(share * len(words) + 0.5))].tolist())
    return " ".join(word for i, word in enumerate(words) if i not in gone)


class SwappedCaptions(tuple):
    """What `swapped` returns: its type tells swapped captions from true ones, so that no table can call them ground truth."""


def swapped(captions: Sequence[str], seed: int = 0) -> SwappedCaptions:
    """Gives each image the caption of another one, whose caption differs; each is used as often as before.

    It looks at no label. Where all captions differ, which image gets which doesn't depend on their order. (An attack can't do this: what
    it gave to an image would depend on which others are scored along with it.)

    Raises:
        AttackError: if more than half of the captions are the same, so that there is no such exchange.
    """
    seed = whole_number("seed", seed, 0, AttackError)
    if not len(captions):
        raise AttackError("There are no captions to swap; give one per image.")
    commonest, most = Counter(captions).most_common(1)[0]
    if 2 * most > len(captions):
        raise AttackError(
            f"{most} of {len(captions)} captions are {commonest!r}, so they can't be swapped: no more than half may be the same. Use "
            "captions='empty' to see what an attack is worth without captions."
        )
    order = sorted(range(len(captions)), key=lambda i: (hashlib.sha256(f"{seed}:{captions[i]}".encode()).digest(), captions[i]))
    # In this order equal captions are neighbours, at most `most` of them: so many places on there is always another caption.
    given = list(captions)
    for place, i in enumerate(order):
        given[i] = captions[order[(place + most) % len(order)]]
    return SwappedCaptions(given)
