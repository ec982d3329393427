"""The families that can be audited, by their tiny pipelines: the properties of each, written down by hand, and inputs for them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from support.model_folders import all_of, change_json, changed, index, removed, scheduler

T = 1000


class Family(NamedTuple):
    """The tiny model of a family, written down by hand."""

    family: str
    conditioning: str
    prediction: str
    sample: tuple[int, int, int]
    image: int
    classes: int | None = None
    scaling: float = 1.0  # of its autoencoder
    shift: float = 0.0
    settings: dict = {"latents": "mode"}  # noqa: RUF012
    longest: int = 0  # words of a caption that its longest text encoder sees; each is one token


PIXELS, LATENTS = ("pixel", "none"), (4, 8, 8)
EXPECTED = {
    "ddpm": Family(*PIXELS, "epsilon", (3, 16, 16), 16, settings={}),
    "ddim": Family(*PIXELS, "v_prediction", (3, 16, 16), 16, settings={}),
    "ddpm-class": Family("pixel", "class", "epsilon", (3, 16, 16), 16, classes=5, settings={}),
    "ddpm-learned-variance": Family("pixel", "class", "epsilon", (3, 16, 16), 16, classes=5, settings={}),
    "ldm-vq": Family("latent", "none", "epsilon", (3, 8, 8), 16, scaling=0.18215),
    "ldm-kl": Family("latent", "none", "epsilon", LATENTS, 16, scaling=0.18215),
    "dit": Family("latent", "class", "epsilon", LATENTS, 16, classes=1000, scaling=0.18215),
    # CLIP takes 77 tokens with two special ones, T5 as many as its pipeline states, with one.
    "sd1": Family("text-to-image", "text", "epsilon", LATENTS, 16, scaling=0.18215, longest=75),
    "lcm": Family(
        *("text-to-image", "text", "epsilon", LATENTS, 16),
        **{"scaling": 0.18215, "settings": {"latents": "mode", "guidance": 8.5}, "longest": 75},
    ),
    "sd2": Family("text-to-image", "text", "v_prediction", LATENTS, 16, scaling=0.18215, longest=75),
    "sdxl": Family("text-to-image", "text", "epsilon", LATENTS, 16, scaling=0.13025, longest=75),
    "pixart-alpha": Family("text-to-image", "text", "epsilon", (4, 128, 128), 256, scaling=0.18215, longest=119),
    "pixart-sigma": Family("text-to-image", "text", "epsilon", LATENTS, 16, scaling=0.13025, longest=299),
    "sd3": Family("flow", "text", "flow_prediction", (8, 8, 8), 16, scaling=1.5305, shift=0.0609, longest=255),
    "flux-dev": Family(
        *("flow", "text", "flow_prediction", (8, 128, 128), 256),
        **{"scaling": 0.3611, "shift": 0.1159, "settings": {"latents": "mode", "guidance": 1.0}, "longest": 511},
    ),
    "flux-schnell": Family("flow", "text", "flow_prediction", (8, 128, 128), 256, scaling=0.3611, shift=0.1159, longest=511),
    # One of Sana's 300 tokens belongs to the instruction.
    "sana": Family("flow", "text", "flow_prediction", (8, 8, 8), 32, scaling=0.41407, longest=299),
}
TEXT = [name for name, family in EXPECTED.items() if family.conditioning == "text"]
OF_LATENTS = [name for name, family in EXPECTED.items() if family.family != "pixel"]
SAMPLED = [name for name in OF_LATENTS if name not in ("ldm-vq", "sana")]  # whose autoencoders have a posterior
# The larger models are queried at smaller images, which takes a tenth of the time.
SIDE = {name: 32 if family.image == 256 else family.image for name, family in EXPECTED.items()}
CAPTIONS = {"none": None, "class": [3, 0, 4], "text": ["a red cat", "the House of zebras, on a hill!", ""]}


def with_channel_statistics(folder: Path):
    """Adds mean and standard deviation of each channel of its latents to an SDXL's autoencoder, as some have them."""
    change_json(folder / "vae/config.json", latents_mean=[0.3, -0.2, 0.1, 0.5], latents_std=[1.5, 0.7, 2.0, 1.1])


# Further forms that real models have, by name: (base, change).
VARIANTS = {
    "ddpm-sample": ("ddpm", scheduler(prediction_type="sample")),
    "ddpm-class-v": ("ddpm-class", scheduler(prediction_type="v_prediction")),
    "dit-older": (
        "dit",
        all_of(
            index(transformer=["diffusers", "Transformer2DModel"]),
            changed("transformer/config.json", _class_name="Transformer2DModel", norm_type="ada_norm_zero"),
        ),
    ),
    "sd2-sample": ("sd2", scheduler(prediction_type="sample")),
    "sdxl-v": ("sdxl", scheduler(prediction_type="v_prediction")),
    "sdxl-means": ("sdxl", with_channel_statistics),
    "pixart-older": (
        "pixart-sigma",
        all_of(
            index(transformer=["diffusers", "Transformer2DModel"]),
            changed("transformer/config.json", _class_name="Transformer2DModel", norm_type="ada_norm_single"),
        ),
    ),
    "sd3-without-t5": (
        "sd3",
        all_of(index(text_encoder_3=[None, None], tokenizer_3=[None, None]), removed("text_encoder_3", "tokenizer_3")),
    ),
    "flux-fast-tokenizer": ("flux-dev", index(tokenizer_2=["transformers", "T5TokenizerFast"])),
    "sana-times": ("sana", changed("transformer/config.json", timestep_scale=0.001)),
}
ALL = [*EXPECTED, *VARIANTS]


def base_of(name: str) -> str:
    return VARIANTS[name][0] if name in VARIANTS else name


def prediction_of(name: str) -> str:
    return {"sample": "sample", "v": "v_prediction"}.get(name.rpartition("-")[2], EXPECTED[base_of(name)].prediction)


def captions_for(model, rows: int = 3):
    """Captions or classes for some rows, all different; None for an unconditional model."""
    captions = CAPTIONS[model.info.conditioning]
    return captions and captions[:rows]


def some_x(model, rows: int = 3) -> torch.Tensor:
    x = torch.randn(rows, *model.info.sample_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x if model.dtype == torch.float64 else x.float()


def epsilon(model, t, x=None, captions="some") -> torch.Tensor:
    x = some_x(model) if x is None else x
    captions = captions_for(model, len(x)) if isinstance(captions, str) else captions
    return model.predict_noise(x, torch.as_tensor(t).expand(len(x)), model.condition(captions))


def random_images(side: int, n: int = 3, seed: int = 0) -> list[Image.Image]:
    """Smooth colours and some noise."""
    rng = np.random.default_rng(seed)
    slopes = np.linspace(0, 1, side)[:, None, None] * rng.random((n, 1, 1, 3)) + np.linspace(0, 1, side)[:, None] * rng.random((n, 1, 1, 3))
    return [Image.fromarray(each) for each in (slopes * 100 + rng.random((n, side, side, 3)) * 50).astype(np.uint8)]


def difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Root mean square of the difference, relative to that of what is expected."""
    assert actual.shape == expected.shape and actual.isfinite().all() and expected.isfinite().all()
    return float((actual.double() - expected.double()).square().mean().sqrt() / expected.double().square().mean().sqrt())
