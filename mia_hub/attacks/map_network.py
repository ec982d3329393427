"""Residual networks that are fitted on maps: a small one, and the ResNet-18 that authors of attacks use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
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
RESNET_18_WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512)
AT_ONCE = 1024


class _Block(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016, arXiv 1512.03385, Fig. 5 left); ``stride`` 2 halves the map."""

    # In the small network the activation is smooth, and so are the optimiser's steps (its ε is large), because the last digits of maps
    # differ with the batch size that they were computed at, and training multiplies such differences. With ReLU and Adam's default ε, 1e-6
    # in the maps becomes 1e-2 of the scores' spread; with these, 1e-5.

    def __init__(self, channels: int, width: int, stride: int, activation: type[nn.Module]):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            activation(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        resized = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.shortcut = nn.Identity() if channels == width and stride == 1 else resized
        self.activation = activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated: torch.Tensor = self.activation(self.body(x) + self.shortcut(x))
        return activated


def _network(channels: int, widths: tuple[int, ...], activation: type[nn.Module], outputs: int = 1) -> nn.Module:
    """A residual network with a block of each width, ``[n, channels, H, W]`` to ``[n, outputs]``, for maps of any size."""
    # Batch and not group normalisation: the size of a map as a whole is its most informative feature, and must not be normalised away.
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), activation()]
    for before, width in zip((widths[0], *widths), widths):
        layers.append(_Block(before, width, 1 if before == width else 2, activation))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], outputs))


@dataclass(frozen=True)
class Recipe:
    """A network, and how it is fitted.

    Attributes:
        network: makes the network from the number of channels.
        optimizer: makes the optimiser of some parameters.
        loss: of the network's outputs ``[n, K]`` and the targets ``[n, 1]``.
        standardised: whether the maps are standardised, per channel, by their own mean and standard deviation; and whether the running
            averages of the normalisation are computed anew from the final weights.
        fewest_steps: of an epoch with few maps.
    """

    network: Callable[[int], nn.Module]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    standardised: bool
    fewest_steps: int


def normal_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean of -log N(y; μ, σ²), without its constant.

    Args:
        outputs: μ and log σ, ``[n, 2]``; σ is bounded, so that one far target can't make the loss overflow.
        targets: y, ``[n, 1]``.
    """
    mean, log_std = outputs[:, :1], bounded_log_std(outputs[:, 1:])
    return (log_std + 0.5 * ((targets - mean) * torch.exp(-log_std)) ** 2).mean()


def bounded_log_std(log_std: torch.Tensor) -> torch.Tensor:
    """Return log σ within ±3, smoothly, for targets that are standardised."""
    return 3 * torch.tanh(log_std / 3)


OUR_RECIPE = Recipe(
    network=partial(_network, widths=WIDTHS, activation=nn.SiLU),
    optimizer=partial(torch.optim.Adam, lr=LEARNING_RATE, eps=EPSILON),
    loss=F.binary_cross_entropy_with_logits,
    standardised=True,
    fewest_steps=FEWEST_STEPS,
)
# The same network and fit for a distribution in place of a label; see `normal_loss`.
NORMAL_RECIPE = replace(OUR_RECIPE, network=partial(_network, widths=WIDTHS, activation=nn.SiLU, outputs=2), loss=normal_loss)
# SecMI's and ReDiffuse's: ResNet-18 in the form for small images (He et al. 2016, Sec. 4.2: a first convolution of 3x3, no pooling after
# it), whose output is fitted to the labels 1 and 0 by least squares.
AUTHORS_RECIPE = Recipe(
    network=partial(_network, widths=RESNET_18_WIDTHS, activation=nn.ReLU),
    optimizer=partial(torch.optim.SGD, lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4),
    loss=F.mse_loss,
    standardised=False,
    fewest_steps=1,
)


def fit_map_network(
    maps: npt.NDArray[Any], targets: npt.NDArray[Any], seed: int, recipe: Recipe = OUR_RECIPE
) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]:
    """Fit a network in 15 epochs, at a learning rate of 1e-3 and in batches of 128.

    It runs on the CPU, so that the same maps and seed give the same network whatever device computed the maps; the global random state is
    neither used nor changed.

    Args:
        maps: ``[n, C, H, W]``.
        targets: ``[n]``, labels 1 or 0, or numbers for `NORMAL_RECIPE`.
        seed: of the weights and of the order of the maps.
        recipe: the network, its loss and its optimiser.

    Returns:
        A function that maps ``[m, C, H, W]`` to the network's outputs, float64 ``[m, K]``: larger for label 1, K = 1; those of our recipe
        are log-odds.
    """
    seed %= 2**63
    # Fitting needs gradients even if the caller has switched them off.
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.from_numpy(np.array(maps, np.float32))
        mean, std = _mean_and_std(x) if recipe.standardised else (torch.zeros(()), torch.ones(()))
        x = (x - mean) / std
        y = torch.from_numpy(np.asarray(targets, np.float32))[:, None]
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would also seed the accelerators.
            torch.default_generator.manual_seed(seed)
            network = recipe.network(x.shape[1]).float()
        generator = torch.Generator().manual_seed(seed)
        optimizer = recipe.optimizer(network.parameters())
        # Batches of equal size, to within one: a batch of a single map would have no variance to be normalised by.
        whole = -(-len(x) // BATCH)
        batches = max(whole, min(recipe.fewest_steps, len(x) // SMALLEST_BATCH))
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x), generator=generator).tensor_split(batches):
                optimizer.zero_grad()
                torch.autograd.backward(recipe.loss(network(x[rows]), y[rows]))
                optimizer.step()
        if recipe.standardised:
            # Running averages need more steps than these to converge; they are computed anew over all maps from the final weights.
            update_bn(x.tensor_split(whole), network)
        network.eval().requires_grad_(False)

    def outputs(maps: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            parts = torch.split(torch.from_numpy(np.array(maps, np.float32)), AT_ONCE)
            return np.asarray(torch.cat([network((part - mean) / std) for part in parts]).double().numpy())

    return outputs


def _mean_and_std(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Per channel, ``[1, C, 1, 1]``; a channel that is constant in all maps has no scale, and keeps its own."""
    std, mean = torch.std_mean(maps, dim=(0, 2, 3), keepdim=True)
    return mean, torch.where(std > 0, std, torch.ones_like(std))
