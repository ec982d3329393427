"""Writes the README's figure and table anew from the study of all attacks.

python -m studies.readme
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mia_hub.rendering.markdown import markdown_table
from mia_hub.system.files import write_text
from studies.attacks import COSTLY, NAME, rows_of
from studies.measuring import CONDITIONAL, SIMA, shown, triple
from studies.models import MODELS
from studies.page import read_results

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- results: written by python -m studies.readme -->", "<!-- end of results -->"
# Judged as an outsider might run them: neither fitted on known members, nor with the weights.
COLUMNS = {"SimA, 1 query": SIMA, "Conditional SimA, 2 – 3 queries": CONDITIONAL}


def readme_with(text: str) -> str:
    """The README with today's results between its two marks.

    Raises:
        ValueError: if a mark is missing.
    """
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{README} lacks the marks {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{results()}\n{END}{after}"


def results() -> str:
    """Figure and table, in Markdown."""
    listed = read_results(NAME)["entries"]
    rows = [_row(name, [row for row in rows_of(name) if row["entry"] in ids]) for name, ids in listed.items()]
    headers = ["Model", *(f"{name}: {figure}" for name in COLUMNS for figure in ("AUC", "TPR@1%FPR")), "Strongest other attack: AUC"]
    figure = "![AUC of every attack on every model trained here](docs/studies/attacks.svg)"
    return f"\n{figure}\n\n{markdown_table(headers, rows, raw=True)}\n"


def _row(name: str, rows: list[dict[str, Any]]) -> list[str]:
    found = {row["attack"]: row for row in rows}
    cells = [MODELS[name]]
    for attack in COLUMNS.values():
        cells += [shown(triple(found[attack]["auc"])), shown(triple(found[attack]["tpr_at_fpr"].get("0.01")))]
    other = max((row for row in rows if not row["attack"].startswith("sima")), key=lambda row: row["auc"]["value"])
    # Of the demo the costly ones are elsewhere.
    of_these = "" if any(row["attack"] in COSTLY for row in rows) else "; [GSA](docs/attacks.md) not run here"
    return [*cells, f"`{other['attack'].partition(':')[0]}`, {other['queries']} queries: {shown(triple(other['auc']))}{of_these}"]


if __name__ == "__main__":
    write_text(README, readme_with(README.read_text(encoding="utf-8")))
    print(README)
