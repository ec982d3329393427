"""The tab "Leaderboard": tables of all entries, and the page of the one that is chosen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api

from leaderboard.errors import StoreError
from leaderboard.page import tables
from leaderboard.page.columns import ALL_ROWS, APART, ONE_SPLIT
from leaderboard.page.entry_page import EntryPage, attack_page, claim_page, claims_of, entry_page, problem_page, row_number
from leaderboard.page.standings import Standings, current_standings, leaderboard
from leaderboard.results.board_rows import FAILS, NOT_CHECKED, split_summaries
from leaderboard.results.claims import published_claims
from leaderboard.results.reader import Results
from mia_hub.rendering.html import fragment

FOLDER = Path(__file__).parent
STYLE = FOLDER / "board.css"
TABLE_SCRIPT = (FOLDER / "board_table.js").read_text(encoding="utf-8")
LINKS_SCRIPT = (FOLDER / "entry_links.js").read_text(encoding="utf-8")
ADDRESS_SCRIPT = (FOLDER / "entry_address.js").read_text(encoding="utf-8")
NO_ENTRIES = "No entry yet. Submit a model in the tab Submit; python -m leaderboard.worker audits it."
NONE_APART = "No data set fails the shift check, and none is too small for it."
SHOWN_IDS = 5
INTRODUCTION = (
    "How well attacks recognise the training images of diffusion models. **Higher means that a model leaks more**; an attack that scores "
    "low may be weak, or the model safe against it. *AUC* says how often, of a random training image and a random other one, the attack "
    "gives the training image the higher score: guessing gives 0.5. *TPR at 1 % FPR* is the share of training images recognised where 1 in "
    "100 others is taken for one: guessing gives 1 %. Brackets are 95 % intervals. What was computed follows from scores that you can "
    "download; what is *claimed* stands in a paper, and was not computed here. Click a row for more."
)
EXPLAINED = {
    "attacks": "Attacks are ranked by AUC among those that cost about as many queries per image (*budget*), over all data sets; only what "
    "we computed counts. *Mean rank* is 0 for an attack that is always first and 1 for one that is always last, and missing where no other "
    "attack of its budget was run. `random` queries no model, stands among those of 1 query, and shows what chance looks like.",
    "models": "Each model by what the strongest attack finds in it. The largest of several figures is too large by chance, so its interval "
    "is widened for the number of attacks that it was picked from (Bonferroni); the order is that of the interval's lower end. A model "
    "that few attacks were tried on is not thereby safe.",
    "split": "Everything that was run on one data set. *Claimed* is what a paper says of the setting, *self-reported* what we computed "
    "from scores that others made, and the other figures are our own; *reproduced* says whether a self-reported AUC lies in our interval.",
    "rows": "All rows whose data set passes the shift check, and what papers claim. A claim with nothing computed beside it ranks nothing; "
    "most of them chose their timestep on the images that they report, which makes them optimistic.",
    "apart": "Here members and non-members differ by themselves, so that an attack's figure needn't say anything about the model; these "
    "rows are never ranked. Either a classifier that never sees the model tells the two apart (*fails*; its AUC is the *blind AUC*), or "
    "there are too few to find out (*not checked*), or the setting of a claim is *known to differ* (`mia-hub benchmark show NAME`).",
}
NAMES = {"attacks": "Attacks", "models": "Models", "split": "One data set", "rows": "All rows", "apart": "Apart"}
# First, and with an address that names an entry: the status line, two tables, and the choice of a data set with its table.
_FIRST = 5
_ENTRY = 3


def build_board_tab(page: gr.Blocks, pages: gr.Tabs, tab: gr.Tab) -> None:
    """Build the tab; an address with ``?entry=ID`` opens it.

    Args:
        page: may be opened with such an address.
        pages: its tabs.
        tab: the one that this is built in; its ``id`` is named there.
    """
    gr.Markdown(INTRODUCTION, elem_id="board-introduction")
    status = gr.HTML(elem_id="board-status")
    views, drawn = {}, {}
    with gr.Tabs(elem_id="board-views"):
        for name in NAMES:
            with gr.Tab(NAMES[name], id=f"board-{name}") as views[name]:
                gr.Markdown(EXPLAINED[name], elem_classes="mia-small")
                if name == "split":
                    choice = gr.Dropdown([], label="Data set", elem_id="board-split-choice")
                    # Gradio compares it with the choices that it remembers of this visitor, and it forgets those of long ago.
                    choice.preprocess = lambda payload: payload  # type: ignore[method-assign]
                drawn[name] = _table(name)
    with gr.Column(elem_id="entry"):
        shown = gr.HTML(elem_id="entry-page", js_on_load=LINKS_SCRIPT, apply_default_css=False)
        command = gr.Code(language="shell", interactive=False, visible=False, lines=1, wrap_lines=True, elem_id="entry-command")
    opened = gr.JSON(visible="hidden", elem_id="entry-opened")
    first = [status, drawn["attacks"], drawn["models"], choice, drawn["split"]]
    tab.select(_first, None, first, **_QUIETLY)
    for name in ("rows", "apart"):
        # Large, and seldom looked at first: fetched when it is opened.
        views[name].select(partial(_view, name), None, drawn[name], **_QUIETLY)
    choice.input(_split_table, choice, drawn["split"], **_QUIETLY)
    for source in (*drawn.values(), shown):
        source.select(_open, None, [shown, command, opened], **_QUIETLY).then(None, opened, None, js=ADDRESS_SCRIPT)
    page.load(_follow_address(tab.id), None, [pages, *first, shown, command, opened], **_QUIETLY)
    api(leaderboard, api_name="leaderboard")


_QUIETLY: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def _table(name: str) -> gr.HTML:
    template = "<div class='mia-board'>Loading …</div>"
    return gr.HTML(
        None, html_template=template, js_on_load=TABLE_SCRIPT, apply_default_css=False, elem_id=f"board-{name}", label=NAMES[name]
    )


def _first() -> tuple[Any, ...]:
    """Return what the tab shows when it is opened."""
    now = current_standings()
    choices = _choices(now)
    chosen = choices[0][1] if choices else None
    return (
        _status(now.results),
        _view("attacks"),
        _view("models"),
        gr.Dropdown(choices, value=chosen, visible=bool(choices)),
        _split_table(chosen),
    )


def _status(results: Results) -> str:
    """Return what a reader must know about the tables: a store that can't be reached, and entries that can't be shown."""
    lines = []
    if results.problem:
        lines.append(f"The store of results can't be reached at the moment, so some entries may be missing: {results.problem}")
    if results.omitted:
        some = "; ".join(f"{entry.id}: {entry.reason}" for entry in results.omitted[:SHOWN_IDS])
        more = f"; and {len(results.omitted) - SHOWN_IDS} more" if len(results.omitted) > SHOWN_IDS else ""
        lines.append(f"{len(results.omitted)} of the entries can't be shown. {some}{more}")
    return fragment("problems", lines, "status", template="leaderboard/page/templates/parts.html")


def _choices(now: Standings) -> list[tuple[str, str]]:
    return [(_split_name(row), row["split_hash"]) for row in split_summaries([*now.ranked, *now.apart])]


def _split_name(row: dict[str, Any]) -> str:
    models = "1 model" if row["models"] == 1 else f"{row['models']} models"
    apart = {FAILS: "; fails the shift check", NOT_CHECKED: "; not checked for a shift"}.get(row["shift_check"], "")
    # Two versions of a data set have one name; the beginning of the hash tells them apart.
    return f"{row['split'][:100]} ({models}; {row['split_hash'].removeprefix('sha256:')[:8]}{apart})"


def _split_table(split_hash: str | None) -> str:
    now = current_standings()
    rows = [row for row in (*now.rows, *now.rows_apart) if row["split_hash"] == split_hash and split_hash is not None]
    return tables.rows_table(ONE_SPLIT, rows, "leaderboard-data-set", NO_ENTRIES)


_VIEWS: dict[str, Callable[[Standings], str]] = {
    "attacks": lambda now: tables.attacks_table(now.ranked, NO_ENTRIES),
    "models": lambda now: tables.models_table(now.ranked, NO_ENTRIES),
    "rows": lambda now: tables.rows_table(ALL_ROWS, now.rows, "leaderboard", NO_ENTRIES),
    "apart": lambda now: tables.rows_table(APART, now.rows_apart, "leaderboard-apart", NONE_APART),
}
# The latest tables, with the version of the results that they were made from: all visitors get the same.
_drawn: dict[str, tuple[str, str]] = {}


def _view(name: str) -> str:
    now = current_standings()
    if _drawn.get(name, ("",))[0] != now.results.version:
        _drawn[name] = (now.results.version, _VIEWS[name](now))
    return _drawn[name][1]


def _follow_address(tab_id: int | str | None) -> Callable[[gr.Request], tuple[Any, ...]]:
    def follow(request: gr.Request) -> tuple[Any, ...]:
        target = dict(request.query_params) if request else {}
        if not target.get("entry"):
            return tuple(gr.skip() for _ in range(1 + _FIRST + _ENTRY))
        return gr.Tabs(selected=tab_id), *_first(), *_entry_outputs(target)

    return follow


def _open(event: gr.EventData) -> tuple[Any, ...]:
    return _entry_outputs(event._data if isinstance(event._data, dict) else {})


def _entry_outputs(target: dict[str, Any]) -> tuple[Any, ...]:
    """Return all outputs of an entry: the page of what was clicked, or of what the address names."""
    page = _page_of({key: str(value) for key, value in target.items() if value is not None})
    opened = {"entry": page.entry, "attack": target.get("attack"), "back": bool(target.get("back"))} if page.entry else None
    return page.html, gr.Code(page.command, visible=bool(page.command), label=_label(page)), opened


def _label(page: EntryPage) -> str:
    return "Reproduce it" if page.command.startswith("mia-hub") else "Check its figures"


def _page_of(target: dict[str, str]) -> EntryPage:
    now, attack = current_standings(), target.get("attack", "")
    try:
        if "entry" in target:
            entry = now.results.entry(target["entry"])
            number = row_number(entry, attack)
            claims = claims_of(entry, entry["rows"][number]["attack"], published_claims())
            return entry_page(now.results, entry["id"], number, claims)
        if "benchmark" in target:
            claims = [claim for claim in published_claims() if claim["benchmark"] == target["benchmark"] and claim["attack"] == attack]
            return claim_page(claims) if claims else problem_page("There is no such published figure.")
        rows = [row for row in now.rows if row["attack"] == attack and row["auc"] is not None and row["budget"] == target.get("budget")]
        if len(rows) == 1:
            return _page_of({"entry": rows[0]["entry"], "attack": attack})
        return attack_page(rows, attack) if rows else problem_page("There is no such attack on this board any more; load the page again.")
    except StoreError as error:
        return problem_page(str(error))
