"""Audit diffusion models for training-data membership. **Higher score = more likely a member**, everywhere.

The public names are imported when first used, so that ``import mia_hub`` costs milliseconds.
"""

from importlib import import_module

__version__ = "0.1.0"

_WHERE = {
    "load_model": "mia_hub.models.loading",
    "wrap_denoiser": "mia_hub.models.denoiser",
    "DiffusionModel": "mia_hub.models.protocol",
    "ModelInfo": "mia_hub.models.protocol",
    "load_split": "mia_hub.splits",
    "make_split": "mia_hub.splits",
    "MemberSplit": "mia_hub.splits",
    "write_split": "mia_hub.split_writing",
    "Picture": "mia_hub.images",
    "list_attacks": "mia_hub.attacks",
    "get_attack": "mia_hub.attacks",
    "Attack": "mia_hub.attacks",
    "ScoreTable": "mia_hub.scores",
    "measure": "mia_hub.measurement",
    "audit": "mia_hub.auditing",
    "compare": "mia_hub.comparing",
    "Comparison": "mia_hub.comparing",
    "run_benchmark": "mia_hub.benchmarks.run",
    "AuditReport": "mia_hub.report",
    "Estimate": "mia_hub.report",
    "Flag": "mia_hub.report",
    "check_image": "mia_hub.check",
    "check_images": "mia_hub.check",
    "check_set": "mia_hub.check",
    "SetCheck": "mia_hub.set_inference",
    "Checker": "mia_hub.check",
    "ImageCheck": "mia_hub.calibration",
    "NullDistribution": "mia_hub.calibration",
    "MiaHubError": "mia_hub.errors",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'mia_hub' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
