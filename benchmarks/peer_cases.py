"""The same attack by this package and by its authors' code, on one network and the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.authors_code import BETAS, SECMI, SIMA, AuthorsCode, Loader, Query, secmi_repository_scores, sima_repository_scores
from mia_hub.attacks import Attack, get_attack
from mia_hub.errors import MiaHubError
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.loading import load_model
from mia_hub.splits.loading import load_split

# Members, and non-members, of a question about a few images; no split has fewer.
FEW = 2


class PixelsInMemory(torch.utils.data.Dataset):
    """Decoded images in memory, each made a tensor on access, as by torchvision's CIFAR10 with ToTensor, which both scripts read."""

    def __init__(self, images: Any):
        self.pixels = [np.asarray(image.to_pil()) for image in images]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = torch.from_numpy(np.array(Image.fromarray(self.pixels[index])))
        channels_last = pixels.view(*pixels.shape[:2], -1)
        # A permuted view of one channel passes for channels-last, and would send the network down that slower path.
        return channels_last.permute(2, 0, 1).clone(memory_format=torch.contiguous_format).float().div(255), 0


class Setting:
    """The demo's network and N of its members and non-members, for both sides.

    Args:
        limit: N.
        device, dtype: as `load_model` takes them.
    """

    def __init__(self, limit: int, *, device: Any = None, dtype: str = "float32"):
        self.model = load_model("demo", device=device, dtype=dtype)
        split = load_split("demo", limit=limit)
        self.images = split.images
        self._kinds = tuple(PixelsInMemory(images) for images in (split.members, split.nonmembers))
        if not np.allclose(self.model.schedule.signals.numpy() ** 2, ddpm_alphas_cumprod(), atol=1e-6):
            raise MiaHubError(f"The demo's noise schedule is not the one of the authors' code, β from {BETAS[0]} to {BETAS[1]}.")

    def query(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Query the network as the authors' code does."""
        return self.model.network(x, t).sample

    def loaders(self, batch_size: int) -> tuple[Loader, Loader]:
        """Loaders of members and of non-members."""
        members, nonmembers = (torch.utils.data.DataLoader(kind, batch_size=batch_size, shuffle=False) for kind in self._kinds)
        return members, nonmembers


@dataclass(frozen=True)
class Case:
    """An attack on both sides.

    Attributes:
        what: the attack, for the report.
        code: the authors' file.
        batch_size: the authors' own.
        theirs: takes the imported file, a query, loaders and a device, and returns ``[T, N]``, lower for members.
        ours: the same attack.
        distance: turns our scores into theirs.
        least: required ratio of our images per second to theirs.
        few: whether it is measured on `FEW` of either kind, whatever the limit is.
    """

    what: str
    code: AuthorsCode
    batch_size: int
    theirs: Callable[[ModuleType, Query, tuple[Loader, Loader], torch.device], torch.Tensor]
    ours: Attack
    distance: Callable[[np.ndarray], np.ndarray]
    least: float
    few: bool = False

    def our_scores(self, setting: Setting) -> np.ndarray:
        """Score the images with `Attack.score`, its own batch size included; ``[N, T]``, as the authors' distance."""
        return self.distance(self.ours.score(setting.model, setting.images, progress=False).scores)

    def their_scores(self, setting: Setting, module: ModuleType) -> np.ndarray:
        """Score the images with the authors' code; ``[N, T]``."""
        return self.theirs(module, setting.query, setting.loaders(self.batch_size), setting.model.device).double().cpu().numpy().T


def _sima(attack_num: int) -> Callable[..., torch.Tensor]:
    return lambda module, *rest: sima_repository_scores(module, "SimA", attack_num, *rest)


def _of_norm(scores: np.ndarray) -> np.ndarray:
    return np.power(-scores, 4)


# Not slower for one query; over a grid, forward passes and the inversion can be shared.
ONE, GRID = 1.0, 1.3
_sima_grid = partial(Case, code=SIMA, batch_size=64, theirs=_sima(20), ours=get_attack("sima"), distance=_of_norm, least=GRID)
CASES = {
    # Their class starts each grid at 0, so that one timestep is that one; it costs what any other does.
    "sima": Case("SimA, timestep 0", SIMA, 64, _sima(0), get_attack("sima", timesteps=(0,)), _of_norm, ONE),
    "sima-grid": _sima_grid("SimA, 21 timesteps"),
    "sima-grid-few": _sima_grid("SimA, 21 timesteps", few=True),
    "secmi": Case(
        "SecMI, t_sec=100, k=10",
        SECMI,
        1024,
        lambda module, *rest: secmi_repository_scores(module, 100, 10, *rest),
        get_attack("secmi", timesteps=(90,), k=10),
        np.negative,
        ONE,
    ),
    # SecMI's own script compares at one timestep; SimA's repository has it over a grid.
    "secmi-grid": Case(
        "SecMI in SimA's repository, 20 timesteps",
        SIMA,
        64,
        lambda module, *rest: sima_repository_scores(module, "SecMI", 20, *rest),
        get_attack("secmi", timesteps=tuple(range(0, 200, 10)), k=10),
        np.negative,
        GRID,
    ),
}


class CountedRows:
    """The rows of a network's forward passes.

    Attributes:
        rows, passes: so far.
    """

    rows = passes = 0

    def see(self, _: torch.nn.Module, inputs: tuple[Any, ...], __: Any) -> None:
        self.rows, self.passes = self.rows + len(inputs[0]), self.passes + 1


@contextmanager
def counted_rows(network: torch.nn.Module) -> Iterator[CountedRows]:
    """Count the rows of a network's forward passes, whoever runs them."""
    counted = CountedRows()
    hook = network.register_forward_hook(counted.see)
    try:
        yield counted
    finally:
        hook.remove()
