"""Embeds a trained checkpoint as the demo: model, split, scores of every known image, and the model card.

    python -m training.build_demo runs/demo/step-08000

Everything in ``mia_hub/demo`` is written by this script alone.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image

from mia_hub.auditing import audit
from mia_hub.models.loading import DEMO_FOLDER
from mia_hub.report import AuditReport
from mia_hub.splits import MemberSplit, load_split
from training.card import demo_card
from training.demo import N_MEMBERS, N_NONMEMBERS, SCHEDULER, SEED
from training.fashion_mnist import draw, load_train_images

LABELS = ["nonmember", "member"]


def write_split(folder: Path) -> None:
    """``data/member-*.parquet`` and ``data/nonmember-*.parquet``, as a data set on the Hub would publish them."""
    images = load_train_images()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=LABELS), "source_row": datasets.Value("int32")}
    )
    folder.mkdir(parents=True)
    for kind, rows in zip(("member", "nonmember"), draw(images, SEED, N_MEMBERS, N_NONMEMBERS)):
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


def held_out(split: MemberSplit) -> MemberSplit:
    """Non-members against non-members: the two halves, by their place in the seeded draw."""
    half = len(split.nonmembers) // 2
    return MemberSplit("demo, held-out against held-out", split.nonmembers[:half], split.nonmembers[half:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="a step-… folder made by training.demo")
    parser.add_argument("--note", default="", help="a sentence about this training run, for the card")
    args = parser.parse_args()
    shutil.rmtree(DEMO_FOLDER, ignore_errors=True)
    unet = UNet2DModel.from_pretrained(args.checkpoint, use_safetensors=True)
    DDPMPipeline(unet, DDPMScheduler(**SCHEDULER)).save_pretrained(DEMO_FOLDER / "model", safe_serialization=True)
    write_split(DEMO_FOLDER / "data")

    report = audit("demo", "sima", "demo")
    report.scores.to_parquet(DEMO_FOLDER / "scores.parquet")
    control = audit("demo", "sima", held_out(load_split("demo")))
    if not control.auc.low < 0.5 < control.auc.high:
        raise SystemExit(f"The control failed: held-out against held-out gives AUC {control.auc}. Nothing was published.")
    for name, result in (("audit", report), ("held_out_audit", control)):
        (DEMO_FOLDER / f"{name}.json").write_text(result.to_json() + "\n")
    write_card(args.checkpoint, report, control, args.note)


def write_card(checkpoint: Path, report: AuditReport, control: AuditReport, note: str) -> None:
    log = [json.loads(line) for line in (checkpoint.parent / "log.jsonl").read_text().splitlines()]
    step = int(checkpoint.name.removeprefix("step-"))
    (DEMO_FOLDER / "README.md").write_text(demo_card(step, [line for line in log if line["step"] <= step], report, control, note))


if __name__ == "__main__":
    main()
