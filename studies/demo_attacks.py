"""Write docs/attacks.md and its figure: every attack on the demo model, from one command.

    python -m studies.demo_attacks --runs runs/attacks

An interrupted run resumes: scores are stored under ``--runs``. On a CPU it takes about two hours. The table for the recipe
with random flips is added if its model is given (``--flips runs/flips/model``; see `training.demo`).

What was measured is stored in ``docs/attacks.json``, and ``--render`` writes the page again from it. `studies.agreement` alone measures the
agreement with the authors' code.
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

from mia_hub.attacks import ATTACKS, get_attack
from mia_hub.attacks.spelling import parse_attack, parse_parts
from mia_hub.auditing.audit import held_out
from mia_hub.auditing.compare import compare
from mia_hub.auditing.comparison import Comparison
from mia_hub.auditing.comparison_pages import choices, comparison_table, shared_selection_text
from mia_hub.rendering.markdown import markdown_table
from mia_hub.splits.loading import load_split
from mia_hub.system.streams import any_terminal
from studies.agreement import measured as measured_agreement
from studies.differences import differences_section
from studies.measuring import FIRST, OTHERS, SIMA
from studies.page import DOCS as STUDIES
from studies.page import fill, read_results, write_results

NAME, DOCS = "attacks", STUDIES.parent
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
        needs = {
            "captions": attack.needs_caption,
            "a model conditioned on text": attack.needs_text,
            "gradients": attack.needs_gradients,
            "generated samples": attack.needs_samples,
            "a base": attack.uses_base,
            "reference models": attack.uses_reference_models,
        }
        if attack.needs_training:
            needs["known members and non-members" if attack.learns_from == "both" else "known non-members"] = True
        queries = f"{attack.queries_per_image}" + (f" + {attack.setup_queries:,} once" if attack.setup_queries else "")
        queries += f" + {attack.queries_per_reference_model} per reference model" if attack.uses_reference_models else ""
        columns = "one score" if attack.one_score or len(attack.columns) == 1 else f"{len(attack.columns)} timesteps"
        summary = inspect.getdoc(attack).splitlines()[0].replace("|", "\\|")
        listed = ", ".join(what for what, needed in needs.items() if needed) or "—"
        rows.append([f"`{name}`", summary, attack.paper, attack.access, queries, columns, listed])
    headers = ["Attack", "Statistic", "Source", "Access", "Queries per image", "Default grid", "Needs"]
    return markdown_table(headers, rows, raw=True)


def comparison_section(comparison: Comparison) -> str:
    table = markdown_table(*comparison_table(comparison))
    return "\n\n".join([table, shared_selection_text(comparison), *choices(comparison)])


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Run the attacks, and return the page's measured parts and its figure."""
    combine = [parse_parts(text) for text in COMBINED if text not in args.skip]
    attacks = [parse_attack(text) for text in EVERY if text not in args.skip]
    every = compare("demo", "demo", attacks, combine=combine, limit=args.limit, folder=args.runs / "every")
    control = compare("demo", held_out(load_split("demo")), attacks, limit=80, folder=args.runs / "held-out")
    conditional = compare("demo", "demo", [parse_attack(text) for text in CONDITIONAL], folder=args.runs / "conditional")
    sections = {"every": every, "control": control, "conditional": conditional}
    if args.flips:
        sections["flips"] = compare(str(args.flips), "demo", [parse_attack(text) for text in FLIPS], folder=args.runs / "flips")
    parts = {"flips": "Not computed here."} | {name: comparison_section(comparison) for name, comparison in sections.items()}
    return {"measured": parts, "agreement": measured_agreement()}, every.plot_svg()


def page(results: dict[str, Any]) -> str:
    """Return the page that the stored results give."""
    parts = {"declared": attack_table(), "differences": differences_section(results["agreement"]), **results["measured"]}
    return fill((DOCS / f"{NAME}.in.md").read_text(encoding="utf-8"), parts)


@any_terminal()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/attacks"), help="folder of the stored scores")
    parser.add_argument("--flips", type=Path, help="the model of the recipe with random flips")
    parser.add_argument("--limit", type=int, default=1000, help="at most N members and N non-members for the table of all attacks")
    parser.add_argument("--skip", nargs="*", default=[], metavar="ATTACK", help="attacks to leave out, as this script spells them")
    parser.add_argument("--render", action="store_true", help="write the page again from what is stored")
    args = parser.parse_args()

    if not args.render:
        results, figure = measure(args)
        write_results(NAME, results, DOCS)
        (DOCS / f"{NAME}.svg").write_text(figure, encoding="utf-8")
    (DOCS / f"{NAME}.md").write_text(page(read_results(NAME, DOCS)), encoding="utf-8")


if __name__ == "__main__":
    main()
