"""Write the README's figure and table from the study of all attacks.

python -m studies.readme
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mia_hub.rendering.markdown import markdown_table
from mia_hub.system.files import write_text
from mia_hub.system.streams import any_terminal
from studies.attacks import COSTLY, NAME, model_rows
from studies.measuring import CONDITIONAL, SIMA, entry_numbers, interval_text
from studies.models import MODELS
from studies.page import read_results

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- results: written by python -m studies.readme -->", "<!-- end of results -->"
# Where the command is that made each model.
COMMANDS = "docs/studies/attacks.md#the-models-and-their-commands"
# Attacks that an outsider can run: not fitted on known members, and without the weights.
COLUMNS = {"SimA, 1 query": SIMA, "Conditional SimA, 2 – 3 queries": CONDITIONAL}


def readme_with(text: str) -> str:
    """Return the README with the current results between its two marks.

    Raises:
        ValueError: if a mark is missing.
    """
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{README} lacks the marks {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{results()}\n{END}{after}"


def results() -> str:
    """Return figure and table in Markdown."""
    listed = read_results(NAME)["entries"]
    rows = [_row(name, [row for row in model_rows(name) if row["entry"] in ids]) for name, ids in listed.items() if name in MODELS]
    headers = [
        "Model",
        *(f"{name}: {figure}" for name in COLUMNS for figure in ("AUC", "TPR@1%FPR")),
        "Strongest attack that is no form of SimA: AUC",
    ]
    figure = "![AUC of every attack on every model trained here](docs/studies/attacks.svg)"
    return f"\n{figure}\n\n{markdown_table(headers, rows, raw=True)}\n"


def _row(name: str, rows: list[dict[str, Any]]) -> list[str]:
    by_attack = {row["attack"]: row for row in rows}
    cells = [f"[{MODELS[name]}]({COMMANDS})"]
    for attack in COLUMNS.values():
        cells += [
            interval_text(entry_numbers(by_attack[attack]["auc"])),
            interval_text(entry_numbers(by_attack[attack]["tpr_at_fpr"].get("0.01"))),
        ]
    other = max((row for row in rows if not row["attack"].startswith("sima")), key=lambda row: row["auc"]["value"])
    # The demo's costly attacks are on another page.
    remark = "" if any(row["attack"] in COSTLY for row in rows) else "; [GSA](docs/attacks.md) not run here"
    queries = f"{other['queries']} quer{'y' if other['queries'] == 1 else 'ies'}"
    return [*cells, f"`{other['attack'].partition(':')[0]}`, {queries}: {interval_text(entry_numbers(other['auc']))}{remark}"]


@any_terminal()
def main() -> None:
    write_text(README, readme_with(README.read_text(encoding="utf-8")))
    print(README)


if __name__ == "__main__":
    main()
