"""Copies on latents: candidates re-derived from images that are changed beforehand, known answers, refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from support.latent_memory import STRIDE, latent_memory, textures
from support.reference.low_pass import MOVES, moved

import mia_hub
from mia_hub.attacks.conditional import stride_of
from mia_hub.attacks.latent_copies import KINDS
from mia_hub.checking.checker import Checker
from mia_hub.errors import AttackError
from mia_hub.metrics.candidates import FEWEST_FOR_CANDIDATES

ALL = tuple(KINDS)
NAMES = ("sima-cc-copies", "sima-b-copies")
STRIDES = "the autoencoder's stride"


def by(dy: int, dx: int):
    """Images uint8 ``[n, H, W]`` moved by some pixels, each by itself."""

    def change(images: np.ndarray) -> np.ndarray:
        times, step = max(abs(dy), abs(dx)), (np.sign(dy), np.sign(dx))
        for _ in range(times):
            images = np.stack([moved(image[None], *step)[0] for image in images])
        return images

    return change


# What each candidate is, in the order of `KINDS`, done to images before the model sees them; those that keep whole grey values.
CHANGED = {
    "as it is": lambda images: images,
    "mirrored": lambda images: images[:, :, ::-1].copy(),
    **{
        f"moved {name} by {words}": by(*(pixels * step for step in MOVES[name]))
        for pixels, words in ((1, f"a quarter of {STRIDES}"), (2, f"half of {STRIDES}"), (4, STRIDES))
        for name in MOVES
    },
}


@pytest.fixture(scope="module")
def memory():
    members = textures(40, 0)
    model = latent_memory(members)
    return members, mia_hub.load_model(model, base=latent_memory(textures(40, 7)))


@pytest.mark.parametrize("name", NAMES)
def test_each_candidate_is_the_plain_attack_on_the_changed_image(memory, name):
    members, model = memory
    images = np.concatenate([members[:2], textures(3, 3)])
    attack = mia_hub.get_attack(name, timesteps=(20, 60), copies=ALL)
    plain = mia_hub.get_attack(name.removesuffix("-copies"), timesteps=(20, 60), given=attack.given)
    seen = attack.observe(model, images, progress=False)
    assert stride_of(model) == STRIDE and attack.queries_per_image == plain.queries_per_image * len(attack.candidates)
    assert seen.queries == len(images) * attack.queries_per_image and len(set(attack.words)) == len(attack.words)
    for words, change in CHANGED.items():
        expected = plain.observe(model, change(images), progress=False).values
        np.testing.assert_allclose(seen.values[:, :, attack.words.index(words)], expected, rtol=1e-6, atol=1e-9, err_msg=words)


def test_contrast_and_enlargement_keep_range_and_size(memory):
    pixels = np.linspace(0.3, 0.6, 24 * 24).reshape(1, 1, 24, 24)
    stretched, larger = (KINDS[kind][0].change(torch.from_numpy(pixels), STRIDE) for kind in ("contrast", "enlarged"))
    assert stretched.min() == 0 and stretched.max() == 1 and larger.shape == stretched.shape
    # The middle of the image stays where it is, and one step there is smaller by the zoom.
    np.testing.assert_allclose(larger.mean(), pixels.mean(), atol=1e-3)
    assert pixels.min() < larger.min() and larger.max() < pixels.max()


@pytest.mark.parametrize(("kind", "treatment", "undone"), [
    ("mirror", "mirrored", "mirrored"),
    ("stride", f"moved right by {STRIDES}", f"moved left by {STRIDES}"),
])  # fmt: skip
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_gets_evidence_and_is_named(memory, name, kind, treatment, undone):
    members, model = memory
    attack = mia_hub.get_attack(name, timesteps=(60,), copies=(kind,))
    options = {"nonmembers": textures(FEWEST_FOR_CANDIDATES, 1), "keep": False, "progress": False}
    checker = Checker(model, attack, copies=True, **options)
    # A column is lost where an image was moved, which makes some incomparable: so judge them.
    judged = checker.judge(CHANGED[treatment](members[:5]), progress=False)
    assert [(one.p_value <= 0.01, attack.words[one.candidate]) for one in judged] == [(True, undone)] * 5
    answer = checker.check(members[:1], progress=False)[0]
    assert (answer.verdict, answer.candidate) == ("evidence", "as it is")


def test_the_default_on_latents_is_given_the_base_where_there_is_one(memory):
    members, model = memory
    few = {"nonmembers": textures(60, 1), "keep": False, "progress": False, "copies": True}
    assert Checker(model, **few).attack == mia_hub.get_attack("sima-b-copies")
    without = Checker(latent_memory(members), **few)
    assert without.attack == mia_hub.get_attack("sima-cc-copies")
    answer = Checker(model, **few).check(members[:1], progress=False)[0]
    assert answer.candidate is None and any(note.startswith("Copies were not searched: that takes 500") for note in answer.notes)
    # It doesn't hold on compressed images, and so few non-members don't tell which are.
    refused = without.check(members[:1], progress=False)[0]
    assert refused.verdict == "not-comparable" and refused.sentence.endswith("choose the attack sima-cn, which holds on treated images.")
    with pytest.raises(AttackError, match="answered by the attack 'sima-b-copies'; got 'sima-b'"):
        Checker(model, "sima-b", **few)


@pytest.mark.parametrize("copies", [(), ("mirrored",), ("mirror", "mirror"), "shift", ("mirror", "half")])
def test_other_kinds_of_copies_are_refused(copies):
    with pytest.raises(AttackError, match=re.escape(f"different names among {', '.join(KINDS)}; got {copies!r}")):
        mia_hub.get_attack("sima-cc-copies", copies=copies)


@pytest.mark.parametrize("name", NAMES)
def test_a_choice_of_neighbours_is_refused(name):
    with pytest.raises(AttackError, match="name what it is given"):
        mia_hub.get_attack(name, given="auto")
