"""How often each test of a set gives evidence: the default one and CDI's, on the demo, at equal queries.

    python -m studies.sets

The features of each image are stored in ``runs/studies/sets``, so that a second run takes them from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.treatments import rate_text
from mia_hub.attacks.cdi import CDIFeatures
from mia_hub.metrics.dataset_inference import cdi_test
from mia_hub.metrics.p_values import ALPHA
from mia_hub.metrics.set_tests import compare_sets
from mia_hub.models.loading import load_model
from mia_hub.references.demo_reference import demo_reference
from mia_hub.references.verdict_attack import verdict_attack
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.loading import load_split
from mia_hub.system.provenance import provenance
from studies.page import run_study

NAME = "sets"
# Images whose features are computed, 58 queries each, in blocks.
MEMBERS, NONMEMBERS, BLOCK = 64, 64, 64
SIZES, SHARES, SETS = (32,), (1.0, 0.5, 0.0), 50
FOLDS = 5
Floats = npt.NDArray[np.float64]
Test = Callable[[list[int], list[int], int], float]


def features(ids: list[str], folder: Path, name: str) -> tuple[Floats, float]:
    """Return CDI's features of images of the demo, and the queries per image that they cost."""
    split, model, folder = load_split("demo"), load_model("demo", device="cpu"), folder / NAME
    place = {image.id: row for row, image in enumerate(split.images)}
    folder.mkdir(parents=True, exist_ok=True)
    values, queries = [], 0
    for start in range(0, len(ids), BLOCK):
        file = folder / f"{name}-{start}.npz"
        if not file.exists():
            observed = CDIFeatures().observe(model, [split.images[place[id]] for id in ids[start : start + BLOCK]])
            np.savez(file, ids=observed.ids, values=observed.values, queries=observed.queries)
        stored = np.load(file)
        assert stored["ids"].tolist() == ids[start : start + BLOCK], f"{file} is of other images; remove it"
        values.append(stored["values"])
        queries += int(stored["queries"])
    return np.concatenate(values), queries / len(ids)


def share_with_evidence(test: Test, size: int, share: float, others: int) -> float:
    """Return the share of sets with p ≤ .01.

    Args:
        test: maps rows of a set, rows of known non-members and a seed to a p-value; members come first.
        size: of a set.
        share: of members in it.
        others: number of known non-members that the test is given at most.
    """
    found = 0
    for seed in range(SETS):
        rng = np.random.default_rng(seed)
        members, nonmembers = rng.permutation(MEMBERS), MEMBERS + rng.permutation(NONMEMBERS)
        k = round(size * share)
        rest = [*nonmembers[size - k :], *range(MEMBERS + NONMEMBERS, MEMBERS + others)]
        found += test([*members[:k], *nonmembers[: size - k]], rest, seed) <= ALPHA
    return found / SETS


def measure(args: argparse.Namespace) -> dict[str, Any]:
    reference = demo_reference()
    labels, ids = reference.profiles.is_member, reference.profiles.ids
    rows = [np.flatnonzero(labels == label) for label in (1, 0)]
    rows[0] = rows[0][:MEMBERS]
    cdi = [features([ids[row] for row in side[:n]], args.runs, name) for side, n, name in zip(rows, (MEMBERS, NONMEMBERS), ("m", "n"))]
    combined, ours = np.concatenate([values for values, _ in cdi]), reference.observations[np.concatenate(rows)]
    of_cdi = float(np.average([queries for _, queries in cdi], weights=(MEMBERS, NONMEMBERS)))
    of_ours = verdict_attack(reference.configured, reference.chosen, reference.timestep).queries_per_image
    measured = []
    for size in SIZES:
        # As many queries as CDI spends on the set and on as many non-members.
        affordable = min(int((2 * size * of_cdi - size * of_ours) / of_ours), len(rows[1]) - size)

        def permutation(own: list[int], rest: list[int], seed: int, n: int = affordable) -> float:
            return compare_sets(ours[own], ours[rest[:n]], seed=seed).p_value

        def by_cdi(own: list[int], rest: list[int], seed: int, folds: int | None = None) -> float:
            return cdi_test(combined[own], combined[rest[: len(own)]], folds=folds, seed=seed).p_value

        tests: dict[str, tuple[Test, int, float]] = {
            "default, equal queries": (permutation, affordable, of_ours),
            "default, as many non-members": (lambda own, rest, seed: permutation(own, rest, seed, len(own)), size, of_ours),
            "CDI": (by_cdi, size, of_cdi),
            "CDI, cross-fitted": (lambda own, rest, seed: by_cdi(own, rest, seed, FOLDS), size, of_cdi),
        }
        for name, (test, n, queries) in tests.items():
            evidence = {str(share): share_with_evidence(test, size, share, len(rows[1])) for share in SHARES}
            measured.append({"test": name, "size": size, "nonmembers": n, "queries": round((size + n) * queries), "evidence": evidence})
    return {
        "rows": measured, "attack": reference.configured.name, "queries_cdi": of_cdi, "queries_default": of_ours, "members": MEMBERS,
        "nonmembers": NONMEMBERS, "sets": SETS, "provenance": provenance(),
    }  # fmt: skip


def render(results: dict[str, Any]) -> dict[str, str]:
    rows = [
        [str(row["size"]), row["test"], f"{row['nonmembers']:,}", f"{row['queries']:,}"]
        + [rate_text(round(row["evidence"][str(share)] * results["sets"]), results["sets"]) for share in SHARES]
        for row in results["rows"]
    ]
    headers = ["Images", "Test", "Non-members", "Queries in all", "All are members", "Half are", "None is"]
    return {
        "table": markdown_table(headers, rows, raw=True),
        "members": f"{results['members']:,}",
        "nonmembers": f"{results['nonmembers']:,}",
        "sets": f"{results['sets']:,}",
        "attack": results["attack"],
        "of-cdi": f"{results['queries_cdi']:.0f}",
        "of-default": f"{results['queries_default']:.0f}",
    }


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
