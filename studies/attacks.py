"""All attacks on the models trained here, by the leaderboard's own worker: the board's first rows, and the table that the field lacks.

    python -m studies.attacks

The finished models and their splits are submitted to the leaderboard as local ones, the worker answers, and what it publishes lies in
``leaderboard/entries``. The page is written from these entries. Started again, it goes on from the last finished batch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from leaderboard.config import ENTRIES_FOLDER
from mia_hub.rendering.markdown import markdown_table
from mia_hub.scores import ScoreTable
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.writing import write_split
from studies.figures import heat_svg
from studies.measuring import CONDITIONAL, FIRST, OTHERS, shown, triple
from studies.models import MODELS, TRAINED_ON, TrainedModel, trained
from studies.page import RUNS, run_study

NAME = "attacks"
TEXT, ON_TOP = ("t2i", "t2i-lora"), {"t2i-lora": "t2i"}
# Of each side.
MOST = 500
FOUR_SHIFTS = "sima-cn:given=complexity,shift-left,shift-right,shift-up,shift-down,timesteps=70,100,130"
EVERY = (*FIRST, CONDITIONAL, FOUR_SHIFTS, *OTHERS)
WITH_TEXT = ("clid", "forensics-text")
# The demo's whole split is four times as large, and its pictures three times: there the costly attacks are in docs/attacks.md, on a part.
COSTLY = ("secmi-nns", "pfami", "rediffuse", "gsa1", "gsa2", "forensics-vlb", "forensics-mse", "forensics-xstart")


def attacks_on(name: str) -> tuple[str, ...]:
    if name == "demo":
        return tuple(attack for attack in EVERY if attack not in COSTLY and not attack.startswith("nearest-generated"))
    return EVERY + (WITH_TEXT if name in TEXT else ())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    home = args.runs / "board"
    # All of them first: nothing is asked of the worker before every model is there.
    models = {name: trained(args.runs / name) for name in MODELS if name != "demo"}
    for name in MODELS:
        if name in models:
            _lay_out(models[name], home / "local", name)
        _submit(home, name)
    _work(home)
    entries_of.cache_clear()
    return {"entries": {name: [entry["id"] for entry in entries_of(name)] for name in MODELS}}


def _lay_out(model: TrainedModel, local: Path, name: str) -> None:
    """Model and split where the leaderboard looks for local ones."""
    if not (local / name).exists():
        shutil.copytree(model.final, local / name)
    if not (local / f"{name}-split").exists():
        write_split(model.split(MOST), local / f"{name}-split", license=model.data.licence.lower(), model=name, progress=False)


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


# What came of it, for this study and others.


def model_of(name: str) -> str:
    """As `mia_hub.load_model` takes it."""
    if name == "demo":
        return name
    return " + ".join(str((RUNS / "board" / "local" / part).resolve()) for part in (ON_TOP.get(name), name) if part)


def split_of(name: str) -> MemberSplit:
    return load_split("demo" if name == "demo" else str(RUNS / "board" / "local" / f"{name}-split"))


@cache
def entries_of(name: str) -> list[dict[str, Any]]:
    """The board's entries on a model, as the worker published them."""
    own = "demo" if name == "demo" else f"local:{name}"
    found = [json.loads(path.read_text()) for path in sorted((ENTRIES_FOLDER / "results").glob("*/entry.json"))]
    return [entry for entry in found if entry["request"]["model"].split(" + ")[-1] == own]


def rows_of(name: str) -> list[dict[str, Any]]:
    """Every attack's figures on a model; each names its entry."""
    return [row | {"entry": entry["id"]} for entry in entries_of(name) for row in entry["rows"]]


def scores_of(row: dict[str, Any]) -> ScoreTable:
    return ScoreTable.from_parquet(ENTRIES_FOLDER / "results" / row["entry"] / row["scores"])


def render(results: dict[str, Any]) -> dict[str, str]:
    found = {name: {row["attack"]: row for row in rows_of(name) if row["entry"] in ids} for name, ids in results["entries"].items()}
    attacks = [attack for attack in (*EVERY, *WITH_TEXT) if any(attack in rows for rows in found.values())]
    strongest = sorted(attacks, key=lambda attack: -_mean(found, attack))
    cells = [[found[name].get(attack, {}).get("auc", {}).get("value") for name in found] for attack in strongest]
    headers = ["Attack", "Queries", *(MODELS[name] for name in found)]
    return {
        "attacks.svg": heat_svg(
            cells, rows=[_short(attack, attacks) for attack in strongest], columns=[SHORT[name] for name in found],
            heading="AUC on the reported half (higher = leaks more)", description=_described(found, strongest),
        ),
        "auc": markdown_table(headers, [_line(found, attack, "auc") for attack in strongest], raw=True),
        "tpr": markdown_table(headers, [_line(found, attack, "tpr") for attack in strongest], raw=True),
        "models": "\n".join(_about(name) for name in found),
    }  # fmt: skip


# Of columns of a narrow figure.
SHORT = {
    "demo": "28²", "ddpm-512": "16²", "ddpm-512-flips": "flips", "ldm-b1e-6": "latent", "t2i": "text", "t2i-lora": "LoRA",
}  # fmt: skip


def _mean(found: dict[str, Any], attack: str) -> float:
    """Over the models on which it was run."""
    values = [rows[attack]["auc"]["value"] for rows in found.values() if attack in rows]
    return sum(values) / len(values)


def _short(attack: str, attacks: list[str]) -> str:
    """The name, and of namesakes what tells them apart."""
    name, _, settings = attack.partition(":")
    if sum(other.partition(":")[0] == name for other in attacks) == 1 or attack == CONDITIONAL:
        return name
    return f"{name}, four shifts" if attack == FOUR_SHIFTS else f"{name}, {settings.partition('=')[2] or 'pixels'}"


def _line(found: dict[str, Any], attack: str, figure: str) -> list[str]:
    rows = [own.get(attack) for own in found.values()]
    queries = {row["queries"] for row in rows if row}
    cost = f"{min(queries)}" + (f" – {max(queries)}" if len(queries) > 1 else "")
    return [f"`{attack}`", cost, *("—" if row is None else _cell(row, figure) for row in rows)]


def _cell(row: dict[str, Any], figure: str) -> str:
    estimate = row["auc"] if figure == "auc" else row["tpr_at_fpr"].get("0.01")
    return shown(triple(estimate))


def _described(found: dict[str, Any], attacks: list[str]) -> str:
    top = attacks[0]
    said = ", ".join(f"{MODELS[name]} {rows[top]['auc']['value']:.3f}" for name, rows in found.items() if top in rows)
    return f"AUC of {len(attacks)} attacks on {len(found)} models, the strongest on average first. {top}: {said}."


def _chosen(name: str) -> str:
    (row,) = (row for row in rows_of(name) if row["attack"] == CONDITIONAL)
    given = scores_of(row).chosen["given"]
    return ", ".join(f"`{one}`" for one in given if one != "complexity")


def _about(name: str) -> str:
    entry = entries_of(name)[0]
    counts, blind = entry["rows"][0]["auc"], entry["blind_auc"]
    own = f" `{entry['trained'][-1]['command']}`." if "trained" in entry else ""
    return (
        f"- **{MODELS[name]}**: {TRAINED_ON[name]}; {counts['n_members']} members and {counts['n_nonmembers']} non-members reported; "
        f"blind AUC {shown(triple(blind))}. `{CONDITIONAL.partition(':')[0]}` chose as neighbours: {_chosen(name)}.{own}"
    )


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
