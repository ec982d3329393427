"""Write docs/attacks.md and its figure: every attack on the demo model, from one command.

    python -m studies.demo_attacks --runs runs/attacks

An interrupted run resumes: scores are stored under ``--runs``. On a CPU it takes about two hours. The table for the recipe
with random flips is added if its model is given (``--flips runs/flips/model``; see `training.demo`).
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from mia_hub.attacks import ATTACKS, get_attack
from mia_hub.attacks.spelling import parse_attack, parse_parts
from mia_hub.auditing.audit import held_out
from mia_hub.auditing.compare import compare
from mia_hub.auditing.comparison import Comparison
from mia_hub.auditing.comparison_pages import choices, comparison_table, shared_selection_text
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.loading import load_split
from mia_hub.system.streams import any_terminal
from studies.measuring import FIRST, OTHERS, SIMA
from studies.page import fill

DOCS = Path(__file__).parent.parent / "docs"
EVERY = (*FIRST, "sima-cn", *OTHERS)
COMBINED = ("sima:timesteps=70+pia:timesteps=200",)
CONDITIONAL = (SIMA, "sima-c", "sima-cn", "sima-mc:draws=30,timesteps=70")
FOUR_SHIFTS = "shift-left,shift-right,shift-up,shift-down"
FLIPS = (
    SIMA,
    "sima-c",
    "sima-cn:given=complexity,mirror,timesteps=70,100,130",
    "sima-cn:timesteps=100",
    f"sima-cn:timesteps=100,given=complexity,{FOUR_SHIFTS}",
)


def attack_table() -> str:
    """Return a table of every registered attack with what it declares: source, access, cost and needs."""
    rows = []
    for name in sorted(ATTACKS):
        attack = get_attack(name)
        needs = {"captions": attack.needs_caption, "gradients": attack.needs_gradients, "generated samples": attack.needs_samples}
        if attack.needs_training:
            needs["known members and non-members" if attack.learns_from == "both" else "known non-members"] = True
        queries = f"{attack.queries_per_image}" + (f" + {attack.setup_queries:,} once" if attack.setup_queries else "")
        columns = "one score" if attack.one_score or len(attack.columns) == 1 else f"{len(attack.columns)} timesteps"
        summary = inspect.getdoc(attack).splitlines()[0].replace("|", "\\|")
        listed = ", ".join(what for what, needed in needs.items() if needed) or "—"
        rows.append([f"`{name}`", summary, attack.paper, attack.access, queries, columns, listed])
    headers = ["Attack", "Statistic", "Source", "Access", "Queries per image", "Default grid", "Needs"]
    return markdown_table(headers, rows, raw=True)


def comparison_section(comparison: Comparison) -> str:
    table = markdown_table(*comparison_table(comparison))
    return "\n\n".join([table, shared_selection_text(comparison), *choices(comparison)])


@any_terminal()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/attacks"), help="folder of the stored scores")
    parser.add_argument("--flips", type=Path, help="the model of the recipe with random flips")
    parser.add_argument("--limit", type=int, default=1000, help="at most N members and N non-members for the table of all attacks")
    parser.add_argument("--skip", nargs="*", default=[], metavar="ATTACK", help="attacks to leave out, as this script spells them")
    args = parser.parse_args()

    combine = [parse_parts(text) for text in COMBINED if text not in args.skip]
    attacks = [parse_attack(text) for text in EVERY if text not in args.skip]
    every = compare("demo", "demo", attacks, combine=combine, limit=args.limit, folder=args.runs / "every")
    control = compare("demo", held_out(load_split("demo")), attacks, limit=80, folder=args.runs / "held-out")
    conditional = compare("demo", "demo", [parse_attack(text) for text in CONDITIONAL], folder=args.runs / "conditional")
    parts = {
        "declared": attack_table(),
        "every": comparison_section(every),
        "control": comparison_section(control),
        "conditional": comparison_section(conditional),
        "flips": "Not computed here.",
    }
    if args.flips:
        parts["flips"] = comparison_section(
            compare(str(args.flips), "demo", [parse_attack(text) for text in FLIPS], folder=args.runs / "flips")
        )
    (DOCS / "attacks.svg").write_text(every.plot_svg(), encoding="utf-8")
    page = fill((DOCS / "attacks.in.md").read_text(encoding="utf-8"), parts)
    (DOCS / "attacks.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
