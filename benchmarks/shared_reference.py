"""Evidence among 20,000 fresh non-members and among known members, with the demo's reference as it is and as it would be otherwise.

python -m training.demo_null --work runs/demo-null     # once: half an hour on one core
python -m benchmarks.shared_reference --work runs/demo-null
python -m benchmarks.shared_reference --constants      # the constants of mia_hub.metrics.calibration_conditional; an hour
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from mia_hub.metrics.calibration_conditional import DELTA, EXACT_CONSTANTS, coverage, enough_for, with_constant
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA
from mia_hub.references.demo_reference import demo_reference
from mia_hub.system.streams import any_terminal
from training.demo_null import FURTHER, observe

LEVELS = (0.05, 0.01, 0.005)


def exact_constant(n: int) -> float:
    """Return the constant with which the bounds of n draws hold with a probability of 1 - `DELTA`, rounded up to 1e-3; by bisection."""
    ranks, low, high = np.arange(1, n + 1), 2.0, 4.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if coverage(with_constant(n, middle, ranks)) >= 1 - DELTA else (middle, high)
    return float(np.ceil(high * 1000) / 1000)


def shares(p: np.ndarray) -> str:
    """Return the share at each level in percent, with its interval."""
    cells = []
    for level in LEVELS:
        count = int((p <= level).sum())
        low, high = clopper_pearson(count, len(p))
        cells.append(f"{100 * count / len(p):.2f} [{100 * low:.2f}, {100 * high:.2f}]")
    return " | ".join(cells)


@any_terminal()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/demo-null"))
    parser.add_argument("--constants", action="store_true", help="compute the constants alone")
    args = parser.parse_args()
    if args.constants:
        for n in EXACT_CONSTANTS:
            print(n, exact_constant(n), flush=True)
        return
    reference = demo_reference()
    own = replace(reference, further=None, shared=False)
    kinds = {
        "20,000, holds for this reference": reference,
        "20,000, on average": reference.calibrated("marginal"),
        "the split's 2,000, on average (before)": own,
        "the split's 2,000, holds for this reference": own.calibrated("conditional"),
    }
    fresh = observe(FURTHER, args.work)[1]
    print(f"Evidence starts at p ≤ {ALPHA:g}; p-values that hold for a reference reach it from {enough_for(ALPHA)} non-members on.")
    print("| compared with | images | % with p ≤ 0.05 | p ≤ 0.01 | p ≤ 0.005 |\n|---|---|---|---|---|")
    for name, made in kinds.items():
        print(f"| {name} | {len(made.members)} members | {shares(np.array([judged.p_value for judged in made.members]))} |", flush=True)
        print(f"| {name} | {len(fresh):,} non-members | {shares(np.array([made.judge(row).p_value for row in fresh]))} |", flush=True)


if __name__ == "__main__":
    main()
