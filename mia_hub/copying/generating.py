"""Generate images for a search of copies, batch by batch, each stored as a file as soon as it is there, so that a run can resume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from mia_hub.attacks.identity import content_hash, model_identity
from mia_hub.errors import MiaHubError, ModelError
from mia_hub.models.conditions import resolved_conditions
from mia_hub.system.files import replacing, write_text

if TYPE_CHECKING:
    from mia_hub.attacks.querying import QueriedModel
    from mia_hub.models.protocol import DiffusionModel

GENERATED, RECORD = "generated", "generated.json"
# Of text-to-image models: the weight that diffusers' pipelines of Stable Diffusion sample with by default.
USUAL_GUIDANCE = 7.5
CAPTIONS, EMPTY_PROMPTS = "captions", "empty"


@dataclass(frozen=True)
class Sampling:
    """How images are generated.

    Attributes:
        steps: number of deterministic DDIM steps.
        guidance: weight of classifier-free guidance; 1 is without.
        seed: of the noise, and of the order of the prompts.
        prompts: captions or classes in the order in which they are used, again from the first one where there are too few; None for an
            unconditional model.
    """

    steps: int
    guidance: float
    seed: int
    prompts: Sequence[Any] | None

    def prompt(self, number: int) -> Any:
        """Return the prompt of an image by its number; None without prompts."""
        return None if self.prompts is None else self.prompts[number % len(self.prompts)]


def choose_guidance(model: DiffusionModel, guidance: float | None, prompts: Sequence[Any] | None) -> float:
    """Return the weight of classifier-free guidance; by default `USUAL_GUIDANCE` for text-to-image models that are not trained by flow.

    Raises:
        ModelError: if the weight is no number ≥ 0, or the model has no empty condition.
    """
    if prompts is None:
        return 1.0
    if guidance is None:
        return USUAL_GUIDANCE if model.info.family == "text-to-image" and any(prompts) else 1.0
    if not np.isfinite(guidance) or guidance < 0:
        raise ModelError(f"guidance must be a number ≥ 0; got {guidance!r}. 1 is without guidance, 7.5 is usual.")
    if guidance != 1 and model.info.conditioning == "class" and getattr(model, "null_class", None) is None:
        raise ModelError(f"{model.info.id} was never trained without a class, so it can't be guided; leave guidance out.")
    return float(guidance)


def choose_prompts(model: DiffusionModel, prompts: Any, captions: Sequence[Any] | None, seed: int) -> list[Any] | None:
    """Return what a model is conditioned on, in the order in which it is used; None for an unconditional model.

    Args:
        model: its conditioning says what a prompt is: a text, or a class index.
        prompts: "captions" (those of the training images, in random order; empty ones where there are none), "empty", or prompts to use.
        captions: of the training images, or None.
        seed: of the random order.

    Raises:
        ModelError: if the model takes no prompts, or needs other ones.
    """
    if model.info.conditioning == "none":
        if not isinstance(prompts, str) or prompts not in (CAPTIONS, EMPTY_PROMPTS):
            raise ModelError(f"{model.info.id} is an unconditional model and takes no prompts; leave them out.")
        return None
    if isinstance(prompts, str):
        if prompts not in (CAPTIONS, EMPTY_PROMPTS):
            raise ModelError(f"prompts must be 'captions', 'empty', or a list of prompts; got {prompts!r}.")
        chosen = None if prompts == EMPTY_PROMPTS or captions is None else captions
        if chosen is not None:
            order = np.random.default_rng(seed).permutation(len(chosen)).tolist()
            chosen = [chosen[row] if chosen[row] is not None else "" for row in order]
    else:
        chosen = list(prompts)
        if not chosen:
            raise ModelError("There are no prompts; give one or more, or leave them out for the captions of the training images.")
    if chosen is None and model.info.conditioning == "class" and getattr(model, "null_class", None) is None:
        raise ModelError(
            f"{model.info.id} always needs a class, and none is known here. Name the column of the training images' classes "
            "(--class-column, class_column=…), or give class indices as prompts."
        )
    resolved, _ = resolved_conditions(model, chosen, 1 if chosen is None else len(chosen))
    return None if resolved is None else list(resolved)


def generate_images(
    model: DiffusionModel, sampling: Sampling, count: int, folder: Path, *, batch_size: int | None = None, progress: bool = False
) -> list[Path]:
    """Generate images as PNG files; those that are already there are used again.

    Args:
        model: that generates them.
        sampling: how.
        count: number of images.
        folder: in whose subfolder they are stored. The same model and sampling find their images there again, also where fewer or more
            are wanted.
        batch_size: images that are sampled at once; halved by itself when memory runs out.
        progress: shows a progress bar.

    Returns:
        The files, ``count`` of them.

    Raises:
        MiaHubError: if the folder holds images of another model, or sampled in another way.
    """
    import torch

    from mia_hub.attacks.generation import generate
    from mia_hub.attacks.querying import QueriedModel, full_precision
    from mia_hub.models.rows import default_rows

    queried = QueriedModel(model, 1)
    rows, resumes = _open_record(folder, model, sampling, queried.device_name, batch_size or default_rows(model))
    queried.rows = rows
    files = [folder / GENERATED / f"{number:06}.png" for number in range(count)]
    bar = tqdm(total=count, unit="image", desc="generating", disable=not progress)
    with bar, torch.no_grad(), full_precision():
        for start in range(0, count, rows):
            batch = range(start, min(start + rows, count))
            if not (resumes and all(files[number].is_file() for number in batch)):
                _store(_sampled(queried, generate, batch, sampling), files[batch.start : batch.stop])
            bar.update(len(batch))
    return files


def _sampled(queried: QueriedModel, generate: Any, batch: range, sampling: Sampling) -> Any:
    """Return the images of a batch, uint8 ``[n, H, W, C]``; in smaller batches once memory has run out."""
    options = {"steps": sampling.steps, "seed": sampling.seed, "guidance": sampling.guidance}

    def sample(rest: range) -> Any:
        numbers = rest[: queried.rows]
        prompts = None if sampling.prompts is None else [sampling.prompt(number) for number in numbers]
        pixels = generate(queried, [f"generated {number}" for number in numbers], prompts, **options)
        return pixels.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    parts: list[Any] = []
    while (done := sum(map(len, parts))) < len(batch):
        parts.append(queried.retry_with_fewer_rows(partial(sample, batch[done:])))
    return np.concatenate(parts)


def _store(pixels: Any, files: list[Path]) -> None:
    for image, file in zip(pixels, files, strict=True):
        with replacing(file) as temporary:
            Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(temporary, format="PNG")


def _open_record(folder: Path, model: DiffusionModel, sampling: Sampling, device: str, rows: int) -> tuple[int, bool]:
    """Return the batch size of the images in a folder, and whether they are used again; write the record of a new run.

    Raises:
        MiaHubError: if the images there are those of another run.
    """
    identity = {
        **model_identity(model),
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "seed": sampling.seed,
        "prompts": None if sampling.prompts is None else content_hash(repr(sampling.prompts).encode()),
        "device": device,
    }
    identity, record = json.loads(json.dumps(identity)), folder / RECORD
    try:
        stored = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
        (folder / GENERATED).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise MiaHubError(f"{record} can't be read; remove it with the folder {GENERATED} beside it, or give another folder.") from error
    if stored is None and any((folder / GENERATED).iterdir()):
        raise MiaHubError(f"{folder / GENERATED} holds files of something else; give another folder to --out.")
    if stored is not None:
        known = stored.get("identity") if isinstance(stored, dict) and isinstance(stored.get("rows"), int) else None
        other = [name for name in identity if not isinstance(known, dict) or known.get(name) != identity[name]]
        if other:
            raise MiaHubError(
                f"{folder} holds the images of another run, which differs in: {', '.join(other)}. Give another folder to --out, or compare "
                f"these images as they are, with --generated {folder / GENERATED} and the training images as --training."
            )
        # A wrapped function has no revision to be known by: its images are generated anew.
        if model.info.revision is not None:
            return int(stored["rows"]), True
    write_text(record, json.dumps({"identity": identity, "rows": rows}, indent=2))
    return rows, False
