"""Altered copies on models of latents: which candidates help is chosen on one half of a model's split, and measured on the other.

    python -m studies.copies_on_latents            # measures: about an hour of an idle CPU core, resumable
    python -m studies.copies_on_latents --render   # writes the page again from docs/studies/copies_on_latents.json

A second model, on which nothing is chosen, confirms it. `studies.train` trains both.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.treatments import MEMBERS, NONMEMBERS, NULL, Images, rate_text
from mia_hub.attacks.latent_copies import ITSELF, KINDS, LatentCandidate, LatentCopies
from mia_hub.attacks.spelling import parse_attack
from mia_hub.checking.checker import Checker
from mia_hub.checking.treated_images import MOST_FALSE
from mia_hub.images.sources import as_images
from mia_hub.images.treatments import TREATMENTS, UNTREATED, treated
from mia_hub.metrics.candidates import CandidatesNull
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.verdict_attack import verdict_observations
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.partition import calibration_part
from mia_hub.system.provenance import provenance
from studies.fine_tunes import FINE_TUNES, load_fine_tune
from studies.models import load_run
from studies.page import run_study
from studies.treated import write_false_evidence

NAME = "copies_on_latents"
# Fixed before anything was measured, as in the studies of copies and of fine-tunes.
TIMESTEPS = {"sima-cn-copies": 100, "sima-b-copies": 220}
# A kind of copy joins the family if, added to the image alone, it raises the mean share of members with evidence over all treatments by at
# least this much, on the calibration part, and leaves no treatment with false evidence shown to exceed `MOST_FALSE`.
LEAST_GAIN = 0.01
CHUNK = 64
ALONE = "the image alone"
# Of what `sima-cn` observes: the statistic and the five numbers of complexity, which are all that `sima-c` observes.
WITHOUT_NEIGHBOURS = slice(1 + 5)
# What is measured on a reported half, and its label.
FORMS = {"sima-c": "sima-c, the image alone", "alone": ALONE, "family": "with copies"}


@dataclass(frozen=True)
class Measured:
    """A model, and the attack that judges copies on it.

    Attributes:
        run: folder of its recipe, in the folder of the runs.
        title: on the page.
        attack: its name.
        halves: parts of the split that are measured: "calibration", "reported" or both.
    """

    run: str
    title: str
    attack: str
    halves: tuple[str, ...]


MODELS = (
    Measured("ldm-cifar", "latent diffusion, 512 photographs", "sima-cn-copies", ("calibration", "reported")),
    Measured("t2i-cifar-ft", "text-to-image, fine-tuned on 512 photographs, given the base", "sima-b-copies", ("reported",)),
)


@dataclass(frozen=True)
class Observed:
    """Images of one half of a split, as an attack observes them under each treatment; finished work is kept in a folder.

    Attributes:
        measured: the model.
        half: "calibration" or "reported".
        copies: the kinds that are observed.
        runs: folder of the runs.
    """

    measured: Measured
    half: str
    copies: tuple[str, ...]
    runs: Path

    @property
    def attack(self) -> LatentCopies:
        name = self.measured.attack
        attack = parse_attack(f"{name}:timesteps={TIMESTEPS[name]},copies={','.join(self.copies)}")
        assert isinstance(attack, LatentCopies), f"{name} judges copies on latents"
        return attack

    @cached_property
    def model(self) -> DiffusionModel:
        run, tuned = load_run(self.runs / self.measured.run), FINE_TUNES.get(self.measured.run)
        return load_model(str(run.final)) if tuned is None else load_fine_tune(self.runs, tuned, run.final)

    @cached_property
    def images(self) -> dict[str, Images]:
        """Members, non-members, and other non-members as the null set, uint8 ``[H, W, 3]`` each."""
        split = load_run(self.runs / self.measured.run).data.split(4000)
        parts = {}
        for kind, images, label, count in (("members", split.members, 1, MEMBERS), ("all", split.nonmembers, 0, NULL + NONMEMBERS)):
            own = [image.id for image in images]
            chosen = calibration_part(own, np.full(len(own), label, np.int8), seed=0) == (self.half == "calibration")
            parts[kind] = [np.asarray(images[int(row)].to_pil()) for row in np.flatnonzero(chosen)[:count]]
        return {"members": parts["members"], "null": parts["all"][:NULL], "non-members": parts["all"][NULL:]}

    @cached_property
    def comparability(self) -> Any:
        attack = parse_attack(f"sima:timesteps={TIMESTEPS[self.measured.attack]}")
        checker = Checker(self.model, attack, nonmembers=self.images["null"], keep=False, progress=False)
        return checker.comparability

    def _file(self, kind: str, treatment: str) -> Path:
        return self.runs / "scores" / NAME / f"{self.measured.run}-{self.half}-{kind}-{list(TREATMENTS).index(treatment):02d}.npz"

    def rows(self, kind: str, treatment: str) -> tuple[np.ndarray, np.ndarray]:
        """Return observations ``[n, K, 1 + F]``, and whether each image is comparable ``[n]``."""
        path = self._file(kind, treatment)
        if not path.exists():
            copies = as_images([treated(treatment, image) for image in self.images[kind]])
            observed = verdict_observations(self.attack, self.attack.observe(self.model, copies, batch_size=CHUNK, progress=False))
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".part.npz")
            np.savez_compressed(unfinished, observed=observed, comparable=np.array([self.comparability(image) for image in copies]))
            unfinished.replace(path)
        stored = np.load(path)
        return stored["observed"].reshape(len(stored["comparable"]), len(self.attack.candidates), -1), stored["comparable"]

    def counts(self, copies: Sequence[str], columns: slice = slice(None)) -> dict[str, Any]:
        """Return how many images get evidence under each treatment, and what won.

        Args:
            copies: the kinds of copies that are judged besides the image.
            columns: what is used of the statistic and the difficulty; all of it by default.
        """
        all_candidates, own = self.attack.candidates, candidates_of(copies)
        places = [all_candidates.index(candidate) for candidate in own]
        null_rows, _ = self.rows("null", UNTREATED)
        ids = tuple(f"null {row}" for row in range(len(null_rows)))
        null = CandidatesNull(null_rows[:, places][..., columns], ids, tuple(candidate.weight for candidate in own))
        counts: dict[str, dict[str, list[int]]] = {}
        won: dict[str, dict[str, int]] = {}
        for kind in ("members", "non-members"):
            for treatment in TREATMENTS:
                observed, comparable = self.rows(kind, treatment)
                judged = [null.judge(row) for row in observed[:, places][..., columns]]
                found = [one for one, fits in zip(judged, comparable) if fits and one.p_value <= ALPHA]
                counts.setdefault(kind, {})[treatment] = [len(found), len(judged)]
                if kind == "members":
                    words = [own[one.candidate].words for one in found]
                    won[treatment] = {word: words.count(word) for word in dict.fromkeys(words)}
        return {"evidence": counts, "won": won}


def candidates_of(copies: Sequence[str]) -> tuple[LatentCandidate, ...]:
    """Return the image itself and the candidates of some kinds of copies."""
    return (ITSELF, *(candidate for kind in copies for candidate in KINDS[kind]))


def power(counts: Mapping[str, Mapping[str, Sequence[int]]]) -> float:
    """Return the mean share of members with evidence over all treatments."""
    return float(np.mean([n / of for treatment, (n, of) in counts["members"].items() if treatment != UNTREATED]))


def exceeding(counts: Mapping[str, Mapping[str, Sequence[int]]]) -> list[str]:
    """Return the treatments, with rates, under which false evidence is shown to exceed the limit."""
    return [f"{t} {rate_text(*row)}" for t, row in counts["non-members"].items() if clopper_pearson(*row)[0] > MOST_FALSE]


def chosen_kinds(tried: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the kinds of copies that join the family, by the counts of each, and of the image alone, on the calibration part."""
    alone = power(tried[ALONE]["evidence"])
    return [kind for kind in KINDS if power(tried[kind]["evidence"]) >= alone + LEAST_GAIN and not exceeding(tried[kind]["evidence"])]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Choose on the calibration part of the first model, and measure the family on the reported parts of all."""
    first = Observed(MODELS[0], "calibration", tuple(KINDS), args.runs)
    tried = {ALONE: first.counts(())} | {kind: first.counts((kind,)) for kind in KINDS}
    family = chosen_kinds(tried)
    reported = {}
    for measured in MODELS:
        if (args.runs / measured.run).exists():
            observed = Observed(measured, "reported", tuple(family), args.runs)
            run = load_run(args.runs / measured.run)
            facts = {"command": run.facts["command"], "split": run.facts["split_hash"]}
            reported[measured.run] = facts | {"alone": observed.counts(()), "family": observed.counts(family)}
            if measured.attack == "sima-cn-copies":
                reported[measured.run]["sima-c"] = observed.counts((), WITHOUT_NEIGHBOURS)
    results = {"tried": tried, "family": family, "reported": reported, "provenance": provenance()}
    write_limits(results)
    return results


def write_limits(results: dict[str, Any]) -> None:
    """Write the counts of false evidence that `mia_hub.checking.treated_images` reads."""
    about = {"model": " and ".join(measured.title for measured in MODELS), "on_latents": True, "null": NULL, "p": ALPHA}
    reported = {measured.attack: results["reported"][measured.run] for measured in MODELS}
    counts = {attack: one["family"]["evidence"]["non-members"] for attack, one in reported.items()}
    plain = {"sima-cn": reported["sima-cn-copies"]["alone"], "sima-c": reported["sima-cn-copies"]["sima-c"]}
    counts |= {attack: one["evidence"]["non-members"] for attack, one in plain.items()}
    write_false_evidence(NAME, about, counts)


def render(results: dict[str, Any]) -> dict[str, str]:
    """The parts of the page."""
    tried, alone = results["tried"], power(results["tried"][ALONE]["evidence"])
    choice = [
        [kind, str(len(candidates_of(() if kind == ALONE else (kind,)))), f"{100 * power(one['evidence']):.1f} %",
         f"{100 * (power(one['evidence']) - alone):+.1f}", "; ".join(exceeding(one["evidence"])) or "none",
         "—" if kind == ALONE else "yes" if kind in results["family"] else "no"]
        for kind, one in tried.items()
    ]  # fmt: skip
    headers = ["Copies", *(f"{measured.title}: {FORMS[form]}" for measured, form in _forms(results))]
    return {
        "choice": markdown_table(["Kind", "Candidates", "Mean power", "Gain, points", "False evidence above the limit", "Joins"], choice),
        "family": ", ".join(f"`{kind}`" for kind in results["family"]),
        "members": markdown_table(headers, _rows(results, "members")),
        "nonmembers": markdown_table(headers, _rows(results, "non-members")),
        "means": "\n".join(_mean(results, measured) for measured in MODELS),
        "exceeding": "\n".join(_exceeding(results, measured) for measured in MODELS),
        "winners": markdown_table(["Copies", *(measured.title for measured in MODELS)], _winners(results)),
        "models": "\n".join(
            f"- {one.title} (`{one.attack}` at t = {TIMESTEPS[one.attack]}): `{results['reported'][one.run]['command']}`."
            for one in MODELS
        ),
        "n_members": str(MEMBERS), "n_nonmembers": str(NONMEMBERS), "null": str(NULL),
        "limit": f"{100 * MOST_FALSE:g} %", "least": f"{100 * LEAST_GAIN:g}",
    }  # fmt: skip


def _forms(results: dict[str, Any]) -> list[tuple[Measured, str]]:
    return [(measured, form) for measured in MODELS for form in FORMS if form in results["reported"][measured.run]]


def _rows(results: dict[str, Any], kind: str) -> list[list[str]]:
    counted = [results["reported"][measured.run][form]["evidence"][kind] for measured, form in _forms(results)]
    return [[treatment, *(rate_text(*counts[treatment]) for counts in counted)] for treatment in TREATMENTS]


def _mean(results: dict[str, Any], measured: Measured) -> str:
    one = results["reported"][measured.run]
    before, after = (100 * power(one[form]["evidence"]) for form in ("alone", "family"))
    return f"- {measured.title}: {before:.0f} % → {after:.0f} %."


def _exceeding(results: dict[str, Any], measured: Measured) -> str:
    one = results["reported"][measured.run]
    texts = (f"{FORMS[form]}: {'; '.join(exceeding(one[form]['evidence'])) or 'none'}" for own, form in _forms(results) if own == measured)
    return f"- {measured.title}: {'; '.join(texts)}."


def _winners(results: dict[str, Any]) -> list[list[str]]:
    def text(won: dict[str, int]) -> str:
        return ", ".join(f"{word} {n}" for word, n in sorted(won.items(), key=lambda pair: -pair[1])) or "—"

    return [[t, *(text(results["reported"][measured.run]["family"]["won"][t]) for measured in MODELS)] for t in TREATMENTS]


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
