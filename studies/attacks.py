"""All attacks on the models trained here, run by the leaderboard's own worker: the board's first rows.

    python -m studies.attacks

The study submits the trained models and their splits to the leaderboard as local ones; the worker evaluates them and publishes its
entries in ``leaderboard/entries``. The page is written from these entries. A second start resumes from the last finished batch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from leaderboard.config import ENTRIES_FOLDER
from mia_hub.rendering.markdown import markdown_table
from mia_hub.scores import ScoreTable
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.writing import write_split
from studies.figures import heat_svg
from studies.measuring import CONDITIONAL, FIRST, OTHERS, SIMA, entry_numbers, interval_text
from studies.models import MODELS, REPEATS, TRAINED_ON, TrainedModel, load_run
from studies.page import RUNS, run_study

NAME = "attacks"
TEXT, ON_TOP = ("t2i", "t2i-lora"), {"t2i-lora": "t2i"}
# Images of each side; of models of photographs as many non-members as there are, so that small false-positive rates are resolved, and of
# their repeats half as many, since every score is shipped.
MOST, MOST_PHOTOGRAPHS, MOST_REPEATED = 500, 8000, 4000
# Of them, with the filter of FreMIA: the authors' square of half-side 5 is for 32×32; the latents have 8×8.
PHOTOGRAPHS = {"ddpm-cifar": "filtered=2,0.2", "ldm-photos": "filtered=1,0.2"}
FOUR_SHIFTS = "sima-cn:given=complexity,shift-left,shift-right,shift-up,shift-down,timesteps=70,100,130"
EVERY = (*FIRST, CONDITIONAL, FOUR_SHIFTS, *OTHERS)
WITH_TEXT = ("clid", "forensics-text")
# The demo's split is four times as large, and its images three times: docs/attacks.md has the costly attacks, on a part of the split.
COSTLY = ("secmi-nns", "pfami", "rediffuse", "gsa1", "gsa2", "forensics-vlb", "forensics-mse", "forensics-xstart")
# Those that run on thousands of images; fewer on repeats and on latents, since every score is shipped. `sima-cc` is made for latents.
QUICK = ("random", SIMA, "sima-c", CONDITIONAL, FOUR_SHIFTS, *OTHERS[:2], OTHERS[3])
FEWER = tuple(attack for attack in QUICK if attack not in ("random", "secmi"))
LATENT = (SIMA, "sima-c", "sima-cc", CONDITIONAL, OTHERS[0], OTHERS[3])


def attacks_on(name: str) -> tuple[str, ...]:
    """Return the attacks that run on a model."""
    of = next((model for model, repeats in REPEATS.items() if name in repeats), name)
    if of in PHOTOGRAPHS:
        attacks = LATENT if of == "ldm-photos" else QUICK if name == of else FEWER
        return (*attacks, *(attack for attack in _filtered(of) if attack.startswith(attacks)))
    if name == "demo":
        return tuple(attack for attack in EVERY if attack not in COSTLY and not attack.startswith("nearest-generated"))
    return EVERY + (WITH_TEXT if name in TEXT else ())


def _filtered(name: str) -> tuple[str, ...]:
    return f"{SIMA},{PHOTOGRAPHS[name]}", f"secmi:{PHOTOGRAPHS[name]}"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    home = args.runs / "board"
    # A model that isn't there keeps its entries. The others are loaded first: an unfinished one is noticed before the worker starts.
    every = [*MODELS, *chain.from_iterable(REPEATS.values())]
    models = {name: load_run(args.runs / name) for name in every if (args.runs / name).exists()}
    for name in [*models, *(["demo"] if len(models) == len(every) - 1 else [])]:
        if name in models:
            _lay_out(models[name], home / "local", name)
        _submit(home, name)
    _work(home)
    entries_of.cache_clear()
    return {"entries": {name: [entry["id"] for entry in entries_of(name)] for name in every if entries_of(name)}}


def _lay_out(model: TrainedModel, local: Path, name: str) -> None:
    """Copy model and split to the leaderboard's folder of local ones."""
    if not (local / name).exists():
        shutil.copytree(model.final, local / name)
    if not (local / f"{name}-split").exists():
        most = MOST_PHOTOGRAPHS if name in PHOTOGRAPHS else MOST if name in MODELS else MOST_REPEATED
        split = model.split(most)
        write_split(split, local / f"{name}-split", license=model.data.licence.lower(), model=name, progress=False)


def _submit(home: Path, name: str) -> None:
    model, split = " + ".join(f"local:{part}" for part in (ON_TOP.get(name), name) if part), f"local:{name}-split"
    if name == "demo":
        model = split = name
    command = ["submit", "--model", model, "--split", split, "--attacks", *attacks_on(name)]
    subprocess.run([sys.executable, "-m", "mia_hub", *command], env=_environment(home), check=True)


def _work(home: Path) -> None:
    options = ["--local", str(home / "local"), "--work", str(home / "work"), "--once"]
    subprocess.run([sys.executable, "-m", "leaderboard.worker", *options], env=_environment(home), check=True)


def _environment(home: Path) -> dict[str, str]:
    own = {"MIA_HUB_REQUESTS": home / "requests", "MIA_HUB_RESULTS": ENTRIES_FOLDER, "MIA_HUB_LOCAL": home / "local"}
    return os.environ | {name: str(path.resolve()) for name, path in own.items()}


# Results, for this study and others.


def model_of(name: str) -> str:
    """Return the model's name for `mia_hub.load_model`."""
    if name == "demo":
        return name
    return " + ".join(str((RUNS / "board" / "local" / part).resolve()) for part in (ON_TOP.get(name), name) if part)


def split_of(name: str) -> MemberSplit:
    """Return the split of a model."""
    return load_split("demo" if name == "demo" else str(RUNS / "board" / "local" / f"{name}-split"))


@cache
def entries_of(name: str) -> list[dict[str, Any]]:
    """Return the board's entries on a model, as the worker published them."""
    own = "demo" if name == "demo" else f"local:{name}"
    entries = [json.loads(path.read_text()) for path in sorted((ENTRIES_FOLDER / "results").glob("*/entry.json"))]
    return [entry for entry in entries if entry["request"]["model"].split(" + ")[-1] == own]


def model_rows(name: str) -> list[dict[str, Any]]:
    """Return every attack's figures on a model, each with the id of its entry."""
    return [row | {"entry": entry["id"]} for entry in entries_of(name) for row in entry["rows"]]


def scores_of(row: dict[str, Any]) -> ScoreTable:
    """Return the scores behind a row."""
    return ScoreTable.from_parquet(ENTRIES_FOLDER / "results" / row["entry"] / row["scores"])


def render(results: dict[str, Any]) -> dict[str, str]:
    trainings = {name: {row["attack"]: row for row in model_rows(name) if row["entry"] in ids} for name, ids in results["entries"].items()}
    figures = {name: rows for name, rows in trainings.items() if name in MODELS}
    every = (
        *EVERY,
        *(attack for attack in LATENT if attack not in EVERY),
        *(attack for name in PHOTOGRAPHS for attack in _filtered(name)),
        *WITH_TEXT,
    )
    attacks = [attack for attack in every if any(attack in rows for rows in figures.values())]
    strongest = sorted(attacks, key=lambda attack: (_run_on(figures, attack) < len(figures) / 2, -_mean_auc(figures, attack)))
    cells = [[figures[name].get(attack, {}).get("auc", {}).get("value") for name in figures] for attack in strongest]
    headers = ["Attack", "Queries", *(MODELS[name] for name in figures)]
    return {
        "attacks.svg": heat_svg(
            cells, rows=[_short_name(attack, attacks) for attack in strongest], columns=[SHORT[name] for name in figures],
            heading="AUC on the reported half (higher = leaks more)", description=_description(figures, strongest),
        ),
        "auc": markdown_table(headers, [_table_row(figures, attack, "auc") for attack in strongest], raw=True),
        "tpr": markdown_table(headers, [_table_row(figures, attack, "tpr") for attack in strongest], raw=True),
        "models": "\n".join(_model_line(name) for name in figures),
        "repeats": "\n\n".join(_repeats_tables(trainings, name, repeats) for name, repeats in REPEATS.items()),
    }  # fmt: skip


# Names of columns in a narrow figure.
SHORT = {
    "demo": "28²", "ddpm-512": "16²", "ddpm-512-flips": "flips", "ddpm-cifar": "photos", "ldm-b1e-6": "latent",
    "ldm-photos": "latent photos", "t2i": "text", "t2i-lora": "LoRA",
}  # fmt: skip


def _run_on(figures: dict[str, Any], attack: str) -> int:
    """Return on how many models an attack was run."""
    return sum(attack in rows for rows in figures.values())


def _mean_auc(figures: dict[Any, Any], attack: str) -> float:
    """Return the mean AUC over the models on which the attack was run."""
    values = [rows[attack]["auc"]["value"] for rows in figures.values() if attack in rows]
    return sum(values) / len(values)


def _short_name(attack: str, attacks: list[str]) -> str:
    """Return an attack's name, with its distinguishing setting if other attacks share the name."""
    name, _, settings = attack.partition(":")
    if "filtered=" in attack:
        several = len({other for other in attacks if other.startswith(f"{name}:") and "filtered=" in other}) > 1
        return f"{name}, filtered" + (f" ({attack.partition('filtered=')[2]})" if several else "")
    if sum(other.partition(":")[0] == name and "filtered=" not in other for other in attacks) == 1 or attack == CONDITIONAL:
        return name
    return f"{name}, four shifts" if attack == FOUR_SHIFTS else f"{name}, {settings.partition('=')[2] or 'pixels'}"


def _table_row(figures: dict[str, Any], attack: str, figure: str) -> list[str]:
    rows = [own.get(attack) for own in figures.values()]
    queries = {row["queries"] for row in rows if row}
    cost = f"{min(queries)}" + (f" – {max(queries)}" if len(queries) > 1 else "")
    return [f"`{attack}`", cost, *("—" if row is None else _cell(row, figure) for row in rows)]


def _cell(row: dict[str, Any], figure: str) -> str:
    return interval_text(entry_numbers(_estimate(row, figure)))


def _estimate(row: dict[str, Any], figure: str) -> dict[str, float] | None:
    return row["auc"] if figure == "auc" else row["tpr_at_fpr"].get("0.01")


def _repeats_tables(trainings: dict[str, Any], name: str, repeats: tuple[str, ...]) -> str:
    """Return tables of a model's figures beside those of its repeats: each with its interval, their mean, and how far they are apart."""
    every = {seed: trainings[run] for seed, run in enumerate((name, *repeats)) if run in trainings}
    if len(every) < 2:
        return ""
    attacks = sorted(set.intersection(*map(set, every.values())), key=lambda attack: -_mean_auc(every, attack))
    headers = ["Attack", *(f"Seed {seed}" for seed in every), "Mean", "Largest − smallest"]
    tables = []
    for figure, title in (("auc", "AUC"), ("tpr", "TPR@1%FPR")):
        lines = [_repeated_row(attack, [rows[attack] for rows in every.values()], figure) for attack in attacks]
        tables.append(f"{title} on {MODELS[name]}:\n\n{markdown_table(headers, lines, raw=True)}")
    return "\n\n".join(tables)


def _repeated_row(attack: str, rows: list[dict[str, Any]], figure: str) -> list[str]:
    values = [_estimate(row, figure)["value"] for row in rows]
    mean, apart = sum(values) / len(values), max(values) - min(values)
    return [f"`{attack}`", *(_cell(row, figure) for row in rows), f"{mean:.3f}", f"{apart:.3f}"]


def _description(figures: dict[str, Any], attacks: list[str]) -> str:
    top = attacks[0]
    values = ", ".join(f"{MODELS[name]} {rows[top]['auc']['value']:.3f}" for name, rows in figures.items() if top in rows)
    return f"AUC of {len(attacks)} attacks on {len(figures)} models, the strongest on average first. {top}: {values}."


def _chosen_neighbours(name: str) -> str:
    (row,) = (row for row in model_rows(name) if row["attack"] == CONDITIONAL)
    given = scores_of(row).chosen["given"]
    return ", ".join(f"`{feature}`" for feature in given if feature != "complexity")


def _model_line(name: str) -> str:
    entry = entries_of(name)[0]
    counts, blind = entry["rows"][0]["auc"], entry["blind_auc"]
    own = f" `{entry['trained'][-1]['command']}`." if "trained" in entry else ""
    return (
        f"- **{MODELS[name]}**: {TRAINED_ON[name]}; {counts['n_members']} members and {counts['n_nonmembers']} non-members reported; "
        f"blind AUC {interval_text(entry_numbers(blind))}. `{CONDITIONAL.partition(':')[0]}` chose as "
        f"neighbours: {_chosen_neighbours(name)}.{own}"
    )


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
