"""The card of a published reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.p_values import CriticalScore
from mia_hub.references.power_texts import power_text
from mia_hub.references.record import ReferenceRecord, SourceRecord
from mia_hub.rendering.markdown import code_span, escape_markdown

TAGS = ("membership-inference", "privacy", "diffusion", "mia_hub", "mia_hub-reference")


def card_text(name: str, record: ReferenceRecord, power: Estimate | None, critical: CriticalScore | None) -> str:
    """Return the README of a reference's data set.

    Args:
        name: ``owner/name``.
        record: what the reference states about itself.
        power: share of known members that get evidence, or None.
        critical: score above which an image gets evidence, or None.
    """
    model, revision = str(record.model["id"]), record.model.get("revision")
    base = record.model.get("base")
    reference_models = record.model.get("reference_models", ())
    compared = f" --base {base['id']}" if base else ""
    compared += "".join(f" --reference-model {each['id']}" for each in reference_models)
    tags = "\n".join(f"- {tag}" for tag in TAGS)
    lines = [
        f"---\ntags:\n{tags}\nviewer: false\n---",
        f"# Reference of {escape_markdown(model)}",
        f"{record.n_nonmembers:,} images that are not in the training set of {code_span(model)} at {code_span(str(revision))}, scored by "
        f"the attack {code_span(record.attack.identity)} in {record.precision}. A new image's score is compared with theirs. The data set "
        "holds scores, hashes of the images' content, and statistics of how they look, among them grey thumbnails of 8 x 8 pixels; the "
        "images themselves are not in it.",
        f"```\nmia-hub check image.png --model {model} --reference {name}{compared}\n```",
        *([] if base is None else [_base_line(base)]),
        *([_reference_models_line(reference_models)] if reference_models else []),
        "## Where the images come from",
        *_source_lines("Non-members", record.source),
        *([] if record.members is None else _source_lines("Members", record.members)),
        "## What it can show",
        power_text(power, critical),
        f"Verdicts are made at {escape_markdown(record.timestep_chosen)}.",
        f"To score some of its images again, and compare: `mia-hub reference verify {name}`.",
    ]
    return "\n\n".join(lines) + "\n"


def _base_line(base: Mapping[str, Any]) -> str:
    return (
        f"The model is compared with its base {code_span(str(base['id']))} at {code_span(str(base['revision']))}. Leave `--base` out where "
        "that is the model under a LoRA."
    )


def _reference_models_line(reference_models: Sequence[Mapping[str, Any]]) -> str:
    each = ", ".join(f"{code_span(str(one['id']))} at {code_span(str(one['revision']))}" for one in reference_models)
    return f"The model is compared with reference models: {each}."


def _source_lines(what: str, source: SourceRecord) -> list[str]:
    lines = [f"{what}: {escape_markdown(source.clause())}."]
    if source.revision:
        lines.append(f"At the revision {code_span(source.revision)}.")
    if source.license:
        lines.append(f"Licence of the images: {escape_markdown(source.license)}.")
    return lines + [escape_markdown(text) for text in (*source.caveats, *source.notes)]
