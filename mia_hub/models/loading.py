"""From a name to a model: the embedded demo, a folder, or a Hub id pinned to a commit. safetensors only; no code is run."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from mia_hub.errors import ModelError, first_line

# Seconds for the Hub's first answer; without a limit, one that never answers would hang us.
HUB_TIMEOUT = 10
LARGEST_UNTRUSTED = 2 * 2**30
DEMO_FOLDER = Path(__file__).parent.parent / "demo"
WEIGHTS = "diffusion_pytorch_model"
COMPONENTS = {"unet", "scheduler"}
NO_CODE = "mia_hub never runs code that comes with a model. Load it yourself and wrap it with mia_hub.wrap_denoiser."
NOT_PIXEL = (
    "which this version can't audit: it audits unconditional pixel models (a UNet2DModel and a scheduler, as in a DDPMPipeline or "
    "DDIMPipeline). Any other model can be wrapped with mia_hub.wrap_denoiser."
)
ASK_OWNER = "Download it again, or ask its owner to repair it."


class Layout(NamedTuple):
    """Where a repository keeps what a pixel model needs; folders are "" when they are the repository's root."""

    unet: str
    scheduler: str
    scheduler_class: str
    variant: str | None

    @property
    def unet_config(self) -> str:
        return f"{self.unet}/config.json".lstrip("/")

    @property
    def scheduler_config(self) -> str:
        return f"{self.scheduler}/scheduler_config.json".lstrip("/")

    @property
    def shard_index(self) -> str:
        """Lists the files of weights that are split into several; most repositories have none."""
        return f"{self.unet}/{_shard_index(self.variant)}".lstrip("/")

    @property
    def weights(self) -> list[str]:
        """File patterns of the weights."""
        stem = f"{self.unet}/{_stem(self.variant)}".lstrip("/")
        return [f"{stem}.safetensors", f"{stem}-*-of-*.safetensors", self.shard_index]


def _stem(variant: str | None) -> str:
    return f"{WEIGHTS}.{variant}" if variant else WEIGHTS


def _shard_index(variant: str | None) -> str:
    return f"{WEIGHTS}.safetensors.index.{variant}.json" if variant else f"{WEIGHTS}.safetensors.index.json"


def load_model(id_or_path="demo", *, device=None, dtype=None, revision: str | None = None, trusted: bool = True):
    """Loads a diffusion model, ready to be queried.

    Args:
        id_or_path: "demo" (the embedded model), a folder in diffusers' layout, a Hub id such as ``google/ddpm-cifar10-32``,
            or a DiffusionModel, which is returned as it is.
        device: "cpu", "cuda", "mps"…; the best one present by default.
        dtype: "float32" (default), "float64", "bfloat16", "float16", or a torch dtype.
        revision: branch, tag or commit on the Hub; resolved to a commit hash, which is recorded.
        trusted: False for a name that comes from a stranger: then folders are refused, our own token is not used, and weights above
            2 GiB are not fetched.

    Returns:
        A DiffusionModel.

    Raises:
        ModelError: if it can't be found or reached, is gated, is no unconditional pixel diffusion model, has only pickled
            weights, or needs code of its own.
    """
    if hasattr(id_or_path, "predict_noise"):
        for option, value in {"device": device, "dtype": dtype, "revision": revision}.items():
            if value is not None:
                raise ModelError(
                    f"{option}={value!r} has no effect on a model that is loaded already; set it when loading, or leave it out."
                )
        return id_or_path
    name = str(id_or_path).strip()
    device, dtype = pick_device(device), pick_dtype(dtype)
    local = trusted and os.path.isdir(name)
    if revision is not None and (name == "demo" or local):
        raise ModelError(f"revision={revision!r} is for models on the Hub; {name} is a local one and has none. Leave it out.")
    if name == "demo":
        return _load_folder(DEMO_FOLDER / "model", "demo", None, device, dtype)
    if local:
        return _load_folder(Path(name), name, None, device, dtype)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ModelError(
            f"There is no model {name!r}: it is neither 'demo', nor an existing folder, nor a Hub id of the form 'owner/name' "
            f"(such as {_id_in_address(name) or 'google/ddpm-cifar10-32'!r})."
        )
    folder, commit = _download(name, revision, trusted)
    return _load_folder(folder, name, commit, device, dtype)


def _id_in_address(name: str) -> str | None:
    """The Hub id in the address of a model's page."""
    found = re.match(r"https?://[^/]+/(?!datasets/|spaces/)([\w.-]+/[\w.-]+)", name)
    return found and found[1]


def pick_device(device=None):
    """The asked device, or the best one present.

    Raises:
        ModelError: if the asked device isn't there.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(f"The device {device!r} is not available here ({first_line(error)}); try 'cpu'.") from error
    return found


def pick_dtype(dtype=None):
    """A torch dtype from its name or itself; float32 by default."""
    import torch

    choices = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
    found = choices.get(str(dtype or "float32").removeprefix("torch."))
    if found is None:
        raise ModelError(f"Unknown precision {dtype!r}; choose one of {', '.join(choices)}.")
    return found


def read_layout(files: set[str], index: dict | None, name: str) -> Layout:
    """Recognises a pixel model from a repository's file list and ``model_index.json``, before any weights are fetched.

    Raises:
        ModelError: with the reason, if it is none or can't be loaded safely.
    """
    if index is None:
        kind = "pickled or single-file weights" if any(f.endswith((".ckpt", ".pt", ".pth")) for f in files) else "no model_index.json"
        raise ModelError(
            f"{name} is not a diffusion model in diffusers' layout ({kind}). Needed is a repository with model_index.json, such as "
            "'google/ddpm-cifar10-32'. A model in another format can be wrapped with mia_hub.wrap_denoiser."
        )
    pipeline = index.get("_class_name")
    components = {key: value for key, value in index.items() if isinstance(value, list) and not key.startswith("_") and value[:1] != [None]}
    if not isinstance(pipeline, str):
        raise ModelError(f"{name} needs code from its own repository (its pipeline); {NO_CODE}")
    if set(components) != COMPONENTS:
        raise ModelError(f"{name} is a {pipeline}, {NOT_PIXEL}")
    for key, value in components.items():
        if len(value) != 2 or not all(isinstance(part, str) for part in value):
            raise ModelError(f"{name} is broken: model_index.json should give library and class of its {key}, not {value}. {ASK_OWNER}")
        if value[0] != "diffusers":
            raise ModelError(f"{name} needs code from its own repository (its component {key!r}, from {value[0]!r}); {NO_CODE}")
    if components["unet"][1] != "UNet2DModel":
        raise ModelError(f"{name} is a {pipeline} with a {components['unet'][1]}, {NOT_PIXEL}")
    unet = _component("unet", "config.json", files, name)
    scheduler = _component("scheduler", "scheduler_config.json", files, name)
    prefix = f"{unet}/" if unet else ""
    weights = {f.removeprefix(prefix) for f in files if f.startswith(prefix)}
    for variant in (None, "fp16"):
        if f"{_stem(variant)}.safetensors" in weights or _shard_index(variant) in weights:
            return Layout(unet, scheduler, components["scheduler"][1], variant)
    if any(f.endswith((".bin", ".pt", ".ckpt")) for f in weights):
        raise ModelError(
            f"{name} has only pickled weights, which can run code when they are opened; mia_hub loads safetensors alone. "
            "Ask its owner to add safetensors (https://huggingface.co/spaces/safetensors/convert does it), or convert a copy you trust."
        )
    raise ModelError(f"{name} has no weights: {WEIGHTS}.safetensors is missing from its {unet or 'root'} folder. {ASK_OWNER}")


def _component(component: str, config: str, files: set[str], name: str) -> str:
    # Older repositories keep the files of a one-network pipeline in their root.
    for folder in (component, ""):
        if f"{folder}/{config}".lstrip("/") in files:
            return folder
    raise ModelError(f"{name} is incomplete: its {component} has no {config}. {ASK_OWNER}")


def _load_folder(folder: Path, name: str, revision: str | None, device, dtype):
    import diffusers

    from mia_hub.models.pixel import PixelModel

    files = {str(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file()}
    index = _read_json(folder / "model_index.json", name) if "model_index.json" in files else None
    layout = read_layout(files, index, name)
    scheduler = _read_configs(folder, layout, name)
    if layout.shard_index in files:
        _check_shards(folder / layout.shard_index, name)
    with _broken_files(name), _quiet_diffusers():
        unet, loading = diffusers.UNet2DModel.from_pretrained(
            folder / layout.unet,
            use_safetensors=True,
            variant=layout.variant,
            low_cpu_mem_usage=False,
            output_loading_info=True,
            local_files_only=True,
        )
    if loading["missing_keys"]:
        raise ModelError(
            f"{name} is incomplete: {len(loading['missing_keys'])} weights are missing (such as {min(loading['missing_keys'])}), "
            f"and would have been random. {ASK_OWNER}"
        )
    if revision is None:
        revision = _weights_hash(folder / layout.unet)
    return PixelModel(unet, scheduler, id=name, revision=revision, device=device, dtype=dtype)


def _read_configs(folder: Path, layout: Layout, name: str):
    """The scheduler, once it and the network's config are seen to make a pixel model; needs no weights.

    Raises:
        ModelError: if they don't.
    """
    import diffusers
    import torch

    from mia_hub.models.pixel import check_pixel_model

    unet_config = _read_json(folder / layout.unet_config, name)
    scheduler_config = _read_json(folder / layout.scheduler_config, name)
    scheduler_class = getattr(diffusers, layout.scheduler_class, None)
    if not isinstance(scheduler_class, type) or not issubclass(scheduler_class, diffusers.SchedulerMixin):
        raise ModelError(
            f"{name} uses the scheduler {layout.scheduler_class}, which the installed diffusers {diffusers.__version__} lacks; "
            "a newer one may have it ('pip install --upgrade diffusers')."
        )
    with _broken_files(name), _quiet_diffusers():
        scheduler = scheduler_class.from_config(scheduler_config)
        with torch.device("meta"):  # a network without memory: its constructor fills in defaults and refuses a wrong config
            unet = diffusers.UNet2DModel.from_config(unet_config)
    check_pixel_model(unet.config, scheduler, name)
    return scheduler


def _check_shards(index: Path, name: str) -> None:
    # diffusers opens whatever files the index names, pickled ones too.
    shards = _read_json(index, name).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) else {None}
    if not all(isinstance(shard, str) and re.fullmatch(r"[\w.-]+\.safetensors", shard) for shard in names):
        raise ModelError(f"{name} is refused: {index.name} names weights that are no safetensors files beside it. {ASK_OWNER}")


@contextmanager
def _broken_files(name: str):
    try:
        yield
    except Exception as error:  # diffusers raises many kinds for a broken repository; the user needs one clear message
        raise ModelError(f"{name} could not be loaded ({first_line(error)}). {ASK_OWNER}") from error


def _download(name: str, revision: str | None, trusted: bool) -> tuple[Path, str]:
    """Fetches what a pixel model needs at one commit, weights last; a model in the local cache serves when there is no network."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    at = f" at revision {revision!r}" if revision else ""
    token = None if trusted else False
    with _hub_errors(name, at):
        try:
            info = HfApi(token=token).model_info(name, revision=revision, files_metadata=not trusted, timeout=HUB_TIMEOUT)
        except (HfHubHTTPError, ValueError):
            raise
        except (OSError, HTTPError) as error:
            try:
                folder = Path(hf_hub_download(name, "model_index.json", revision=revision, local_files_only=True)).parent
            except LocalEntryNotFoundError:
                raise ModelError(
                    f"The Hub can't be reached ({type(error).__name__}), and {name}{at} is not in the local cache. "
                    "Connect to the network, or give a folder, or 'demo'."
                ) from error
            return folder, folder.name
        files = {sibling.rfilename for sibling in info.siblings or []}
        index = None
        if "model_index.json" in files:
            index = _read_json(Path(hf_hub_download(name, "model_index.json", revision=info.sha, token=token)), name)
        layout = read_layout(files, index, name)
        configs = ["model_index.json", layout.unet_config, layout.scheduler_config]
        folder = Path(snapshot_download(name, revision=info.sha, allow_patterns=configs, token=token))
        _read_configs(folder, layout, name)
        if not trusted:
            _refuse_large(info.siblings, layout, name)
        snapshot_download(name, revision=info.sha, allow_patterns=layout.weights, token=token)
        # Asking by branch, once all is there, makes the cache note which commit the branch is: it serves when there is no network.
        hf_hub_download(name, "model_index.json", revision=revision, token=token)
        return folder, info.sha


def _refuse_large(siblings, layout: Layout, name: str) -> None:
    size = sum(f.size or 0 for f in siblings if any(fnmatch(f.rfilename, pattern) for pattern in layout.weights))
    if size > LARGEST_UNTRUSTED:
        raise ModelError(
            f"The weights of {name} are {size / 2**30:.1f} GiB; here at most {LARGEST_UNTRUSTED / 2**30:.0f} GiB are fetched. "
            "Check such a model on a machine of your own, with the command line or a script."
        )


@contextmanager
def _hub_errors(name: str, at: str):
    """The Hub client's errors, said for a person."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise ModelError(
            f"{name} is gated: accept its terms on https://huggingface.co/{name}, then log in with 'hf auth login' (or set HF_TOKEN)."
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{name} has no revision{at.removeprefix(' at revision')}; leave it out for the newest.") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"The Hub has no model {name!r} that you may see. Check the spelling; for a private one log in with 'hf auth login' "
            "(or set HF_TOKEN)."
        ) from error
    except HFValidationError as error:
        raise ModelError(f"{name!r} is not a valid Hub id; it should look like 'owner/name'.") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        advice = "your token may be outdated: log in again with 'hf auth login'" if status in (401, 403) else "try again later"
        raise ModelError(f"The Hub answered {status} when asked for {name}{at}; {advice}.") from error
    except (OSError, HTTPError) as error:
        why = f"{type(error).__name__}: {first_line(error)}"
        raise ModelError(f"The download of {name}{at} broke off ({why}); try again, it goes on where it stopped.") from error
    except ValueError as error:
        raise ModelError(
            f"What answered for the Hub when asked for {name}{at} is not the Hub ({first_line(error)}). "
            "Check that no log-in page of your network stands in between, and HF_ENDPOINT if you set it."
        ) from error


@contextmanager
def _quiet_diffusers():
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _read_json(path: Path, name: str) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} is broken: {path.name} is not readable JSON. {ASK_OWNER}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{name} is broken: {path.name} should hold a JSON object. {ASK_OWNER}")
    return value


def _weights_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return "sha256:" + digest.hexdigest()
