"""Statements about how a network was trained: what it predicts and at which noise levels, as trainers leave them in files.

They stand in entries of a checkpoint (``v_pred``, ``ztsnr``), in the metadata of a safetensors file (``modelspec.prediction_type``,
``ss_zero_terminal_snr``), and in the configuration of a scheduler. A statement that contradicts the model is refused, one that
completes it is applied.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mia_hub.errors import ModelError
from mia_hub.models.components import broken_files, quiet
from mia_hub.models.families.scheduler_reading import (
    has_zero_terminal_snr,
    is_stated,
    prediction_type_of,
    schedule_of,
    zero_terminal_snr,
)
from mia_hub.models.schedule import PREDICTION_TYPES

PREDICTION, ZERO_SNR, FLOW_SHIFT = "prediction type", "zero terminal SNR", "flow shift"
EPSILON, V, SAMPLE, FLOW = PREDICTION_TYPES
# What trainers call each quantity. A velocity is v of a diffusion by β, and the velocity of a flow.
PREDICTION_NAMES = {
    **dict.fromkeys(("epsilon", "eps", "noise", "eps_prediction", "epsilon_prediction", "eps_pred"), (EPSILON,)),
    **dict.fromkeys(("v", "v_prediction", "v_pred", "vpred", "vprediction", "v_parameterization"), (V,)),
    **dict.fromkeys(("sample", "x0", "x_0", "x_start", "start_x", "original_sample", "pred_x0"), (SAMPLE,)),
    **dict.fromkeys(("flow", "flow_prediction", "flow_matching", "rectified_flow", "flow_match"), (FLOW,)),
    "velocity": (V, FLOW),
}
PREDICTION_KEYS = ("prediction_type", "predict_key", "prediction_target", "prediction", "parameterization", "parametrization")
V_KEYS = ("v_parameterization", "v_pred", "v_prediction", "vpred", "force_v_prediction")
EPSILON_KEYS = ("predict_epsilon", "force_epsilon_prediction", "eps_pred")
ZERO_SNR_KEYS = (
    "zero_terminal_snr", "ztsnr", "zsnr", "zero_snr", "rescale_betas_zero_snr", "enforce_zero_terminal_snr",
    "rescale_noise_scheduler_to_zero_terminal_snr",
)  # fmt: skip
# Of these, only "true" says something: they override what the trained model had.
OVERRIDES = ("force_v_prediction", "force_epsilon_prediction", "rescale_noise_scheduler_to_zero_terminal_snr")
SHIFT_KEYS = ("discrete_flow_shift", "flow_shift", "shift")
EDM = re.compile(r"(^|[._])(edm(_vpred)?|sigma_data)($|[._])")
# Metadata whose value is a configuration as JSON. In other JSON, such as counts of tags, the same words mean something else.
CONFIGURATIONS = re.compile(r"(^|[._])((ot|train|training|trainer|model|scheduler|noise_scheduler)_)?config$|(^|[._])(noise_)?scheduler$")
# kohya's scripts state ε for these as well, though none of them predicts it.
FLOW_ARCHITECTURE = re.compile(r"flux|sd3|stable-diffusion-v?3|lumina|chroma|sana|aura|hunyuan", re.IGNORECASE)
ARCHITECTURES = ("modelspec.architecture", "ss_base_model_version")
# Noise levels that are stored with a checkpoint, often in half precision.
TOLERANCE = 5e-3


@dataclass(frozen=True)
class Mark:
    """One statement.

    Attributes:
        subject: `PREDICTION`, `ZERO_SNR` or `FLOW_SHIFT`.
        value: of a prediction, the types that it may mean; else a bool, or a number.
        source: where it stands, as "its metadata modelspec.prediction_type = 'v'".
    """

    subject: str
    value: Any
    source: str


@dataclass(frozen=True)
class TrainingMarks:
    """All statements in one file, which agree.

    Attributes:
        name: of the file, for messages.
        marks: at most one for each subject.
        alphas_cumprod: the noise levels ᾱ_t that are stored in it, ``[T]``; None without any.
    """

    name: str
    marks: Mapping[str, Mark]
    alphas_cumprod: torch.Tensor | None = None

    @property
    def prediction_types(self) -> tuple[str, ...]:
        """The types that its prediction may have; none if it doesn't say."""
        mark = self.marks.get(PREDICTION)
        return mark.value if mark else ()


def read_marks(file: Path, name: str) -> TrainingMarks:
    """The statements in a safetensors file; of its weights only the names are read.

    Args:
        file: its path.
        name: of the file, for messages.

    Raises:
        ModelError: if one is unknown, or can't be expressed, or two contradict each other.
    """
    from safetensors import safe_open

    with broken_files(name), safe_open(file, "pt") as content:
        keys, metadata = list(content.keys()), content.metadata() or {}
        levels = None
        if "alphas_cumprod" in keys:
            levels = content.get_tensor("alphas_cumprod").double()
        elif "denoiser.sigmas" in keys:
            levels = 1 / (1 + content.get_tensor("denoiser.sigmas").double().sort().values ** 2)
    return TrainingMarks(name, _agreeing([*_in_entries(keys, name), *_in_metadata(metadata, name)], name), levels)


def scheduler_marks(config: Mapping[str, Any], name: str) -> TrainingMarks:
    """The statements in the configuration of a scheduler.

    Args:
        config: the content of scheduler_config.json.
        name: of what it belongs to, for messages.

    Raises:
        ModelError: as for `read_marks`.
    """
    kinds = {"prediction_type", "predict_epsilon"}
    marks = [
        replace(mark, source=f"{key} = {json.dumps(value)} in the scheduler_config.json beside it")
        for key, value in config.items()
        if key in kinds or (key == "rescale_betas_zero_snr" and value is True)
        for mark in _stated(key, value, name)
    ]
    if str(config.get("_class_name")).startswith("FlowMatch"):
        marks.append(Mark(PREDICTION, (FLOW,), f"the {config['_class_name']} beside it"))
    if not any(mark.subject == PREDICTION for mark in marks):
        marks.append(Mark(PREDICTION, (EPSILON,), "the scheduler_config.json beside it, which has no prediction_type"))
    return TrainingMarks(name, _agreeing(marks, name))


def apply_marks(scheduler: Any, marks: TrainingMarks, base: str, *, replaces_denoiser: bool = True) -> Any:
    """The scheduler of a model, completed by the statements of a file that goes on top of it.

    Args:
        scheduler: a diffusers scheduler.
        marks: of the file.
        base: name of the model, for messages.
        replaces_denoiser: whether the file holds the whole denoiser, so that it may say what the model left open.

    Raises:
        ModelError: if the two contradict each other.
    """
    own = prediction_type_of(scheduler)
    flow, others = own == FLOW, f"predicts {_names([own])}"
    changes: dict[str, Any] = {}

    def contradiction(mark: Mark, says: str, other: str, copy: bool) -> ModelError:
        hint = f"; it may be a copy of {base} with another scheduler_config.json" if copy and replaces_denoiser else ""
        return ModelError(
            f"{marks.name} states that its denoiser {says} ({mark.source}), and {base} {other}. Name a base that agrees, as "
            f"'base + {marks.name}'{hint}."
        )

    if (mark := marks.marks.get(PREDICTION)) and own not in mark.value:
        other_kind = flow or FLOW in mark.value
        if other_kind or is_stated(scheduler, "prediction_type") or not replaces_denoiser:
            raise contradiction(mark, f"predicts {_names(mark.value)}", others, not other_kind)
        changes["prediction_type"] = mark.value[0]
    if mark := marks.marks.get(ZERO_SNR):
        if mark.value and flow:
            raise contradiction(mark, "was trained with zero terminal SNR", "is a model of flow matching, which has no such choice", False)
        if not mark.value and has_zero_terminal_snr(scheduler):
            raise contradiction(mark, "was trained without zero terminal SNR", "has zero terminal SNR", True)
        if mark.value:
            changes["rescale_betas_zero_snr"] = True
    if (mark := marks.marks.get(FLOW_SHIFT)) and not flow:
        raise contradiction(mark, f"was trained by flow matching with a shift of {mark.value:g}", others, False)
    if marks.alphas_cumprod is not None and not flow and _levels_are_rescaled(marks, scheduler, base):
        changes["rescale_betas_zero_snr"] = True
    return with_config(scheduler, **changes) if changes else scheduler


def with_config(scheduler: Any, **changes: Any) -> Any:
    """A copy of a scheduler with other values in its configuration, which count as stated."""
    config = {key: value for key, value in scheduler.config.items() if key != "_use_default_values"} | changes
    with quiet():
        return type(scheduler).from_config(config)


def _in_entries(keys: Iterable[str], name: str) -> Iterator[Mark]:
    """The statements among the entries of a file, which say it by being there."""
    for key in keys:
        last = key.rpartition(".")[2]
        if EDM.search(key):
            raise _inexpressible(name, f"its entry {key}")
        if last in V_KEYS:
            yield Mark(PREDICTION, (V,), f"its entry {key}")
        elif last in EPSILON_KEYS:
            yield Mark(PREDICTION, (EPSILON,), f"its entry {key}")
        elif last in ZERO_SNR_KEYS:
            yield Mark(ZERO_SNR, True, f"its entry {key}")


def _in_metadata(metadata: Mapping[str, str], name: str) -> Iterator[Mark]:
    """The statements in the metadata of a file."""
    of_flow = any(FLOW_ARCHITECTURE.search(metadata.get(key, "")) for key in ARCHITECTURES)
    for key, value in _flattened(metadata):
        for mark in _stated(key, value, name):
            if not (of_flow and mark.subject == PREDICTION and mark.value == (EPSILON,) and re.match(r"ss_|modelspec\.", key)):
                yield mark


def _stated(key: str, value: Any, name: str) -> Iterator[Mark]:
    """The statements of one entry of the metadata."""
    source = f"its metadata {key} = {str(value)[:60]!r}"
    last = re.sub(r"^(ss|ot)_", "", key.rpartition(".")[2].lower().replace("-", "_").replace(" ", "_"))
    text = str(value).strip()
    if text.lower() in ("", "none", "null"):
        return
    if EDM.search(key.lower()):
        raise _inexpressible(name, source)
    if key == "modelspec.architecture":
        if match := re.match(r"stable-diffusion-v2-(768-v|512)", text):
            yield Mark(PREDICTION, (EPSILON if match[1] == "512" else V,), source)
    elif key == "ss_base_model_version":
        if re.fullmatch(r"sd_v\d_v", text):
            yield Mark(PREDICTION, (V,), source)
    elif last == "model_prediction_type":
        # How kohya's loss reads the velocity of a flow; by "additive" the network would predict its difference from the input.
        if text.lower() not in ("raw", "sigma_scaled", *PREDICTION_NAMES):
            raise _inexpressible(name, source)
    elif last in PREDICTION_KEYS:
        yield Mark(PREDICTION, _prediction(text, name, source), source)
    elif last in (*V_KEYS, *EPSILON_KEYS, *ZERO_SNR_KEYS):
        yield from _switch(last, _boolean(text, name, source), source)
    elif last in SHIFT_KEYS and key.lower().startswith(("ss_", "modelspec.", "flow_", "discrete_", "scheduler", "noise_scheduler")):
        shift = _shift(text, name, source)
        # A shift of 1 shifts nothing, and is a default of schedulers.
        yield from [Mark(FLOW_SHIFT, shift, source)] if shift != 1 else []


def _switch(key: str, on: bool, source: str) -> Iterator[Mark]:
    if not on and key in OVERRIDES:
        return
    if key in ZERO_SNR_KEYS:
        yield Mark(ZERO_SNR, on, source)
    elif key == "predict_epsilon":
        yield Mark(PREDICTION, (EPSILON if on else SAMPLE,), source)
    elif key in V_KEYS:
        yield Mark(PREDICTION, (V if on else EPSILON,), source)
    elif on:
        yield Mark(PREDICTION, (EPSILON,), source)
    if on and key == "rescale_noise_scheduler_to_zero_terminal_snr":
        # OneTrainer then trains v as well.
        yield Mark(PREDICTION, (V,), source)


def _flattened(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Entries of the metadata, and those of the configurations in it."""
    for key, value in metadata.items():
        yield key, value
        if CONFIGURATIONS.search(key) and isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                nested = json.loads(value)
            except (ValueError, RecursionError):
                continue
            for inner, content in nested.items():
                if isinstance(content, dict):
                    yield from ((f"{key}.{inner}.{last}", each) for last, each in content.items() if not isinstance(each, (dict, list)))
                elif not isinstance(content, list):
                    yield f"{key}.{inner}", content


def _prediction(text: str, name: str, source: str) -> tuple[str, ...]:
    types = PREDICTION_NAMES.get(text.lower().replace("-", "_").replace(" ", "_"))
    if types is None:
        if re.search(r"edm|karras|trigflow|consistency", text, re.IGNORECASE):
            raise _inexpressible(name, source)
        raise ModelError(
            f"{name} states by {source} what its network predicts, which is none of the known ones: {', '.join(PREDICTION_TYPES)}. If you "
            "know which one it is, save a copy of the file in which this entry says so, and give that."
        )
    return types


def _boolean(text: str, name: str, source: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on", "1.0"):
        return True
    if text.lower() in ("false", "0", "no", "off", "0.0"):
        return False
    raise ModelError(f"{name} has {source}, which is neither true nor false. Correct it in a copy of the file, and give that.")


def _shift(text: str, name: str, source: str) -> float:
    try:
        shift = float(text)
    except ValueError:
        shift = math.nan
    if not shift > 0 or math.isinf(shift):
        raise ModelError(f"{name} has {source}, which is no positive number. Correct it in a copy of the file, and give that.")
    return shift


def _agreeing(marks: Iterable[Mark], name: str) -> dict[str, Mark]:
    """The marks by their subject.

    Raises:
        ModelError: if two contradict each other.
    """
    by_subject: dict[str, Mark] = {}
    for mark in marks:
        other = by_subject.setdefault(mark.subject, mark)
        agree = set(mark.value) & set(other.value) if mark.subject == PREDICTION else mark.value == other.value
        if not agree and mark.subject != FLOW_SHIFT:
            raise ModelError(
                f"{name} contradicts itself about its {mark.subject}: {other.source}, and {mark.source}. Correct the wrong one in a "
                "copy of the file, and give that."
            )
        if mark.subject == PREDICTION and len(mark.value) < len(other.value):
            by_subject[mark.subject] = mark
    return by_subject


def _levels_are_rescaled(marks: TrainingMarks, scheduler: Any, base: str) -> bool:
    """Whether the noise levels in a file are those of a model, but rescaled to zero terminal SNR.

    Raises:
        ModelError: if they are others.
    """
    own, levels = schedule_of(scheduler, base).signals ** 2, marks.alphas_cumprod
    rescaled = zero_terminal_snr(own)
    if levels is not None and levels.shape == own.shape:
        if bool((levels - own).abs().max() < TOLERANCE) and not (levels[-1] == 0 < own[-1]):
            return False
        if bool((levels - rescaled).abs().max() < TOLERANCE):
            return True
    raise ModelError(
        f"{marks.name} stores the noise levels that it was trained with, and those of {base} are others. Name the base that it was made "
        f"from, as 'base + {marks.name}'; it may be a copy of {base} with another scheduler_config.json."
    )


def _names(types: Iterable[str]) -> str:
    names = {EPSILON: "ε (epsilon)", V: "v (v_prediction)", SAMPLE: "x₀ (sample)", FLOW: "a velocity of flow matching (flow_prediction)"}
    return " or ".join(names.get(each, each) for each in types)


def _inexpressible(name: str, source: str) -> ModelError:
    return ModelError(
        f"{name} states by {source} that it was trained in a parametrisation (such as that of EDM, Karras et al. 2022) that this version "
        "can't audit. It can be wrapped with mia_hub.wrap_denoiser."
    )
