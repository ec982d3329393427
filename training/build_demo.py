"""Embed a trained checkpoint as the demo: model, split, scores of every known image, and the model card.

    python -m training.build_demo runs/demo/step-008000

This script writes ``mia_hub/demo``, and after it `training.demo_null` what p-values are computed from.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from mia_hub.attacks import get_attack
from mia_hub.auditing.audit import audit, held_out
from mia_hub.auditing.report import AuditReport
from mia_hub.defaults import DEMO_FOLDER
from mia_hub.models.loading import load_model
from mia_hub.references.demo_reference import DEMO_APPEARANCE, OBSERVATIONS, write_appearance, write_observations
from mia_hub.splits.loading import load_split
from mia_hub.system.streams import any_terminal
from training.card import demo_card
from training.demo import N_MEMBERS, N_NONMEMBERS, SEED
from training.fashion_mnist import draw_rows, load_train_images

LABELS = ["nonmember", "member"]


def write_demo_split(folder: Path) -> None:
    """Write ``data/member-*.parquet`` and ``data/nonmember-*.parquet``, as a data set on the Hub would publish them."""
    images = load_train_images()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=LABELS), "source_row": datasets.Value("int32")}
    )
    folder.mkdir(parents=True)
    for kind, rows in zip(("member", "nonmember"), draw_rows(images, SEED, N_MEMBERS, N_NONMEMBERS)):
        columns = {
            "image": [{"bytes": png(images[row]), "path": f"fashion-mnist-train-{row:05d}.png"} for row in rows],
            "label": [LABELS.index(kind)] * len(rows),
            "source_row": rows,
        }
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / f"{kind}-00000-of-00001.parquet")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_verdict_observations(name: str) -> None:
    """Write a verdict attack's observations of every known image, at the timestep at which treated images are measured, and its audit."""
    report = audit("demo", name, "demo")
    default = get_attack(name)
    timestep = default.default_timestep
    attack = default.with_chosen(report.scores.chosen).at(timestep)
    split = load_split("demo")
    observations = attack.observe(load_model("demo"), split.images, is_member=split.is_member)
    write_observations(
        OBSERVATIONS[name],
        observations.ids,
        observations.is_member,
        observations.values[:, 0],
        asked=repr(default),
        attack=repr(attack),
        chosen=report.scores.chosen,
        timestep=timestep,
        timestep_chosen=f"t = {timestep}, the middle of the grid, fixed beforehand",
        seed=observations.seed,
    )
    (DEMO_FOLDER / f"audit_{name}.json").write_text(report.to_json() + "\n")


@any_terminal()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="a step-… folder of training.demo")
    parser.add_argument("--note", default="", help="a sentence about this training run, for the card")
    args = parser.parse_args()
    shutil.rmtree(DEMO_FOLDER, ignore_errors=True)
    shutil.copytree(args.checkpoint, DEMO_FOLDER / "model")
    write_demo_split(DEMO_FOLDER / "data")

    report = audit("demo", "sima", "demo")
    report.scores.to_parquet(DEMO_FOLDER / "scores.parquet")
    for name in OBSERVATIONS:
        write_verdict_observations(name)
    write_appearance(DEMO_APPEARANCE)
    control = audit("demo", "sima", held_out(load_split("demo")))
    if not control.auc.low < 0.5 < control.auc.high:
        raise SystemExit(f"The control failed: held-out against held-out gives AUC {control.auc}. Nothing was published.")
    for name, result in (("audit", report), ("held_out_audit", control)):
        (DEMO_FOLDER / f"{name}.json").write_text(result.to_json() + "\n")
    write_demo_card(args.checkpoint, report, control, args.note)


def write_demo_card(checkpoint: Path, report: AuditReport, control: AuditReport, note: str) -> None:
    log = [json.loads(line) for line in (checkpoint.parent / "log.jsonl").read_text().splitlines()]
    step = int(checkpoint.name.removeprefix("step-"))
    (DEMO_FOLDER / "README.md").write_text(demo_card(step, [line for line in log if line["step"] <= step], report, control, note))


if __name__ == "__main__":
    main()
