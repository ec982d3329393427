"""Captions without their most important words, and swapped captions."""

from __future__ import annotations

import numpy as np
import pytest
from support.captioned_population import captioned_images

from mia_hub.attacks.caption_variants import SwappedCaptions, swapped, without_important_words, word_importance
from mia_hub.errors import AttackError

N = 60


@pytest.fixture(scope="module")
def population():
    """3N samples (members, non-members, others): means, samples in model space, images, captions."""
    return captioned_images(3 * N)


@pytest.mark.parametrize(
    ("caption", "share", "left"),
    [
        ("a red boot on the windowsill", 0.3, "a red on the"),  # 1.8 of 6 words, so 2
        ("a red boot on the windowsill", 0.5, "a on the"),
        ("a red boot on the windowsill", 0.7, "on the"),  # of stop words the first goes first
        ("Two cats", 0.3, "Two"),  # at least one
        ("boot", 0.3, ""),
        ("The, boot's heel!", 0.5, "The,"),  # 1.5 of 3, so 2
        ("", 0.5, ""),
        ("   ", 0.5, ""),
    ],
)
def test_captions_lose_their_most_important_words(caption, share, left):
    assert without_important_words(caption, share) == left


@pytest.mark.parametrize(
    ("words", "share", "removed"),
    [(1, 0.3, 1), (4, 0.3, 2), (7, 0.3, 3), (9, 0.5, 5), (10, 0.3, 3), (10, 0.7, 7), (11, 0.7, 8), (6, 0.335, 3), (6, 0.334, 2)],
)
def test_the_number_of_words_is_rounded_up_where_the_ceiling_is_asked_for(words, share, removed):
    """2.004 words, of the last case, are 2: less than a hundredth above."""
    caption = " ".join("a" * (i + 1) for i in range(words))
    assert len(without_important_words(caption, share, ceiling=True).split()) == words - removed
    assert without_important_words("", share, ceiling=True) == ""


def test_importance_may_come_from_elsewhere():
    assert word_importance(["the", "Boot", "of", "x-ray!"]) == [0, 4, 0, 4]
    assert without_important_words("one two three four", 0.5, lambda words: range(len(words))) == "one two"
    for wrong in (lambda words: [1], lambda words: [float("nan")] * len(words)):
        with pytest.raises(AttackError, match="one finite number per word"):
            without_important_words("one two three", 0.5, wrong)


def test_swapped_captions_are_anothers_and_each_is_used_as_often(population):
    captions = population[3]
    for given in (captions, ["a", "a", "b", "b", "c"], ["a", "b"], ["a", "a", "b", "c"]):
        exchanged = swapped(given)
        assert isinstance(exchanged, SwappedCaptions)
        assert sorted(exchanged) == sorted(given)
        assert all(own != other for own, other in zip(given, exchanged))
    different = [f"caption {i}" for i in range(50)]
    order = np.random.default_rng(0).permutation(50)
    assert [swapped(different)[i] for i in order] == list(swapped([different[i] for i in order]))
    assert swapped(different) == swapped(different) != swapped(different, seed=1)
    with pytest.raises(AttackError, match=r"3 of 5 captions are 'a'"):
        swapped(["a", "a", "a", "b", "c"])
    with pytest.raises(AttackError, match="no captions"):
        swapped([])
