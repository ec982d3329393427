"""Published figures, from the settings of `mia_hub.auditing.published_settings`: claims, never mixed with what was computed."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def claimed_figures() -> tuple[dict[str, Any], ...]:
    """One claim per published figure.

    Returns:
        ``{"benchmark", "title", "model", "model_id", "shifted", "attack", "metric", "value", "source", "positive", "selection", "note"}``;
        ``model_id`` is None where the model isn't public, ``shifted`` says whether the setting's members and non-members are known to
        differ by themselves.
    """
    from mia_hub.auditing.published_settings import list_benchmarks, load_benchmark

    claims = []
    for name in list_benchmarks():
        setting = load_benchmark(name)
        shared = {"benchmark": name, "title": setting.title, "model": setting.model.name, "model_id": setting.model.id}
        for figure in setting.published:
            said = {key: getattr(figure, key) for key in ("attack", "metric", "value", "source", "positive", "selection", "note")}
            claims.append(shared | {"shifted": setting.shift.known is True} | said)
    return tuple(claims)
