"""Embed 20,000 further non-members with the demo, as the attack of its verdicts observes them: what p-values are computed from.

    python -m training.demo_null --work runs/demo-null

They follow the members and non-members of `training.build_demo` in the same seeded draw, so that the model saw none of them. Near copies of
members are left out. Another 20,000 follow them, to check the p-values with (`benchmarks.shared_reference`); their observations stay in the
work folder. Start it again and it resumes; several processes may share a folder. A quarter of an hour on one quiet core for each.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from mia_hub.attacks import get_attack
from mia_hub.attacks.base import Attack
from mia_hub.defaults import VERDICT_ATTACK
from mia_hub.models.loading import load_model
from mia_hub.references.demo_reference import DEMO_NULL, DEMO_OBSERVATIONS, read_observations, write_null
from mia_hub.references.null_sets import FurtherNonmembers
from mia_hub.system.streams import any_terminal
from training.demo import N_MEMBERS, N_NONMEMBERS, SEED
from training.fashion_mnist import draw_rows, load_train_images

# How many are embedded; as many serve the check.
N_NULL = 20_000
EMBEDDED, FURTHER = 0, 1
AT_ONCE = 1000
# Root mean square difference of pixels in [0, 1] below which an image is a near copy of a member. The nearest of all, .038, shows the same
# garment; 11 of 59,488 are below .06, where garments differ in details.
NEAR = 0.06
# Hex digits of a content id that are stored: 64 bits, with which no two of 20,000 images agree by chance.
ID_DIGITS = 16


def fresh_rows(images: np.ndarray) -> np.ndarray:
    """Return the rows that follow those of the demo's split in its draw, without near copies of members; int ``[n]``."""
    members, others = draw_rows(images, SEED, N_MEMBERS, len(images))
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    fresh, squares = others[N_NONMEMBERS:], (flat**2).mean(1)
    products = 2 * flat[fresh] @ flat[members].T / flat.shape[1]
    nearest = (squares[fresh, None] + squares[members] - products).min(1)
    return fresh[nearest >= NEAR**2]


def verdict_attack() -> Attack:
    """Return the attack that gives the demo's verdicts, with what was chosen on the calibration part."""
    meta = read_observations(DEMO_OBSERVATIONS)[2]
    return get_attack(VERDICT_ATTACK).with_chosen({name: tuple(value) for name, value in meta["chosen"].items()}).at(meta["timestep"])


def observe(part: int, work: Path) -> tuple[list[str], np.ndarray]:
    """Return content ids and observations ``[20000, 1 + F]`` of one part; what the work folder has is not computed again.

    Args:
        part: `EMBEDDED` or `FURTHER`.
        work: folder of finished thousands.
    """
    work.mkdir(parents=True, exist_ok=True)
    paths = [work / f"part{part}_{start:05d}.npz" for start in range(0, N_NULL, AT_ONCE)]
    if not all(path.exists() for path in paths):
        images, attack, model = load_train_images(), verdict_attack(), load_model("demo")
        rows = fresh_rows(images)[part * N_NULL : (part + 1) * N_NULL]
        for path, start in zip(paths, range(0, N_NULL, AT_ONCE)):
            if not path.exists():
                observed = attack.observe(model, list(images[rows[start : start + AT_ONCE]]), batch_size=50)
                temporary = path.with_suffix(f".{os.getpid()}.npz")
                np.savez(temporary, ids=np.array(observed.ids), values=observed.values)
                temporary.rename(path)
    finished = [np.load(path, allow_pickle=False) for path in paths]
    return [sample for each in finished for sample in each["ids"].tolist()], np.concatenate([each["values"][:, 0] for each in finished])


@any_terminal()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.demo_null", description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/demo-null"), help="folder of finished work")
    args = parser.parse_args(arguments)
    ids, observations = observe(EMBEDDED, args.work)
    further = FurtherNonmembers(tuple(sample[:ID_DIGITS] for sample in ids), observations.astype(np.float32))
    assert len(set(further.ids)) == N_NULL, "two images share the beginning of their ids"
    write_null(DEMO_NULL, further)
    print(f"{DEMO_NULL}: {DEMO_NULL.stat().st_size:,} bytes")
    observe(FURTHER, args.work)


if __name__ == "__main__":
    main()
