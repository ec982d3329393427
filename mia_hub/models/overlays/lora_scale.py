"""The scale of a LoRA's updates, alpha / rank, from wherever its trainer stored the alpha."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mia_hub.models.overlays.lora_names import part_and_module
from mia_hub.models.overlays.overlay import Base

ALPHAS = ("lora_alpha", "alpha", "network_alpha", "lora_network_alpha", "adapter_alpha", "linear_alpha")
RANKS = ("r", "rank", "lora_r", "lora_rank", "network_dim", "network_rank", "lora_dim")
# Endings of the entry that holds the alpha of one update.
OF_ONE_UPDATE = (".alpha", ".lora_alpha", ".network_alpha", ".lora.alpha", "_lora.alpha", ".lora_linear_layer.alpha")
# JSON in the metadata that holds no settings of the network.
OTHER_JSON = re.compile(r"tag|dataset|bucket|prompt|workflow|caption", re.IGNORECASE)
PATTERNS = ("alpha_pattern", "rank_pattern")


@dataclass(frozen=True)
class Setting:
    """One setting of a LoRA.

    Attributes:
        part: of the base that it is for; "" for all.
        key: its name, such as "lora_alpha", in lower case and without a prefix.
        value: as it is stored.
        source: its whole name, for messages.
    """

    part: str
    key: str
    value: Any
    source: str


class LoRASettings:
    """The settings in a LoRA's file and beside it.

    Args:
        metadata: of the safetensors file.
        config: peft's adapter_config.json; empty without one.
        entries: entries of the file that are single numbers and belong to no update.
        base: what the LoRA goes on.
        own_part: the part of the base that ``config`` is for.
    """

    def __init__(self, metadata: Mapping[str, str], config: Mapping[str, Any], entries: Mapping[str, float], base: Base, own_part: str):
        self._base = base
        parts = {*base.components, "unet", "transformer"}
        self._settings = [*_settings(metadata, parts, base.adapter.denoiser), *_settings(entries, parts, base.adapter.denoiser)]
        self._settings += [Setting(own_part, key, value, f"{key} in adapter_config.json") for key, value in config.items()]

    @property
    def has_alpha(self) -> bool:
        """Whether an alpha is stored, for all updates or for those of one part."""
        return any(setting.key in (*ALPHAS, "alpha_pattern") for setting in self._settings)

    def scale(self, stem: str, shape: tuple[int, ...]) -> float:
        """The scale of an update that has no alpha of its own; 1 if none is stored.

        Args:
            stem: name of the update in the file.
            shape: of its first matrix, whose length is the rank.

        Raises:
            ValueError: for settings that can't be applied, with the reason.
        """
        part, module = part_and_module(stem, self._base)
        rank, convolution = shape[0], len(shape) == 4 and shape[-1] > 1
        self._refuse_unknown()
        alpha = self._pattern(part, "alpha_pattern", module)
        if alpha is None:
            alpha = self._number(part, ("conv_alpha",)) if convolution else None
        if alpha is None:
            alpha = self._number(part, ALPHAS)
        if alpha is None:
            return 1.0
        initialised = str(self._value(part, "init_lora_weights"))
        if initialised.partition("_")[0] in ("pissa", "olora", "corda", "loftq", "lora"):
            raise ValueError(f"it needs other base weights: init_lora_weights is {initialised!r}")
        stated = self._pattern(part, "rank_pattern", module)
        if stated is None:
            stated = self._number(part, ("conv_dim", "conv_rank")) if convolution else None
        if stated is None:
            stated = self._number(part, RANKS)
        if stated is not None and stated != rank:
            raise ValueError(f"its settings state a rank of {stated:g} for {stem}, whose matrices have {rank}; its scale is uncertain")
        rank_stabilised = str(self._value(part, "use_rslora")).lower() in ("true", "1")
        return alpha / (rank**0.5 if rank_stabilised else rank)

    def _of(self, part: str, keys: tuple[str, ...]) -> list[Setting]:
        """The settings for a part; those for all parts, if it has none of its own."""
        known = [setting for setting in self._settings if setting.key in keys and not _is_unset(setting.value)]
        return [setting for setting in known if setting.part == part] or [setting for setting in known if not setting.part]

    def _value(self, part: str, key: str) -> Any:
        return next((setting.value for setting in self._of(part, (key,))), None)

    def _number(self, part: str, keys: tuple[str, ...]) -> float | None:
        settings = self._of(part, keys)
        numbers = {setting.source: _number(setting) for setting in settings}
        if len(set(numbers.values())) > 1:
            both = ", ".join(f"{source} = {value:g}" for source, value in numbers.items())
            raise ValueError(f"its settings contradict each other: {both}")
        return next(iter(numbers.values()), None)

    def _pattern(self, part: str, key: str, module: str) -> float | None:
        """The value of the first pattern that a layer matches, as peft matches them."""
        patterns = self._value(part, key)
        if isinstance(patterns, str):
            patterns = json.loads(patterns)
        for pattern, value in (patterns or {}).items():
            plain = pattern.replace("\\.", ".").removesuffix("$")
            if not re.fullmatch(r"\^?[\w.]+", plain):
                raise ValueError(f"its {key} {pattern!r} is no plain name")
            layer, whole = plain.removeprefix("^"), plain.startswith("^")
            for name, end in ((layer, f".{layer}"), (layer.replace(".", "_"), f"_{layer.replace('.', '_')}")):
                if module == name or (not whole and module.endswith(end)):
                    return _number(Setting(part, key, value, f"{key}[{pattern!r}]"))
        return None

    def _refuse_unknown(self) -> None:
        """Refuse an alpha whose meaning is unknown.

        Raises:
            ValueError: with its name.
        """
        for setting in self._settings:
            known = (*ALPHAS, "conv_alpha", *PATTERNS)
            if setting.key not in known and re.search(r"(^|_)alphas?($|_|\d)", setting.key) and _is_number(setting.value):
                raise ValueError(
                    f"it states an alpha in a way that is not known: {setting.source} = {setting.value}; its scale is uncertain"
                )


def alpha_key(stem: str, keys: Mapping[str, Any]) -> str | None:
    """The entry that holds the alpha of an update; None without one."""
    return next((stem + ending for ending in OF_ONE_UPDATE if stem + ending in keys), None)


def is_alpha(key: str) -> bool:
    """Whether an entry of a file is an alpha, by its name."""
    return re.search(r"(^|[._])alphas?$", key) is not None


def _settings(metadata: Mapping[str, Any], parts: set[str], denoiser: str) -> Iterator[Setting]:
    for path, value in _flattened(metadata):
        words = path.split(".")
        part = next((word for word in words[:-1] if word in parts), denoiser if "diffusion_model" in words[:-1] else "")
        key = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", words[-1]).lower().replace("-", "_")
        yield Setting(part, re.sub(r"^(ss|ot)_", "", key), value, path)


def _flattened(values: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Entries with their paths, also those in JSON, but for patterns, which are kept whole."""
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, str) and value.lstrip().startswith("{") and not OTHER_JSON.search(key):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                if "lora" in key.lower() or "adapter" in key.lower():
                    raise ValueError(f"its metadata {key} is not readable") from error
                continue
        if isinstance(value, Mapping) and key.rpartition(".")[2] not in PATTERNS and depth < 3:
            yield from _flattened(value, f"{path}.", depth + 1)
        else:
            yield path, value


def _is_unset(value: Any) -> bool:
    return value is None or value == {} or str(value).strip().lower() in ("", "none", "null")


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _number(setting: Setting) -> float:
    if not _is_number(setting.value):
        raise ValueError(f"{setting.source} is {setting.value!r}, which is no number; its scale is uncertain")
    return float(setting.value)
