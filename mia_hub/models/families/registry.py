"""The families that can be audited.

To add one: a file beside this one with a subclass of `mia_hub.models.families.base.NetworkModel` (or of `LatentModel` or `TextToImage`), a
line in `ADAPTERS`, and a tiny pipeline in tests/support/tiny_pipelines.py, which the tests of all families then cover.
"""

from __future__ import annotations

from mia_hub.models.families.base import NetworkModel
from mia_hub.models.families.dit import DiT
from mia_hub.models.families.flux import Flux
from mia_hub.models.families.latent_unet import LatentUNetModel
from mia_hub.models.families.pixart import PixArt, PixArtSigma
from mia_hub.models.families.pixel import PixelModel
from mia_hub.models.families.sana import Sana
from mia_hub.models.families.stable_diffusion import StableDiffusion, StableDiffusionXL
from mia_hub.models.families.stable_diffusion_3 import StableDiffusion3

# The first that knows a repository's pipeline, or else its parts, loads it.
ADAPTERS: tuple[type[NetworkModel], ...] = (
    PixelModel,
    LatentUNetModel,
    DiT,
    StableDiffusion,
    StableDiffusionXL,
    PixArt,
    PixArtSigma,
    StableDiffusion3,
    Flux,
    Sana,
)
