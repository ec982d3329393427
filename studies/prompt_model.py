"""A small text-to-image model that memorises some captions and not others: each caption is seen equally often, with one image or with many.

The images are Fashion-MNIST's, and every caption names the class of its images, so that a caption that isn't memorised still says much.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from mia_hub.models.denoiser import FunctionModel, wrap_denoiser
from training.data import model_space
from training.fashion_mnist import load_train_images, load_train_labels
from training.train_ddpm import sample
from training.train_text2image import EMPTY_CAPTIONS, SCHEDULER, WIDTH, text_encoder_of, tokenizer_of, tokens_of

THINGS = ("shirt", "trousers", "pullover", "dress", "coat", "sandal", "blouse", "sneaker", "bag", "boot")
LOOKS = ("red", "dark", "striped", "velvet", "woollen", "faded", "shiny", "tiny", "torn", "elegant", "old", "spotted")
PLACES = ("shelf", "window", "mountain", "table", "staircase", "river", "garden", "wall", "balcony", "bench", "carpet", "bridge")
UNET = dict(
    block_out_channels=(32, 64),
    layers_per_block=1,
    norm_num_groups=8,
    down_block_types=("DownBlock2D",) * 2,
    up_block_types=("UpBlock2D",) * 2,
    add_attention=False,
    class_embed_type="identity",
)


@dataclass(frozen=True)
class Recipe:
    """Sizes of the data and of the training.

    Attributes:
        named: whether the images of a varied caption are all of the class that it names, so that it says much of its images, too; otherwise
            they are of all classes.
        memorised: number of captions with one image each.
        varied: number of captions with ``images`` images each.
        held_out: number of captions that the model never sees.
        images: different images of each varied caption.
        side: of the images in pixels, 8 or 16.
        steps, batch, learning_rate: of the training, by AdamW with a warm-up and a linear decay.
        seed: of the captions, the weights, and every draw.
    """

    named: bool = False
    memorised: int = 20
    varied: int = 40
    held_out: int = 200
    images: int = 40
    side: int = 8
    steps: int = 2000
    batch: int = 32
    learning_rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class CaptionedData:
    """Captions of the three kinds, and the images of those that are trained on.

    Attributes:
        memorised, varied, held_out: captions.
        images: float32 ``[captions, images, 1, side, side]`` in [-1, 1], of the memorised and then of the varied captions; a memorised one
            has its only image in all places.
    """

    memorised: list[str]
    varied: list[str]
    held_out: list[str]
    images: torch.Tensor = field(repr=False)

    @property
    def trained(self) -> list[str]:
        """The captions that the model sees, in the order of the images."""
        return [*self.memorised, *self.varied]


def captioned_data(recipe: Recipe) -> CaptionedData:
    """Draw captions, and images for each one; a memorised caption has an image of the class that it names."""
    rng = np.random.default_rng(recipe.seed)
    count = recipe.memorised + recipe.varied + recipe.held_out
    combinations = list(itertools.product(range(len(THINGS)), itertools.combinations(LOOKS, 2), PLACES))
    chosen = [combinations[row] for row in rng.permutation(len(combinations))[:count]]
    captions = [f"a {one} {two} {THINGS[thing]} on the {place}" for thing, (one, two), place in chosen]
    labels, pixels = load_train_labels(), load_train_images()
    pools = {thing: iter(rng.permutation(np.flatnonzero(labels == thing))) for thing in range(len(THINGS))}
    everything = iter(rng.permutation(len(pixels)))
    rows = [
        [next(pools[thing])] * recipe.images
        if number < recipe.memorised
        else [next(pools[thing] if recipe.named else everything) for _ in range(recipe.images)]
        for number, (thing, *_) in enumerate(chosen[: count - recipe.held_out])
    ]
    images = _shrunk(model_space(pixels[np.ravel(rows)], 1), recipe.side).unflatten(0, (len(rows), recipe.images))
    kinds = np.cumsum([recipe.memorised, recipe.varied])
    return CaptionedData(captions[: kinds[0]], captions[kinds[0] : kinds[1]], captions[kinds[1] :], images)


def _shrunk(x: torch.Tensor, side: int) -> torch.Tensor:
    """Images of 28×28, with a black border to 32×32, as means of squares."""
    return nn.functional.avg_pool2d(nn.functional.pad(x, (2, 2, 2, 2), value=-1), 32 // side)


class Denoiser(nn.Module):
    """A UNet with its text encoder, whose pooled output is added to the embedding of the time."""

    def __init__(self, captions: Sequence[str], side: int) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        self.tokenizer = tokenizer_of(captions)
        self.text_encoder = text_encoder_of(self.tokenizer)
        self.unet = UNet2DModel(sample_size=side, in_channels=1, out_channels=1, **UNET)
        self.enter = nn.Linear(WIDTH, 4 * self.unet.config.block_out_channels[0])

    def condition(self, captions: Sequence[str]) -> torch.Tensor:
        """Return the text encodings ``[N, dimensions]``."""
        return self.encode(tokens_of(self.tokenizer, captions))

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the text encodings ``[N, dimensions]`` of token ids ``[N, tokens]``."""
        encodings: torch.Tensor = self.enter(self.text_encoder(tokens).pooler_output)
        return encodings

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        """Return ε ``[N, 1, side, side]``."""
        epsilon: torch.Tensor = self.unet(x, t, class_labels=cond).sample
        return epsilon


def train(recipe: Recipe, data: CaptionedData, log: Any = None) -> Denoiser:
    """Train a denoiser on the captions in equal shares; one in ten is empty.

    Args:
        log: called with (step, loss) now and then.
    """
    from diffusers import DDPMScheduler

    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network, scheduler = Denoiser(data.trained + data.held_out, recipe.side), DDPMScheduler(**SCHEDULER)
    tokens, empty = tokens_of(network.tokenizer, data.trained), tokens_of(network.tokenizer, [""])
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=0)
    pace = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / 100, 1 - step / recipe.steps))
    network.train()
    for step in range(recipe.steps):
        rows, picks = (torch.randint(0, most, (recipe.batch,), generator=generator) for most in data.images.shape[:2])
        x0, noise = data.images[rows, picks], torch.randn((recipe.batch, *data.images.shape[2:]), generator=generator)
        t = torch.randint(0, scheduler.config.num_train_timesteps, (recipe.batch,), generator=generator)
        dropped = torch.rand((recipe.batch, 1), generator=generator) < EMPTY_CAPTIONS
        text = network.encode(torch.where(dropped, empty, tokens[rows]))
        loss = nn.functional.mse_loss(network(scheduler.add_noise(x0, noise, t), t, text), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step()
        if log is not None and step % 100 == 0:
            log(step, loss.item())
    return network.eval().requires_grad_(False)


def as_model(network: Denoiser, side: int) -> FunctionModel:
    """Return the denoiser as mia_hub queries it."""
    from diffusers import DDPMScheduler

    alphas = DDPMScheduler(**SCHEDULER).alphas_cumprod
    return wrap_denoiser(network, alphas, sample_shape=(1, side, side), name="some captions memorised", condition=network.condition)


def spreads(network: Denoiser, captions: Sequence[str], side: int) -> np.ndarray:
    """Return how far two samples of each caption, of different noise, lie apart: root mean square over pixels in [-1, 1]."""
    with torch.no_grad():
        cond = network.condition(captions)
        one, other = (sample(network.unet, SCHEDULER, (1, side, side), len(captions), seed=seed, class_labels=cond) for seed in (1, 2))
    distances: np.ndarray = (one - other).flatten(1).square().mean(dim=1).sqrt().numpy()
    return distances
