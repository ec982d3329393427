"""Noise that belongs to the sample."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
import scipy.stats
import torch

from mia_hub.models import noise
from mia_hub.models.noise import SampleNoise, box_muller, philox

GOLDEN = "2572c7092c3681afb2535dc2d65de96b2f4012464d4ae124f96dc7f505b72cbf"
DEVICES = [device for device, present in (("cuda", torch.cuda), ("mps", torch.backends.mps)) if present.is_available()]


def test_noise_depends_on_seed_sample_timestep_and_draw_and_on_nothing_else():
    ids = ["a", "b", "c"]
    drawn = SampleNoise(ids, (1, 8, 8))
    torch.testing.assert_close(SampleNoise(["c", "a"], (1, 8, 8))(7, 2), drawn(7, 2)[[2, 0]], rtol=0, atol=0)
    others = [drawn(7), drawn(8), drawn(7, 1), SampleNoise(ids, (1, 8, 8), seed=1)(7)]
    for i, one in enumerate(others):
        for other in others[i + 1 :]:
            assert not torch.equal(one, other)
    assert not torch.equal(drawn(7)[0], drawn(7)[1])


def words(*given: str) -> list[torch.Tensor]:
    return [torch.tensor([int(word, 16)]) for word in given]


# Known answers that come with the authors' Random123: counter, key, and what is made of them.
@pytest.mark.parametrize(
    ("counter", "key", "found"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_words_are_philoxs(counter, key, found):
    assert philox(words(*counter.split()), words(*key.split())) == tuple(words(*found.split()))


def test_normal_draws_are_box_and_mullers():
    ends = torch.tensor([0, 1, 2**29, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 3 * 2**30, 2**32 - 1])
    first, second = torch.cat(
        [torch.cartesian_prod(ends, ends), torch.randint(2**32, (100_000, 2), generator=torch.Generator().manual_seed(0))]
    ).T
    found = torch.stack(box_muller(first, second)).numpy()
    radius = np.sqrt(-2 * np.log((first.numpy() + 0.5) / 2**32))
    np.testing.assert_allclose(np.hypot(*found), radius, rtol=1e-10, atol=1e-10)
    # The angle is even over the circle: by quarters that the two highest bits name, from its middle 45 degrees to either side.
    quarter = (second >> 30).numpy()
    angle = ((second & (2**30 - 1)).numpy() + 0.5) / 2**30 * (np.pi / 2) - np.pi / 4
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    expected = np.select([quarter == 0, quarter == 1, quarter == 2], [(along, across), (across, along), (-along, across)], (across, -along))
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_noise_is_standard_normal():
    draws = SampleNoise([str(i) for i in range(50)], (3, 32, 31), dtype=torch.float64)
    drawn = [draws(t, k).flatten() for t in (0, 1, 999) for k in (0, 1)]
    for each in drawn:
        assert scipy.stats.kstest(each, "norm").pvalue > 1e-4
        assert scipy.stats.kstest(each**2, "chi2", (1,)).pvalue > 1e-4
        for lag in (1, 2, 4, 31):  # neighbours, those of one pair, and those of one place in all samples
            assert scipy.stats.pearsonr(each[lag:], each[:-lag]).pvalue > 1e-4
    for one, other in itertools.combinations(drawn, 2):
        assert scipy.stats.pearsonr(one, other).pvalue > 1e-4


def test_noise_is_the_same_to_the_bit_wherever_it_is_drawn():
    # A changed generator would silently change every score of a noised attack; so would a device that rounds otherwise.
    drawn = SampleNoise(["a", "b"], (3, 5, 7), dtype=torch.float64)(3, 2)
    assert hashlib.sha256(drawn.numpy().tobytes()).hexdigest() == GOLDEN
    for device in DEVICES:
        assert torch.equal(SampleNoise(["a", "b"], (3, 5, 7), device=device)(3, 2).cpu(), drawn.float())


def test_what_the_draws_are_made_with_is_rounded_as_ieee_754_says():
    """Not as this machine's libraries do: numpy rounds each of these right, and torch's own root doesn't."""
    x = torch.rand(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 45 + 1e-10
    y = x.flip(0)
    for ours, right in (
        (x * y, np.multiply), (x + y, np.add), (x - y, np.subtract), ((x - 1) / (x + 1), lambda x, _: (x - 1) / (x + 1)),
        (1.5 - x * y, lambda x, y: 1.5 - x * y), (x.clone().add_(0.1).mul_(y), lambda x, y: (x + 0.1) * y),
    ):  # fmt: skip
        assert torch.equal(ours, torch.from_numpy(right(x.numpy(), y.numpy())))
    root, inverse = noise._root(x).numpy(), (noise.FIRST_GUESS - (x.numpy().view(np.int64) >> 1)).view(np.float64)
    for _ in range(4):
        inverse = inverse * (1.5 - x.numpy() * 0.5 * inverse * inverse)
    np.testing.assert_array_equal(root, x.numpy() * inverse)
    np.testing.assert_allclose(root, np.sqrt(x.numpy()), rtol=5e-16)


def test_many_draws_at_once_are_those_of_few(monkeypatch):
    ids = [str(i) for i in range(7)]
    whole = SampleNoise(ids, (2, 5, 5))(1)
    monkeypatch.setattr(noise, "AT_ONCE", 150)
    torch.testing.assert_close(SampleNoise(ids, (2, 5, 5))(1), whole, rtol=0, atol=0)
    assert SampleNoise([], (2, 5, 5))(1).shape == (0, 2, 5, 5)
