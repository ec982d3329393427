"""The page of one entry, of an attack in all its settings, and of a published figure: HTML fragments, styled by ``board.css``.

Everything that an entry says is escaped here; its figures and texts may have been written by strangers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote

from leaderboard.errors import BrokenFile, StoreError
from leaderboard.page.tables import claim_text
from leaderboard.requests.naming import is_local
from leaderboard.results.entry import COMPUTED, FIGURES
from leaderboard.results.reader import Results
from mia_hub.auditing.report import AuditReport
from mia_hub.errors import MiaHubError
from mia_hub.rendering.text import Rows

ORIGINS = {
    COMPUTED: "Computed here: our worker asked the model, and every figure follows from the scores below.",
    "self-reported": "Self-reported: somebody else made the scores, and we computed every figure from them. We didn't ask the model.",
}
# What a page carries inside of a link; larger files are named and not carried.
LARGEST_LINK = 8 * 2**20


@dataclass(frozen=True)
class EntryPage:
    """What is shown of an entry.

    Attributes:
        html: all but the command.
        command: what reproduces it, or checks its figures; empty where there is nothing to run.
        entry, row: which entry's which row this is; None for a page of something else.
    """

    html: str
    command: str = ""
    entry: str | None = None
    row: int | None = None


def row_number(entry: Mapping[str, Any], attack: str | None) -> int:
    """The row of an attack in an entry; the first where there is none of that name."""
    return next((number for number, row in enumerate(entry["rows"]) if row["attack"] == attack), 0)


def entry_page(results: Results, id: str, row: int = 0, claims: Iterable[Mapping[str, Any]] = ()) -> EntryPage:
    """The page of one attack of an entry.

    Raises:
        StoreError: if there is no such entry.
    """
    entry = results.entry(id)
    row = row if 0 <= row < len(entry["rows"]) else 0
    shown = entry["rows"][row]
    said = _said_by_report(results, entry, row)
    parts = [_heading(entry, shown), _others(entry, row), said.figures]
    claimed = [claim for claim in claims if claim["metric"] == "auc"]
    if claimed:
        lines = "".join(f"<p>AUC {claim['value']}: {escape(claim_text(claim))}.</p>" for claim in claimed)
        parts.append(f"<h3>Claimed for this setting</h3>{lines}")
    parts += [_local(entry), _downloads(results, entry, row, said.page), _provenance(entry, said.provenance)]
    return EntryPage(_wrapped(*parts), entry["command"], id, row)


def attack_page(rows: Sequence[Mapping[str, Any]], attack: str) -> EntryPage:
    """An attack in all settings that it was run in."""
    from leaderboard.results.board_rows import estimate_text

    named = [(row, escape(f"{row['model']} on {row['split']}: AUC {estimate_text(row['auc'])}")) for row in rows]
    links = "".join(f"<a href='{link_to(row['entry'], row['attack'])}'>{name}</a>" for row, name in named)
    says = "one setting" if len(rows) == 1 else f"{len(rows)} settings"
    return EntryPage(_wrapped(f"<h2>{escape(attack)}</h2><p class='mia-over'>In {says}; each opens its entry.</p>{_links(links)}"))


def claim_page(claims: Sequence[Mapping[str, Any]]) -> EntryPage:
    """What was published of a setting that nothing was computed for."""
    first = claims[0]
    figures = "".join(
        f"<p><strong>{escape(claim['metric'].upper())} {claim['value']}</strong>: {escape(claim_text(claim))}. Its source counts "
        f"{escape({'nonmembers': 'non-members'}.get(claim['positive'], claim['positive']))} as the positive class.</p>"
        for claim in claims
    )
    body = (
        f"<h2>{escape(first['attack'])} on {escape(first['model'])}</h2><p class='mia-over'>{escape(first['title'])}</p>"
        f"<p class='mia-lead'>A claim: published, and not computed here. It ranks nothing.</p>{figures}"
    )
    return EntryPage(_wrapped(body), f"mia-hub benchmark run {first['benchmark']}")


def problem_page(message: str) -> EntryPage:
    """What went wrong, in the page's place."""
    return EntryPage(f"<p class='mia-problem' role='alert'>{escape(message)}</p>")


def link_to(id: str, attack: str) -> str:
    """The address of an entry's row, relative to the page."""
    return escape(f"?entry={quote(id)}&attack={quote(attack)}", quote=True)


def _wrapped(*parts: str) -> str:
    return f"<div class='mia-entry'>{''.join(parts)}</div>"


def _links(html: str) -> str:
    return f"<div class='mia-links'>{html}</div>"


@dataclass(frozen=True)
class _Said:
    """What a row's report says: its figures, drawn; all of it as a page of its own; its provenance. Without it, that it is missing."""

    figures: str
    page: str | None = None
    provenance: Rows = field(default_factory=list)


_NOT_SAID = _Said(
    "<p class='mia-problem'>The report of this row is missing, can't be understood, or doesn't say what the entry says. The figures are "
    "those of the table above.</p>"
)


def _said_by_report(results: Results, entry: Mapping[str, Any], number: int) -> _Said:
    """What a row's report says, if it is there, can be understood and says the same as the row."""
    from mia_hub.auditing.report_pages import cost_rows, provenance_rows

    row = entry["rows"][number]
    try:
        values = json.loads(results.read(entry["id"], f"reports/{number:02d}.json", largest=LARGEST_LINK))
        same = all(values[figure] == row[figure] for figure in (*FIGURES, "tpr_at_fpr"))
        if not same or values["selection"]["timestep"] != row["timestep"]:
            return _NOT_SAID
        report = AuditReport.from_dict(values)
        return _Said(_figures(report), report.to_html(), [*provenance_rows(report), *cost_rows(report)])
    # Whatever stands in a file that isn't as our worker writes it, the page of its entry is shown.
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, MiaHubError):
        return _NOT_SAID


def _heading(entry: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    from mia_hub.auditing.report_pages import notes_html

    model, split, request = entry["model"], entry["split"], entry["request"]
    counts = f"{row['auc']['n_members']:,} members and {row['auc']['n_nonmembers']:,} non-members reported on"
    by = f" Submitted by {escape(request['submitter'])}." if request.get("submitter") else ""
    note = f"<p>Their note: “{escape(request['note'])}”</p>" if request.get("note") else ""
    return (
        f"<h2>{escape(row['attack'])} on {escape(model['id'])}</h2>"
        f"<p class='mia-over'>Data set {escape(split['name'])} · {counts} · entry {escape(entry['id'])} · "
        f"<a href='{link_to(entry['id'], row['attack'])}'>link to this page</a></p>"
        f"<p>{escape(ORIGINS[entry['origin']])}{by}</p>{note}{notes_html(split)}"
    )


def _local(entry: Mapping[str, Any]) -> str:
    """Where a local model comes from, and what the command below needs; nothing for an entry of what is on the Hub."""
    request = entry["request"]
    pinned = [(request["model"], request["revision"]), (request["split"], request["split_revision"])]
    known = [f"{name} ({revision})" for name, revision in pinned if is_local(name)]
    if not known:
        return ""
    parts = []
    for part in entry.get("trained", []):
        sentence = part["sentence"] or "Its folder doesn't say what it was trained on."
        made = f" Made by <code>{escape(part['command'])}</code>" if part["command"] else ""
        parts.append(f"<p><strong>{escape(part['name'])}</strong>: {escape(sentence)}{made}</p>")
    where = "In a folder of whoever runs this board, known by hashes, and not to be fetched from here"
    parts.append(f"<p>{where}: {escape('; '.join(known))}. The figures can be checked without it, from the scores below.</p>")
    if entry["origin"] == COMPUTED:
        parts.append("<p>The command at the end of this page is run in that folder.</p>")
    return f"<h3>Where it comes from</h3>{''.join(parts)}"


def _others(entry: Mapping[str, Any], number: int) -> str:
    if len(entry["rows"]) == 1:
        return ""
    links = "".join(
        f"<a href='{link_to(entry['id'], row['attack'])}' data-attack='{escape(row['attack'], quote=True)}'"
        f"{' aria-current=true' if i == number else ''}>{escape(row['attack'])}</a>"
        for i, row in enumerate(entry["rows"])
    )
    return f"<h3>All attacks of this entry</h3>{_links(links)}"


def _figures(report: AuditReport) -> str:
    from mia_hub.auditing.plots import roc_svg, timesteps_svg
    from mia_hub.auditing.report_pages import figure_table, flags_html, headline, meaning, selection_text, timestep_table
    from mia_hub.rendering.html import fragment, prose

    plots = [roc_svg(report.roc, auc=report.auc, tpr_at_fpr=report.tpr_at_fpr)]
    plots += [timesteps_svg(report)] if len(report.per_timestep) > 1 else []
    drawn = "".join(f"<div class='mia-plot'>{svg}</div>" for svg in plots)
    figures = fragment("table", *figure_table(report), label="Figures")
    every = fragment("table", *timestep_table(report), label="Figures at every timestep", chosen=str(report.timestep))
    means = "".join(f"<p>{prose(line)}</p>" for line in meaning(report))
    return (
        f"<p class='mia-lead'>{prose(headline(report))}</p>{flags_html(report.flags)}{means}"
        f"<h3>Figures</h3>{figures}<div class='mia-plots'>{drawn}</div>"
        f"<details><summary>Every timestep, and how one was selected</summary><p>{prose(selection_text(report))}</p>{every}</details>"
    )


def _downloads(results: Results, entry: Mapping[str, Any], number: int, page: str | None) -> str:
    id, scores = entry["id"], entry["rows"][number]["scores"]
    files = [("Scores (Parquet)", scores, "application/vnd.apache.parquet"), ("Entry (JSON)", "entry.json", "application/json")]
    files += [("Report (JSON)", f"reports/{number:02d}.json", "application/json")] if page else []
    links = "".join(_download(results, id, name, path, kind) for name, path, kind in files)
    links += _carried("Report (HTML)", f"{id}-{number:02d}.html", page.encode(), "text/html") if page else ""
    return f"<h3>Files</h3>{_links(links)}"


def _download(results: Results, id: str, name: str, path: str, kind: str) -> str:
    try:
        content = results.read(id, path, largest=LARGEST_LINK)
    except KeyError:
        return f"<span>{escape(name)}: missing</span>"
    except BrokenFile:
        where = f"results/{id}/{path} in {results.stores[id]}"
        return f"<span>{escape(name)}: more than {LARGEST_LINK // 2**20} MiB, {escape(where)}</span>"
    except StoreError as error:
        return f"<span>{escape(name)}: {escape(str(error))}</span>"
    return _carried(name, f"{id}-{path.replace('/', '-')}", content, kind)


def _carried(name: str, file: str, content: bytes, kind: str) -> str:
    data = base64.b64encode(content).decode()
    return f"<a download='{escape(file, quote=True)}' href='data:{kind};base64,{data}'>{escape(name)}</a>"


def _provenance(entry: Mapping[str, Any], reported: Rows) -> str:
    from mia_hub.rendering.html import fragment
    from mia_hub.rendering.text import value_text

    rows = [["Entry", entry["id"]], ["Origin", entry["origin"]], ["Captions told", entry["request"].get("captions", "split")]]
    if not reported:
        parts = [(part, key, value) for part in ("model", "split", "provenance") for key, value in entry[part].items()]
        parts = [(part, key, value) for part, key, value in parts if isinstance(value, (str, int, float))]
        reported = [[f"{part.capitalize()}: {key}", value_text(value)] for part, key, value in parts]
    return f"<details><summary>Provenance</summary>{fragment('pairs', [*rows, *reported])}</details>"


def claims_of(entry: Mapping[str, Any], attack: str, claims: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The claims that belong to an attack of an entry, as `leaderboard.results.claims.is_claimed_setting` says."""
    from leaderboard.results.board_rows import setting_of
    from leaderboard.results.claims import attack_name, is_claimed_setting

    row = {"split": entry["split"]["name"], "model": setting_of(entry)[0]}
    return [claim for claim in claims if claim["attack"] == attack_name(attack) and is_claimed_setting(row, claim)]
