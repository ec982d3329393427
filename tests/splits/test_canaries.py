"""Canaries: distinct patterns like the images they go beside, in or out by coins, written as a split of their own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mia_hub.cli import parser as cli
from mia_hub.errors import SplitError
from mia_hub.splits.canaries import canary_images, draw_canaries
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import make_split


def noise(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def split_of(shape=(9, 12, 3), **options):
    return make_split(noise(10, shape), noise(10, shape, 1), **options)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 48, 3), (8, 64, 1), (8, 8, 3)])
def test_patterns_are_distinct_seeded_and_of_full_contrast(shape):
    one, again, other = (canary_images(200, *shape, seed=seed) for seed in (1, 1, 2))
    assert one.shape == ((200, *shape) if shape[2] == 3 else (200, *shape[:2])) and one.dtype == np.uint8
    assert (one == again).all() and (one != other).any() and len(np.unique(one.reshape(200, -1), axis=0)) == 200
    assert set(np.unique(one)) == {0, 255} and 0.4 < (one == 255).mean() < 0.6
    # Nothing of one can be told from the others: cells are independent of one another.
    corners = one.reshape(200, -1)[:, [0, -1]] == 255
    assert abs(np.corrcoef(corners.T)[0, 1]) < 0.25


@pytest.mark.parametrize(("shape", "grey"), [((9, 12, 3), False), ((9, 12), True)])
def test_they_are_like_the_images_and_divided_by_coins(shape, grey):
    split = split_of(shape, captions=[f"text {i % 3}" for i in range(20)], classes=[i % 4 for i in range(20)])
    drawn = draw_canaries(300, split, seed=5).split
    assert drawn.coins is not None and drawn.coins.seed == 5 and 110 < len(drawn.members) < 190 and len(drawn.images) == 300
    drawn.coins.check(drawn.hash, [image.id for image in drawn.images], drawn.is_member.tolist())
    assert {(image.height, image.width) for image in drawn.images} == {(9, 12)}
    pixels = np.array([image.pixels for image in drawn.images])
    assert bool((pixels == pixels[..., :1]).all()) == grey
    assert set(drawn.captions) == {"text 0", "text 1", "text 2"} and set(drawn.classes) == {0, 1, 2, 3}
    assert draw_canaries(300, split, seed=5).split.hash == drawn.hash != draw_canaries(300, split, seed=6).split.hash


@pytest.mark.parametrize("n", [19, 0, -5, 20.5, True])
def test_what_cannot_be_made_is_refused(n):
    with pytest.raises(SplitError, match="canaries must be"):
        draw_canaries(n, split_of())


@pytest.mark.parametrize("draw", [("--coin-flip",), ("--members", "8", "--nonmembers", "8")])
def test_the_command_writes_them_beside_the_split(tmp_path, capsys, draw):
    source, out = tmp_path / "images", tmp_path / "out"
    source.mkdir()
    for i, pixels in enumerate(noise(30, (8, 8, 3))):
        Image.fromarray(pixels).save(source / f"{i}.png")
    words = ["make-split", source, *draw, "--seed", 2, "--no-shift-check", "--quiet", "--license", "cc-by-4.0"]
    assert cli.main([str(word) for word in (*words, "--canaries", 3, "--out", out)]) == 2 and not out.exists()
    assert "canaries must be" in capsys.readouterr().err
    assert cli.main([str(word) for word in (*words, "--canaries", 60, "--out", out)]) == 0
    assert f'mia_hub.load_split("{out}-canaries")' in capsys.readouterr().out
    split, canaries = load_split(out), load_split(f"{out}-canaries")
    assert canaries.coins is not None and canaries.coins.seed == 2 and len(canaries.images) == 60
    assert not {image.id for image in split.images} & {image.id for image in canaries.images}
    assert "made to be memorised" in (tmp_path / "out-canaries" / "README.md").read_text(encoding="utf-8")
    assert "Licence of the images:** cc0-1.0" in (tmp_path / "out-canaries" / "README.md").read_text(encoding="utf-8")
    # Written again, they replace the earlier ones.
    assert cli.main([str(word) for word in (*words, "--canaries", 50, "--out", out)]) == 0
    assert len(load_split(f"{out}-canaries").images) == 50


def test_canaries_with_captions_of_the_source_have_its_licence(tmp_path):
    source, out = tmp_path / "images", tmp_path / "out"
    source.mkdir()
    for i, pixels in enumerate(noise(30, (8, 8, 3))):
        Image.fromarray(pixels).save(source / f"{i}.png")
        (source / f"{i}.txt").write_text(f"a private text {i}")
    words = ["make-split", source, "--coin-flip", "--seed", 2, "--no-shift-check", "--quiet", "--canaries", 60, "--out", out]
    assert cli.main([str(word) for word in words]) == 0
    assert load_split(f"{out}-canaries").captions is not None
    assert "cc0" not in (tmp_path / "out-canaries" / "README.md").read_text(encoding="utf-8")
