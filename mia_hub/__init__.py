"""Audit diffusion models for training-data membership. **Higher score = more likely a member**, everywhere.

The public names are imported when first used, so that ``import mia_hub`` costs milliseconds.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "load_model": "mia_hub.models.loading",
    "wrap_denoiser": "mia_hub.models.denoiser",
    "DiffusionModel": "mia_hub.models.protocol",
    "ModelInfo": "mia_hub.models.protocol",
    "load_split": "mia_hub.splits.loading",
    "make_split": "mia_hub.splits.member_split",
    "MemberSplit": "mia_hub.splits.member_split",
    "write_split": "mia_hub.splits.writing",
    "InputImage": "mia_hub.images.image",
    "Picture": "mia_hub.images.image",
    "list_attacks": "mia_hub.attacks",
    "get_attack": "mia_hub.attacks",
    "Attack": "mia_hub.attacks",
    "ScoreTable": "mia_hub.scores",
    "measure": "mia_hub.auditing.measurement",
    "audit": "mia_hub.auditing.audit",
    "compare": "mia_hub.auditing.compare",
    "Comparison": "mia_hub.auditing.comparison",
    "run_benchmark": "mia_hub.auditing.published_settings.run",
    "AuditReport": "mia_hub.auditing.report",
    "Estimate": "mia_hub.metrics.estimates",
    "Flag": "mia_hub.flags",
    "check_image": "mia_hub.checking.checks",
    "check_images": "mia_hub.checking.checks",
    "check_set": "mia_hub.checking.checks",
    "SetCheck": "mia_hub.checking.set_answers",
    "Checker": "mia_hub.checking.checker",
    "Reference": "mia_hub.references.reference",
    "ImageCheck": "mia_hub.checking.image_answers",
    "train_reference": "mia_hub.denoisers.reference_denoiser",
    "score_prompts": "mia_hub.prompts.scoring",
    "PromptReport": "mia_hub.prompts.report",
    "NullDistribution": "mia_hub.metrics.p_values",
    "find_copies": "mia_hub.copying.finding",
    "CopyReport": "mia_hub.copying.report",
    "TrainingMonitor": "mia_hub.auditing.monitor",
    "MiaHubError": "mia_hub.errors",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'mia_hub' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
