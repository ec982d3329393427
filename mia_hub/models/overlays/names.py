"""Names of overlays: from a name after a plus sign to a LoRA, a fine-tuned part, or a single-file checkpoint that brings its own weights.

Such as ``"stable-diffusion-v1-5/stable-diffusion-v1-5 + someone/their-lora"``. Each overlay is a folder, a ``.safetensors`` file, a Hub id,
or a file or folder of a Hub repository (``owner/name/file.safetensors``, ``owner/name/unet``); on the Hub, ``@revision`` may follow.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from mia_hub.errors import ModelError
from mia_hub.models.layout import INDEX
from mia_hub.models.overlays.checkpoint import Checkpoint
from mia_hub.models.overlays.fine_tuned_part import FineTunedPart
from mia_hub.models.overlays.lora import LoRA
from mia_hub.models.overlays.lora_names import DOWN
from mia_hub.models.overlays.overlay import PEFT_CONFIG, Overlay, beside, shapes_in
from mia_hub.models.repository import TRUSTED, Access, Folder, open_repository, refuse_revision

LORA_FILE = "pytorch_lora_weights.safetensors"
PICKLED = (".ckpt", ".pt", ".pth", ".bin")
ADAPTER_KEY = re.compile(rf"{DOWN.pattern}|[._](hada|lokr|oft|boft|lora)_|\.diff(_b)?$|dora_scale$")
CHECKPOINT_KEY = re.compile(
    r"^model\.diffusion_model\.|^double_blocks\.0\.|^joint_blocks\.0\.|^(first_stage_model\.|vae\.)?encoder\.down\.0\."
)


def base_and_overlays(name: str) -> list[str]:
    """The names in ``"base + overlay"``; the base comes first."""
    return [part.strip() for part in re.split(r"\s\+(?:\s|$)", name.strip())]


def open_overlay(name: str, revision: str | None = None, access: Access = TRUSTED) -> Overlay:
    """The overlay of a name; files whose content shows its kind are fetched.

    Args:
        name: as after the plus sign.
        revision: of a repository on the Hub, if the name has none.
        access: rights of the person who named it.

    Raises:
        ModelError: if it can't be found, or can't go on top of a model.
    """
    repository, path = locate_overlay(name, revision, access)
    name = recorded_name(name, repository)
    if path in repository.sizes:
        return _overlay_of_file(repository, path, name)
    weights = [file for file in sorted(repository.sizes) if file.startswith(f"{path}/".lstrip("/")) and file.endswith(".safetensors")]
    return FineTunedPart(name, repository, path, repository.revision or repository.hash(weights))


def locate_overlay(name: str, revision: str | None = None, access: Access = TRUSTED) -> tuple[Folder, str]:
    """The repository of an overlay, and the path in it of a file or of a part's folder; nothing is fetched.

    Args:
        name, revision, access: as for `open_overlay`.

    Raises:
        ModelError: if it can't be found.
    """
    if not name:
        raise ModelError("There is nothing after a plus sign; name a LoRA, a fine-tuned part or a checkpoint there, or leave the sign out.")
    if access.trusted and os.path.isfile(name):
        refuse_revision(revision, name)
        return _OneFile(Path(name).absolute(), name), os.path.basename(name)
    local = access.trusted and os.path.isdir(name)
    address, _, own_revision = (name, "", "") if local else name.partition("@")
    # The name of a folder stands for all of it, however it would read as a name on the Hub.
    inside = None if local else re.fullmatch(r"(\w[\w.-]*/[\w.-]+)/(.+?)/?", address)
    repository = open_repository(inside[1] if inside else address, own_revision or revision, access)
    path = inside[2] if inside else _only_overlay(repository, name)
    if path not in repository.sizes and f"{path}/config.json".lstrip("/") not in repository.sizes:
        raise ModelError(f"{repository.name} has no file or part {path}; it has {', '.join(sorted(repository.sizes)[:10])}.")
    return repository, path


def recorded_name(name: str, repository: Folder) -> str:
    """The name of an overlay as results record it: that of its repository is spelled as the Hub spells it."""
    return repository.name + name.removeprefix(repository.given_name)


class _OneFile(Folder):
    """A file, and peft's configuration beside it; the rest of its folder may be large, and is not listed."""

    def __init__(self, file: Path, name: str):
        self.root, self.name, self.given_name, self.revision = file.parent, name, name, None
        self.sizes = {path.name: path.stat().st_size for path in (file, file.with_name(PEFT_CONFIG)) if path.is_file()}


def _overlay_of_file(repository: Folder, path: str, name: str) -> Overlay:
    """A LoRA or a checkpoint, by the names of its weights."""
    if not path.endswith(".safetensors"):
        raise ModelError(
            f"{name} is no safetensors file; pickled weights can run code when they are opened, and are not read. Convert a copy that you "
            "trust."
        )
    repository.fetch([glob.escape(path)])
    repository.remember(path)
    keys = shapes_in(repository.root / path, name)
    revision = repository.revision or repository.hash([path, *([config] if (config := beside(path)) in repository.sizes else [])])
    if any(ADAPTER_KEY.search(key) for key in keys):
        return LoRA(name, repository, path, revision)
    if any(CHECKPOINT_KEY.search(key) for key in keys):
        return Checkpoint(name, repository, path, revision)
    raise ModelError(
        f"{name} is neither a LoRA nor a checkpoint in its authors' layout: its weights have names such as "
        f"{min(keys, default='(none)')!r}. A part in diffusers' layout is given as its folder, with config.json."
    )


def _only_overlay(repository: Folder, name: str) -> str:
    """Path of the one file of weights in the root of a repository, or of the one folder that holds a part in diffusers' layout."""
    files = [path for path in repository.sizes if path.endswith(".safetensors") and "/" not in path]
    if INDEX in repository.sizes:
        raise ModelError(f"{name} is a whole model; give it alone, not on top of another, or one part of it, such as {name}/unet.")
    if LORA_FILE in files:
        return LORA_FILE
    parts = [path.rpartition("/")[0] for path in repository.sizes if re.fullmatch(r"([^/]+/)?config\.json", path)]
    if len(parts) == 1:
        return parts[0]
    if len(files) == 1 and not parts:
        return files[0]
    if parts or files:
        choices = sorted(parts) or sorted(files)
        raise ModelError(f"{name} holds {len(choices)} {'parts' if parts else 'files of weights'}; name one, such as {name}/{choices[0]}.")
    if any(path.endswith(PICKLED) for path in repository.sizes):
        raise ModelError(f"{name} has only pickled weights, which can run code when they are opened; mia_hub loads safetensors alone.")
    raise ModelError(f"{name} has neither a safetensors file nor a part in diffusers' layout, so it can't go on top of a model.")
