"""Vision models of transformers as embedders: safetensors only, and no code of a repository is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.errors import ModelError
from mia_hub.images.image import InputImage
from mia_hub.models.components import load_component, refuse_kernels
from mia_hub.models.layout import check_shards, find_component
from mia_hub.models.loading import pick_device
from mia_hub.models.repository import ASK_OWNER, Folder, open_repository

PREPROCESSOR = "preprocessor_config.json"


class VisionModel:
    """The embedding of an image by a vision model, scaled to length 1, so that distances are those of cosine similarity.

    It is the image embedding of a model of images and texts (such as CLIP), otherwise the pooled output, otherwise the mean of the last
    hidden state. An image is scaled until it covers the model's size, and cropped at the centre.

    Args:
        name: a folder, or an id on the Hub, such as "facebook/dinov2-small".
        device: the best one present by default.

    Raises:
        ModelError: if it can't be found, has only pickled weights, needs code of its own, or is no vision model.
    """

    def __init__(self, name: str, device: Any = None):
        repository = open_repository(name)
        component = find_component("vision model", "transformers", "AutoModel", repository, folder="")
        config = repository.read_json(component.config)
        refuse_kernels(config, component, repository.name)
        check_shards(component, repository)
        self.side, self._mean, self._std = _preprocessing(repository)
        folder = repository.fetch([component.config, PREPROCESSOR, *component.weights, component.shard_index])
        self.network = load_component(folder, component, repository.name, torch.float32).eval().requires_grad_(False)
        if getattr(self.network, "main_input_name", None) != "pixel_values" and not hasattr(self.network, "get_image_features"):
            raise ModelError(
                f"{repository.name} takes no images, so it can't embed any; name a vision model, such as facebook/dinov2-small."
            )
        self.device = pick_device(device)
        self.network.to(self.device)
        revision = repository.revision or repository.hash(repository.matching(component.weights))
        self.identity = f"transformers {repository.name} ({revision})"

    def vectors(self, images: Sequence[InputImage]) -> npt.NDArray[np.float32]:
        """Return the vectors ``[n, F]`` of some images."""
        height, width = self.side
        pixels = np.stack([image.resized(height, width, 3) for image in images])
        inputs = torch.from_numpy(((pixels - self._mean) / self._std).transpose(0, 3, 1, 2).astype(np.float32)).to(self.device)
        with torch.no_grad():
            embedded = self._embedded(inputs)
        if not embedded.isfinite().all():
            raise ModelError(f"{self.identity} returned NaN or infinity, so no image can be compared by it; choose another embedder.")
        vectors: npt.NDArray[np.float32] = torch.nn.functional.normalize(embedded.float(), dim=1).cpu().numpy()
        return vectors

    def _embedded(self, inputs: torch.Tensor) -> torch.Tensor:
        if hasattr(self.network, "get_image_features"):
            output = self.network.get_image_features(pixel_values=inputs)
            return output if isinstance(output, torch.Tensor) else output.pooler_output
        output = self.network(pixel_values=inputs)
        pooled: torch.Tensor | None = getattr(output, "pooler_output", None)
        if pooled is None:
            hidden = output.last_hidden_state
            pooled = hidden.mean(dim=1) if hidden.ndim == 3 else hidden
        return pooled.flatten(1)


def _preprocessing(repository: Folder) -> tuple[tuple[int, int], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the height and width that a vision model takes, and mean and standard deviation of its channels.

    Raises:
        ModelError: if its files don't state them.
    """
    if PREPROCESSOR not in repository.sizes:
        raise ModelError(f"{repository.name} has no {PREPROCESSOR}, which says how images are prepared for it. {ASK_OWNER}")
    stated = repository.read_json(PREPROCESSOR)
    size = stated.get("crop_size") if stated.get("do_center_crop", "crop_size" in stated) else None
    size = size or stated.get("size")
    if isinstance(size, dict):
        short = size.get("shortest_edge")
        size = (size.get("height", short), size.get("width", short))
    height, width = size if isinstance(size, tuple) else (size, size)
    unchanged = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    values = unchanged if stated.get("do_normalize") is False else unchanged | stated
    mean, std = (np.array(values[name], np.float32) for name in unchanged)
    sides = all(isinstance(side, int) and 1 <= side <= 2048 for side in (height, width))
    if not sides or mean.shape != (3,) or std.shape != (3,) or not (std > 0).all():
        raise ModelError(f"{repository.name} is broken: its {PREPROCESSOR} doesn't say which size and range its images have. {ASK_OWNER}")
    return (height, width), mean, std
