"""What lies on top of a model: a LoRA, a fine-tuned part, or a single-file checkpoint that brings its own weights.

Named after a plus sign: ``"stable-diffusion-v1-5/stable-diffusion-v1-5 + someone/their-lora"``. Each is a folder, a ``.safetensors`` file,
a Hub id, or a file or folder of a Hub repository (``owner/name/file.safetensors``, ``owner/name/unet``); on the Hub, ``@revision`` may
follow.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from mia_hub.errors import ModelError
from mia_hub.models.layout import INDEX
from mia_hub.models.overlays.checkpoint import Checkpoint
from mia_hub.models.overlays.lora import DOWN, LoRA
from mia_hub.models.overlays.part import Part
from mia_hub.models.overlays.top import PEFT_CONFIG, Top, beside, remember, shapes_in
from mia_hub.models.repository import LARGEST_UNTRUSTED, Folder, no_revision, open_repository

LORA_FILE = "pytorch_lora_weights.safetensors"
PICKLED = (".ckpt", ".pt", ".pth", ".bin")
ADAPTER_KEY = re.compile(rf"{DOWN.pattern}|[._](hada|lokr|oft|boft|lora)_|\.diff(_b)?$|dora_scale$")
CHECKPOINT_KEY = re.compile(
    r"^model\.diffusion_model\.|^double_blocks\.0\.|^joint_blocks\.0\.|^(first_stage_model\.|vae\.)?encoder\.down\.0\."
)


def split_name(name: str) -> list[str]:
    """``"base + top"`` to its names; the base comes first."""
    return [part.strip() for part in re.split(r"\s\+(?:\s|$)", name.strip())]


def open_top(name: str, revision: str | None = None, *, trusted: bool = True, largest: int = LARGEST_UNTRUSTED) -> Top:
    """Recognises what a name stands for; what must be seen to tell is fetched.

    Args:
        name: as after the plus sign.
        revision: of a repository on the Hub, where the name gives none.
        trusted, largest: as for `mia_hub.load_model`.

    Raises:
        ModelError: if it can't be found, or is nothing that goes on top of a model.
    """
    repository, path = locate_top(name, revision, trusted=trusted, largest=largest)
    if path in repository.sizes:
        return _file(repository, path, name)
    weights = [file for file in sorted(repository.sizes) if file.startswith(f"{path}/".lstrip("/")) and file.endswith(".safetensors")]
    return Part(name, repository, path, repository.revision or repository.hash(weights))


def locate_top(name: str, revision: str | None = None, *, trusted: bool = True, largest: int = LARGEST_UNTRUSTED) -> tuple[Folder, str]:
    """The repository that a name stands for, and the path in it of a file or of a part's folder; nothing is fetched.

    Args:
        name, revision, trusted, largest: as for `open_top`.

    Raises:
        ModelError: if it can't be found.
    """
    if not name:
        raise ModelError("Nothing stands after a plus sign; name a LoRA, a fine-tuned part or a checkpoint there, or leave the sign out.")
    if trusted and os.path.isfile(name):
        no_revision(revision, name)
        repository, path = _OneFile(Path(name).absolute(), name), os.path.basename(name)
    else:
        here = trusted and os.path.isdir(name)
        address, _, asked = (name, "", "") if here else name.partition("@")
        # A folder that is here is meant as a whole, however its path would read as a name on the Hub.
        inside = None if here else re.fullmatch(r"(\w[\w.-]*/[\w.-]+)/(.+?)/?", address)
        repository = open_repository(inside[1] if inside else address, asked or revision, trusted=trusted, largest=largest)
        path = inside[2] if inside else _found(repository, name)
    if path not in repository.sizes and f"{path}/config.json".lstrip("/") not in repository.sizes:
        raise ModelError(f"{repository.name} has no file or part {path}; it has {', '.join(sorted(repository.sizes)[:10])}.")
    return repository, path


class _OneFile(Folder):
    """A file, and peft's configuration beside it; what else lies in its folder may be much, and is not looked at."""

    def __init__(self, file: Path, name: str):
        self.root, self.name, self.revision = file.parent, name, None
        self.sizes = {path.name: path.stat().st_size for path in (file, file.with_name(PEFT_CONFIG)) if path.is_file()}


def _file(repository: Folder, path: str, name: str) -> Top:
    """A LoRA or a checkpoint, by the names of its weights."""
    if not path.endswith(".safetensors"):
        raise ModelError(
            f"{name} is no safetensors file; pickled weights can run code when they are opened, and are not read. Convert a copy that you "
            "trust."
        )
    repository.fetch([glob.escape(path)])
    remember(repository, path)
    keys = shapes_in(repository.root / path, name)
    kind = LoRA if any(ADAPTER_KEY.search(key) for key in keys) else Checkpoint if any(CHECKPOINT_KEY.search(key) for key in keys) else None
    if kind is None:
        raise ModelError(
            f"{name} is neither a LoRA nor a checkpoint in its authors' layout: its weights have names such as "
            f"{min(keys, default='(none)')!r}. A part in diffusers' layout is given as its folder, with config.json."
        )
    own = [path, *([config] if (config := beside(path)) in repository.sizes else [])]
    return kind(name, repository, path, repository.revision or repository.hash(own))


def _found(repository: Folder, name: str) -> str:
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
        these = sorted(parts) or sorted(files)
        raise ModelError(f"{name} holds {len(these)} {'parts' if parts else 'files of weights'}; name one, such as {name}/{these[0]}.")
    if any(path.endswith(PICKLED) for path in repository.sizes):
        raise ModelError(f"{name} has only pickled weights, which can run code when they are opened; mia_hub loads safetensors alone.")
    raise ModelError(f"{name} has neither a safetensors file nor a part in diffusers' layout, so it can't go on top of a model.")
