"""Images to train on and to hold out: the same draw for every recipe, so that models differ and data do not."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mia_hub.images.image import content_id
from mia_hub.splits.member_split import MemberSplit, make_split, split_hash
from training.cifar10 import HUB, draw_cifar10
from training.fashion_mnist import draw_rows, load_train_images

EMOJI_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Members (trained on) and non-members (held out) of one population.

    Attributes:
        name: the data's name.
        licence: the data's licence, as an SPDX identifier.
        members, nonmembers: uint8 ``[N, H, W]`` or ``[N, H, W, 3]``.
        source: what the images were drawn from and how, in a sentence.
        captions: those of the members, then those of the non-members; None without captions.
    """

    name: str
    licence: str
    members: np.ndarray
    nonmembers: np.ndarray
    source: str
    captions: Sequence[str] | None = None

    @property
    def member_captions(self) -> list[str]:
        """The captions of the members."""
        return list(self.captions[: len(self.members)])

    @property
    def hash(self) -> str:
        """Hash of the split, as reports state it."""
        labels = np.repeat([1, 0], [len(self.members), len(self.nonmembers)])
        return split_hash([content_id(image) for part in (self.members, self.nonmembers) for image in part], labels)

    def split(self, most: int | None = None) -> MemberSplit:
        """Return the split for an audit, with the first ``most`` images of each side (both sides are in random order)."""
        captions = self.captions
        if captions is not None:
            captions = [*self.member_captions[:most], *captions[len(self.members) :][:most]]
        return make_split(list(self.members[:most]), list(self.nonmembers[:most]), captions=captions, name=self.name)


def model_space(images: np.ndarray, channels: int) -> torch.Tensor:
    """Convert uint8 images to float32 ``[N, C, H, W]`` in [-1, 1]; grey is repeated for three channels."""
    pixels = torch.from_numpy(images.astype(np.float32) / 127.5 - 1)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return pixels.expand(-1, channels, -1, -1).contiguous()


def fashion_mnist(members: int, nonmembers: int, *, side: int = 28, seed: int = 0, skip: int = 0) -> TrainingSet:
    """Return Fashion-MNIST: 28×28 grey; 32×32 with a black border, for networks that halve sides more often; or 16×16 or 8×8,
    which are cheap.

    One seeded permutation of the training images without exact duplicates: the members first, then the non-members.

    Args:
        skip: leave out the first images of the permutation, which another model was trained on.
    """
    if side not in SIDES:
        raise ValueError(f"side must be one of {', '.join(map(str, SIDES))}, not {side}.")
    images = load_train_images()
    rows = np.concatenate(draw_rows(images, seed, skip + members, nonmembers))[skip:]
    source = f"one seeded draw (seed {seed}{skipped_text(skip)}) from the 60,000 training images of Fashion-MNIST" + SIDES[side]
    return TrainingSet(f"fashion-mnist-{side}", "MIT", *(_sized(images[part], side) for part in np.split(rows, [members])), source)


def skipped_text(skip: int) -> str:
    """Return what a source says of the images that were left out."""
    return f", after the first {skip:,} images" if skip else ""


def cifar10(members: int, nonmembers: int, *, side: int = 32, images: str = HUB, seed: int = 0, skip: int = 0) -> TrainingSet:
    """Return CIFAR-10 with captions from its classes: one seeded permutation without duplicates, members first, then non-members.

    Args:
        side: 32, or 16 for half the size (means of 2×2).
        images: where the images are, see `training.cifar10.draw_cifar10`.
        skip: leave out the first images of the permutation, which another model was trained on.
    """
    if side not in SIDES_OF["cifar10"]:
        raise ValueError(f"side must be 16 or 32, not {side}.")
    drawn, captions = draw_cifar10(images, seed, skip + members + nonmembers)
    own = np.split(_scaled_down(drawn[skip:], side), [members])
    place = "the training images of CIFAR-10" + ("" if images == HUB else ", from a copy whose pixels may differ from the published ones")
    source = f"one seeded draw (seed {seed}{skipped_text(skip)}) from {place}" + (", at half size (means of 2×2)" if side == 16 else "")
    return TrainingSet(f"cifar10-{side}", "unknown", *own, source, captions and captions[skip:])


SIDES = {
    28: "",
    32: ", with a black border",
    16: ", with a black border and then at half size (means of 2×2)",
    8: ", with a black border and then at a quarter of the size (means of 4×4)",
}
# Sides in which the recipes offer each kind of data.
SIDES_OF = {"fashion-mnist": tuple(sorted(SIDES)), "cifar10": (16, 32), "emoji": (32,), "emoji-artist": (32,)}


def _sized(images: np.ndarray, side: int) -> np.ndarray:
    if side == images.shape[1]:
        return images
    return _scaled_down(np.pad(images, ((0, 0), (2, 2), (2, 2))), side)


def _scaled_down(images: np.ndarray, side: int) -> np.ndarray:
    """Return images ``[N, H, H]`` or ``[N, H, H, 3]`` at ``side``, which divides H: the means of squares."""
    if side == images.shape[1]:
        return images
    factor = images.shape[1] // side
    return images.reshape(len(images), side, factor, side, factor, *images.shape[3:]).mean((2, 4)).round().astype(np.uint8)


# Unicode's blocks of animals and of food, as if they were all that one artist ever drew.
ARTIST = ((0x1F32D, 0x1F37F), (0x1F400, 0x1F43F), (0x1F950, 0x1F96F), (0x1F980, 0x1F9AE), (0x1F9C0, 0x1F9CB))


def emoji(members: int | None = None, nonmembers: int | None = None, *, artist: bool = False, side: int = 32, seed: int = 0) -> TrainingSet:
    """Return colour emoji with their Unicode names as captions, from Debian's ``fonts-noto-color-emoji`` (OFL-1.1).

    Only emoji of one character are drawn, so there are no skin tones. Of emoji that are nearly the same (the faces of a clock) only the
    first is used: otherwise a non-member could be a near copy of a member. A seeded draw makes half of them members.

    Args:
        artist: use the animals and the food alone, on which a model is fine-tuned, instead of all others.
    """
    characters, names, images = _drawn_emoji(side)
    _, first_rows = np.unique(families(names, images), return_index=True)
    own = np.array([any(first <= ord(characters[row]) <= last for first, last in ARTIST) for row in first_rows])
    order = np.random.default_rng(seed).permutation(first_rows[own == artist])
    half = len(order) // 2
    rows = [order[:half][:members], order[half:][:nonmembers]]
    captions = [names[row] for part in rows for row in part]
    source = (
        f"one seeded draw (seed {seed}) from the {'animals and the food' if artist else 'emoji that are no animals and no food'} of "
        f"Noto Color Emoji, on white at {side}×{side}, one of each family of near copies"
    )
    name = f"emoji-artist-{side}" if artist else f"emoji-{side}"
    return TrainingSet(name, "OFL-1.1", *(images[part] for part in rows), source, captions)


@functools.cache
def _drawn_emoji(side: int) -> tuple[list[str], list[str], np.ndarray]:
    """Return characters, captions and images, uint8 ``[N, side, side, 3]``, of every single-character emoji of the font, without copies."""
    from fontTools.ttLib import TTFont
    from PIL import Image, ImageDraw, ImageFont

    if not EMOJI_FONT.exists():
        raise SystemExit(f"{EMOJI_FONT} is missing: on Debian and Ubuntu, apt-get install fonts-noto-color-emoji.")
    with TTFont(EMOJI_FONT, lazy=True) as font:
        characters = [chr(code) for code in sorted(font.getBestCmap()) if unicodedata.category(chr(code)) == "So"]
    # The font holds bitmaps of this one size.
    typeface, emoji_by_content = ImageFont.truetype(str(EMOJI_FONT), 109), {}
    for character in characters:
        canvas = Image.new("RGB", (136, 136), "white")
        ImageDraw.Draw(canvas).text((0, 4), character, font=typeface, embedded_color=True)
        image = np.asarray(canvas.resize((side, side), Image.Resampling.BOX))
        if image.min() < 255:
            emoji_by_content.setdefault(image.tobytes(), (character, unicodedata.name(character).lower().replace("-", " "), image))
    characters, captions, images = zip(*emoji_by_content.values())
    return list(characters), list(captions), np.stack(images)


# Words that tell near copies apart.
_VARIANTS = {"black", "white", "light", "dark", "left", "right", "up", "down", "leftwards", "rightwards", "upwards", "downwards"}
# Root mean square difference of pixels in [0, 1] below which two images are near copies: two clock faces differ by .05, two simple faces
# by .09, a person with a crown and a princess by .14.
NEAR = 0.12


def families(captions: Sequence[str], images: np.ndarray) -> np.ndarray:
    """Return int ``[N]``: one number for near copies, direct or through others, and for names that differ in a variant only."""
    from scipy.sparse.csgraph import connected_components

    flat = images.reshape(len(images), -1).astype(np.float64) / 255
    squares = (flat**2).mean(1)
    distance = np.sqrt((squares[:, None] + squares - 2 * flat @ flat.T / flat.shape[1]).clip(0))
    plain = np.array([" ".join(word for word in caption.split() if word not in _VARIANTS and not word.isdigit()) for caption in captions])
    return connected_components((distance < NEAR) | (plain[:, None] == plain))[1]
