"""The page of one entry, of an attack in all its settings, and of a published figure: HTML fragments, styled by ``board.css``."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leaderboard.errors import BrokenFile, StoreError
from leaderboard.page.columns import claim_text
from leaderboard.requests.naming import is_local
from leaderboard.results.board_rows import estimate_text, setting_of
from leaderboard.results.claims import attack_name, is_claimed_setting
from leaderboard.results.entry import COMPUTED, FIGURES
from leaderboard.results.reader import Results
from mia_hub.auditing.report import AuditReport
from mia_hub.errors import MiaHubError
from mia_hub.rendering.html import fragment, render
from mia_hub.rendering.text import Rows, value_text

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATES = "leaderboard/page/templates"
ORIGINS = {
    COMPUTED: "Computed here: our worker queried the model, and every figure follows from the scores below.",
    "self-reported": "Self-reported: somebody else made the scores, and we computed every figure from them. We didn't query the model.",
}
# What a page carries inside of a link; larger files are named and not carried.
LARGEST_LINK = 8 * 2**20


@dataclass(frozen=True)
class EntryPage:
    """The page of one entry.

    Attributes:
        html: all but the command.
        command: reproduces it, or checks its figures; empty where there is nothing to run.
        entry, row: id of the entry, and number of its row; None for a page of something else.
    """

    html: str
    command: str = ""
    entry: str | None = None
    row: int | None = None


def row_number(entry: Mapping[str, Any], attack: str | None) -> int:
    """Return the number of an attack's row in an entry; the first where there is none of that name."""
    return next((number for number, row in enumerate(entry["rows"]) if row["attack"] == attack), 0)


def entry_page(results: Results, id: str, row: int = 0, claims: Iterable[Mapping[str, Any]] = ()) -> EntryPage:
    """Return the page of one attack of an entry.

    Args:
        results: that the entry is one of.
        id: of the entry.
        row: number of the attack's row.
        claims: published figures of the same setting.

    Raises:
        StoreError: if there is no such entry.
    """
    from mia_hub.auditing.report_pages import notes_html

    entry = results.entry(id)
    number = row if 0 <= row < len(entry["rows"]) else 0
    report = _row_report(results, entry, number)
    html = render(
        f"{TEMPLATES}/entry.html",
        entry={"trained": None} | entry,
        row=entry["rows"][number],
        number=number,
        origin=ORIGINS[entry["origin"]],
        computed=entry["origin"] == COMPUTED,
        split_notes=notes_html(entry["split"]),
        report=report,
        claims=_with_text(claim for claim in claims if claim["metric"] == "auc"),
        local=_local_parts(entry["request"]),
        files=_files(results, entry, number, None if report is None else report.page),
        provenance=_provenance(entry, [] if report is None else report.provenance),
    )
    return EntryPage(html, entry["command"], id, number)


def attack_page(rows: Sequence[Mapping[str, Any]], attack: str) -> EntryPage:
    """Return the page of an attack in all settings that it was run in."""
    named = [{**row, "auc_text": estimate_text(row["auc"])} for row in rows]
    return EntryPage(render(f"{TEMPLATES}/attack.html", attack=attack, rows=named))


def claim_page(claims: Sequence[Mapping[str, Any]]) -> EntryPage:
    """Return the page of the published figures of a setting that nothing was computed for."""
    command = f"mia-hub benchmark run {claims[0]['benchmark']}"
    return EntryPage(render(f"{TEMPLATES}/claim.html", claims=_with_text(claims)), command)


def problem_page(message: str) -> EntryPage:
    """Return an error message, in a page's place."""
    return EntryPage(fragment("problems", [message], template=f"{TEMPLATES}/parts.html"))


def claims_of(entry: Mapping[str, Any], attack: str, claims: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the claims that belong to an attack of an entry, as `leaderboard.results.claims.is_claimed_setting` decides."""
    row = {"split": entry["split"]["name"], "model": setting_of(entry)[0]}
    return [claim for claim in claims if claim["attack"] == attack_name(attack) and is_claimed_setting(row, claim)]


def _with_text(claims: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**claim, "text": claim_text(claim)} for claim in claims]


@dataclass(frozen=True)
class _RowReport:
    """The part of a row's report that the page shows.

    Attributes:
        headline, meaning, selection: texts.
        flags: as HTML.
        figures, timesteps: headers and rows of tables.
        timestep: the selected one, as in the table.
        plots: as SVG.
        page: the report as a page of its own.
        provenance: names and values.
    """

    headline: str
    flags: Markup
    meaning: list[str]
    figures: tuple[list[str], Rows]
    plots: list[Markup]
    selection: str
    timesteps: tuple[list[str], Rows]
    timestep: str
    page: str
    provenance: Rows


def _row_report(results: Results, entry: Mapping[str, Any], number: int) -> _RowReport | None:
    """Return a row's report, if it is there, can be understood and agrees with the row."""
    row = entry["rows"][number]
    try:
        values = json.loads(results.read(entry["id"], f"reports/{number:02d}.json", largest=LARGEST_LINK))
        same = all(values[figure] == row[figure] for figure in (*FIGURES, "tpr_at_fpr"))
        if not same or values["selection"]["timestep"] != row["timestep"]:
            return None
        return _report_parts(AuditReport.from_dict(values))
    # Whatever stands in a file that isn't as our worker writes it, the page of its entry is shown.
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, MiaHubError):
        return None


def _report_parts(report: AuditReport) -> _RowReport:
    from markupsafe import Markup

    from mia_hub.auditing import report_pages as pages
    from mia_hub.auditing.plots import roc_svg, timesteps_svg

    plots = [roc_svg(report.roc, auc=report.auc, tpr_at_fpr=report.tpr_at_fpr)]
    plots += [timesteps_svg(report)] if len(report.per_timestep) > 1 else []
    return _RowReport(
        headline=pages.headline(report),
        flags=pages.flags_html(report.flags),
        meaning=pages.meaning(report),
        figures=pages.figure_table(report),
        plots=[Markup(svg) for svg in plots],
        selection=pages.selection_text(report),
        timesteps=pages.timestep_table(report),
        timestep=str(report.timestep),
        page=report.to_html(),
        provenance=[*pages.provenance_rows(report), *pages.cost_rows(report)],
    )


def _local_parts(request: Mapping[str, Any]) -> list[str]:
    """Return the model and the split with their hashes, as far as they are local; nothing for an entry of what is on the Hub."""
    pinned = [(request["model"], request["revision"]), (request["split"], request["split_revision"])]
    return [f"{name} ({revision})" for name, revision in pinned if is_local(name)]


def _files(results: Results, entry: Mapping[str, Any], number: int, page: str | None) -> list[dict[str, Any]]:
    """Return the entry's files as links that carry them, or the reasons why they can't."""
    id, scores = entry["id"], entry["rows"][number]["scores"]
    files = [("Scores (Parquet)", scores, "application/vnd.apache.parquet"), ("Entry (JSON)", "entry.json", "application/json")]
    files += [("Report (JSON)", f"reports/{number:02d}.json", "application/json")] if page else []
    links = [_stored_file(results, id, name, path, kind) for name, path, kind in files]
    return links + ([_carried("Report (HTML)", f"{id}-{number:02d}.html", page.encode(), "text/html")] if page else [])


def _stored_file(results: Results, id: str, name: str, path: str, kind: str) -> dict[str, Any]:
    try:
        content = results.read(id, path, largest=LARGEST_LINK)
    except KeyError:
        return {"name": name, "data": None, "problem": "missing"}
    except BrokenFile:
        where = f"results/{id}/{path} in {results.stores[id]}"
        return {"name": name, "data": None, "problem": f"more than {LARGEST_LINK // 2**20} MiB, {where}"}
    except StoreError as error:
        return {"name": name, "data": None, "problem": str(error)}
    return _carried(name, f"{id}-{path.replace('/', '-')}", content, kind)


def _carried(name: str, file: str, content: bytes, kind: str) -> dict[str, Any]:
    return {"name": name, "download": file, "data": f"data:{kind};base64,{base64.b64encode(content).decode()}"}


def _provenance(entry: Mapping[str, Any], reported: Rows) -> Rows:
    """Return names and values; without a report, those of the entry."""
    rows = [["Entry", entry["id"]], ["Origin", entry["origin"]], ["Captions", entry["request"].get("captions", "split")]]
    if not reported:
        parts = [(part, key, value) for part in ("model", "split", "provenance") for key, value in entry[part].items()]
        parts = [(part, key, value) for part, key, value in parts if isinstance(value, (str, int, float))]
        reported = [[f"{part.capitalize()}: {key}", value_text(value)] for part, key, value in parts]
    return [*rows, *reported]
