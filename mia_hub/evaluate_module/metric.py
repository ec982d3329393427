"""The class behind ``evaluate.load("sima")``: evaluate's way of calling, our audit and our checker underneath."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import datasets
import evaluate
import numpy as np

from mia_hub.defaults import VERDICT_ATTACK
from mia_hub.errors import MetricError
from mia_hub.images.sources import as_images

if TYPE_CHECKING:
    from mia_hub.attacks import Attack
    from mia_hub.images.image import InputImage
    from mia_hub.models.protocol import DiffusionModel
    from mia_hub.splits.member_split import MemberSplit

DESCRIPTION = """\
Membership inference on diffusion models: how far do images look to a model like those it was trained on? SimA asks the denoiser for the
noise in each image; for training images the norm of its answer is small, and the score, minus that norm, is high.

A higher score means: more likely a member of the training set. Members are the positive class, label 1. With references it returns how
well members and non-members are told apart (AUC, ASR, TPR at low FPR): a high value means that the model leaks. Without, it returns
the scores, and p-values where images are known that are certainly not in the training set.
"""

CITATION = """\
@misc{rao2025scorebased,
    title = {Score-based Membership Inference on Diffusion Models},
    author = {Mingxing Rao and Bowen Qu and Daniel Moyer},
    year = {2025},
    eprint = {2509.25003},
    archivePrefix = {arXiv}
}
"""

INPUTS = """
Args:
    predictions: the images: a list of paths, PIL images, uint8 arrays or float tensors [C, H, W] in [0, 1]; a tensor [N, C, H, W]; or an
        image column of a data set. Paths and columns are decoded batch by batch.
    references: 1 (member of the training set) or 0 (non-member) per image. Optional.
    model_id: "demo" (default), a folder in diffusers' layout, a model on the Hub, or a mia_hub DiffusionModel.
    attack: "sima" (default), "sima-mc", another name of `mia_hub.list_attacks()`, or an Attack. `evaluate.load("sima", "sima-mc")` makes
        another one the default. Without labels the default is "sima-cn", by which verdicts are made: SimA given the image's difficulty.
    timesteps: the training timesteps to score at; the attack's own by default.
    batch_size: rows per forward pass.
    device, dtype, revision: of the model, as for `mia_hub.load_model`.
    captions: of a model conditioned on text, one per image, or one for all; of one conditioned on classes, class indices; empty ones by
        default. With dataset_id: "split" (default; those of the data set, if it has any) or "empty".
    seed: of noise draws and, with labels, of the halves and of intervals.
    progress: whether to show progress bars.

    With labelled images:
    dataset_id: instead of predictions and references: "demo", a folder with the folders `member` and `nonmember`, a data set on the Hub,
        or a MemberSplit.
    dataset_config, dataset_revision, image_column, caption_column, class_column: of that data set.
    limit: at most so many members and so many non-members of that data set, by a seeded draw.
    selection: "calibration" (default) chooses the timestep on one half of the images and reports on the other; "oracle" chooses on the
        reported images, as many papers do, and is flagged.
    timestep: a timestep fixed beforehand; then all images are reported on.
    shift_check: whether a blind classifier tries to tell members from non-members without the model.

    With images only:
    nonmembers: images certainly not in the training set and of the same kind, 99 or more. The demo model brings its own.
    nonmember_captions: theirs, where the images have captions.

    `evaluate.load("sima", model_id=...)` sets any of these but `revision` for all calls.

Returns:
    Plain values, ready for JSON. Always:
    scores: per image, in the order given, at the timestep `timestep`; higher = more likely a member. Without labels, of the attack that
        verdicts are made by; scores_per_timestep are then plain SimA's.
    scores_per_timestep: per image and timestep; `timesteps` names the columns.
    timestep, attack, model, queries_per_image, seconds, provenance, higher_score_means.

    With labelled images:
    auc, asr, tpr_at_1_fpr, tpr_at_0_1_fpr: with their 95 % intervals [low, high] in auc_interval, asr_interval and so on. A TPR that the
        non-members are too few to resolve is None, and flagged.
    n_members, n_nonmembers: images that the figures come from. is_member: the labels, in the order of the scores.
    blind_auc: of a classifier that never sees the model; None if it was not measured.
    selection: how the timestep was chosen. flags: what the reader must know. split: what the images are.

    With images only:
    p_values, q_values, verdicts: per image; q_values are p-values adjusted for several images, where a p above 0.01 counts as 1; None
        for one image. p_values and q_values are None where no non-members are known, and an entry is None for a image that can't be
        compared with them.
    reference: what the images were judged by. notes: what the reader must know.

Example:
    >>> import evaluate, mia_hub
    >>> sima = evaluate.load("sima")
    >>> split = mia_hub.load_split("demo", limit=64)
    >>> result = sima.compute(predictions=split.images, references=split.is_member, model_id="demo", timesteps=[50, 100, 150])
    >>> low, high = result["auc_interval"]
    >>> low <= result["auc"] <= high
    True
    >>> checked = sima.compute(predictions=[split.images[0]], model_id="demo")
    >>> checked["verdicts"][0] in ("evidence", "cannot-tell", "not-comparable")
    True
"""

_FPRS = {"tpr_at_1_fpr": 0.01, "tpr_at_0_1_fpr": 0.001}
_LABELLED = ("selection", "timestep", "shift_check")
_DATASET = ("dataset_config", "dataset_revision", "image_column", "caption_column", "class_column", "limit")
_UNLABELLED = ("nonmembers", "nonmember_captions")


class Sima(evaluate.Metric):
    """Membership inference with `evaluate`: see `INPUTS`.

    Images given to `compute` go straight to the audit; those given to `add` and `add_batch` are kept in memory until then. They pass
    through no Arrow file, which would round float images to 8 bits.
    """

    def __init__(self, config_name: str | None = None, **options):
        if options.get("num_process", 1) != 1:
            raise MetricError("This metric runs in one process; load it with num_process=1, and gather the images there.")
        mine = {name: options.pop(name) for name in list(options) if name == "seed" or name not in _EVALUATES}
        _refuse_unknown(mine)
        if config_name not in (None, "default"):
            from mia_hub.attacks import get_attack

            mine = {"attack": get_attack(config_name).name} | mine
        super().__init__(config_name=config_name, **options)
        self._options = mine
        self._images: list[InputImage] = []
        self._labels: list[int | None] = []

    def __len__(self) -> int:
        """The number of images added and not yet computed."""
        return len(self._images)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": datasets.Image(), "references": datasets.Value("int8")}),
            reference_urls=["https://arxiv.org/abs/2509.25003"],
        )

    def add_batch(self, *, predictions=None, references=None) -> None:
        """Adds images, with or without their labels, for the next `compute`. They are decoded now and kept in memory."""
        images = list(as_images(predictions))
        labels = [None] * len(images) if references is None else _checked(references, len(images)).tolist()
        self._images += images
        self._labels += labels

    def add(self, *, prediction=None, reference=None, predictions=None, references=None) -> None:
        """Adds one image, with or without its label, for the next `compute`."""
        # evaluate.combine calls it with the plural names.
        image = predictions if prediction is None else prediction
        label = references if reference is None else reference
        self.add_batch(predictions=None if image is None else [image], references=None if label is None else [label])

    def compute(self, *, predictions=None, references=None, **options) -> dict[str, Any]:
        """Scores images against a diffusion model; with labels it also measures how well members are told from non-members."""
        _refuse_unknown(options)
        images, labels = self._gathered(predictions, references)
        options = self._options | options
        _refuse_useless(options, labelled=labels is not None)
        result = self._compute(predictions=images, references=labels, **options)
        self._images, self._labels = [], []
        return result

    def _gathered(self, predictions, references):
        """What was given now, together with what was added before."""
        if not self._images:
            return predictions, references
        images, labels = list(self._images), list(self._labels)
        if predictions is not None:
            images += as_images(predictions)
            new = len(images) - len(labels)
            labels += [None] * new if references is None else _checked(references, new).tolist()
        elif references is not None:
            if labels.count(None) < len(labels):
                raise MetricError("references were added with the images already; leave them out of compute.")
            labels = _checked(references, len(images)).tolist()
        unlabelled = labels.count(None)
        if unlabelled == len(labels):
            return images, None
        if unlabelled:
            raise MetricError(f"{unlabelled} of {len(labels)} images have no reference; give 1 or 0 for every image, or for none.")
        return images, labels

    def _compute(
        self,
        *,
        predictions=None,
        references=None,
        model_id: str | DiffusionModel = "demo",
        attack: str | Attack | None = None,
        timesteps: Sequence[int] | None = None,
        batch_size: int | None = None,
        device=None,
        dtype=None,
        revision: str | None = None,
        captions: str | Sequence | None = None,
        progress: bool = True,
        dataset_id: str | MemberSplit | None = None,
        dataset_config: str | None = None,
        dataset_revision: str | None = None,
        image_column: str | None = None,
        caption_column: str | None = None,
        class_column: str | None = None,
        limit: int | None = None,
        selection: str = "calibration",
        timestep: int | None = None,
        seed: int = 0,
        shift_check: bool = True,
        nonmembers=None,
        nonmember_captions: str | Sequence | None = None,
    ) -> dict[str, Any]:
        if (predictions is None) == (dataset_id is None):
            which = "neither was given" if predictions is None else "both were given"
            raise MetricError(f"Give either predictions=[…], the images, or dataset_id=…, where members and non-members are; {which}.")
        if dataset_id is not None and references is not None:
            raise MetricError("references belong to predictions; a data set says itself which images are members. Leave one of them out.")
        if attack is None:
            attack = VERDICT_ATTACK if dataset_id is None and references is None else "sima"
        if timesteps is not None:
            from mia_hub.attacks import get_attack

            attack = get_attack(attack, timesteps=timesteps)
        querying = {"batch_size": batch_size, "device": device, "dtype": dtype, "revision": revision, "seed": seed, "progress": progress}
        if dataset_id is None and references is None:
            null = {"nonmembers": nonmembers, "nonmember_captions": nonmember_captions}
            return _check(predictions, model_id, attack, captions, **null, **querying)

        if dataset_id is None:
            split, order = _split(as_images(predictions), references, captions)
        else:
            from mia_hub.splits.loading import load_split

            split = load_split(
                dataset_id, config=dataset_config, revision=dataset_revision, image_column=image_column, caption_column=caption_column,
                class_column=class_column, limit=limit, seed=seed,
            )  # fmt: skip
            order = np.arange(len(split.images))
            querying["captions"] = "split" if captions is None else captions
        return _audit(split, order, model_id, attack, selection=selection, timestep=timestep, shift_check=shift_check, **querying)


_EVALUATES = frozenset(inspect.signature(evaluate.Metric.__init__).parameters)
_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(Sima._compute).parameters.items()
    if name not in ("self", "predictions", "references")
}


def _refuse_unknown(options: dict[str, Any]) -> None:
    for name in options:
        if name not in _DEFAULTS:
            close = get_close_matches(name, _DEFAULTS, n=1)
            raise MetricError(
                f"This metric has no option {name!r}.{f' Did you mean {close[0]!r}?' if close else ''} It takes: {', '.join(_DEFAULTS)}."
            )


def _refuse_useless(options: dict[str, Any], labelled: bool) -> None:
    """An option that would be ignored without a word is an error."""
    from_dataset = options.get("dataset_id") is not None
    useless: dict[str, str] = {}
    if labelled or from_dataset:
        useless |= dict.fromkeys(_UNLABELLED, "where labels are known, such images are among the others, with reference 0")
    else:
        useless |= dict.fromkeys(_LABELLED, "without references or dataset_id nothing is measured, and all that is chosen is fixed")
    if not from_dataset:
        useless |= dict.fromkeys(_DATASET, "it belongs to dataset_id, which is not given; of predictions, choose the images yourself")
    for name, why in useless.items():
        value, default = options.get(name, _DEFAULTS[name]), _DEFAULTS[name]
        # By type first: comparing arrays gives an array.
        if value is not default and (type(value) is not type(default) or value != default):
            raise MetricError(f"{name} has no use here: {why}. Leave it out.")


def _checked(references, count: int) -> np.ndarray:
    """The labels, int8 ``[count]``."""
    values = references.tolist() if hasattr(references, "tolist") else references
    try:
        labels = np.array(list(values), dtype=np.float64)
    except (TypeError, ValueError):
        raise MetricError(f"references must be 1 (member) or 0 (non-member), one per image; got {references!r:.200}.") from None
    if labels.shape != (count,):
        shape = f"{len(labels)}" if labels.ndim == 1 else f"an array {list(labels.shape)} of them"
        raise MetricError(f"There are {count} predictions and {shape} references; give one reference, 1 or 0, per image.")
    wrong = np.flatnonzero(~np.isin(labels, (0, 1)))
    if len(wrong):
        raise MetricError(
            f"references must be 1 (member) or 0 (non-member); {len(wrong)} of {count} are neither, the first at index {wrong[0]}: "
            f"{labels[wrong[0]]:g}."
        )
    return labels.astype(np.int8)


def _split(images: Sequence[InputImage], references, captions) -> tuple[MemberSplit, np.ndarray]:
    """The images, with what is said of them, as members and non-members; and where each, members first, stands among ``images``."""
    from mia_hub.images.captions import select_rows
    from mia_hub.images.sequences import SelectedSequence
    from mia_hub.splits.member_split import MemberSplit

    labels = _checked(references, len(images))
    rows = [np.flatnonzero(labels == label) for label in (1, 0)]
    if not (len(rows[0]) and len(rows[1])):
        raise MetricError(
            f"All {len(labels)} references are {labels[0]}; members (1) and non-members (0) are both needed. For images whose membership "
            "is asked, leave references out."
        )
    order = np.concatenate(rows)
    if captions is not None:
        captions = [captions] * len(images) if isinstance(captions, (str, int)) else captions
        if len(captions) != len(images):
            raise MetricError(f"There are {len(images)} predictions and {len(captions)} captions; give one per image.")
        captions = select_rows(captions, order)
    # Whether these are texts or classes is for the model to say.
    return MemberSplit("predictions", *(SelectedSequence(images, part) for part in rows), captions=captions, classes=captions), order


def _audit(split: MemberSplit, order: np.ndarray, model, attack, **options) -> dict[str, Any]:
    from mia_hub.attacks import get_attack
    from mia_hub.auditing.audit import audit

    attack = get_attack(attack)
    audited = audit(model, attack, split, **options)
    table = audited.scores
    report = audited.to_dict()
    estimates = {name: report[name] for name in ("auc", "asr", "blind_auc")}
    estimates |= {name: report["tpr_at_fpr"].get(str(rate)) for name, rate in _FPRS.items()}
    scores, is_member = np.empty_like(table.scores), np.empty_like(table.is_member)
    scores[order], is_member[order] = table.scores, table.is_member
    result = {name: estimate and estimate["value"] for name, estimate in estimates.items()}
    result |= {f"{name}_interval": estimate and [estimate["low"], estimate["high"]] for name, estimate in estimates.items()}
    result |= {name: report["auc"][name] for name in ("n_members", "n_nonmembers")}
    result |= _scores(scores, table.timesteps.tolist(), audited.timestep)
    return result | {
        "is_member": is_member.tolist(),
        "selection": report["selection"],
        "flags": [asdict(flag) for flag in audited.flags],
        "split": report["split"],
        "attack": report["attack"],
        "model": report["model"],
        "queries_per_image": audited.cost.queries_per_image,
        "seconds": table.seconds,
        "provenance": report["provenance"],
    }


def _check(predictions, model, attack, captions, *, progress: bool, **options) -> dict[str, Any]:
    from mia_hub.checking.checks import get_checker

    checker = get_checker(model, attack, progress=progress, **options)
    started = time.perf_counter()
    checks = checker.check(predictions, captions=captions, progress=progress)
    seconds = time.perf_counter() - started
    known = checker.reference is not None
    described = checker.to_dict(())
    profiles = np.array([check.profile.scores for check in checks])
    shown = _scores(profiles, checks[0].profile.timesteps, checks[0].timestep)
    return shown | {
        "scores": [check.score for check in checks],
        "p_values": [check.p_value for check in checks] if known else None,
        "q_values": [check.q_value for check in checks] if known and len(checks) > 1 else None,
        "verdicts": [check.verdict for check in checks],
        "notes": _notes(checks, known),
        "reference": described["reference"],
        "attack": described["attack"],
        "model": described["model"],
        "queries_per_image": checker.queries_per_image,
        "seconds": seconds,
        "provenance": described["provenance"],
    }


def _scores(scores: np.ndarray, timesteps: Sequence[int], timestep: int) -> dict[str, Any]:
    return {
        "scores": scores[:, list(timesteps).index(timestep)].tolist(),
        "scores_per_timestep": scores.tolist(),
        "timesteps": list(timesteps),
        "timestep": timestep,
        "higher_score_means": "more likely a member",
    }


def _notes(checks, known: bool) -> list[str]:
    """What applies to all images, and what was changed on the way in, said once for all images that it happened to."""
    notes = [] if known else [checks[0].sentence, *checks[0].caveats]
    changed: dict[str, list[str]] = {}
    for check in checks:
        for note in check.notes:
            changed.setdefault(note, []).append(check.name)
    return notes + [f"{len(names)} of {len(checks)} images (the first: {names[0]}): {note}" for note, names in changed.items()]
