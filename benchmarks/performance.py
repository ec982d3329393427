"""Measure all of docs/performance.md, or parts of it, and write the page from the latest figures.

python -m benchmarks.performance                    # `make bench`: all that needs neither an accelerator nor others' code; about 80 minutes
python -m benchmarks.performance --only floor users
python -m benchmarks.performance --device cuda --quick   # an accelerator alone, in a few minutes
python -m benchmarks.performance --render           # the page alone
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks import ROOT
from mia_hub.rendering.markdown import markdown_table
from mia_hub.system.streams import any_terminal
from studies.page import fill

MEASURED, PAGE, TEMPLATE = ROOT / "docs" / "performance", ROOT / "docs" / "performance.md", Path(__file__).parent / "performance.in.md"
# Parts of the page, by the command that measures each.
PARTS = {
    "floor": ["benchmarks.floor"],
    "throughput": ["benchmarks.throughput", "--only", "scoring", "--rounds", "3"],
    "elsewhere": ["benchmarks.throughput", "--only", "elsewhere"],
    "end_to_end": ["benchmarks.end_to_end"],
    "one_image": ["benchmarks.throughput", "--only", "check", "imports"],
    "cold_start": ["benchmarks.cold_start"],
    "kernels": ["benchmarks.kernels"],
    "memory": ["benchmarks.throughput", "--only", "memory"],
    "million": ["benchmarks.million"],
    "scale_out": ["benchmarks.scale_out"],
    "users": ["benchmarks.users", "--checks", "1000"],
    "soak": ["benchmarks.soak"],
    "early_stopping": ["benchmarks.early_stopping"],
    "references": ["benchmarks.references"],
    "accelerator": ["benchmarks.accelerator", "--device", "cuda"],
}
# Parts that need folders of others' code. They are measured one by one, and what was measured last stays.
GIVEN = {"peers": ["benchmarks.peers", "--sima", "FOLDER", "--secmi", "FOLDER", "--json", "docs/performance/peers.json"]}
ACCELERATOR = "accelerator"


def page() -> str:
    """Return the page of the latest figures; parts without figures say so."""
    return fill(TEMPLATE.read_text(encoding="utf-8"), {name: _part(name, command) for name, command in (PARTS | GIVEN).items()})


def _part(name: str, command: list[str]) -> str:
    path, again = MEASURED / f"{name}.json", f"`python -m {' '.join(command)}`"
    if not path.exists():
        return f"Not measured: {again}."
    figures = json.loads(path.read_text(encoding="utf-8"))
    rows = [[row["what"].strip(), row["measured"], row["requirement"], row["verdict"]] for row in figures["rows"]]
    conditions = ", ".join(f"{key}: {value}" for key, value in figures["facts"].items() if value)
    return f"{markdown_table(['What', 'Measured', 'Required', ''], rows)}\n\n{again}; {conditions}."


def _measure(name: str, more: list[str]) -> None:
    MEASURED.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", *PARTS[name], *more, "--json", str(MEASURED / f"{name}.json")]
    print(f"\n== {name}: {' '.join(command[1:])}", flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


@any_terminal()
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, help=f"measure only these parts (default: all but {ACCELERATOR})")
    parser.add_argument("--quick", action="store_true", help=f"measure only the {ACCELERATOR}, in its quick sizes; needs --device cuda")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--device", help="cpu, cuda, … for all parts that query a model (default: the best device)")
    args = parser.parse_args(argv)
    more = ["--device", args.device] if args.device else []
    if args.quick:
        if args.only:
            parser.error("--quick measures one part alone; leave --only out.")
        if (args.device or "").partition(":")[0] != "cuda":
            parser.error("--quick measures an accelerator: give --device cuda.")
        args.only, more = [ACCELERATOR], [*more, "--quick"]
    for name in () if args.render else args.only or [part for part in PARTS if part != ACCELERATOR]:
        _measure(name, more)
        PAGE.write_text(page(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
