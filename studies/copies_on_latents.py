"""Altered copies on models of latents: which candidates help is chosen on one half of a model's split, and measured on the other.

    python -m studies.copies_on_latents            # measures: about an hour of an idle CPU core, resumable
    python -m studies.copies_on_latents --render   # writes the page again from docs/studies/copies_on_latents.json

A second model, on which nothing is chosen, confirms it. `studies.train` trains both.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.treatments import GENERATED, MEMBERS, NONMEMBERS, NULL, Images, generated, rate_text
from mia_hub.attacks import Attack
from mia_hub.attacks.latent_copies import ITSELF, KINDS, LatentCandidate, LatentCopies
from mia_hub.attacks.spelling import parse_attack
from mia_hub.checking.checker import Checker
from mia_hub.checking.treated_images import MOST_FALSE
from mia_hub.images.borders import border_share
from mia_hub.images.sources import as_images
from mia_hub.images.treatment_signs import treatment_signs
from mia_hub.images.treatments import TREATMENTS, UNTREATED, treated
from mia_hub.metrics.candidates import CandidatesNull
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.references.border_check import BorderCheck
from mia_hub.references.comparability import Comparability
from mia_hub.references.treatment_check import TreatmentCheck
from mia_hub.references.verdict_attack import verdict_observations
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.partition import calibration_part
from mia_hub.system.provenance import provenance
from studies.fine_tunes import FINE_TUNES, load_fine_tune
from studies.models import load_run
from studies.page import run_study
from studies.treated import write_false_evidence

NAME = "copies_on_latents"
# Of one and three queries. Timesteps were fixed before anything was measured, as in the studies of copies and of fine-tunes.
PLAIN = {
    "sima-c": "sima-c:timesteps=100",
    "sima-cc": "sima-cc:timesteps=100",
    "sima-cn": "sima-cn:timesteps=100,given=complexity,shift-left,shift-right",
}
GIVEN_BASE = "sima-b:timesteps=220"
# A kind of copy joins the family if, added to the image alone, it raises the mean share of members with evidence over all treatments by at
# least this much, on the calibration part, and leaves no treatment with false evidence shown to exceed `MOST_FALSE`.
LEAST_GAIN = 0.01
CHUNK = 64
MOST = 4000
ALONE, FAMILY = "the image alone", "with copies"


@dataclass(frozen=True)
class Measured:
    """A model, and the attacks that are measured on the reported half of its split.

    Attributes:
        run: folder of its recipe, in the folder of the runs.
        title: on the page.
        plain: attacks that judge the image alone, as the command line spells them, by their names on the page.
        copies: the attack that judges copies, as the command line spells it; a list of kinds is put after it.
    """

    run: str
    title: str
    plain: dict[str, str]
    copies: str


FIRST = Measured("ldm-cifar", "latent diffusion, 512 photographs", PLAIN, "sima-cc-copies:timesteps=100")
SECOND = Measured(
    "t2i-cifar-ft",
    "text-to-image, fine-tuned on 512 photographs",
    {"sima-cc": PLAIN["sima-cc"], "sima-b": GIVEN_BASE},
    "sima-b-copies:timesteps=220",
)
# The same recipe as the first one's, with other images and draws.
THIRD = Measured("ldm-cifar-1", "latent diffusion, 512 other photographs", PLAIN, FIRST.copies)
MODELS = (FIRST, THIRD, SECOND)


@dataclass(frozen=True)
class Half:
    """Images of one half of a model's split, and what attacks observe of them under each treatment; finished work is kept in a folder.

    Attributes:
        measured: the model.
        half: "calibration" or "reported".
        runs: folder of the runs.
    """

    measured: Measured
    half: str
    runs: Path

    @cached_property
    def model(self) -> DiffusionModel:
        run, tuned = load_run(self.runs / self.measured.run), FINE_TUNES.get(self.measured.run)
        return load_model(str(run.final)) if tuned is None else load_fine_tune(self.runs, tuned, run.final)

    @cached_property
    def images(self) -> dict[str, Images]:
        """Members, non-members, and other non-members as the null set, uint8 ``[H, W, 3]`` each."""
        split = load_run(self.runs / self.measured.run).data.split(MOST)
        parts = {}
        for kind, images, label, count in (("members", split.members, 1, MEMBERS), ("all", split.nonmembers, 0, NULL + NONMEMBERS)):
            own = [image.id for image in images]
            chosen = calibration_part(own, np.full(len(own), label, np.int8), seed=0) == (self.half == "calibration")
            parts[kind] = [np.asarray(images[int(row)].to_pil()) for row in np.flatnonzero(chosen)[:count]]
        return {"members": parts["members"], "null": parts["all"][:NULL], "non-members": parts["all"][NULL:]}

    @cached_property
    def comparable(self) -> dict[tuple[str, str], np.ndarray]:
        """By kind and treatment, which images are comparable with the null images, ``[n]``."""
        known = as_images(self.images["null"])
        alike, bordered = (
            Comparability.fitted(known, self.model.info.picture_shape),
            BorderCheck(np.array([border_share(image) for image in known])),
        )

        def fits(kind: str, treatment: str) -> np.ndarray:
            copies = as_images([treated(treatment, image) for image in self.images[kind]])
            return np.array([alike(image) and not bordered(image) for image in copies])

        return {(kind, treatment): fits(kind, treatment) for kind in ("members", "non-members") for treatment in TREATMENTS}

    @cached_property
    def _alike(self) -> dict[str, np.ndarray]:
        """Of the non-members under each treatment, whether none bears a sign of treatment that the null images don't bear, ``[n]``."""
        height, width = self.model.info.picture_shape[1:]
        signs = np.array([treatment_signs(image, height, width) for image in as_images(self.images["null"])])
        check = TreatmentCheck(signs, (height, width))

        def alike(treatment: str) -> np.ndarray:
            copies = as_images([treated(treatment, image) for image in self.images["non-members"]])
            return np.array([not check.differences(image) for image in copies])

        return {treatment: alike(treatment) for treatment in TREATMENTS}

    def rows(self, attack: Attack, kind: str, treatment: str) -> np.ndarray:
        """Return observations ``[n, K, 1 + F]`` of K candidates."""
        name = hashlib.sha256(repr(attack).encode()).hexdigest()[:12]
        folder = self.runs / "scores" / NAME
        path = folder / f"{self.measured.run}-{self.half}-{name}-{kind}-{list(TREATMENTS).index(treatment):02d}.npz"
        if not path.exists():
            copies = as_images([treated(treatment, image) for image in self.images[kind]])
            observed = verdict_observations(attack, attack.observe(self.model, copies, batch_size=CHUNK, progress=False))
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".part.npz")
            np.savez_compressed(unfinished, observed=observed)
            unfinished.replace(path)
        observed = np.load(path)["observed"]
        return observed.reshape(len(observed), len(candidates(attack)), -1)

    def own_output(self, text: str) -> list[int]:
        """Return how many of the images that the model itself draws get evidence, and of how many."""
        attack = parse_attack(text)
        checker = Checker(self.model, attack, nonmembers=self.images["null"], keep=False, progress=False)
        drawn, reference = as_images(generated(self.model, range(GENERATED))), checker.reference
        assert reference is not None, "non-members are known"
        judged = checker.judge(drawn, progress=False)
        return [sum(one.p_value <= ALPHA and reference.is_comparable(image) for image, one in zip(drawn, judged)), len(judged)]

    def counts(self, text: str, copies: Sequence[str] = (), observed_with: Sequence[str] = ()) -> dict[str, Any]:
        """Return how many images get evidence under each treatment, also of those that bear no sign of it, and what won.

        Args:
            text: the attack, as the command line spells it.
            copies: the kinds of copies that are judged besides the image.
            observed_with: the kinds that are observed together, those of ``copies`` among them; the same ones by default.
        """
        kinds = observed_with or copies
        attack = parse_attack(f"{text},copies={','.join(kinds)}" if kinds else text)
        every, own = candidates(attack), (ITSELF, *(candidate for kind in copies for candidate in KINDS[kind]))
        places = [every.index(candidate) for candidate in own]
        null_rows = self.rows(attack, "null", UNTREATED)
        ids = tuple(f"null {row}" for row in range(len(null_rows)))
        null = CandidatesNull(null_rows[:, places], ids, tuple(candidate.weight for candidate in own))
        counts: dict[str, dict[str, list[int]]] = {}
        alike: dict[str, list[int]] = {}
        won: dict[str, dict[str, int]] = {}
        for kind in ("members", "non-members"):
            for treatment in TREATMENTS:
                judged = [null.judge(row) for row in self.rows(attack, kind, treatment)[:, places]]
                small = self.comparable[kind, treatment] & (np.array([one.p_value for one in judged]) <= ALPHA)
                found = [judged[row] for row in np.flatnonzero(small)]
                counts.setdefault(kind, {})[treatment] = [len(found), len(judged)]
                if kind == "non-members":
                    alike[treatment] = [int((small & self._alike[treatment]).sum()), len(judged)]
                else:
                    words = [own[one.candidate].words for one in found]
                    won[treatment] = {word: words.count(word) for word in dict.fromkeys(words)}
        return {"evidence": counts, "alike": alike, "won": won}


def candidates(attack: Attack) -> tuple[LatentCandidate, ...]:
    """Return what an attack judges; the image itself comes first."""
    return attack.candidates if isinstance(attack, LatentCopies) else (ITSELF,)


def power(counts: Mapping[str, Mapping[str, Sequence[int]]]) -> float:
    """Return the mean share of members with evidence over all treatments."""
    return float(np.mean([n / of for treatment, (n, of) in counts["members"].items() if treatment != UNTREATED]))


def exceeding(false: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the treatments, with rates, under which false evidence is shown to exceed the limit, by the counts of non-members."""
    return [f"{t} {rate_text(*row)}" for t, row in false.items() if clopper_pearson(*row)[0] > MOST_FALSE]


def chosen_kinds(tried: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the kinds of copies that join the family, by the counts of each, and of the image alone, on the calibration part."""
    alone = power(tried[ALONE]["evidence"])
    return [
        kind
        for kind in KINDS
        if power(tried[kind]["evidence"]) >= alone + LEAST_GAIN and not exceeding(tried[kind]["evidence"]["non-members"])
    ]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Choose on the calibration part of the first model, and measure what was chosen on the reported parts of all that are there."""
    first = Half(FIRST, "calibration", args.runs)
    plain = {name: first.counts(text) for name, text in PLAIN.items()}
    tried = {ALONE: first.counts(FIRST.copies, (), tuple(KINDS))}
    tried |= {kind: first.counts(FIRST.copies, (kind,), tuple(KINDS)) for kind in KINDS}
    family = chosen_kinds(tried)
    reported = {}
    for measured in MODELS:
        if (args.runs / measured.run).exists():
            half, run = Half(measured, "reported", args.runs), load_run(args.runs / measured.run)
            counts = {name: half.counts(text) for name, text in measured.plain.items()}
            counts |= {FAMILY: half.counts(measured.copies, family)} if family else {}
            # A model of captioned images draws what a prompt says.
            own = {name: half.own_output(text) for name, text in measured.plain.items()} if measured is not SECOND else {}
            facts = {"command": run.facts["command"], "split": run.facts["split_hash"]}
            reported[measured.run] = {**facts, "counts": counts, "own_output": own}
    results = {"plain": plain, "tried": tried, "family": family, "reported": reported, "provenance": provenance()}
    write_limits(results)
    return results


def write_limits(results: dict[str, Any]) -> None:
    """Write the counts of false evidence that `mia_hub.checking.treated_images` reads: under each treatment the worst of the models'."""
    here = [measured for measured in MODELS if measured.run in results["reported"]]
    about = {"model": " and ".join(measured.title for measured in here), "on_latents": True, "null": NULL, "p": ALPHA}
    counts: dict[str, dict[str, list[int]]] = {}
    for measured in here:
        for name, one in results["reported"][measured.run]["counts"].items():
            own = counts.setdefault(measured.copies.partition(":")[0] if name == FAMILY else name, {})
            for treatment, row in one["evidence"]["non-members"].items():
                own[treatment] = max(own.get(treatment, row), row, key=lambda counted: clopper_pearson(*counted)[0])
    write_false_evidence(NAME, about, counts)


def render(results: dict[str, Any]) -> dict[str, str]:
    """The parts of the page."""
    alone = power(results["tried"][ALONE]["evidence"])
    choice = [
        [kind, "1" if kind == ALONE else str(1 + len(KINDS[kind])), f"{100 * power(one['evidence']):.1f} %",
         f"{100 * (power(one['evidence']) - alone):+.1f}", _exceeding(one), "—" if kind == ALONE else _yes(kind in results["family"])]
        for kind, one in results["tried"].items()
    ]  # fmt: skip
    plain = [
        [f"`{text}`", str(parse_attack(text).queries_per_image), _power(results["plain"][name]), _exceeding(results["plain"][name])]
        for name, text in PLAIN.items()
    ]
    headers = ["Copies", *(f"{measured.title}: {name}" for measured, name, _ in _columns(results))]
    return {
        "plain": markdown_table(["Attack", "Queries", "Mean power", "False evidence above the limit"], plain, raw=True),
        "choice": markdown_table(["Kind", "Candidates", "Mean power", "Gain, points", "False evidence above the limit", "Joins"], choice),
        "family": " and ".join(f"`{kind}`" for kind in results["family"]) or "nothing else",
        "members": markdown_table(headers, _rows(results, "members")),
        "nonmembers": markdown_table(headers, _rows(results, "non-members")),
        "summary": markdown_table(
            ["Model", "Attack", "Members as they are", "Mean power", "False evidence above the limit", "The same without signs"],
            [_summary(measured, name, one) for measured, name, one in _columns(results)],
        ),
        "own": "; ".join(_own_output(results, measured) for measured in _here(results) if measured is not SECOND),
        "winners": markdown_table(["Copies", *(measured.title for measured in _here(results))], _winners(results)),
        "models": "\n".join(f"- {one.title}: `{results['reported'][one.run]['command']}`." for one in _here(results)),
        "n_members": str(MEMBERS), "n_nonmembers": str(NONMEMBERS), "null": str(NULL),
        "limit": f"{100 * MOST_FALSE:g} %", "least": f"{100 * LEAST_GAIN:g}",
    }  # fmt: skip


def _here(results: dict[str, Any]) -> list[Measured]:
    return [measured for measured in MODELS if measured.run in results["reported"]]


def _columns(results: dict[str, Any]) -> list[tuple[Measured, str, dict[str, Any]]]:
    return [
        (measured, f"{measured.copies.partition(':')[0]}" if name == FAMILY else name, one)
        for measured in _here(results)
        for name, one in results["reported"][measured.run]["counts"].items()
    ]


def _rows(results: dict[str, Any], kind: str) -> list[list[str]]:
    counted = [one["evidence"][kind] for _, _, one in _columns(results)]
    return [[treatment, *(rate_text(*counts[treatment]) for counts in counted)] for treatment in TREATMENTS]


def _own_output(results: dict[str, Any], measured: Measured) -> str:
    own = results["reported"][measured.run]["own_output"]
    return f"{measured.title}: {', '.join(f'`{name}` {rate_text(*row)}' for name, row in own.items())}"


def _summary(measured: Measured, name: str, one: dict[str, Any]) -> list[str]:
    untreated = rate_text(*one["evidence"]["members"][UNTREATED])
    return [measured.title, name, untreated, _power(one), _exceeding(one), "; ".join(exceeding(one["alike"])) or "none"]


def _power(one: dict[str, Any]) -> str:
    return f"{100 * power(one['evidence']):.1f} %"


def _exceeding(one: dict[str, Any]) -> str:
    return "; ".join(exceeding(one["evidence"]["non-members"])) or "none"


def _yes(yes: bool) -> str:
    return "yes" if yes else "no"


def _winners(results: dict[str, Any]) -> list[list[str]]:
    def text(won: dict[str, int]) -> str:
        return ", ".join(f"{word} {n}" for word, n in sorted(won.items(), key=lambda pair: -pair[1])) or "—"

    found = [results["reported"][measured.run]["counts"].get(FAMILY) for measured in _here(results)]
    return [[treatment, *("—" if one is None else text(one["won"][treatment]) for one in found)] for treatment in TREATMENTS]


if __name__ == "__main__":
    run_study(NAME, __doc__.split("\n")[0], measure, render)
