"""Fine-tunes and LoRAs along their training: attacks as they are, and given the base.

    python -m studies.fine_tunes

The images of a fine-tune, members and non-members, were never seen by its base. `studies.train` trains the models. For those that are not
there, the page keeps the figures that were measured last.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.treatments import MEMBERS, NONMEMBERS, NULL, rate_text
from mia_hub.checking.treated_images import MOST_FALSE
from mia_hub.images.treatments import TREATMENTS, UNTREATED
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.member_split import MemberSplit
from mia_hub.system.provenance import provenance
from studies.figures import lines_svg
from studies.measuring import compare_attacks, interval_text, row_figures
from studies.models import load_run
from studies.page import read_results, run_study
from studies.treated import ATTACKS as TREATED_BY
from studies.treated import evidence_of, rates, summed, write_false_evidence

NAME = "fine_tunes"
# Fixed before the first run. Grids are thin where an attack's own would only cost more.
ALONG = ("sima:timesteps=100,160,220", "sima-cn:timesteps=100", "sima-b:timesteps=160,220,280")
AT_END = (
    "sima-c:timesteps=100,160,220", "loss:timesteps=100,220", "loss-b:timesteps=220", "pia:timesteps=50,100,200",
    "sima-lpb:timesteps=160,220,280",
)  # fmt: skip
WITH_TEXT = ("clid", "gsa1")
# Three runs of one recipe, on different images, whose treated images are counted together.
DRAWS = ("ft-demo", "ft-demo-1", "ft-demo-2")
# Attacks that are run on treated images: on all draws, but for the one of many queries; and those that are given the base.
ON_ALL_DRAWS = ("sima", "sima-cn", "sima-lp", "sima-b", "sima-b, neighbours", "sima-lpb")
GIVEN_BASE = ("sima-b", "sima-b, neighbours", "sima-lpb", "loss-b")
# Models on which nothing was chosen, where `sima-lpb` is compared once with `sima-b`, which failed on the others.
CONFIRMING = ("ft-demo-3", "ft-demo-lora", "t2i-cifar-ft", "t2i-cifar-lora16")
CONFIRMED = ("sima-b", "sima-lpb")
# Those of them that are models of pixels.
ON_PIXELS = ("ft-demo-3", "ft-demo-lora")
# The one whose images are also judged with their captions, as it was trained, by the attack that makes the verdicts on it.
CAPTIONED, BY = "t2i-cifar-ft", ("sima-b",)
WITH_CAPTIONS = f"{CAPTIONED}, with captions"
# Members that SimA recognises.
FEWEST_FOR_A_RATIO = 10


@dataclass(frozen=True)
class FineTune:
    """A run of a recipe that begins with a trained model.

    Attributes:
        title: on the page, which runs of one recipe on different images share.
        base: folder of that model: relative to the project, or to the folder of the runs.
        lora: whether the run holds updates of the base alone.
        images: at most so many of each side are scored; half of them are reported.
        snapshots: number of snapshots that are audited, the last one included; 1 for a further run of a recipe, on which fewer attacks are
            run.
    """

    title: str
    base: str
    lora: bool = False
    images: int = 2000
    snapshots: int = 4


DEMO, PIXELS, PIXELS_LORA = "mia_hub/demo/model", "pixels, all weights", "pixels, LoRA of rank 8"
FINE_TUNES = {
    "ft-demo": FineTune(PIXELS, DEMO, images=1200, snapshots=2),
    "ft-demo-1": FineTune(PIXELS, DEMO, images=1200, snapshots=1),
    "ft-demo-2": FineTune(PIXELS, DEMO, images=1200, snapshots=1),
    "ft-demo-3": FineTune(PIXELS, DEMO, images=1200, snapshots=1),
    "ft-demo-lora": FineTune(PIXELS_LORA, DEMO, images=1200, snapshots=2),
    "ft-demo-lora-1": FineTune(PIXELS_LORA, DEMO, images=1200, snapshots=1),
    "ft-demo-lora-2": FineTune(PIXELS_LORA, DEMO, images=1200, snapshots=1),
    "t2i-cifar-ft": FineTune("text-to-image, the UNet", "t2i-cifar"),
    "t2i-cifar-lora4": FineTune("text-to-image, LoRA of rank 4", "t2i-cifar", lora=True),
    "t2i-cifar-lora16": FineTune("text-to-image, LoRA of rank 16", "t2i-cifar", lora=True),
}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    earlier = read_results(NAME)
    trained = [name for name in FINE_TUNES if (args.runs / name).exists()]
    rows = {name: [row for row in earlier["rows"] if row["model"] == name] for name in FINE_TUNES if name not in trained}
    models = {name: facts for name, facts in earlier["models"].items() if name not in trained}
    for name in trained:
        rows[name], models[name] = _measured(args.runs, name, FINE_TUNES[name])
    ordered = {name: models[name] for name in FINE_TUNES if name in models}
    treated = _treated(args.runs) if set(DRAWS) <= set(trained) else earlier["treated"]
    confirmed = earlier.get("confirmed", {})
    confirmed |= confirmation(args.runs, trained)
    write_false_evidence_on_latents(confirmed)
    return {"rows": [row for name in ordered for row in rows[name]], "models": ordered, "treated": treated, "confirmed": confirmed}


def _measured(runs: Path, name: str, tuned: FineTune) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the rows of a trained model, one per snapshot, and what the page says of it."""
    run, rows, facts = load_run(runs / name), [], {}
    split, recipe = run.split(tuned.images), run.facts["recipe"]
    for step, folder in _thinned(run.snapshots, tuned.snapshots):
        last = folder == run.final
        further = last and tuned.snapshots > 1
        attacks = (*ALONG, *(AT_END if further else ()), *(WITH_TEXT if further and split.captions else ()))
        model = load_fine_tune(runs, tuned, folder)
        comparison = compare_attacks(model, split, attacks, runs / "scores" / NAME / f"{name}-{step}", shift_check=last)
        passes = step * recipe["images per step"] / run.members
        rows.append({"model": name, "step": step, "passes": passes, "attacks": list(map(row_figures, comparison.rows))})
        if last:
            facts = {"command": run.facts["command"], "split": run.facts["split_hash"], "blind": str(comparison.blind_auc)}
            facts |= {"members": run.members, "provenance": provenance()}
    return rows, facts


def _treated(runs: Path) -> dict[str, Any]:
    """Return the evidence on treated images of the first recipe's fine-tunes, and store the false one where verdicts depend on it."""
    counts = summed([treated_evidence(runs, name, tuple(TREATED_BY) if name == DRAWS[0] else ON_ALL_DRAWS) for name in DRAWS])
    false = {attack: counts[attack]["non-members"] for attack in GIVEN_BASE}
    write_false_evidence(NAME, {"model": f"{len(DRAWS)} fine-tunes of the demo", "null": NULL, "p": ALPHA}, false)
    return {"counts": counts, "attacks": TREATED_BY}


def confirmation(runs: Path, trained: Sequence[str]) -> dict[str, Any]:
    """Return the evidence on treated images of those models of `CONFIRMING` that were trained, by model and attack."""
    found = {name: treated_evidence(runs, name, CONFIRMED) for name in CONFIRMING if name in trained}
    if CAPTIONED in trained:
        found[WITH_CAPTIONS] = treated_evidence(runs, CAPTIONED, BY, captioned=True)
    return found


def write_false_evidence_on_latents(confirmed: dict[str, Any]) -> None:
    """Store the false evidence on treated images of the text-to-image fine-tunes, summed, where verdicts depend on it."""
    on_latents = [confirmed[name] for name in CONFIRMING if name in confirmed and name not in ON_PIXELS]
    if on_latents:
        counts = summed(on_latents)
        about = {"model": f"{len(on_latents)} fine-tunes of a text-to-image model", "on_latents": True, "null": NULL, "p": ALPHA}
        write_false_evidence(f"{NAME}_on_latents", about, {attack: counts[attack]["non-members"] for attack in CONFIRMED})


def treated_evidence(runs: Path, name: str, attacks: Sequence[str], *, captioned: bool = False) -> dict[str, Any]:
    """Return the evidence on treated images of one fine-tune, by attack; finished work is kept."""
    return evidence_of(name, partial(_model_and_split, runs, name), attacks, runs / "scores" / NAME, captioned=captioned)


def _model_and_split(runs: Path, name: str) -> tuple[DiffusionModel, MemberSplit]:
    run, tuned = load_run(runs / name), FINE_TUNES[name]
    return load_fine_tune(runs, tuned, run.final), run.split(tuned.images)


def _thinned(snapshots: dict[int, Path], count: int) -> Sequence[tuple[int, Path]]:
    """Return some snapshots, each at about twice the steps of the one before, the last included."""
    steps = sorted(snapshots)
    chosen = sorted({min(steps, key=lambda step, part=part: abs(step - steps[-1] / 2**part)) for part in range(count)})
    return [(step, snapshots[step]) for step in chosen]


def load_fine_tune(runs: Path, tuned: FineTune, folder: Path) -> DiffusionModel:
    """Load a snapshot with its base; that of a LoRA lies under it."""
    base = tuned.base if "/" in tuned.base else str(load_run(runs / tuned.base).final.resolve())
    own = str(folder.resolve())
    return load_model(f"{base} + {own}") if tuned.lora else load_model(own, base=base)


def render(results: dict[str, Any]) -> dict[str, str]:
    rows, models = results["rows"], results["models"]
    ends = {name: [row for row in rows if row["model"] == name][-1] for name in models}
    series = {
        f"{FINE_TUNES[name].title}: {attack}": [
            (row["passes"], *row_of(row, attack)["tpr_at_0.01_fpr"]) for row in rows if row["model"] == name
        ]
        for name in ("ft-demo", "t2i-cifar-ft")
        if name in models
        for attack in ("sima", "sima-cn", "sima-b")
    }
    return {
        "fine_tunes.svg": lines_svg(
            series, heading="Recognised at 1 % FPR (higher = leaks more)", x_label="Passes over the training set", log_x=True,
            description="Members recognised at a false-positive rate of 1 % along the fine-tuning: SimA, given neighbours, given the base.",
        ),
        "ends": "\n\n".join(f"### {FINE_TUNES[name].title}\n\n{_table(row['attacks'])}" for name, row in _firsts(ends).items()),
        "draws": _draws(ends),
        "n_treated": f"{results['treated']['counts']['sima-b']['non-members'][UNTREATED][1]:,}",
        "members": markdown_table(["Copies", *TREATED_BY], rates(results["treated"]["counts"], "members")),
        "nonmembers": markdown_table(["Copies", *TREATED_BY], rates(results["treated"]["counts"], "non-members")),
        "failing": _failing(results["treated"]["counts"]),
        "n_confirmed": str(NONMEMBERS),
        "m_confirmed": str(MEMBERS),
        "confirmed": _confirmed(results.get("confirmed", {})),
        "blurred": _shares(results["treated"]["counts"], "non-members", "blurred, radius 0.5"),
        "power": _shares(results["treated"]["counts"], "members", UNTREATED),
        "null": f"{NULL:,}",
        "limit": f"{100 * MOST_FALSE:g} %",
        "ratios": _ratios(_firsts(ends), rows),
        "missing": _missing(models),
        "along": markdown_table(
            ["Model", "Passes", *(f"{attack}: {figure}" for attack in ("sima", "sima-cn", "sima-b") for figure in ("AUC", "TPR@1%FPR"))],
            [_along(row) for row in rows if row["model"] in _firsts(ends)],
        ),
        "models": "\n".join(
            f"- {FINE_TUNES[name].title}: {facts['members']} members; `{facts['command']}`; blind AUC of the split {facts['blind']}."
            for name, facts in models.items()
        ),
    }  # fmt: skip


def _confirmed(counts: dict[str, Any]) -> str:
    """Return tables of the evidence on models on which nothing was chosen, one for each attack."""
    if not counts:
        return "No further model has been measured yet."
    titles = {name: FINE_TUNES[name].title for name in CONFIRMING} | {WITH_CAPTIONS: f"{FINE_TUNES[CAPTIONED].title}, with captions"}
    names = [name for name in titles if name in counts]
    cases = [
        ("members, as they are", "members", UNTREATED),
        ("non-members, as they are", "non-members", UNTREATED),
        *((f"non-members, {treatment}", "non-members", treatment) for treatment in TREATMENTS if treatment != UNTREATED),
    ]

    def table(attack: str) -> str:
        here = [name for name in names if attack in counts[name]]
        rows = [[label, *(rate_text(*counts[name][attack][kind][case]) for name in here)] for label, kind, case in cases]
        return f"`{attack}`:\n\n{markdown_table(['Images', *(titles[name] for name in here)], rows)}"

    failing = "\n".join(
        f"- {titles[name]}, `{attack}`: {_exceeding(counts[name][attack])}"
        for name in names
        for attack in CONFIRMED
        if attack in counts[name]
    )
    return "\n\n".join([f"Where the lower end of the interval exceeds the limit:\n\n{failing}", *map(table, CONFIRMED)])


def _missing(models: dict[str, Any]) -> str:
    here = {FINE_TUNES[name].title for name in models}
    left = list(dict.fromkeys(tuned.title for tuned in FINE_TUNES.values() if tuned.title not in here))
    return f"These models have not been trained yet: {'; '.join(left)}." if left else "Every model of the study was trained."


def _firsts(ends: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the first run of each recipe."""
    names = {FINE_TUNES[name].title: name for name in reversed(ends)}
    return {name: row for name, row in ends.items() if name in names.values()}


def _draws(ends: dict[str, dict[str, Any]]) -> str:
    """Return a table of what differs between runs of one recipe on different images: the mean of each figure, least and most."""
    rows = []
    for title in dict.fromkeys(FINE_TUNES[name].title for name in ends):
        runs = [row for name, row in ends.items() if FINE_TUNES[name].title == title]
        names = [{one["attack"] for one in run["attacks"]} for run in runs]
        for attack in (one["attack"] for one in runs[0]["attacks"] if len(runs) > 1 and all(one["attack"] in each for each in names)):
            figures = [[row_of(run, attack.split(":")[0])[key][0] for run in runs] for key in ("auc", "tpr_at_0.01_fpr")]
            means = [f"{fmean(values):.3f} ({min(values):.3f} … {max(values):.3f})" for values in figures]
            rows.append([title, f"`{attack}`", str(len(runs)), *means])
    return markdown_table(["Model", "Attack", "Runs", "AUC: mean (least … most)", "TPR@1%FPR: mean (least … most)"], rows, raw=True)


def _shares(counts: dict[str, Any], kind: str, treatment: str) -> str:
    """Return each attack's share of images with evidence under one treatment."""
    return ", ".join(f"`{attack}` {rate_text(*kinds[kind][treatment])}" for attack, kinds in counts.items())


def _failing(counts: dict[str, Any]) -> str:
    """Return the treatments under which an attack's false evidence is shown to exceed the limit, by attack."""
    return "\n".join(f"- `{TREATED_BY[attack]}`: {_exceeding(kinds)}" for attack, kinds in counts.items())


def _exceeding(kinds: dict[str, Any]) -> str:
    rows = [f"{name} {rate_text(*row)}" for name, row in kinds["non-members"].items() if clopper_pearson(*row)[0] > MOST_FALSE]
    return "; ".join(rows) or "none"


def row_of(row: dict[str, Any], attack: str) -> dict[str, Any]:
    """Return an attack's figures among those of a snapshot."""
    return next(one for one in row["attacks"] if one["attack"].split(":")[0] == attack)


def _along(row: dict[str, Any]) -> list[str]:
    figures = [interval_text(row_of(row, attack)[key]) for attack in ("sima", "sima-cn", "sima-b") for key in ("auc", "tpr_at_0.01_fpr")]
    return [FINE_TUNES[row["model"]].title, f"{row['passes']:.1f}", *figures]


def _table(attacks: list[dict[str, Any]]) -> str:
    rows = [
        [f"`{one['attack']}`", str(one["queries"]), str(one["timestep"]), interval_text(one["auc"]), interval_text(one["tpr_at_0.01_fpr"])]
        for one in sorted(attacks, key=lambda one: -one["auc"][0])
    ]
    return markdown_table(["Attack", "Queries", "t", "AUC", "TPR@1%FPR"], rows, raw=True)


def _ratios(ends: dict[str, dict[str, Any]], rows: Sequence[dict[str, Any]]) -> str:
    """Return what the base adds to SimA, at the end and half-way, and how far that is ahead of CLiD and GSA."""
    lines = []
    for name, row in ends.items():
        before = [other for other in rows if other["model"] == name][:-1]
        based = row_of(row, "sima-b")["auc"][0]
        parts = [f"TPR@1%FPR {_times_sima(row)}"]
        parts += [f"after {before[-1]['passes']:.0f} of {row['passes']:.0f} passes {_times_sima(before[-1])}"] if before else []
        for other in (one for one in row["attacks"] if one["attack"] in WITH_TEXT):
            gain = based - other["auc"][0]
            parts.append(f"AUC {'ahead of' if gain > 0 else 'behind'} `{other['attack']}` by {abs(gain):.3f}")
        lines.append(f"- {FINE_TUNES[name].title}: {'; '.join(parts)}.")
    return "\n".join(lines)


def _times_sima(row: dict[str, Any]) -> str:
    """Return the rates of `sima-b` and SimA on a snapshot, and, unless it is of a few images, how many times the one is the other."""
    plain, based = row_of(row, "sima"), row_of(row, "sima-b")
    rates = [one["tpr_at_0.01_fpr"][0] for one in (based, plain)]
    times = f", about {rates[0] / rates[1]:.0f} times SimA's rate" if rates[1] * plain["members"] >= FEWEST_FOR_A_RATIO else ""
    return f"{rates[0]:.3f} against SimA's {rates[1]:.3f}{times}"


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
