"""The class behind ``evaluate.load("sima")``: evaluate's calling convention on the outside, our audit and our checker inside."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import datasets
import evaluate
import numpy as np

from mia_hub.errors import MetricError
from mia_hub.evaluate_module.documentation import CITATION, DESCRIPTION, INPUTS
from mia_hub.evaluate_module.labelled_images import labels_of, split_by_label
from mia_hub.evaluate_module.options import check_known, check_source, check_useful
from mia_hub.evaluate_module.results import audit_result, check_result
from mia_hub.images.sources import as_images

if TYPE_CHECKING:
    from mia_hub.attacks import Attack
    from mia_hub.images.image import InputImage
    from mia_hub.models.protocol import DiffusionModel
    from mia_hub.splits.member_split import MemberSplit


class Sima(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
    """Membership inference with `evaluate`: see `mia_hub.evaluate_module.documentation.INPUTS`.

    Images given to `compute` go straight to the audit; those given to `add` and `add_batch` stay in memory until then. They pass
    through no Arrow file, which would round float images to 8 bits.
    """

    def __init__(self, config_name: str | None = None, **options: Any):
        if options.get("num_process", 1) != 1:
            raise MetricError("This metric runs in one process; load it with num_process=1, and gather the images there.")
        own_options = {name: options.pop(name) for name in list(options) if name == "seed" or name not in _EVALUATE_OPTIONS}
        check_known(own_options, _DEFAULTS)
        if config_name not in (None, "default"):
            from mia_hub.attacks import get_attack

            own_options = {"attack": get_attack(config_name).name} | own_options
        super().__init__(config_name=config_name, **options)
        self._options = own_options
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

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Add images, with or without their labels, for the next `compute`. They are decoded now and stay in memory."""
        images = list(as_images(predictions))
        self._labels += _optional_labels(references, len(images))
        self._images += images

    def add(self, *, prediction: Any = None, reference: Any = None, predictions: Any = None, references: Any = None) -> None:
        """Add one image, with or without its label, for the next `compute`."""
        # evaluate.combine calls it with the plural names.
        image = predictions if prediction is None else prediction
        label = references if reference is None else reference
        self.add_batch(predictions=None if image is None else [image], references=None if label is None else [label])

    def compute(self, *, predictions: Any = None, references: Any = None, **options: Any) -> dict[str, Any]:
        """Score images with a diffusion model; with labels, also measure how well members are told from non-members."""
        check_known(options, _DEFAULTS)
        images, labels = self._all_inputs(predictions, references)
        options = self._options | options
        check_useful(options, _DEFAULTS, labelled=labels is not None)
        result = self._compute(predictions=images, references=labels, **options)
        self._images, self._labels = [], []
        return result

    def _all_inputs(self, predictions: Any, references: Any) -> tuple[Any, Any]:
        """Return the images and labels of this call together with those added before."""
        if not self._images:
            return predictions, references
        images, labels = list(self._images), list(self._labels)
        if predictions is not None:
            images += as_images(predictions)
            labels += _optional_labels(references, len(images) - len(labels))
        elif references is not None:
            if labels.count(None) < len(labels):
                raise MetricError("references were added with the images already; leave them out of compute.")
            labels = _optional_labels(references, len(images))
        unlabelled = labels.count(None)
        if unlabelled == len(labels):
            return images, None
        if unlabelled:
            raise MetricError(f"{unlabelled} of {len(labels)} images have no reference; give 1 or 0 for every image, or for none.")
        return images, labels

    def _compute(
        self,
        *,
        predictions: Any = None,
        references: Any = None,
        model_id: str | DiffusionModel = "demo",
        attack: str | Attack | None = None,
        timesteps: Sequence[int] | None = None,
        batch_size: int | None = None,
        device: Any = None,
        dtype: Any = None,
        revision: str | None = None,
        base: str | DiffusionModel | None = None,
        reference_models: Sequence[str | DiffusionModel] | None = None,
        captions: str | Sequence[Any] | None = None,
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
        nonmembers: Any = None,
        nonmember_captions: str | Sequence[Any] | None = None,
        reference: Any = None,
    ) -> dict[str, Any]:
        check_source(predictions, references, dataset_id)
        unlabelled = dataset_id is None and references is None
        if base is not None and attack is None and not unlabelled:
            attack = "sima-b"
        if timesteps is not None:
            attack = _attack_with(attack or (None if unlabelled else "sima"), timesteps)
        querying: dict[str, Any] = {
            "batch_size": batch_size, "device": device, "dtype": dtype, "revision": revision, "base": base,
            "reference_models": reference_models, "seed": seed, "progress": progress,
        }  # fmt: skip
        if unlabelled:
            null = {"nonmembers": nonmembers, "nonmember_captions": nonmember_captions, "reference": reference}
            return check_result(predictions, model_id, attack, captions=captions, **null, **querying)

        if dataset_id is None:
            split, order = split_by_label(as_images(predictions), references, captions)
        else:
            from mia_hub.splits.loading import load_split

            split = load_split(
                dataset_id, config=dataset_config, revision=dataset_revision, image_column=image_column, caption_column=caption_column,
                class_column=class_column, limit=limit, seed=seed,
            )  # fmt: skip
            order = np.arange(len(split.images))
            querying["captions"] = "split" if captions is None else captions
        return audit_result(
            split, order, model_id, attack or "sima", selection=selection, timestep=timestep, shift_check=shift_check, **querying
        )


_EVALUATE_OPTIONS = frozenset(inspect.signature(evaluate.Metric.__init__).parameters)
_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(Sima._compute).parameters.items()
    if name not in ("self", "predictions", "references")
}


def _optional_labels(references: Any, count: int) -> list[int | None]:
    """Return a label per image, None where there are no references."""
    return [None] * count if references is None else labels_of(references, count).tolist()


def _attack_with(attack: str | Attack | None, timesteps: Sequence[int]) -> Any:
    """Return the attack with these timesteps; for None that of the model's verdicts."""
    from mia_hub.attacks import get_attack
    from mia_hub.references.verdict_attack import DefaultAttack

    if attack is not None:
        return get_attack(attack, timesteps=timesteps)
    return DefaultAttack((("timesteps", tuple(np.atleast_1d(timesteps).tolist())),))
