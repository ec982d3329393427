"""Figures that others published, beside those measured here for the same attack, with what differs.

    python -m studies.published

It queries no model: the published figures are those of the settings of `mia-hub benchmark`, and ours those of the other studies.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from mia_hub.auditing.published_settings import Benchmark, list_benchmarks, load_benchmark
from mia_hub.rendering.markdown import markdown_table
from studies.attacks import model_rows
from studies.fine_tunes import FINE_TUNES, row_of
from studies.measuring import entry_numbers, interval_text
from studies.models import MODELS
from studies.page import read_results, run_study

NAME = "published"
ATTACKS = ("sima", "pia", "secmi", "loss")


@dataclass(frozen=True)
class Kind:
    """Models that may stand in one table.

    Attributes:
        title: of the table.
        settings: names of published settings, or how they begin.
        models: of `studies.attacks`: the number of their training images, and the side of these.
        fine_tunes: of `studies.fine_tunes`.
    """

    title: str
    settings: tuple[str, ...]
    models: dict[str, tuple[int, int]]
    fine_tunes: tuple[str, ...] = ()


KINDS = (
    Kind(
        "Models of pixels",
        ("ddpm-", "guided-"),
        {"demo": (512, 28), "ddpm-512": (512, 16), "ddpm-512-flips": (512, 16), "ddpm-cifar": (512, 16)},
    ),
    Kind("Latent models", ("ldm-",), {"ldm-b1e-6": (512, 32)}),
    Kind(
        "Fine-tunes of text-to-image models", ("sd14-",), {"t2i-lora": (109, 32)}, ("t2i-cifar-ft", "t2i-cifar-lora4", "t2i-cifar-lora16")
    ),
    Kind("Text-to-image models, as they were pre-trained", ("sd15-",), {"t2i": (446, 32)}),
)
# Settings whose models were trained on far more images than those that were scored: ImageNet-1k, LAION.
PRETRAINED = ("guided-imagenet", "ldm-imagenet", "sd15-laion-coco", "sd15-laion-translated")
# Of the images of those fine-tunes.
FINE_TUNED_SIDE = 32


def measure(args: argparse.Namespace) -> dict[str, Any]:
    return {kind.title: [*_on_board(kind), *_fine_tuned(kind)] for kind in KINDS}


def _on_board(kind: Kind) -> list[dict[str, Any]]:
    lines = []
    for name, (members, side) in kind.models.items():
        rows = {row["attack"].split(":")[0]: row for row in reversed(model_rows(name)) if "filtered=" not in row["attack"]}
        aucs = {attack: entry_numbers(rows[attack]["auc"]) for attack in ATTACKS if attack in rows}
        lines.append({"title": MODELS[name], "members": members, "side": side, "auc": aucs, "page": "attacks"})
    return lines


def _fine_tuned(kind: Kind) -> list[dict[str, Any]]:
    measured, lines = read_results("fine_tunes"), []
    for name in kind.fine_tunes:
        if name in measured["models"]:
            last = [row for row in measured["rows"] if row["model"] == name][-1]
            names = {one["attack"].split(":")[0] for one in last["attacks"]}
            aucs = {attack: row_of(last, attack)["auc"] for attack in ATTACKS if attack in names}
            members = measured["models"][name]["members"]
            title = FINE_TUNES[name].title
            lines.append({"title": title, "members": members, "side": FINE_TUNED_SIDE, "auc": aucs, "page": "fine_tunes"})
    return lines


def render(results: dict[str, Any]) -> dict[str, str]:
    return {"tables": "\n\n".join(f"## {kind.title}\n\n{_table(kind, results[kind.title])}" for kind in KINDS)}


def _table(kind: Kind, ours: list[dict[str, Any]]) -> str:
    rows = [row for name in list_benchmarks() if name.startswith(kind.settings) for row in _published_rows(load_benchmark(name))]
    rows += [
        [
            f"**here**: {line['title']}",
            f"{line['members']:,}",
            str(line["side"]),
            *(interval_text(line["auc"].get(attack)) for attack in ATTACKS),
            f"[{line['page']}.md]({line['page']}.md)",
        ]
        for line in ours
    ]
    return markdown_table(["Model", "Members", "Side", *ATTACKS, "Source"], rows, raw=True)


def _published_rows(setting: Benchmark) -> list[list[str]]:
    """Return a row for each source of a setting's published AUCs."""
    rows = []
    for source in dict.fromkeys(figure.source for figure in setting.published):
        figures = {one.attack: one for one in setting.published if one.source == source and one.metric == "auc"}
        doubts = dict.fromkeys(one.note.split(" it may be")[0].rstrip(":") for one in figures.values() if one.note)
        rows.append(
            [
                f"{setting.title} (`{setting.name}`)",
                f"{setting.members.count:,} scored" if setting.name in PRETRAINED else f"{setting.members.count:,}",
                str(setting.resolution),
                *(f"{figures[attack].value:g}" if attack in figures else "—" for attack in ATTACKS),
                "; ".join([source, *doubts]) + ("; the two sides are known to differ" if setting.shift.known else ""),
            ]
        )
    return rows


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
