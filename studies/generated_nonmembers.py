"""Generated images as non-members: what they can say where nobody has real ones, and what they can't.

python -m studies.generated_nonmembers            # measures: about ten minutes of an idle CPU core, resumable
python -m studies.generated_nonmembers --render   # writes the page again from docs/studies/generated_nonmembers.json
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from benchmarks.treatments import STEPS as DDIM_STEPS
from benchmarks.treatments import rate_text
from mia_hub.attacks.spelling import parse_attack
from mia_hub.images.sequences import SelectedSequence
from mia_hub.metrics.epsilon import CONFIDENCE
from mia_hub.metrics.intervals import auc_difference, clopper_pearson, delong
from mia_hub.metrics.p_values import ALPHA
from mia_hub.metrics.roc import auc
from mia_hub.models.loading import load_model
from mia_hub.references.comparability import Comparability
from mia_hub.references.verdict_attack import null_set
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.shift import blind_auc, classifier_scores, shift_flags
from mia_hub.system.provenance import provenance
from studies.drawn_images import (
    ATTACKS,
    CONTROLS,
    DRAWN,
    HELPER_TIMESTEPS,
    MEMBERS,
    NULL,
    OTHER,
    OTHERS,
    OWN,
    REAL,
    SEED,
    TESTED,
    TIMESTEP,
    TIMESTEPS,
    TRAINING_STEPS,
    Rows,
    World,
    control,
    world,
)
from studies.measuring import interval_text, numbers, once
from studies.page import run_study
from studies.panoramia import beyond_baseline, fill_places, guessing_bound

NAME = "generated_nonmembers"
SHAPE = (1, 28, 28)
# The game: places, numbers of guesses, and how often the coins are tossed; the first toss counts, the others show the spread.
PLACES, GUESSES, TOSSES = 440, (10, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 220), 200
FEATURES, HELPED = "the image", "the image, and another model's scores"


def naive(everything: World, origin: str) -> dict[str, Any]:
    """Return what happens to real images if images of one origin are the null set: evidence, refusals, and the shift check's answer."""
    both = {kind: np.concatenate([everything.fit[kind], everything.judged[kind]]) for kind in (OWN, OTHER)}
    null = everything.judged[NULL] if origin == REAL else both[origin]
    comparability = Comparability.fitted(SelectedSequence(everything.images, null.tolist()), SHAPE)
    kinds = {MEMBERS: everything.judged[MEMBERS], TESTED: everything.judged[TESTED]} | (both if origin == REAL else {})
    return {
        "null": len(null),
        "blind": _shift(everything, null),
        "images": {kind: _evidence(everything, rows, null, comparability) for kind, rows in kinds.items()},
    }


def _shift(everything: World, null: Rows) -> dict[str, Any]:
    """What the shift check says of real non-members against a null set, of as many images whose features are known."""
    tested, null = (rows[np.isfinite(everything.features[rows, 0])] for rows in (everything.judged[TESTED], null))
    sides = [rows[: min(len(tested), len(null))] for rows in (tested, null)]
    blind = blind_auc(everything.features[np.concatenate(sides)], np.repeat([1, 0], [len(rows) for rows in sides]))
    assert blind is not None, "there are enough images"
    return {"auc": numbers(blind), "flagged": bool(shift_flags(blind)), "n": len(sides[0])}


def _evidence(everything: World, rows: Rows, null: Rows, comparability: Comparability) -> dict[str, Any]:
    """Numbers of images: all, those that the comparability check refuses, and those with evidence, by attack."""
    refused = np.array([not comparability(everything.images[row]) for row in rows])
    counts: dict[str, Any] = {"n": len(rows), "refused": int(refused.sum()), "evidence": {}, "comparable evidence": {}}
    for name, seen in (("sima", everything.scores[:, TIMESTEPS.index(TIMESTEP)]), ("sima-lp", everything.observed)):
        known = null_set(parse_attack(ATTACKS[name]), [str(row) for row in null], np.zeros(len(null), np.int8), seen[null], TIMESTEP)
        found = np.array([known.judge(seen[row]).p_value <= ALPHA for row in rows])
        counts["evidence"][name], counts["comparable evidence"][name] = int(found.sum()), int((found & ~refused).sum())
    return counts


def audit(everything: World, generator: str, real: str, baseline: str) -> dict[str, Any]:
    """Return what PANORAMIA finds of real images against those of one origin.

    Args:
        everything: all images.
        generator: where the images in the non-members' place come from.
        real: `MEMBERS`, or a control.
        baseline: what the baseline sees, `FEATURES` or `HELPED`; the attack sees the demo's scores, too.
    """
    fit, judged = ([side[real], side[generator]] for side in (everything.fit, everything.judged))
    labels = [np.repeat([1, 0], [len(rows) for rows in side]) for side in (fit, judged)]
    fit, judged = np.concatenate(fit), np.concatenate(judged)
    seen = everything.features if baseline == FEATURES else np.hstack([everything.features, everything.helper])
    blind, attack = (
        classifier_scores(columns[fit], labels[0], columns[judged], seed=SEED) for columns in (seen, np.hstack([seen, everything.scores]))
    )
    n_members = int(labels[1].sum())
    games = []
    for toss in range(TOSSES):
        rows, places = fill_places(n_members, len(judged) - n_members, PLACES, np.random.default_rng([SEED, toss]))
        games.append(beyond_baseline(blind[rows], attack[rows], places, GUESSES))
    beyond = [game.difference for game in games]
    figures = {
        name: [round(float(part), 5) for part in (auc(scores, labels[1]), *delong(scores, labels[1]))]
        for name, scores in (("baseline", blind), ("attack", attack))
    }
    difference = [round(float(part), 5) for part in auc_difference(attack, blind, labels[1])]
    return {
        "generator": generator,
        "real": real,
        "sees": baseline,
        **figures,
        "difference": difference,
        "game": [round(games[0].baseline, 4), round(games[0].attack, 4), round(beyond[0], 4)],
        "tosses": [round(float(part), 4) for part in np.quantile(beyond, (0.5, 0.025, 0.975))],
        "places": PLACES,
        "judged": [n_members, len(judged) - n_members],
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    folder = args.runs / NAME
    everything = cache(lambda: world(folder))
    origins, reals = (REAL, OWN, OTHER), (MEMBERS, *(control(draw) for draw in range(CONTROLS)))
    cases = [(origin, real, sees) for sees in (FEATURES, HELPED) for origin in origins for real in reals]

    def audited(place: int) -> dict[str, Any]:
        return once(folder / f"audit-{place}.json", lambda: audit(everything(), *cases[place]))

    def compared(place: int) -> dict[str, Any]:
        return once(folder / f"naive-{place}.json", lambda: naive(everything(), origins[place]))

    return {
        "naive": {origin: compared(place) for place, origin in enumerate(origins)},
        "audits": [audited(place) for place in range(len(cases))],
        "attacks": ATTACKS,
        "timesteps": {"scores": TIMESTEPS, "helper": HELPER_TIMESTEPS},
        "game": {"places": PLACES, "guesses": GUESSES, "tosses": TOSSES},
        "generators": {"drawn": DRAWN, "DDIM steps": DDIM_STEPS, "trained on": OTHERS, "training steps": TRAINING_STEPS},
        "seed": SEED,
        "model": load_model("demo", device="cpu").info.to_dict(),
        "provenance": provenance(),
    }


def render(results: dict[str, Any]) -> dict[str, str]:
    """The parts of the page."""
    comparisons, game, made = results["naive"], results["game"], results["generators"]
    real = comparisons[REAL]["images"]
    drawn = [[kind, *_rates(real[kind]), _refused(real[kind])] for kind in (OWN, OTHER)]
    names = list(results["attacks"])
    words, baselines = (("real", REAL), ("own", OWN), ("other", OTHER)), (("plain", FEATURES), ("helped", HELPED))
    return {
        "naive": markdown_table(
            ["Null set", *(f"{kind}, {name}" for kind in (TESTED, MEMBERS) for name in names), "Refused: non-members", "Refused: members"],
            [_naive_row(origin, one["images"]) for origin, one in comparisons.items()],
        ),
        "shift": "; ".join(f"{origin} {interval_text(one['blind']['auc'])}{_flag(one['blind'])}" for origin, one in comparisons.items()),
        "drawn": markdown_table(["Images", *names, "Refused"], drawn),
        "members": markdown_table(AUDIT_HEADERS, [_audit_row(one) for one in results["audits"] if one["real"] == MEMBERS]),
        "controls": markdown_table(CONTROL_HEADERS, _control_rows(results["audits"])),
        "null": f"{comparisons[OWN]['null']:,}",
        **{f"{word}_{name}": _found(results["audits"], kind, sees) for word, kind in words for name, sees in baselines},
        **{f"{word}_{name}_auc": _added(results["audits"], kind, sees) for word, kind in words[1:] for name, sees in baselines},
        "n_members": f"{real[MEMBERS]['n']:,}",
        "n_tested": f"{real[TESTED]['n']:,}",
        "judged": f"{results['audits'][0]['judged'][0]:,} and {results['audits'][0]['judged'][1]:,}",
        "fitted": f"{made['drawn'] // 2:,}",
        "ddim_steps": str(made["DDIM steps"]),
        "others": f"{made['trained on']:,}",
        "training_steps": f"{made['training steps']:,}",
        "places": str(game["places"]),
        "guesses": ", ".join(map(str, game["guesses"])),
        "tosses": str(game["tosses"]),
        "timestep": str(TIMESTEP),
        "most": f"{guessing_bound(np.ones(game['places']), np.ones(game['places']), game['guesses'], (1 - CONFIDENCE) / 2):.2f}",
        "n_controls": str(CONTROLS),
        "timesteps": ", ".join(map(str, results["timesteps"]["scores"])),
        "helper_timesteps": ", ".join(map(str, results["timesteps"]["helper"])),
        "revision": str(results["model"]["revision"]).removeprefix("sha256:")[:8],
        "version": str(results["provenance"]["versions"]["mia_hub"]),
        "seed": str(results["seed"]),
    }


def _naive_row(origin: str, images: Mapping[str, Any]) -> list[str]:
    both = [images[kind] for kind in (TESTED, MEMBERS)]
    return [origin, *(rate for counted in both for rate in _rates(counted)), *map(_refused, both)]


def _rates(counted: Mapping[str, Any]) -> list[str]:
    """The shares of images with evidence, by attack, where those that the comparability check refuses get none."""
    return [rate_text(count, counted["n"]) for count in counted["comparable evidence"].values()]


def _refused(counted: Mapping[str, Any]) -> str:
    return rate_text(counted["refused"], counted["n"])


def _flag(blind: Mapping[str, Any]) -> str:
    return " (flag raised)" if blind["flagged"] else ""


AUDIT_HEADERS = [
    "Non-members",
    "The baseline sees",
    "AUC, baseline",
    "AUC, with the demo's scores",
    "Difference",
    "c, at least",
    "c + ε, at least",
    "PANORAMIA",
]


def _audit_row(one: Mapping[str, Any]) -> list[str]:
    baseline, attack, beyond = one["game"]
    spread = f"{beyond:.2f} ({one['tosses'][1]:.2f} … {one['tosses'][2]:.2f})"
    aucs = [interval_text(one[key]) for key in ("baseline", "attack", "difference")]
    return [one["generator"], one["sees"], *aucs, f"{baseline:.2f}", f"{attack:.2f}", spread]


CONTROL_HEADERS = ["Non-members", "The baseline sees", "PANORAMIA above 0", "Its values", "AUC interval above 0", "Differences of AUCs"]


def _control_rows(audits: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row for each generator and baseline: how often something was found that isn't there."""
    cases = dict.fromkeys((one["generator"], one["sees"]) for one in audits)
    rows = []
    for generator, sees in cases:
        ones = [one for one in audits if (one["generator"], one["sees"]) == (generator, sees) and one["real"] != MEMBERS]
        beyond, differences = [one["game"][2] for one in ones], [one["difference"] for one in ones]
        found = sum(value > 0 for value in beyond), sum(low > 0 for _, low, _ in differences)
        texts = [
            f"{count} of {len(ones)} [{100 * low:.0f} %, {100 * high:.0f} %]"
            for count in found
            for low, high in [clopper_pearson(count, len(ones))]
        ]
        spread = f"{min(beyond):.2f} … {max(beyond):.2f}"
        rows.append([generator, sees, texts[0], spread, texts[1], f"{min(differences)[0]:.3f} … {max(differences)[0]:.3f}"])
    return rows


def _found(audits: Sequence[Mapping[str, Any]], generator: str, sees: str) -> str:
    """What PANORAMIA gives for the members, and for non-members in their place."""
    ones = [one for one in audits if (one["generator"], one["sees"]) == (generator, sees)]
    beyond = {one["real"]: one["game"][2] for one in ones}
    others = [value for real, value in beyond.items() if real != MEMBERS]
    return f"{beyond[MEMBERS]:.2f} for the members, and {min(others):.2f} … {max(others):.2f} for non-members in their place"


def _added(audits: Sequence[Mapping[str, Any]], generator: str, sees: str) -> str:
    """What the demo's scores add to the baseline's AUC for the members, and for non-members in their place."""
    ones = {one["real"]: one["difference"] for one in audits if (one["generator"], one["sees"]) == (generator, sees)}
    others = [value for real, (value, *_) in ones.items() if real != MEMBERS]
    return f"{interval_text(ones[MEMBERS])} for the members, and {min(others):.3f} … {max(others):.3f} for non-members in their place"


if __name__ == "__main__":
    run_study(NAME, __doc__.splitlines()[0], measure, render)
