"""False alarms of the shift check on splits drawn at random: the demo's non-members, cut into halves many times.

    python -m benchmarks.shift_check

About 2.5 % of such splits should raise the flag. `spread` is the standard deviation of (AUC - 1/2) in units of DeLong's own standard
error, which treats cross-validated scores as independent; `mia_hub.splits.shift.OVERDISPERSION` corrects for it.
"""

from __future__ import annotations

import argparse

import numpy as np

from mia_hub.images.features import blind_features_of
from mia_hub.splits.loading import load_split
from mia_hub.splits.shift import OVERDISPERSION, blind_auc, shift_flags
from mia_hub.system.streams import any_terminal

NORMAL_95 = 1.959963984540054
# Images of either kind: number of splits.
DRAWS = {30: 400, 60: 400, 120: 200, 250: 100, 500: 60, 1500: 20}


@any_terminal()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the draws (default: 1)")
    args = parser.parse_args()
    features = blind_features_of(load_split("demo").nonmembers)
    rng = np.random.default_rng(args.seed)
    print("| of either kind | splits | mean AUC | spread | called shifted |\n|---|---|---|---|---|")
    for size, draws in DRAWS.items():
        draws = max(2, round(draws * args.scale))
        estimates = [
            blind_auc(features[rng.choice(len(features), 2 * size, replace=False)], np.repeat([1, 0], size), seed=seed)
            for seed in range(draws)
        ]
        errors = [(one.high - one.low) / 2 / NORMAL_95 / OVERDISPERSION for one in estimates]
        spread = np.std([(one.value - 0.5) / error for one, error in zip(estimates, errors)])
        alarms = np.mean([bool(shift_flags(one)) for one in estimates])
        print(f"| {size:,} | {draws} | {np.mean([one.value for one in estimates]):.3f} | {spread:.2f} | {alarms:.1%} |", flush=True)


if __name__ == "__main__":
    main()
