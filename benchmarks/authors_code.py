"""The attacks in the repositories of SimA's and SecMI's authors, imported from checkouts that the user made."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from mia_hub.errors import MiaHubError

# query(x ``[N, C, H, W]`` in [-1, 1], t int64 ``[N]``) -> predicted noise, as x.
Query = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# Batches of (pixels ``[N, C, H, W]`` in [0, 1], anything), as both repositories read them.
Loader = Iterable[tuple[torch.Tensor, Any]]
# The noise schedule of both repositories, from their flags: β from the first to the last, and how many.
BETAS = (1e-4, 0.02, 1000)


@dataclass(frozen=True)
class AuthorsCode:
    """One file of a repository at a commit.

    Attributes:
        option: of the command line, that names the checkout.
        url, commit: of the repository.
        file: the attacks, from the root of the checkout.
        sha256: of the file's bytes.
        beside: folders that the file imports from, from the root.
        replaced: modules that it imports and no attack needs; they are empty instead.
        adapted: what is done to it without changing it, for the report.
    """

    option: str
    url: str
    commit: str
    file: str
    sha256: str
    adapted: str
    beside: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    @property
    def how_to_get(self) -> str:
        return f"git clone {self.url} FOLDER && git -C FOLDER checkout {self.commit}"

    def load(self, folder: Path) -> ModuleType:
        """Import the file from a checkout.

        Raises:
            MiaHubError: if the folder holds no such file, or another version of it.
        """
        folder = folder.resolve()
        path = folder / self.file
        if not path.is_file():
            raise MiaHubError(f"{folder} is no checkout of {self.url}: it has no {self.file}. Make one: {self.how_to_get}")
        if hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
            raise MiaHubError(f"{path} is not that of commit {self.commit[:7]} of {self.url}. Check it out: {self.how_to_get}")
        spec = importlib.util.spec_from_file_location(f"authors_{self.option}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with _imports([str(folder / each) for each in self.beside], self.replaced):
            spec.loader.exec_module(module)
        return module


SIMA = AuthorsCode(
    option="sima",
    url="https://github.com/mx-ethan-rao/SimA",
    commit="2a139bb7f426d8dcc4c036e561a8bb7edf74b8cd",
    file="DDPM/components.py",
    sha256="47f45c2a4583150a178f5bfa4c32c1cada72b9d7fd80b8536c5503e5eba2361e",
    adapted="components.py as it is; the loop of attack.py, which loads their checkpoints, is repeated with the demo's network and images",
)
SECMI = AuthorsCode(
    option="secmi",
    url="https://github.com/jinhaoduan/SecMI",
    commit="41354c999b8df9c786d20d29e850a7616d002290",
    file="mia_evals/secmia.py",
    sha256="8ad038affa677a8c45777630dba1b781b5bb074c031f8e740714aa0f2494bc93",
    beside=("mia_evals", "."),
    replaced=("dataset_utils", "absl", "absl.flags"),
    adapted="secmia.py as it is; the demo's loaders instead of its dataset_utils, an empty absl, the CPU (if used) for 'cuda', no bars",
)


@contextmanager
def _imports(folders: list[str], replaced: tuple[str, ...]) -> Iterator[None]:
    """Import from folders, with empty modules instead of some; what is imported from there is forgotten, since its names are common."""
    modules, path = dict(sys.modules), list(sys.path)
    for name in replaced:
        sys.modules[name] = empty = ModuleType(name)
        # Names that are imported from it are never used.
        empty.__getattr__ = lambda wanted: None  # type: ignore[method-assign]
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):
            if name in replaced or (name not in modules and str(getattr(module, "__file__", None) or "").startswith(tuple(folders))):
                sys.modules.pop(name)
        sys.modules.update({name: modules[name] for name in replaced if name in modules})


@contextmanager
def cuda_means(device: torch.device) -> Iterator[None]:
    """Let ``tensor.cuda()`` and ``tensor.to("cuda")``, which SecMI's code has throughout, mean a device."""
    if device.type == "cuda":
        yield
        return
    to = torch.Tensor.to
    # Both names are inherited, so that deleting them brings back what they were.
    torch.Tensor.cuda = lambda tensor: to(tensor, device)  # type: ignore[method-assign, assignment]
    torch.Tensor.to = lambda tensor, *args, **options: to(  # type: ignore[method-assign]
        tensor, *(device if isinstance(each, str) and each == "cuda" else each for each in args), **options
    )
    try:
        yield
    finally:
        del torch.Tensor.cuda, torch.Tensor.to


@torch.no_grad()
def sima_repository_scores(
    components: ModuleType, name: str, attack_num: int, query: Query, loaders: tuple[Loader, Loader], device: torch.device
) -> torch.Tensor:
    """Run an attack of SimA's repository at timesteps in steps of 10 as its attack.py does: a batch of members, one of non-members, …

    Args:
        components: from `SIMA`.
        name: of the attack's class, "SimA" or "SecMI".
        attack_num: as its option: the number of steps of 10.
        query: the network.
        loaders: of members and of non-members.
        device: of the network.

    Returns:
        Its distances ``[T, N]``, members first; lower for members.
    """
    betas = torch.from_numpy(np.linspace(*BETAS)).to(device)

    def eps_getter(xt: torch.Tensor, condition: Any, noise_level: Any, t: int) -> torch.Tensor:
        return query(xt, torch.ones([xt.shape[0]], device=xt.device).long() * t)

    attacker = getattr(components, name)(betas, 10, attack_num, eps_getter, lambda pixels: pixels * 2 - 1)
    distances: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for batches in zip(*loaders):
        for kept, batch in zip(distances, batches):
            kept.append(attacker(batch[0].to(device)))
    return torch.cat([*distances[0], *distances[1]], dim=-1)


def secmi_repository_scores(
    secmia: ModuleType, t_sec: int, k: int, query: Query, loaders: tuple[Loader, Loader], device: torch.device
) -> torch.Tensor:
    """Run SecMI's own script up to the scores of SecMI_stat.

    Args:
        secmia: from `SECMI`.
        t_sec, k: as its options.
        query, loaders, device: see `sima_repository_scores`.

    Returns:
        Its scores ``[1, N]``, members first; lower for members.
    """
    flags = SimpleNamespace(beta_1=BETAS[0], beta_T=BETAS[1], T=BETAS[2])
    vars(secmia)["tqdm"] = SimpleNamespace(tqdm=iter)
    with cuda_means(device):
        results: dict[str, torch.Tensor] = {}
        for kind, loader in zip(("member", "nonmember"), loaders):
            steps = secmia.get_intermediate_results(query, flags, loader, t_sec, k)
            results |= {f"{kind}_diffusions": steps["internal_diffusions"], f"{kind}_internal_samples": steps["internal_denoise"]}
        return torch.cat(secmia.naive_statistic_attack(results, metric="l2"))[None]
