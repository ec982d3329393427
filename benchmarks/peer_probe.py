"""Run one side of a case of `peers` in a process of its own and print its peak memory as one line of JSON; started by `peers`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.peer_cases import CASES, FEW, Setting
from mia_hub.system.memory import peak_memory_mb, reset_peak_memory
from mia_hub.system.streams import any_terminal


@any_terminal()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--folder", type=Path, help="of the authors' code, which is run; without it, this package is")
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    args = parser.parse_args()

    case = CASES[args.case]
    module = case.code.load(args.folder) if args.folder else None

    def run(setting: Setting) -> None:
        if module is None:
            case.our_scores(setting)
        else:
            case.their_scores(setting, module)

    # What is loaded at the first use belongs to neither side.
    run(Setting(FEW, device=args.device, dtype=args.dtype))
    setting = Setting(args.limit, device=args.device, dtype=args.dtype)
    reset_peak_memory(setting.model.device)
    before = peak_memory_mb(setting.model.device)
    run(setting)
    print(json.dumps({"before_mb": before, "peak_mb": peak_memory_mb(setting.model.device)}))


if __name__ == "__main__":
    main()
