"""How often the shift check calls a split shifted that was drawn at random: the demo's non-members, cut into halves again and again.

    python -m benchmarks.shift_check

The flag is meant to be raised by 2.5 % of such splits. `spread` is the standard deviation of (AUC - 1/2) in units of DeLong's own standard
error, which takes cross-validated scores for independent; `mia_hub.splits.shift.OVERDISPERSION` makes up for it.
"""

from __future__ import annotations

import argparse

import numpy as np

from mia_hub.images.features import describe
from mia_hub.splits.loading import load_split
from mia_hub.splits.shift import OVERDISPERSION, blind_auc, shift_flags

NORMAL_95 = 1.959963984540054
# Pictures of either kind: how many splits are drawn.
DRAWS = {30: 400, 60: 400, 120: 200, 250: 100, 500: 60, 1500: 20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the draws to make (default: 1)")
    args = parser.parse_args()
    features = np.array([describe(picture) for picture in load_split("demo").nonmembers])
    rng = np.random.default_rng(args.seed)
    print("| of either kind | splits | mean AUC | spread | called shifted |\n|---|---|---|---|---|")
    for size, draws in DRAWS.items():
        draws = max(2, round(draws * args.scale))
        found = [
            blind_auc(features[rng.choice(len(features), 2 * size, replace=False)], np.repeat([1, 0], size), seed=seed)
            for seed in range(draws)
        ]
        errors = [(one.high - one.low) / 2 / NORMAL_95 / OVERDISPERSION for one in found]
        spread = np.std([(one.value - 0.5) / error for one, error in zip(found, errors)])
        alarms = np.mean([bool(shift_flags(one)) for one in found])
        print(f"| {size:,} | {draws} | {np.mean([one.value for one in found]):.3f} | {spread:.2f} | {alarms:.1%} |", flush=True)


if __name__ == "__main__":
    main()
