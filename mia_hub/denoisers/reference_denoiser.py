"""A reference denoiser: a small model of another one's space, trained on other images, to serve as its base or reference model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from mia_hub.denoisers.run import CHECKPOINT, DenoiserTraining, Pace
from mia_hub.errors import ModelError, integer_at_least
from mia_hub.images.image import InputImage
from mia_hub.images.sequences import SelectedSequence
from mia_hub.images.sources import as_images
from mia_hub.models.families.latent_unet import LatentUNetModel
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.splits.training_images import TRAINING_FACTS, TRAINING_IDS
from mia_hub.system.files import home_folder, write_text

# 360,000 parameters at three channels, a little more or less at others.
CHANNELS = (16, 32, 40)
GROUPS = 8
FEWEST_IMAGES = 20
ENCODED_AT_ONCE = 32
INDEX = "model_index.json"


def train_reference(
    images: Any,
    like: str | DiffusionModel = "demo",
    out: str | Path | None = None,
    *,
    steps: int = Pace.steps,
    seed: int = 0,
    device: Any = None,
    revision: str | None = None,
    progress: bool = True,
    on_check: Callable[[int, float], None] | None = None,
) -> Path:
    """Train a small denoiser on other images of the kind, for ``base=…`` or ``reference_models=[…]``; the same call resumes a run.

    It has the model space, the noise schedule and the autoencoder of a model, some 360,000 parameters, and no condition. Like a model of
    flow matching it predicts the velocity ε - x0, and like any other ε. A tenth of the images is held out, and the weights of the lowest
    loss on these are kept.

    Args:
        images: 20 or more different images, better thousands: anything that `mia_hub.images.sources.as_images` takes. None of them may be
            among the known non-members later, nor among the images in question; their content ids are stored with the denoiser, so that
            this is checked.
        like: the model that will be audited: "demo", a folder, a Hub id, or a DiffusionModel.
        out: the folder that it is written to; by default one of its own in the home folder (`mia_hub.system.files.home_folder`).
        steps: number of training steps, of 32 images each.
        seed: of weights, batches and draws.
        device, revision: as for `mia_hub.load_model`.
        progress: shows progress bars.
        on_check: called with (finished steps, held-out loss) at each checkpoint.

    Returns:
        The folder, which `mia_hub.load_model` takes.

    Raises:
        ModelError: for a model without an autoencoder of a known kind, too few images, or a folder that holds something else.
    """
    pace = Pace(steps=integer_at_least("steps", steps, 1, ModelError), seed=integer_at_least("seed", seed, 0, ModelError))
    model = load_model(like, device=device, revision=revision)
    scheduler = _scheduler(model)
    given = as_images(images)
    rows = {image.id: row for row, image in enumerate(given)}
    if len(rows) < FEWEST_IMAGES:
        raise ModelError(f"{len(rows)} different images are too few to train a reference denoiser on; give {FEWEST_IMAGES} or more.")
    # In the order of their hashes, so that the part that is held out is a random one.
    ids = sorted(rows)
    identity = _identity(model, ids, pace)
    folder = home_folder() / "denoisers" / identity if out is None else Path(out)
    _check_folder(folder)
    x0 = _encoded(model, SelectedSequence(given, [rows[sample] for sample in ids]), progress)
    network = _network(model, seed)
    training = DenoiserTraining(folder, network, model.schedule, _is_flow(model), x0, pace, identity, model.device)
    training.run(progress=progress, on_check=on_check)
    _save(folder, model, network, scheduler)
    facts = {"data": "images of its user", "members": len(ids), "steps": pace.steps, "recipe": {"like": model.info.id, **vars(pace)}}
    write_text(folder / TRAINING_FACTS, json.dumps(facts, indent=2) + "\n")
    write_text(folder / TRAINING_IDS, "\n".join(ids) + "\n")
    return folder


def _identity(model: DiffusionModel, ids: list[str], pace: Pace) -> str:
    described = json.dumps([model.info.to_dict(), vars(pace), CHANNELS, ids], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:24]


def _check_folder(folder: Path) -> None:
    """Make a folder, and refuse one that holds something other than a reference denoiser."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise ModelError(f"The folder {folder} can't be made ({error.strerror}); give another one.") from error
    if others and CHECKPOINT not in others:
        raise ModelError(f"{folder} holds something other than a reference denoiser ({min(others)}); give another folder.")


def _scheduler(model: DiffusionModel) -> Any:
    """Return diffusers' scheduler of a model's noise schedule; of a flow, one without a shift, which the noise levels don't depend on.

    Raises:
        ModelError: for a model of latents whose autoencoder is of no kind that `mia_hub.load_model` reads beside a UNet2DModel.
    """
    from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

    info, kinds = model.info, LatentUNetModel.components[LatentUNetModel.autoencoder]
    if info.sample_shape != info.picture_shape and type(getattr(model, "vae", None)).__name__ not in kinds:
        raise ModelError(
            f"A reference denoiser can't be trained for {info.id}: it is made for models of pixels, and of latents with an autoencoder of "
            f"the kind {' or '.join(kinds)}. Give the model that it was fine-tuned from as its base."
        )
    if _is_flow(model):
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=info.num_train_timesteps, shift=1.0)
    alphas = model.schedule.signals.double() ** 2
    betas = 1 - alphas / torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
    return DDPMScheduler(num_train_timesteps=info.num_train_timesteps, trained_betas=betas.tolist())


def _is_flow(model: DiffusionModel) -> bool:
    return model.info.prediction_type == "flow_prediction"


def _encoded(model: DiffusionModel, images: Sequence[InputImage], progress: bool) -> torch.Tensor:
    """Return images in model space, float32 ``[N, C, H, W]`` on the CPU."""
    starts = tqdm(range(0, len(images), ENCODED_AT_ONCE), desc="encoding images", unit="batch", delay=1.0, disable=not progress)
    with torch.no_grad():
        batches = ([images[row] for row in range(start, min(start + ENCODED_AT_ONCE, len(images)))] for start in starts)
        return torch.cat([model.encode(batch).float().cpu() for batch in batches])


def _network(model: DiffusionModel, seed: int) -> Any:
    """Return a UNet2DModel with random weights; of small images, it halves the side less often."""
    from diffusers import UNet2DModel

    channels, height, width = model.info.sample_shape
    levels = next(n for n in (3, 2, 1) if n == 1 or (height % 2 ** (n - 1) == width % 2 ** (n - 1) == 0 and min(height, width) >= 2**n))
    down, up = ["DownBlock2D"] * levels, ["UpBlock2D"] * levels
    down[-1], up[0] = "AttnDownBlock2D", "AttnUpBlock2D"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet2DModel(
            sample_size=height if height == width else (height, width),
            in_channels=channels,
            out_channels=channels,
            block_out_channels=CHANNELS[:levels],
            layers_per_block=1,
            norm_num_groups=GROUPS,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
        )


def _save(folder: Path, model: DiffusionModel, network: Any, scheduler: Any) -> None:
    """Write a denoiser in diffusers' layout; one of latents with the model's own autoencoder."""
    network.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    index: dict[str, Any] = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", type(scheduler).__name__]}
    vae: Any = getattr(model, "vae", None)
    if vae is not None:
        vae.save_pretrained(folder / LatentUNetModel.autoencoder)
        index[LatentUNetModel.autoencoder] = ["diffusers", type(vae).__name__]
    index["_class_name"] = "DDPMPipeline" if vae is None else "LDMPipeline"
    write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
