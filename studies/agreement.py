"""How far attacks agree with their authors' public code, on the same images and the same noise.

    python -m studies.agreement

measures it within a minute and stores it in ``docs/attacks.json``, for docs/attacks.md.

``tests/attacks/golden`` holds small inputs and what functions of the authors' repositories made of them. The functions were run unchanged,
but for coefficients in float64 where theirs are rounded to float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional as F

from mia_hub.attacks.registry import get_attack
from mia_hub.attacks.spelling import parse_attack
from mia_hub.models.denoiser import FunctionModel, wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.system.streams import any_terminal
from studies.page import DOCS, read_results, write_results

GOLDEN = Path(__file__).parent.parent / "tests" / "attacks" / "golden"
SHAPE = (3, 16, 16)
ELEMENTS = 3 * 16 * 16
LONGEST_SERIES = 10

Arrays = Mapping[str, np.ndarray]


def epsilon(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the closed-form denoiser's ε ``[N, 3, H, W]``."""
    s = t.to(x.dtype)[:, None, None, None] / 1000
    kernel = torch.sin(torch.arange(81, dtype=x.dtype) * 1.7 + 0.3).reshape(3, 3, 3, 3) / 4
    return torch.tanh(F.conv2d(x, kernel, padding=1) * (1 + 2 * s)) + (0.2 + s) * x * torch.cos(3 * x)


def captioned_epsilon(x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
    """Return ε under captions' vectors ``[N, 8]``."""
    first, shift = cond[:, :1, None, None], cond[:, 1:4, None, None]
    return epsilon(x, t) + 0.1 * torch.sin(x * (1 + first) + shift) * torch.linalg.vector_norm(cond, dim=1)[:, None, None, None]


def caption_vectors(captions: Sequence[str]) -> torch.Tensor:
    """Return captions' vectors ``[N, 8]``: sums over words of the first 8 bytes of their hash, each divided by 255, less a half."""
    words = [[list(hashlib.sha256(word.encode()).digest()[:8]) for word in caption.split()] for caption in captions]
    vectors = [np.sum(np.array(hashes).reshape(-1, 8) / 255 - 0.5, axis=0) for hashes in words]
    return torch.from_numpy(np.stack(vectors))


@dataclass(frozen=True)
class InjectedNoise:
    """Given draws in place of `mia_hub.models.noise.SampleNoise`.

    Attributes:
        ids: content ids, one per row.
        draws: the draw ``[C, H, W]`` of each (id, timestep, number).
    """

    ids: Sequence[str]
    draws: Mapping[tuple[str, int, int], torch.Tensor]

    def __call__(self, timestep: int, draw: int = 0) -> torch.Tensor:
        return torch.stack([self.draws[sample, timestep, draw] for sample in self.ids])


@dataclass(frozen=True)
class Case:
    """A comparison with values of the authors' code.

    Attributes:
        attack: the attack, as the command line spells it.
        file: name of the arrays.
        source: the repository, its commit where it is known, the file and the function that made the values.
        theirs: the authors' values from the arrays, in the form of what the attack observes.
        model: makes the model from the arrays; by default the closed form on the usual schedule.
        parameters: of the attack, from the arrays, where it has no text form.
        tolerance: the largest relative difference that is rounding alone.
    """

    attack: str
    file: str
    source: str
    theirs: Callable[[Arrays], np.ndarray]
    model: Callable[[Arrays], FunctionModel] = lambda arrays: wrap_denoiser(
        epsilon, ddpm_alphas_cumprod(), sample_shape=SHAPE, dtype=torch.float64
    )
    parameters: Callable[[Arrays], dict[str, Any]] = lambda arrays: {}
    tolerance: float = 1e-9

    def values(self, spelled: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return what the attack, or another one, observes of the image, and the authors' values, both ``[1, …]``."""
        arrays = golden(self.file)
        parameters = self.parameters(arrays)
        attack = get_attack(self.attack, **parameters) if parameters else parse_attack(spelled or self.attack)
        draws = _draws(arrays)

        def injected(ids: Sequence[str], *_: Any) -> InjectedNoise:
            return InjectedNoise(ids, {(ids[0], t, k): e for (t, k), e in draws.items()})

        captions = [str(caption) for caption in arrays["captions"]] if "captions" in arrays else None
        with mock.patch("mia_hub.attacks.scoring.SampleNoise", injected):
            observed = attack.observe(self.model(arrays), arrays["images"], captions=captions, progress=False)
        return observed.values, self.theirs(arrays)

    def difference(self, spelled: str | None = None) -> float:
        """Return the largest difference between the two: of series relative to each value, of maps and gradients to the largest one."""
        ours, theirs = self.values(spelled)
        scale = np.abs(theirs) if theirs.size < LONGEST_SERIES else np.abs(theirs).max()
        return float((np.abs(ours - theirs) / scale).max())


def measured() -> dict[str, float]:
    """Return the difference of each case, by its attack."""
    return {case.attack: float(f"{case.difference():.1e}") for case in CASES}


@cache
def golden(name: str) -> Arrays:
    """Return the arrays of a file in ``tests/attacks/golden``."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as stored:
        return dict(stored)


def _draws(arrays: Arrays) -> dict[tuple[int, int], torch.Tensor]:
    """The draws by timestep and number; those without timesteps are ReDiffuse's, all at t = 200."""
    noise = torch.from_numpy(arrays["noise"])[:, 0] if "noise" in arrays else torch.empty(0)
    if "timesteps" in arrays:
        return {(int(t), 0): e for t, e in zip(arrays["timesteps"], noise)}
    return {(200, k): e for k, e in enumerate(noise)}


def _captioned(arrays: Arrays) -> FunctionModel:
    return wrap_denoiser(captioned_epsilon, ddpm_alphas_cumprod(), sample_shape=SHAPE, dtype=torch.float64, condition=caption_vectors)


def _forty_steps(arrays: Arrays) -> FunctionModel:
    """The closed form, a little less and 25 times as fast, on the schedule of 40 steps."""
    alphas = np.cumprod(1 - arrays["betas"])
    return wrap_denoiser(lambda x, t: 0.9 * epsilon(x, 25 * t), alphas, sample_shape=SHAPE, dtype=torch.float64)


def _tiny_network(arrays: Arrays) -> FunctionModel:
    """The random UNet that GSA's code differentiated."""
    from diffusers import UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = UNet2DModel(
            sample_size=16,
            in_channels=3,
            out_channels=3,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ).double()
    squares = float(sum(parameter.detach().square().sum() for parameter in network.parameters()))
    if not np.isclose(squares, arrays["sum_of_squared_weights"], rtol=1e-12):
        raise ValueError("torch or diffusers draws other weights from seed 0 than those that GSA's values were made with.")

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = network

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return self.unet(x, t).sample

    return wrap_denoiser(Network(), ddpm_alphas_cumprod(), sample_shape=SHAPE)


def _forensics(name: str, series: str, *, clipped: bool) -> Case:
    # Without clipping ours is theirs, but for the decoder at t = 0.
    first, variant, kind = (0, ",variant=authors", "clip") if clipped else (1, "", "noclip")
    return Case(
        f"{name}:timesteps={'0,' * clipped}1,20,39,aggregate=none{variant}",
        "forensics",
        "yKvD89Sri8/dataforensics, guided_diffusion, calc_bpd_loop",
        lambda arrays: arrays[f"{series}_{kind}"][:, first:],
        _forty_steps,
    )


def _gsa(name: str) -> Case:
    return Case(
        name,
        "gsa",
        "py85252876/GSA, gen_l2_gradients_DDPM.py",
        lambda arrays: arrays[name],
        _tiny_network,
        lambda arrays: {"variant": "authors"},
    )


def _fremia(attack: str, series: str, rows: Sequence[int], power: float, *, of_clean: bool) -> Case:
    """Theirs compares predicted clean images for Loss and PIA, ours predicted noise; per timestep they differ by a factor."""

    def theirs(arrays: Arrays) -> np.ndarray:
        alphas = np.asarray(ddpm_alphas_cumprod())[arrays["timesteps"]]
        factor = np.sqrt(alphas / (1 - alphas)) if of_clean else np.ones(len(rows))
        return (arrays[series][list(rows)] ** (1 / power) * factor)[None] ** (2 if power == 2 else 1)

    return Case(attack, "fremia", f"poetic2/FreMIA@68395e4, DDIM/components.py, {series}, Fourier_filter", theirs)


SIMA, REDIFFUSE = "mx-ethan-rao/SimA, DDPM/components.py", "lijingwei0502/diffusion_mia, DDIM/components.py, ReDiffuseAttacker"
CASES = (
    Case("sima:input=noised,timesteps=10,100", "epsilon", f"{SIMA}, Epsilon", lambda arrays: arrays["statistic"].T ** (1 / 4)),
    Case("sima-mc:draws=1,timesteps=10,100", "epsilon", f"{SIMA}, Epsilon", lambda arrays: arrays["statistic"].T ** (1 / 4)),
    Case("loss:timesteps=10,100", "loss", f"{SIMA}, Loss", lambda arrays: arrays["statistic"].T),
    Case("loss:timesteps=10,100,form=norm", "loss", f"{SIMA}, Loss", lambda arrays: arrays["statistic"].T ** 0.5),
    Case(
        "secmi:timesteps=90",
        "secmi_nns",
        "jinhaoduan/SecMI, mia_evals/secmia.py",
        lambda arrays: (arrays["maps"] ** 2).sum(axis=(1, 2, 3))[:, None],
    ),
    # Maps are stored in float32.
    Case("secmi-nns:variant=authors", "secmi_nns", "jinhaoduan/SecMI, mia_evals/secmia.py", lambda arrays: arrays["maps"], tolerance=1e-6),
    Case("pfami:form=difference,variant=authors", "pfami", f"{SIMA}, PFAMI", lambda arrays: arrays["statistic"][:, None] * ELEMENTS),
    Case(
        "clid:variant=authors",
        "clid",
        "zhaisf/CLiD@4a04008, mia_CLiD_impt.py, mi_mtcl_denoise",
        lambda arrays: ELEMENTS * np.stack([-arrays["losses"][:, 0], arrays["losses"][:, 1:].mean(axis=1)], axis=1),
        _captioned,
    ),
    Case("rediffuse:variant=authors", "rediffuse", REDIFFUSE, lambda arrays: arrays["l2"][:, None]),
    Case("rediffuse-nns:variant=authors", "rediffuse", REDIFFUSE, lambda arrays: np.abs(arrays["residual"]), tolerance=1e-6),
    _gsa("gsa1"),
    _gsa("gsa2"),
    _forensics("forensics-vlb", "vb", clipped=True),
    _forensics("forensics-mse", "mse", clipped=True),
    _forensics("forensics-xstart", "xstart_mse", clipped=True),
    _forensics("forensics-vlb", "vb", clipped=False),
    _forensics("forensics-mse", "mse", clipped=False),
    _forensics("forensics-xstart", "xstart_mse", clipped=False),
    _fremia("secmi:timesteps=0,40,90,filtered=5,0.2", "secmi", (0, 4, 9), 2, of_clean=False),
    _fremia("pia:timesteps=100,200,filtered=5,0.2", "pia", (0, 1), 4, of_clean=True),
    _fremia("loss:timesteps=100,200,filtered=5,0.2", "naive", (0, 1), 2, of_clean=True),
    # Theirs in [-1, 1], ours in [0, 1].
    Case(
        "nearest-generated",
        "nearest",
        "DingfanChen/GAN-Leaks, attack_models/fbb.py, find_knn",
        lambda arrays: arrays["distances"][:, :3].mean(axis=1, keepdims=True) / 2,
        parameters=lambda arrays: {"generated": arrays["generated"], "neighbours": 3},
    ),
)


@any_terminal()
def main() -> None:
    write_results("attacks", read_results("attacks", DOCS.parent) | {"agreement": measured()}, DOCS.parent)


if __name__ == "__main__":
    main()
