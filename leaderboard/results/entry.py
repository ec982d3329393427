"""An entry of the board: the result of one request, with everything that is needed to compute its figures again."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from leaderboard.errors import StoreError
from leaderboard.requests.naming import LOCAL_PREFIX, is_local
from leaderboard.requests.request import Request
from leaderboard.results.entry_format import SCHEMA, EntryFormat
from mia_hub.errors import MiaHubError
from mia_hub.system.validation import parsed

if TYPE_CHECKING:
    from mia_hub.auditing.report import AuditReport
    from mia_hub.flags import Flag
    from mia_hub.metrics.estimates import Estimate

COMPUTED, SELF_REPORTED = "computed", "self-reported"
FIGURES = ("auc", "asr")


def build_entry(
    request: Request,
    rows: list[dict[str, Any]],
    *,
    model: Mapping[str, Any],
    split: Mapping[str, Any],
    blind: Estimate | None,
    flags: Iterable[Flag],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Return an entry as it is stored.

    Args:
        request: the request.
        rows: of `build_row`, one per attack.
        model, split: as reports describe them.
        blind: AUC of the blind classifier, or None.
        flags: those that concern all rows.
        provenance: versions and time.
    """
    return {
        "schema": SCHEMA,
        "id": request.id,
        "origin": origin_of(request),
        "request": request.to_dict(),
        "model": model,
        "split": split,
        "blind_auc": None if blind is None else asdict(blind),
        "flags": [asdict(flag) for flag in flags],
        "rows": rows,
        "command": reproduction_command(request),
        "provenance": provenance,
    }


def origin_of(request: Request) -> str:
    """Return whether the scores of a request's entry are computed by us, or reported by its submitter."""
    return COMPUTED if request.kind == "model" else SELF_REPORTED


def build_row(label: str, report: AuditReport, scores: str, content: bytes, *, access: str, queries: int | None) -> dict[str, Any]:
    """Return one attack's row of an entry.

    Args:
        label: the attack, as it is written.
        report: its audit.
        scores: path of its scores, below the entry's folder.
        content: of that file.
        access: "black", "gray" or "white"; "unknown" for submitted scores.
        queries: forward passes per image for the score that is reported, or None where unknown.
    """
    return {
        "attack": label,
        "access": access,
        "queries": queries,
        "timestep": report.timestep,
        **{name: asdict(getattr(report, name)) for name in FIGURES},
        "tpr_at_fpr": {f"{rate:g}": asdict(estimate) for rate, estimate in report.tpr_at_fpr.items()},
        "flags": [flag.name for flag in report.flags],
        "scores": scores,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def reproduction_command(request: Request) -> str:
    """Return the command that reproduces an entry, or checks its figures; for local models, run it in the folder that holds them."""
    if request.kind == "scores":
        return f"python -m leaderboard.verify {request.id}"
    words = ["mia-hub", "compare", "--model", _local_path(request.model), "--split", _local_path(request.split)]
    words += ["--attacks", *request.attacks, "--seed", str(request.seed)]
    words += ["--revision", request.revision] if request.revision and not is_local(request.model) else []
    words += ["--split-revision", request.split_revision] if request.split_revision and not is_local(request.split) else []
    words += ["--captions", request.captions] if request.captions != "split" else []
    return shlex.join(words)


def _local_path(name: str) -> str:
    """Return a name as a command takes it in the folder of local models."""
    return name.replace(LOCAL_PREFIX, "./") if is_local(name) else name


def parse_entry(content: bytes, id: str) -> dict[str, Any]:
    """Return an entry from its file, with its format and bounds checked. No model code is loaded for it.

    Raises:
        StoreError: if it is none, or not that of ``id``.
    """
    try:
        entry = json.loads(content)
        stored = parsed(EntryFormat, entry, "The entry")
        request = Request.from_dict(stored.request, past=True)
        if not stored.id == request.id == id:
            raise ValueError(f"its id is {stored.id}, and that of its request {request.id}")
        if stored.origin != origin_of(request):
            raise ValueError(f"its origin is {stored.origin!r:.40}")
    except (ValueError, RecursionError, MiaHubError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise StoreError(f"The entry {id} can't be understood ({reason[:200]}).") from error
    return dict(entry)
