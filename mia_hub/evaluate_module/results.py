"""The metric's results: an audit of labelled images, or a check of unlabelled ones, as plain values ready for JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mia_hub.attacks import Attack
    from mia_hub.checking.image_answers import ImageCheck
    from mia_hub.models.protocol import DiffusionModel
    from mia_hub.splits.member_split import MemberSplit

FPRS = {"tpr_at_1_fpr": 0.01, "tpr_at_0_1_fpr": 0.001}


def audit_result(
    split: MemberSplit, order: npt.NDArray[np.intp], model: str | DiffusionModel, attack: str | Attack, **options: Any
) -> dict[str, Any]:
    """Return the result for labelled images.

    Args:
        split: the images, members first.
        order: the place of each image of the split in the results.
        model, attack, options: as for `mia_hub.audit`.
    """
    from mia_hub.attacks import get_attack
    from mia_hub.auditing.audit import audit

    audited = audit(model, get_attack(attack), split, **options)
    table = audited.scores
    assert table is not None
    report = audited.to_dict()
    estimates = {name: report[name] for name in ("auc", "asr", "blind_auc")}
    estimates |= {name: report["tpr_at_fpr"].get(str(rate)) for name, rate in FPRS.items()}
    scores, is_member = np.empty_like(table.scores), np.empty_like(table.is_member)
    scores[order], is_member[order] = table.scores, table.is_member
    result = {name: estimate and estimate["value"] for name, estimate in estimates.items()}
    result |= {f"{name}_interval": estimate and [estimate["low"], estimate["high"]] for name, estimate in estimates.items()}
    result |= {name: report["auc"][name] for name in ("n_members", "n_nonmembers")}
    result |= _score_columns(scores, table.timesteps.tolist(), audited.timestep)
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


def check_result(
    images: Any, model: str | DiffusionModel, attack: str | Attack | None, *, captions: Any, progress: bool, **options: Any
) -> dict[str, Any]:
    """Return the result for images of unknown membership.

    Args:
        images, model, attack, captions, progress, options: as for `mia_hub.check_images`.
    """
    from mia_hub.checking.checks import get_checker

    checker = get_checker(model, attack, progress=progress, **options)
    started = time.perf_counter()
    checks = checker.check(images, captions=captions, progress=progress)
    seconds = time.perf_counter() - started
    has_reference = checker.reference is not None
    described = checker.to_dict(())
    profiles = np.array([check.profile.scores for check in checks])
    return _score_columns(profiles, checks[0].profile.timesteps, checks[0].timestep) | {
        "scores": [check.score for check in checks],
        "p_values": [check.p_value for check in checks] if has_reference else None,
        "q_values": [check.q_value for check in checks] if has_reference and len(checks) > 1 else None,
        "verdicts": [check.verdict for check in checks],
        "notes": _shared_notes(checks, has_reference=has_reference),
        "reference": described["reference"],
        "attack": described["attack"],
        "model": described["model"],
        "queries_per_image": checker.queries_per_image,
        "seconds": seconds,
        "provenance": described["provenance"],
    }


def _score_columns(scores: npt.NDArray[np.float64], timesteps: Sequence[int], timestep: int) -> dict[str, Any]:
    return {
        "scores": scores[:, list(timesteps).index(timestep)].tolist(),
        "scores_per_timestep": scores.tolist(),
        "timesteps": list(timesteps),
        "timestep": timestep,
        "higher_score_means": "more likely a member",
    }


def _shared_notes(checks: Sequence[ImageCheck], *, has_reference: bool) -> list[str]:
    """Return what applies to all images, and each note on single images once, with the number of images that have it."""
    notes = [] if has_reference else [checks[0].sentence, *checks[0].caveats]
    names_by_note: dict[str, list[str]] = {}
    for check in checks:
        for note in check.notes:
            names_by_note.setdefault(note, []).append(check.name)
    return notes + [f"{len(names)} of {len(checks)} images (the first: {names[0]}): {note}" for note, names in names_by_note.items()]
