"""The images of `studies.generated_nonmembers`: the demo's split and what two generators drew, with everything that is observed of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cached_model import CachedModel
from benchmarks.treatments import generated
from mia_hub.attacks.sima import SimA
from mia_hub.attacks.spelling import parse_attack
from mia_hub.auditing.measurement import measure
from mia_hub.denoisers.reference_denoiser import train_reference
from mia_hub.images.features import blind_features
from mia_hub.images.sequences import SelectedSequence
from mia_hub.images.sources import as_images
from mia_hub.models.loading import load_model
from mia_hub.references.demo_reference import DEMO_PROFILES, OBSERVATIONS, read_observations
from mia_hub.references.verdict_attack import verdict_observations
from mia_hub.scores import ScoreTable
from mia_hub.splits.loading import load_split
from mia_hub.system.files import replacing
from studies.train import DEMO_IMAGES
from training.data import fashion_mnist

SEED, TIMESTEP = 0, 100
# Of the demo's scores that the classifier sees, and of those of the helper.
TIMESTEPS, HELPER_TIMESTEPS = (40, 70, 100, 130, 160), (70, 100, 130)
# Images of each generator, drawn in chunks; one half of them fits the classifiers, and the other is judged.
DRAWN, CHUNK = 512, 64
# Of the other generator: images that it was trained on, and steps of 32 of them.
OTHERS, TRAINING_STEPS = 4000, 750
ATTACKS = {"sima": f"sima:timesteps={TIMESTEP}", "sima-lp": f"sima-lp:timesteps={TIMESTEP}"}
REAL, OWN, OTHER = "real non-members", "the demo's own output", "another generator's output"
MEMBERS, NULL, TESTED = "members", "null", "non-members"
# Controls: draws of other non-members in the members' place, apart from each other.
CONTROLS, CONTROL = 6, 256

Rows = np.ndarray


@dataclass(frozen=True, eq=False)
class World:
    """All images, and what is known of each: the demo's split first, then what either generator drew.

    Attributes:
        images: N of them.
        features: what a blind classifier sees, ``[N, F]``; not a number where they weren't computed.
        scores: by SimA on the demo, ``[N, T]``, at `TIMESTEPS`.
        helper: the same on the other generator; not a number where they weren't computed.
        observed: by the verdict attack on the demo, ``[N, 1 + F]``.
        fit, judged: rows by kind, of the images that may fit something, and of those that carry figures.
    """

    images: Sequence[Any]
    features: np.ndarray
    scores: np.ndarray
    helper: np.ndarray
    observed: np.ndarray
    fit: Mapping[str, Rows]
    judged: Mapping[str, Rows]


def control(draw: int) -> str:
    """The name of a draw of non-members in the members' place."""
    return f"control {draw + 1}"


def drawn(model: Any, name: str, folder: Path) -> np.ndarray:
    """Return images that a generator drew, uint8 ``[DRAWN, H, W]``; finished chunks are kept in a folder."""
    parts = []
    for start in range(0, DRAWN, CHUNK):
        rows = range(start, min(start + CHUNK, DRAWN))
        parts.append(kept(folder / f"drawn-{name}-{start:04d}.npy", partial(_stacked, model, rows)))
    return np.concatenate(parts)


def _stacked(model: Any, rows: range) -> np.ndarray:
    return np.stack(generated(model, rows))


def kept(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return an array from a file; compute and store it if there is none."""
    if not path.exists():
        array = compute()
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
    return np.load(path)


def scored(model: Any, images: Sequence[Any], timesteps: Sequence[int], name: str, folder: Path) -> np.ndarray:
    """Return SimA's scores of images ``[n, T]``; finished chunks are kept in a folder."""
    attack = SimA(timesteps=tuple(timesteps))
    return _in_chunks(images, f"sima-{name}", folder, lambda part: attack.score(model, part, progress=False).scores)


def observed(model: Any, images: Sequence[Any], name: str, folder: Path) -> np.ndarray:
    """Return what the verdict attack observes of images, ``[n, 1 + F]``; finished chunks are kept in a folder."""
    attack = parse_attack(ATTACKS["sima-lp"])
    return _in_chunks(
        images, f"verdict-{name}", folder, lambda part: verdict_observations(attack, attack.observe(model, part, progress=False))
    )


def _in_chunks(images: Sequence[Any], name: str, folder: Path, compute: Callable[[Sequence[Any]], np.ndarray]) -> np.ndarray:
    size = 4 * CHUNK
    parts = [SelectedSequence(images, list(range(start, min(start + size, len(images))))) for start in range(0, len(images), size)]
    return np.concatenate([kept(folder / f"{name}-{place:02d}.npy", partial(compute, part)) for place, part in enumerate(parts)])


def other_generator(folder: Path) -> Any:
    """Return a small denoiser of images that the demo was neither trained on nor is audited with; train it, unless it is there."""
    others = fashion_mnist(OTHERS, 1, side=28, skip=DEMO_IMAGES).members
    trained = train_reference(list(others), "demo", folder / "denoiser", steps=TRAINING_STEPS, seed=SEED, device="cpu")
    return load_model(str(trained.resolve()), device="cpu")


def real_rows(table: ScoreTable) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Return the rows of the demo's split by kind: those of its calibration part, and those of its reported part."""
    reported, half = measure(table).reported, DRAWN // 2
    sides = []
    for side in (~reported, reported):
        others = np.random.default_rng(SEED).permutation(np.flatnonzero(side & (table.is_member == 0)))
        kinds = {MEMBERS: np.flatnonzero(side & (table.is_member == 1)), REAL: others[:half]}
        kinds |= {control(draw): others[half + draw * CONTROL : half + (draw + 1) * CONTROL] for draw in range(CONTROLS)}
        sides.append(kinds | {NULL: others[:DRAWN], TESTED: others[DRAWN:]})
    return sides[0], sides[1]


def world(folder: Path) -> World:
    """Draw, query and read everything; finished work is kept in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    demo, table = load_model("demo", device="cpu"), ScoreTable.from_parquet(DEMO_PROFILES)
    other = other_generator(folder)
    ids, seen, _ = read_observations(OBSERVATIONS["sima-lp"])
    assert ids == list(table.ids), "the demo's files don't belong together"
    fit, judged = real_rows(table)
    images, scores = list(load_split("demo").images), np.stack([table.at(t) for t in TIMESTEPS], axis=1)
    for kind, name, model in ((OWN, "own", demo), (OTHER, "other", other)):
        rows = len(images) + np.arange(DRAWN)
        fit[kind], judged[kind] = rows[: DRAWN // 2], rows[DRAWN // 2 :]
        new, asked = as_images(list(drawn(model, name, folder))), CachedModel(demo)
        images += new
        seen = np.concatenate([seen, observed(asked, new, name, folder)])
        scores = np.concatenate([scores, scored(asked, new, TIMESTEPS, name, folder)])
    used = np.unique(np.concatenate([rows for side in (fit, judged) for kind, rows in side.items() if kind not in (NULL, TESTED)]))
    chosen = SelectedSequence(images, used.tolist())
    features = kept(folder / f"features-{DRAWN}.npy", lambda: np.stack([blind_features(image) for image in chosen]))
    helper = scored(other, chosen, HELPER_TIMESTEPS, f"helper-{DRAWN}", folder)
    return World(images, _at(used, features, len(images)), scores, _at(used, helper, len(images)), seen, fit, judged)


def _at(rows: Rows, values: np.ndarray, n: int) -> np.ndarray:
    whole = np.full((n, values.shape[1]), np.nan)
    whole[rows] = values
    return whole
