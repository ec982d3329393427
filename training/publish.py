"""A trained model as a repository: weights in diffusers' layout, a contact sheet of samples, and a card that states its origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from training.data import TrainingSet

SAMPLES_SHOWN = 64


def contact_sheet(images: np.ndarray, columns: int = 16) -> np.ndarray:
    """Return uint8 images side by side; white fills the last row."""
    missing = -len(images) % columns
    images = np.concatenate([images, np.full((missing, *images.shape[1:]), 255, np.uint8)])
    return np.concatenate([np.concatenate(list(images[row : row + columns]), axis=1) for row in range(0, len(images), columns)])


def write_card(
    folder: Path,
    data: TrainingSet,
    *,
    title: str,
    tag: str,
    recipe: dict[str, Any],
    command: str,
    log: Path,
    samples: np.ndarray | None = None,
    quality: dict[str, float] | None = None,
    note: str = "",
) -> None:
    """Write ``README.md``, ``training.json``, ``log.jsonl`` and ``samples.png`` beside the weights.

    Args:
        folder: the model's folder.
        title, tag: the card's title, and the pipeline tag on the Hub.
        recipe: every number that the training depends on.
        command: the command that repeats the run.
        log: the log that `training.loop` writes.
        samples: generated images, uint8 ``[N, H, W(, 3)]``; None for a model that generates nothing by itself.
        quality: name of a figure: its value.
        note: a sentence or two of Markdown on the model.
    """
    from PIL import Image

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (folder / "log.jsonl").write_text(log.read_text())
    facts = {
        "data": data.name, "source": data.source, "licence": data.licence, "split_hash": data.hash, "members": len(data.members),
        "nonmembers": len(data.nonmembers), "recipe": recipe, "steps": lines[-1]["step"], "quality": quality or {}, "command": command,
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    if samples is not None:
        Image.fromarray(contact_sheet(samples[:SAMPLES_SHOWN])).save(folder / "samples.png", optimize=True)
    (folder / "README.md").write_text(_card(title, tag, facts, lines, note, samples is not None))


def _card(title: str, tag: str, facts: dict[str, Any], log: list[dict], note: str, sampled: bool) -> str:
    rows = [log[i] for i in sorted({round(i) for i in np.linspace(0, len(log) - 1, 12)})]
    names = list(rows[0]["loss"])
    curve = "\n".join(f"| {line['step']:,} | " + " | ".join(f"{line['loss'][name]:.4f}" for name in names) + " |" for line in rows)
    figures = "".join(f"- {name}: {value:.4g}\n" for name, value in facts["quality"].items())
    recipe = ", ".join(f"{name} {value}" for name, value in facts["recipe"].items())
    return f"""---
license: mit
library_name: diffusers
pipeline_tag: {tag}
tags: [diffusion, membership-inference, privacy]
---

# {title}

Trained to study what diffusion models remember of their training data. It is not a good image generator.{note and " "}{note}

- Data: {facts["members"]:,} members and {facts["nonmembers"]:,} non-members, {facts["source"]}.
  Split: `{facts["split_hash"]}`. Licence of the images: {facts["licence"]}.
- Recipe: {recipe}.
- Steps: {facts["steps"]:,}. Made by `{facts["command"]}`.
{figures}
{"![Samples](samples.png)" if sampled else ""}

Mean loss since the previous row:

| step | {" | ".join(names)} |
|---|{"---|" * len(names)}
{curve}
"""
