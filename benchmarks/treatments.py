"""Evidence on treated copies of the demo's members and non-members, by every attack that may give verdicts.

    python -m benchmarks.treatments --jobs 2

An answer holds for images that were treated like the reference images. This measures other treatments (`mia_hub.images.treatments`), and
the model's own output: how many members each attack still recognises, and how many non-members wrongly get evidence. Everything is of
the part of the demo's split on which nothing was chosen. Finished work is kept in ``--runs``, so that a run resumes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cached_model import CachedModel
from mia_hub.attacks import Attack
from mia_hub.attacks.copies import CopiesAttack
from mia_hub.attacks.spelling import parse_attack
from mia_hub.checking.treated_images import OWN_OUTPUT
from mia_hub.images.image import content_id
from mia_hub.images.sources import as_images
from mia_hub.images.treatments import SHIFTED, TREATMENTS, UNTREATED, shifted, treated
from mia_hub.metrics.candidates import CandidatesNull
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA
from mia_hub.models.loading import load_model
from mia_hub.models.noise import SampleNoise
from mia_hub.models.sampling import ddim_timesteps, predicted_clean_images
from mia_hub.references.demo_reference import demo_reference
from mia_hub.references.treatment_check import TreatmentCheck
from mia_hub.references.verdict_attack import null_set, verdict_observations
from mia_hub.splits.loading import load_split
from mia_hub.system.streams import any_terminal

TIMESTEP, SEED = 100, 0
FOUR_SHIFTS = "shift-left,shift-right,shift-up,shift-down"
ATTACKS = {
    "sima": f"sima:timesteps={TIMESTEP}",
    "sima-c": f"sima-c:timesteps={TIMESTEP}",
    "sima-cn": f"sima-cn:timesteps={TIMESTEP},given=complexity,shift-left,shift-right",
    "sima-cn, four shifts": f"sima-cn:timesteps={TIMESTEP},given=complexity,{FOUR_SHIFTS}",
    "sima-lp, no neighbours": f"sima-lp:timesteps={TIMESTEP},given=complexity",
    "sima-lp": f"sima-lp:timesteps={TIMESTEP}",
    "sima-copies": f"sima-copies:timesteps={TIMESTEP}",
    "sima-copies, shifts": f"sima-copies:timesteps={TIMESTEP},shifts=true",
}
# Of one query: their null is observed under every treatment, too.
ONE_QUERY = ("sima", "sima-c", "sima-lp, no neighbours")
# The null images again, each shifted by a pixel in one of four directions; observed by the attack that judges shifts.
SHIFTED_NULL, WITH_SHIFTS = "shifted-null", "sima-copies, shifts"
MEMBERS, NONMEMBERS, NULL, GENERATED, STEPS = 128, 256, 500, 128, 50
CHUNK = 32

Images = list[np.ndarray]


@lru_cache(maxsize=1)
def images() -> dict[str, Images]:
    """Return members, non-members, and other non-members as the null set: uint8 ``[H, W]``, drawn from the reported part of the split."""
    split, rng = load_split("demo"), np.random.default_rng(SEED)
    reported = set(demo_reference().profiles.ids)
    parts = {}
    for kind, part in (("members", split.members), ("non-members", split.nonmembers)):
        rows = rng.permutation(len(part)).tolist()
        known = (image for image in map(part.__getitem__, rows) if image.id in reported)
        parts[kind] = [np.asarray(image.to_pil()) for image in islice(known, MEMBERS if kind == "members" else NULL + NONMEMBERS)]
    nonmembers = parts["non-members"]
    return {"null": nonmembers[:NULL], "members": parts["members"], "non-members": nonmembers[NULL:]}


@dataclass(frozen=True)
class Chunk:
    """Images that are observed and judged together.

    Attributes:
        kind: "null", "shifted-null", "members", "non-members" or "generated".
        start: of the first of them.
    """

    kind: str
    start: int

    @cached_property
    def images(self) -> Images:
        if self.kind == "generated":
            return generated(model(), range(self.start, min(self.start + CHUNK, GENERATED)))
        if self.kind == SHIFTED_NULL:
            moves = ((0, -1), (0, 1), (-1, 0), (1, 0))
            return [shifted(*moves[int(content_id(image), 16) % 4], image) for image in Chunk("null", self.start).images]
        return images()[self.kind][self.start : self.start + CHUNK]

    @property
    def treatments(self) -> tuple[str, ...]:
        """The treatments that the images are observed under."""
        return (UNTREATED,) if self.kind in ("generated", SHIFTED_NULL) else tuple(TREATMENTS)

    def attacks(self, treatment: str) -> tuple[str, ...]:
        """The attacks that observe the images under a treatment."""
        if self.kind == SHIFTED_NULL:
            return (WITH_SHIFTS,)
        return ONE_QUERY if self.kind == "null" and treatment != UNTREATED else tuple(ATTACKS)

    def file(self, folder: Path, what: str) -> Path:
        return folder / f"{what}-{self.kind}-{self.start:04d}.npz"


def chunks(kinds: Sequence[str]) -> Iterator[Chunk]:
    """Yield the chunks of some kinds of images."""
    sizes = {"null": NULL, SHIFTED_NULL: NULL, "members": MEMBERS, "non-members": NONMEMBERS, "generated": GENERATED}
    for kind in kinds:
        yield from (Chunk(kind, start) for start in range(0, sizes[kind], CHUNK))


@lru_cache(maxsize=1)
def model() -> Any:
    return load_model("demo", device="cpu")


def generated(model: Any, rows: range) -> Images:
    """Return images that a model generated, each from its own noise: uint8 ``[H, W]``, or ``[H, W, 3]``."""
    steps = ddim_timesteps(model.schedule, STEPS)
    noise = SampleNoise([f"generated {row}" for row in rows], model.info.sample_shape, SEED, model.device, torch.float32)
    with torch.no_grad():
        *_, sample = predicted_clean_images(model, noise(steps[0]), steps)
    levels = np.rint(model.to_pixels(sample).clamp(0, 1).numpy() * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return list(levels[..., 0] if levels.shape[-1] == 1 else levels)


def observe(folder: Path, chunk: Chunk) -> None:
    """Observe a chunk's images under each treatment by each attack, unless it is done, and whether they are comparable."""
    path = chunk.file(folder, "observed")
    if path.exists():
        return
    comparable, cached = demo_reference().comparability, CachedModel(model())
    arrays = {}
    for treatment in chunk.treatments:
        copies = as_images([treated(treatment, image) for image in chunk.images])
        arrays[f"{treatment}/comparable"] = np.array([comparable(image) for image in copies])
        # Those with most queries first: the others then find them answered.
        for name in reversed(chunk.attacks(treatment)):
            attack = parse_attack(ATTACKS[name])
            arrays[f"{treatment}/{name}"] = verdict_observations(attack, attack.observe(cached, copies, progress=False))
    _write(path, arrays)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    unfinished = path.with_suffix(".part.npz")
    np.savez_compressed(unfinished, **arrays)
    unfinished.replace(path)


def null_of(attack: Attack, observed: np.ndarray) -> Any:
    """Return the null set of observations by an attack, all of non-members."""
    return null_set(attack, [f"null {row}" for row in range(len(observed))], np.zeros(len(observed), np.int8), observed, TIMESTEP)


@lru_cache(maxsize=1)
def nulls(folder: Path) -> dict[str, Any]:
    """Return the null set of each attack, of untreated images."""
    return {name: null_of(parse_attack(text), observed_null(folder, UNTREATED, name)) for name, text in ATTACKS.items()}


def treatment_check() -> TreatmentCheck:
    """Return the check whether images were treated like those of the demo's reference."""
    check = demo_reference().appearance.treatment
    assert check is not None, "the demo's appearance is stored with signs of treatment"
    return check


def observed_null(folder: Path, treatment: str, name: str, kind: str = "null") -> np.ndarray:
    """Return the observations of the null images under a treatment."""
    return np.concatenate([np.load(chunk.file(folder, "observed"))[f"{treatment}/{name}"] for chunk in chunks([kind])])


def with_shifted_null(folder: Path) -> dict[str, list[int]]:
    """Return how many images shifted by a pixel get evidence if the null images are shifted, too, and of how many, by kind."""
    observed = observed_null(folder, UNTREATED, WITH_SHIFTS, SHIFTED_NULL)
    null, result = null_set(parse_attack(ATTACKS[WITH_SHIFTS]), observed), {}
    for kind in ("members", "non-members"):
        rows = np.concatenate([np.load(chunk.file(folder, "observed"))[f"{SHIFTED}/{WITH_SHIFTS}"] for chunk in chunks([kind])])
        result[kind] = [sum(null.judge(row).p_value <= ALPHA for row in rows), len(rows)]
    return result


def judge(folder: Path, chunk: Chunk) -> None:
    """Store the p-values of a chunk's images, and the candidate that won."""
    path = chunk.file(folder, "judged")
    if path.exists():
        return
    observed, arrays = np.load(chunk.file(folder, "observed")), {}
    for treatment in chunk.treatments:
        arrays[f"{treatment}/comparable"] = observed[f"{treatment}/comparable"]
        copies = as_images([treated(treatment, image) for image in chunk.images])
        arrays[f"{treatment}/alike"] = np.array([not treatment_check().differences(image) for image in copies])
        for name, null in nulls(folder).items():
            judged = [null.judge(row) for row in observed[f"{treatment}/{name}"]]
            arrays[f"{treatment}/{name}"] = np.array([one.p_value for one in judged])
            if isinstance(null, CandidatesNull):
                arrays[f"{treatment}/{name}/candidate"] = np.array([one.candidate for one in judged])
    _write(path, arrays)


def measure(folder: Path, jobs: int = 1) -> dict[str, Any]:
    """Observe, judge and count.

    Args:
        folder: where finished work is kept.
        jobs: number of processes.

    Returns:
        By treatment, kind and attack: n, and the numbers with p ≤ 0.01 among those that are comparable ("evidence"), among those that
        also bear no sign of another treatment ("alike"), and among all; JSON values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ("null", SHIFTED_NULL, "non-members", "members", "generated")
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        # Members and non-members in turn, so that what is finished of a stopped run is of both.
        list(pool.map(partial(observe, folder), sorted(chunks(kinds), key=lambda chunk: ("null" not in chunk.kind, chunk.start))))
        list(pool.map(partial(judge, folder), chunks(kinds[2:])))
    return {
        "attacks": {name: repr(parse_attack(text)) for name, text in ATTACKS.items()},
        "timestep": TIMESTEP,
        "null": NULL,
        "counts": {name: counts(folder, name) for name in (*TREATMENTS, OWN_OUTPUT)},
        "candidates": candidates(folder),
        "shifted null": with_shifted_null(folder),
        "model": model().info.to_dict(),
    }


def _judged(folder: Path, kind: str, treatment: str, name: str) -> np.ndarray:
    return np.concatenate([np.load(chunk.file(folder, "judged"))[f"{treatment}/{name}"] for chunk in chunks([kind])])


def counts(folder: Path, treatment: str) -> dict[str, Any]:
    """Return how many images of each kind get evidence from each attack under a treatment, and how many are not comparable."""
    kinds, at = (("generated",), UNTREATED) if treatment == OWN_OUTPUT else (("members", "non-members"), treatment)
    result = {}
    for kind in kinds:
        comparable, alike = _judged(folder, kind, at, "comparable"), _judged(folder, kind, at, "alike")
        small = {name: _judged(folder, kind, at, name) <= ALPHA for name in ATTACKS}
        result[kind] = {
            "n": len(comparable),
            "not comparable": int((~comparable).sum()),
            "treated otherwise": int((~alike).sum()),
            "evidence": {name: int((rows & comparable).sum()) for name, rows in small.items()},
            "alike": {name: int((rows & comparable & alike).sum()) for name, rows in small.items()},
            "p ≤ 0.01": {name: int(rows.sum()) for name, rows in small.items()},
        }
    return result


def candidates(folder: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Return, by attack and treatment, how often each candidate won among the members that get evidence."""
    won: dict[str, dict[str, dict[str, int]]] = {}
    for name, attack in ((name, parse_attack(text)) for name, text in ATTACKS.items()):
        if isinstance(attack, CopiesAttack):
            words = [candidate.words for candidate in attack.candidates]
            for treatment in TREATMENTS:
                small = _judged(folder, "members", treatment, name) <= ALPHA
                rows = _judged(folder, "members", treatment, f"{name}/candidate")[small]
                won.setdefault(name, {})[treatment] = {word: int((rows == k).sum()) for k, word in enumerate(words) if (rows == k).any()}
    return won


def table(results: dict[str, Any], kind: str, names: Sequence[str]) -> list[list[str]]:
    """Return rows of the share of images of one kind with evidence, by treatment and attack, with 95 % intervals."""
    rows = []
    for treatment, by_kind in results["counts"].items():
        if kind in by_kind:
            counted = by_kind[kind]
            rows.append([treatment, *(rate_text(counted["evidence"][name], counted["n"]) for name in names)])
    return rows


def rate_text(count: int, n: int) -> str:
    """Return ``53 % [47, 59]``."""
    low, high = clopper_pearson(count, n)
    return f"{100 * count / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


@any_terminal()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1); set OMP_NUM_THREADS=1 with several")
    parser.add_argument("--runs", type=Path, default=Path("runs/treatments"), help="folder of finished work (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the counts there")
    args = parser.parse_args()
    results = measure(args.runs, args.jobs)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for kind in ("members", "non-members", "generated"):
        print(f"\n{kind}: share with evidence (p ≤ {ALPHA:g})")
        for row in [["treatment", *ATTACKS], *table(results, kind, tuple(ATTACKS))]:
            print(" | ".join(row))


if __name__ == "__main__":
    main()
