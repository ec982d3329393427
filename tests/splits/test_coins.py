"""Splits drawn by coins: fair, seeded, the same after writing and publishing, and refused where they no longer are what they say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom

from mia_hub.cli import parser as cli
from mia_hub.errors import SplitError
from mia_hub.images.sources import as_images
from mia_hub.splits.coins import CoinDraw, coin, toss
from mia_hub.splits.drawing import draw_by_coins
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.origins import Origin
from mia_hub.splits.sources import Pool
from mia_hub.splits.writing import read_record, write_split


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def pool(images: np.ndarray) -> Pool:
    return Pool(Origin("here"), as_images(images))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for i, pixels in enumerate(noise(60)):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i:02}.png")
    return tmp_path / "images"


def run(*words) -> int:
    return cli.main(["make-split", *map(str, words), "--quiet"])


def check(split: MemberSplit) -> None:
    assert split.coins is not None
    split.coins.check(split.hash, [image.id for image in split.images], split.is_member.tolist())


def test_coins_are_fair_and_independent_of_each_other_and_of_the_seed():
    ids = [f"{i:032x}" for i in range(4000)]
    tossed = np.array([toss(seed, ids) for seed in range(5)])
    low, high = binom.interval(0.9999, 4000, 0.5)
    counts = [*tossed.sum(1), *(tossed[0] ^ tossed[other] for other in range(1, 5)), tossed[0][1:] ^ tossed[0][:-1]]
    assert all(low <= np.sum(count) <= high for count in counts)
    assert [coin(3, id) for id in ids[:50]] == tossed[3][:50].tolist()


def test_the_numbers_on_the_sides_are_left_to_chance():
    sizes = [len(draw_by_coins(pool(noise(40)), seed=seed, progress=False).split.members) for seed in range(100)]
    # Binomial(40, ½): standard deviation 3.16.
    assert abs(np.mean(sizes) - 20) < 1.5 and 2.4 < np.std(sizes) < 4


def test_a_draw_is_seeded_and_an_image_has_one_coin_in_any_order():
    images = noise(50)
    one, again, other = (draw_by_coins(pool(images), 30, seed=seed, progress=False).split for seed in (1, 1, 2))
    assert one.hash == again.hash == one.coins.hash != other.hash and len(one.images) == 30
    check(one)
    whole = draw_by_coins(pool(images), seed=1, progress=False).split
    copies = draw_by_coins(pool(np.concatenate([images[::-1], images[:9]])), seed=1, progress=False)
    assert copies.split.hash == whole.hash and copies.left_out["duplicate"] == 9
    assert {image.id for image in one.members} <= {image.id for image in whole.members}


@pytest.mark.parametrize("where", ["folder", "hub"])
def test_a_split_by_coins_is_one_after_writing_loading_and_publishing(where, folder, tmp_path, loopback_hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    words = ["--seed", 5, "--no-shift-check", "--license", "mit"]
    assert run(folder, "--coin-flip", *words, "--out", tmp_path / "out") == 0
    name = str(tmp_path / "out")
    if where == "hub":
        # Published later, from the folder: the draw stays known.
        name = "alice/coins"
        assert run(tmp_path / "out", "--push", name, "--no-shift-check") == 0, capsys.readouterr().err
    split = load_split(name)
    assert split.coins == CoinDraw(5, split.hash) and len(split.images) == 60
    check(split)
    assert split.limited(1000).coins == split.coins and split.limited(10).coins is None
    assert split.conditioned_on("none").coins == split.coins
    # Written again, from what was loaded.
    record = write_split(split, tmp_path / "again", shift_check=False, progress=False)
    assert (record.coins, record.seed, record.hash) == (True, 5, split.hash)
    assert load_split(tmp_path / "again").coins == split.coins
    card = (tmp_path / "again" / "README.md").read_text()
    assert "each image in or out by its own fair coin, with seed 5" in card and "lower bound on the ε" in card
    if where == "hub":
        loopback_hub.delete_repo("dataset", name)


def test_a_fixed_draw_is_none_of_coins_and_its_card_says_what_it_is_good_for(folder, tmp_path):
    assert run(folder, "--members", 20, "--nonmembers", 20, "--no-shift-check", "--out", tmp_path / "out") == 0
    assert load_split(tmp_path / "out").coins is None and not read_record(tmp_path / "out" / "split.json").coins
    card = (tmp_path / "out" / "README.md").read_text()
    assert "these numbers drawn at random, with seed 0" in card and "needs independent coins (`mia-hub make-split --coin-flip`)" in card


def test_records_of_earlier_versions_and_of_strangers_are_of_no_coins(folder, tmp_path):
    assert run(folder, "--coin-flip", "--no-shift-check", "--out", tmp_path / "out") == 0
    path = tmp_path / "out" / "split.json"
    stored = json.loads(path.read_text())
    earlier = {key: value for key, value in stored.items() if key != "coins"}
    strange = [stored | change for change in ({"coins": "yes"}, {"seed": None}, {"seed": True}, {"hash": 7})]
    for content in [*map(json.dumps, [earlier, *strange, [1], "coins"]), "{", "[" * 100_000, " " * 2**20 + json.dumps(stored)]:
        path.write_text(content)
        assert load_split(tmp_path / "out").coins is None
    path.write_text(json.dumps(earlier))
    assert not read_record(path).coins


def test_images_that_are_no_longer_those_of_the_coins_are_refused():
    split = draw_by_coins(pool(noise(40)), seed=1, progress=False).split
    fewer = replace(split, members=split.members[1:])
    with pytest.raises(SplitError, match="some were added, left out or changed"):
        check(fewer)
    swapped = replace(split, members=split.nonmembers, nonmembers=split.members)
    with pytest.raises(SplitError, match="40 of 40 images are on the other side"):
        check(replace(swapped, coins=CoinDraw(1, swapped.hash)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coin-flip", "--members", 5, "--nonmembers", 5], "leave --members, --nonmembers and --nonmembers-from out"),
        (["--coin-flip", "--nonmembers-from", "x"], "leave --members, --nonmembers and --nonmembers-from out"),
        (["--images", 5], "--images is the number of images that --coin-flip divides"),
        (["--coin-flip", "--images", 3], "images must be an integer ≥ 4"),
        (["--coin-flip", "--images", 61], "has 60 different images that can be used, and 61 are needed"),
        (["--coin-flip", "--seed", -1], "seed must be an integer ≥ 0"),
        ([], "or toss a coin for each image with --coin-flip"),
    ],
)  # fmt: skip
def test_what_is_refused(words, message, folder, tmp_path, capsys):
    assert run(folder, *words, "--no-shift-check", "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_coins_that_leave_a_side_nearly_empty_are_refused(folder, tmp_path, capsys):
    images = noise(4)
    seed = next(seed for seed in range(100) if toss(seed, [image.id for image in as_images(images)]).sum() <= 1)
    with pytest.raises(SplitError, match=r"The coins of 4 images gave \d (non-)?members, and at least 2"):
        draw_by_coins(pool(images), seed=seed, progress=False)
    assert run(folder, "--coin-flip", "--no-shift-check", "--out", tmp_path / "out") == 0
    assert run(tmp_path / "out", "--coin-flip", "--out", tmp_path / "two") == 2
    assert "already says which images are members; leave --coin-flip out" in capsys.readouterr().err
