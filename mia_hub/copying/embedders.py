"""Embedders: images as vectors, whose Euclidean distance says how far apart two images are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mia_hub.errors import ModelError
from mia_hub.images.image import InputImage

if TYPE_CHECKING:
    import torch

    from mia_hub.models.protocol import DiffusionModel

# Sides of images whose values are compared. Larger images are scaled down: beyond that, distances are about the noise of single pixels.
LARGEST_SIDE = 64
# Share of the schedule at which the denoiser's own features are read: high enough that content, not texture, is what it works on.
DENOISER_SHARE = 0.1
# The middle block's activations are averaged over at most this many cells along each side.
DENOISER_CELLS = 4
TRANSFORMERS = "transformers:"
FORMS = (
    "'pixels', 'features', 'denoiser', or 'transformers:ID' for a vision model of transformers, such as transformers:facebook/dinov2-small"
)


class Embedder(Protocol):
    """Images as vectors.

    Attributes:
        identity: its name and settings, which a report records.
    """

    identity: str

    def vectors(self, images: Sequence[InputImage]) -> npt.NDArray[np.float32]:
        """Return the vectors ``[n, F]`` of some images."""
        ...


class Pixels:
    """The values of the pixels, in [0, 1].

    Args:
        shape: ``(C, H, W)`` that images are scaled to; sides beyond `LARGEST_SIDE` are scaled down.
    """

    name = "pixels"

    def __init__(self, shape: tuple[int, int, int]):
        channels, height, width = shape
        shrink = max(1.0, max(height, width) / LARGEST_SIDE)
        self.shape = (channels, max(1, round(height / shrink)), max(1, round(width / shrink)))
        self.identity = f"{self.name} at {' x '.join(map(str, self.shape))}"

    def vectors(self, images: Sequence[InputImage]) -> npt.NDArray[np.float32]:
        """Return the vectors ``[n, F]`` of some images."""
        return self._scaled(images).reshape(len(images), -1)

    def _scaled(self, images: Sequence[InputImage]) -> npt.NDArray[np.float32]:
        """Return images as ``[n, C, H, W]``."""
        channels, height, width = self.shape
        return np.stack([image.resized(height, width, channels).transpose(2, 0, 1) for image in images])


class Features(Pixels):
    """Gradient orientations and low frequencies; see "feature" of `mia_hub.attacks.nearest_generated.described`."""

    name = "features"

    def vectors(self, images: Sequence[InputImage]) -> npt.NDArray[np.float32]:
        """Return the vectors ``[n, F]`` of some images."""
        import torch

        from mia_hub.attacks.nearest_generated import described

        features: npt.NDArray[np.float32] = described(torch.from_numpy(self._scaled(images)), "feature").numpy()
        return features


class DenoiserFeatures:
    """The activations of the denoiser's middle block, of images that are all noised by one draw at one early timestep.

    Args:
        model: its network has a ``mid_block``, as the UNets of diffusers do. It is queried without a caption.

    Raises:
        ModelError: if it has none.
    """

    def __init__(self, model: DiffusionModel):
        block = getattr(model.network, "mid_block", None)
        if block is None:
            raise ModelError(
                f"The denoiser of {model.info.id} has no middle block whose activations could be compared: that takes a UNet. Choose "
                "another embedder, such as 'pixels' or 'features'."
            )
        if model.info.conditioning == "class" and getattr(model, "null_class", None) is None:
            raise ModelError(
                f"{model.info.id} always needs a class, and images to embed have none. Choose another embedder, such as 'pixels'."
            )
        self.model, self._block = model, block
        self.timestep = round(model.info.num_train_timesteps * DENOISER_SHARE)
        self.identity = f"denoiser of {model.info.id} ({model.info.revision}), middle block at t = {self.timestep}"

    def vectors(self, images: Sequence[InputImage]) -> npt.NDArray[np.float32]:
        """Return the vectors ``[n, F]`` of some images."""
        import torch
        from torch.nn.functional import adaptive_avg_pool2d

        from mia_hub.attacks.querying import full_precision
        from mia_hub.models.noise import SampleNoise

        outputs: list[torch.Tensor] = []
        hook = self._block.register_forward_hook(lambda block, inputs, output: outputs.append(output))
        model, info = self.model, self.model.info
        try:
            with torch.no_grad(), full_precision():
                x0 = model.encode(list(images))
                noise = SampleNoise(["embedder"], info.sample_shape, 0, model.device, x0.dtype)(self.timestep)
                t = torch.full((len(x0),), self.timestep, device=x0.device)
                model.predict_noise(
                    model.schedule.add_noise(x0, noise, t), t, model.condition(None if info.conditioning == "none" else [""] * len(x0))
                )
        finally:
            hook.remove()
        activations = outputs[0].float()
        cells = (min(DENOISER_CELLS, activations.shape[2]), min(DENOISER_CELLS, activations.shape[3]))
        # On the CPU, since some devices can't pool into cells of unequal size.
        vectors: npt.NDArray[np.float32] = adaptive_avg_pool2d(activations.cpu(), cells).flatten(1).numpy()
        return vectors


def embedder(name: str, *, model: DiffusionModel | None, shape: tuple[int, int, int], device: Any = None) -> Embedder:
    """Return the embedder of a name.

    Args:
        name: "pixels", "features", "denoiser", or "transformers:ID".
        model: whose denoiser is meant; None where no model is loaded.
        shape: ``(C, H, W)`` of the images that are compared.
        device: of a vision model.

    Raises:
        ModelError: if there is none of that name, or it can't be loaded safely.
    """
    if name == Pixels.name:
        return Pixels(shape)
    if name == Features.name:
        return Features(shape)
    if name == "denoiser":
        if model is None:
            raise ModelError(
                "The embedder 'denoiser' needs the model itself, and images generated elsewhere come without it; choose another."
            )
        return DenoiserFeatures(model)
    if name.startswith(TRANSFORMERS):
        from mia_hub.copying.vision_models import VisionModel

        return VisionModel(name.removeprefix(TRANSFORMERS), device)
    raise ModelError(f"There is no embedder {name!r}; choose {FORMS}.")
