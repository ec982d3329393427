"""Altered copies: what each attack still recognises, and what it wrongly calls evidence.

python -m studies.copies            # measures: about 25 minutes of an idle CPU core, resumable
python -m studies.copies --render   # writes the page again from docs/studies/copies.json
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.treatments import TIMESTEP, chunks, images, rate_text
from benchmarks.treatments import measure as measure_treatments
from mia_hub.attacks import get_attack
from mia_hub.checking.treated_images import MOST_FALSE, OWN_OUTPUT
from mia_hub.defaults import COPIES_ATTACK
from mia_hub.images.sources import as_images
from mia_hub.images.treatments import SHIFTED, TREATMENTS, UNTREATED
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA
from mia_hub.references.demo_reference import DEMO_COPIES, write_observations
from mia_hub.rendering.markdown import markdown_table
from mia_hub.system.provenance import provenance
from studies.page import run_study
from studies.treated import write_false_evidence

NAME = "copies"
PLAIN, LOW_PASS, COPIES = "sima-cn", "sima-lp", "sima-copies"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run the benchmark, and store what verdicts depend on beside the code that gives them."""
    results = measure_treatments(args.runs / NAME, os.cpu_count() or 1) | {"provenance": provenance()}
    write_limits(results)
    write_demo_reference(args.runs / NAME)
    return results


def write_limits(results: dict[str, Any]) -> None:
    """Write the counts of false evidence that `mia_hub.checking.treated_images` reads."""
    counts = {
        name: {treatment: [row["evidence"][name], row["n"]] for treatment, row in _nonmembers(results).items()}
        for name in results["attacks"]
    }
    about = {"model": results["model"]["id"], "revision": results["model"]["revision"], "null": results["null"], "p": ALPHA}
    write_false_evidence(NAME, about, counts)


def write_demo_reference(folder: Path) -> None:
    """Write the demo's reference for copies, of what the benchmark observed of untreated images."""
    kinds = ("members", "null", "non-members")
    pixels = [image for kind in kinds for image in images()[kind]]
    labels = np.repeat([1, 0], [len(images()["members"]), len(pixels) - len(images()["members"])]).astype(np.int8)
    observed = [np.load(chunk.file(folder, "observed"))[f"{UNTREATED}/{COPIES}"] for kind in kinds for chunk in chunks([kind])]
    attack = get_attack(COPIES_ATTACK)
    meta = {
        "attack": repr(attack.at(TIMESTEP)),
        "chosen": {},
        "timestep": TIMESTEP,
        "timestep_chosen": f"t = {TIMESTEP}, the middle of the grid, fixed beforehand",
    }
    write_observations(DEMO_COPIES, [image.id for image in as_images(pixels)], labels, np.concatenate(observed), **meta)


def _nonmembers(results: dict[str, Any]) -> dict[str, Any]:
    """Counts of images that were never used, by treatment; the model's own output among them."""
    counts = results["counts"]
    return {name: counts[name]["generated" if name == OWN_OUTPUT else "non-members"] for name in counts}


def _rows(counts: dict[str, Any], names: Sequence[str], key: str = "evidence") -> list[list[str]]:
    return [
        [treatment, *(rate_text(row[key][name], row["n"]) for name in names), f"{100 * row['not comparable'] / row['n']:.0f} %"]
        for treatment, row in counts.items()
    ]


def _mean(results: dict[str, Any], name: str) -> str:
    """The mean share of members recognised over all treatments but the untreated images."""
    shares = [
        row["members"]["evidence"][name] / row["members"]["n"] for t, row in results["counts"].items() if t not in (UNTREATED, OWN_OUTPUT)
    ]
    return f"{100 * sum(shares) / len(shares):.0f} %"


def _power(results: dict[str, Any], treatment: str, name: str) -> str:
    row = results["counts"][treatment]["members"]
    return rate_text(row["evidence"][name], row["n"])


def failing(results: dict[str, Any], key: str = "evidence") -> dict[str, list[str]]:
    """Attacks whose false evidence is shown to exceed `MOST_FALSE` under some treatment, with these treatments in words."""
    found: dict[str, list[str]] = {}
    for treatment, row in _nonmembers(results).items():
        for name in results["attacks"]:
            if clopper_pearson(row[key][name], row["n"])[0] > MOST_FALSE:
                found.setdefault(name, []).append(f"{treatment} {rate_text(row[key][name], row['n'])}")
    return found


def _listed(found: dict[str, list[str]]) -> str:
    return "\n".join(f"- `{name}`: {'; '.join(rows)}" for name, rows in found.items()) or "- none"


def _winners(results: dict[str, Any], name: str) -> str:
    rows = [
        [treatment, ", ".join(f"{word} {n}" for word, n in sorted(won.items(), key=lambda pair: -pair[1])) or "—"]
        for treatment, won in results["candidates"][name].items()
    ]
    return markdown_table([f"{name}: copies", "What looked most like a training image, of the members with evidence"], rows)


def render(results: dict[str, Any]) -> dict[str, str]:
    """The parts of the page."""
    names = list(results["attacks"])
    members = {name: row["members"] for name, row in results["counts"].items() if name in TREATMENTS}
    nonmembers = _nonmembers(results)
    some = next(iter(members.values()))["n"], next(iter(nonmembers.values()))["n"], nonmembers[OWN_OUTPUT]["n"]
    cases = ("mirrored", SHIFTED, "JPEG, quality 50", "noise, 4 grey levels")
    compared = (PLAIN, "sima-cn, four shifts", LOW_PASS, COPIES, f"{COPIES}, shifts")
    changes = [[case, *(_power(results, case, name) for name in compared)] for case in (UNTREATED, *cases)]
    headers = ["Copies", *names, "Not comparable"]
    return {
        "changes": markdown_table(["Members", PLAIN, "with four shifts", LOW_PASS, COPIES, "with shifts"], changes),
        "members": markdown_table(headers, _rows(members, names)),
        "nonmembers": markdown_table(headers, _rows(nonmembers, names)),
        "winners": _winners(results, f"{COPIES}, shifts"),
        "winners_without": _winners(results, COPIES),
        "means": ", ".join(f"`{name}` {_mean(results, name)}" for name in (PLAIN, LOW_PASS, COPIES)),
        "failing": _listed(failing(results)),
        "failing_alike": _listed(failing(results, "alike")),
        "shifted_null": ", ".join(f"{rate_text(*counted)} of {kind}" for kind, counted in results["shifted null"].items()),
        "limit": f"{100 * MOST_FALSE:g} %",
        "n_members": f"{some[0]:,}",
        "n_nonmembers": f"{some[1]:,}",
        "n_generated": f"{some[2]:,}",
        "null": f"{results['null']:,}",
        "timestep": str(results["timestep"]),
        "revision": str(results["model"]["revision"]).removeprefix("sha256:")[:8],
        "version": str(results["provenance"]["versions"]["mia_hub"]),
        "treatments": str(len(TREATMENTS) - 1),
    }


if __name__ == "__main__":
    run_study(NAME, __doc__.splitlines()[0], measure, render)
