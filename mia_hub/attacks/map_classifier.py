"""A small residual network that classifies maps into two kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

EPOCHS = 15
LEARNING_RATE = 1e-3
# Far above Adam's default 1e-8: see _Block.
EPSILON = 1e-3
BATCH = 128
# With few maps, batches of 128 would be too few steps to learn anything: an epoch then has up to 8 batches, of at least 16 maps.
FEWEST_STEPS, SMALLEST_BATCH = 8, 16
# Small enough that a CPU fits 1,000 maps of 32x32 within a minute.
WIDTHS = (16, 32, 64)
CLASSIFIED_AT_ONCE = 1024


class _Block(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016, arXiv 1512.03385, Fig. 5 left); ``stride`` 2 halves the map."""

    # The activation is smooth, and so are the optimiser's steps (its ε is large), because the last digits of maps differ with the batch
    # size that they were computed at, and training multiplies such differences. With ReLU and Adam's default ε, 1e-6 in the maps becomes
    # 1e-2 of the scores' spread; with these, 1e-5.

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        resized = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.shortcut = nn.Identity() if channels == width and stride == 1 else resized

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(self.body(x) + self.shortcut(x))


def _network(channels: int) -> nn.Module:
    """A ResNet of 8 layers, ``[n, channels, H, W]`` to ``[n, 1]``, for maps of any size."""
    # Batch and not group normalisation: the size of a map as a whole is its most informative feature, and must not be normalised away.
    layers: list[nn.Module] = [nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.SiLU()]
    for before, width in zip((WIDTHS[0], *WIDTHS), WIDTHS):
        layers.append(_Block(before, width, 1 if before == width else 2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], 1))


def fit_map_classifier(
    maps: npt.NDArray[Any], labels: npt.NDArray[Any], seed: int
) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]:
    """Fit the network by cross-entropy: 15 epochs of Adam at a rate of 1e-3, in batches of 128.

    It runs on the CPU, so that the same maps and seed give the same network whatever device computed the maps; the global random state is
    neither used nor changed.

    Args:
        maps: ``[n, C, H, W]``; standardised, per channel, by their own mean and standard deviation.
        labels: ``[n]``, 1 or 0.
        seed: of the weights and of the order of the maps.

    Returns:
        A function that maps ``[m, C, H, W]`` to the log-odds of label 1, float64 ``[m, 1]``.
    """
    seed %= 2**63
    # Fitting needs gradients even if the caller has switched them off.
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.from_numpy(np.array(maps, np.float32))
        std, mean = torch.std_mean(x, dim=(0, 2, 3), keepdim=True)
        # A channel that is constant in all maps has no scale.
        std = torch.where(std > 0, std, torch.ones_like(std))
        x = (x - mean) / std
        y = torch.from_numpy(np.asarray(labels, np.float32))[:, None]
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would also seed the accelerators.
            torch.default_generator.manual_seed(seed)
            network = _network(x.shape[1]).float()
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, eps=EPSILON)
        # Batches of equal size, to within one: a batch of a single map would have no variance to be normalised by.
        whole = -(-len(x) // BATCH)
        batches = max(whole, min(FEWEST_STEPS, len(x) // SMALLEST_BATCH))
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x), generator=generator).tensor_split(batches):
                optimizer.zero_grad()
                torch.autograd.backward(F.binary_cross_entropy_with_logits(network(x[rows]), y[rows]))
                optimizer.step()
        # Running averages need more steps than these to converge; they are computed anew over all maps from the final weights.
        update_bn(x.tensor_split(whole), network)
        network.eval().requires_grad_(False)

    def log_odds(maps: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            parts = torch.split(torch.from_numpy(np.array(maps, np.float32)), CLASSIFIED_AT_ONCE)
            return np.asarray(torch.cat([network((part - mean) / std) for part in parts]).double().numpy())

    return log_odds
