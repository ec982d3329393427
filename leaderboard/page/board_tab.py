"""The tab "Leaderboard": tables of all entries, and the page of the one that is chosen."""

from __future__ import annotations

from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from leaderboard.errors import StoreError
from leaderboard.page import tables
from leaderboard.page.current import Standing, current, leaderboard
from leaderboard.page.entry_page import EntryPage, attack_page, claim_page, claims_of, entry_page, problem_page, row_number
from leaderboard.results.board_rows import FAILS, NOT_CHECKED, split_summaries
from leaderboard.results.claims import published_claims
from leaderboard.results.reader import Results

STYLE = Path(__file__).parent / "board.css"
SCRIPT = (Path(__file__).parent / "board_table.js").read_text(encoding="utf-8")
NO_ENTRIES = "No entry yet. The tab Submit asks for an audit of a model; python -m leaderboard.worker answers."
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
    "attack of its budget was run. `random` asks no model, stands among those of 1 query, and shows what chance looks like.",
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
# Links to other entries open here instead of loading the whole page again.
FOLLOW = """element.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='?entry=']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    trigger("select", Object.fromEntries(new URLSearchParams(link.getAttribute("href"))));
});"""
# The address names the entry, to be sent to others. On a phone, and below a long table, the entry is out of view.
REMEMBER = """(opened) => {
    const url = new URL(window.location);
    for (const name of ["entry", "attack"]) opened?.[name] ? url.searchParams.set(name, opened[name]) : url.searchParams.delete(name);
    if (url.href !== window.location.href) window.history.pushState(null, "", url);
    document.getElementById("entry")?.scrollIntoView({behavior: "smooth", block: "start"});
}"""

# The browser's Back leads to the entry before, or to the tables again.
GO_BACK = """() => window.addEventListener("popstate", () => {
    if (new URLSearchParams(window.location.search).has("entry")) return window.location.reload();
    document.getElementById("board-views")?.scrollIntoView({block: "start"});
})"""


def build_board_tab(page: gr.Blocks, pages: gr.Tabs, tab: gr.Tab) -> None:
    """Builds what stands in the tab; an address with ``?entry=ID`` opens it.

    Args:
        page: the page, which is asked for such an address when it opens.
        pages: its tabs.
        tab: the one that this is built in; its ``id`` is named there.
    """
    gr.Markdown(INTRODUCTION, elem_id="board-introduction")
    said = gr.HTML(elem_id="board-said")
    views, drawn = {}, {}
    with gr.Tabs(elem_id="board-views"):
        for name in NAMES:
            with gr.Tab(NAMES[name], id=f"board-{name}") as views[name]:
                gr.Markdown(EXPLAINED[name], elem_classes="mia-small")
                if name == "split":
                    choice = gr.Dropdown([], label="Data set", elem_id="board-split-choice")
                drawn[name] = _table(name)
    with gr.Column(elem_id="entry"):
        shown = gr.HTML(elem_id="entry-page", js_on_load=FOLLOW, apply_default_css=False)
        command = gr.Code(language="shell", interactive=False, visible=False, lines=1, wrap_lines=True, elem_id="entry-command")
    opened = gr.JSON(visible="hidden", elem_id="entry-opened")
    first = [said, drawn["attacks"], drawn["models"], choice, drawn["split"]]
    tab.select(_first, None, first, **_QUIETLY)
    for name in ("rows", "apart"):
        # Large, and seldom looked at first: fetched when it is opened.
        views[name].select(partial(_view, name), None, drawn[name], **_QUIETLY)
    choice.input(_split_table, choice, drawn["split"], **_QUIETLY)
    for source in (*drawn.values(), shown):
        source.select(_open, None, [shown, command, opened], **_QUIETLY).then(None, opened, None, js=REMEMBER, api_name=False)
    page.load(_follow_address(tab.id), None, [pages, *first, shown, command, opened], **_QUIETLY)
    page.load(None, None, None, js=GO_BACK, api_name=False)
    gr.api(leaderboard, api_name="leaderboard")


_QUIETLY = {"api_name": False, "show_progress": "hidden"}


def _table(name: str) -> gr.HTML:
    template = "<div class='mia-board'>Loading …</div>"
    return gr.HTML(None, html_template=template, js_on_load=SCRIPT, apply_default_css=False, elem_id=f"board-{name}", label=NAMES[name])


def _first():
    """What is seen when the tab is opened."""
    now = current()
    choices = _choices(now)
    chosen = choices[0][1] if choices else None
    return (
        _said(now.results),
        _view("attacks"),
        _view("models"),
        gr.Dropdown(choices, value=chosen, visible=bool(choices)),
        _split_table(chosen),
    )


def _said(results: Results) -> str:
    """What a reader must know of where this comes from."""
    lines = []
    if results.problem:
        lines.append(f"The store of results can't be reached at the moment, so some entries may be missing: {results.problem}")
    if results.omitted:
        some = "; ".join(f"{entry.id}: {entry.reason}" for entry in results.omitted[:SHOWN_IDS])
        more = f"; and {len(results.omitted) - SHOWN_IDS} more" if len(results.omitted) > SHOWN_IDS else ""
        lines.append(f"{len(results.omitted)} of the entries can't be shown. {some}{more}")
    return "".join(f"<p class='mia-problem' role='status'>{escape(line)}</p>" for line in lines)


def _choices(now: Standing) -> list[tuple[str, str]]:
    return [(_split_name(row), row["split_hash"]) for row in split_summaries([*now.ranked, *now.apart])]


def _split_name(row: dict[str, Any]) -> str:
    models = "1 model" if row["models"] == 1 else f"{row['models']} models"
    apart = {FAILS: "; fails the shift check", NOT_CHECKED: "; not checked for a shift"}.get(row["shift_check"], "")
    # Two versions of a data set have one name; the beginning of the hash tells them apart.
    return f"{row['split'][:100]} ({models}; {row['split_hash'].removeprefix('sha256:')[:8]}{apart})"


def _split_table(split_hash: str | None) -> str:
    now = current()
    rows = [row for row in (*now.rows, *now.rows_apart) if row["split_hash"] == split_hash and split_hash is not None]
    return tables.rows_table(tables.ONE_SPLIT, rows, "leaderboard-data-set", NO_ENTRIES)


_VIEWS = {
    "attacks": lambda now: tables.attacks_table(now.ranked, NO_ENTRIES),
    "models": lambda now: tables.models_table(now.ranked, NO_ENTRIES),
    "rows": lambda now: tables.rows_table(tables.ALL_ROWS, now.rows, "leaderboard", NO_ENTRIES),
    "apart": lambda now: tables.rows_table(tables.APART, now.rows_apart, "leaderboard-apart", NONE_APART),
}
# What was drawn last, with the version of the results that it was drawn from: all visitors get the same.
_drawn: dict[str, tuple[str, str]] = {}


def _view(name: str) -> str:
    now = current()
    if _drawn.get(name, ("",))[0] != now.results.version:
        _drawn[name] = (now.results.version, _VIEWS[name](now))
    return _drawn[name][1]


def _follow_address(tab_id: str):
    def follow(request: gr.Request):
        asked = dict(request.query_params) if request else {}
        if not asked.get("entry"):
            return tuple(gr.skip() for _ in range(9))
        return gr.Tabs(selected=tab_id), *_first(), *_shown(asked)

    return follow


def _open(event: gr.EventData):
    return _shown(event._data if isinstance(event._data, dict) else {})


def _shown(asked: dict[str, Any]):
    """The page of what was clicked, or of what the address names: all outputs of an entry."""
    page = _page_of({key: str(value) for key, value in asked.items() if value is not None})
    opened = {"entry": page.entry, "attack": asked.get("attack")} if page.entry else None
    return page.html, gr.Code(page.command, visible=bool(page.command), label=_label(page)), opened


def _label(page: EntryPage) -> str:
    return "Reproduce it" if page.command.startswith("mia-hub") else "Check its figures"


def _page_of(asked: dict[str, str]) -> EntryPage:
    now, attack = current(), asked.get("attack", "")
    try:
        if "entry" in asked:
            entry = now.results.entry(asked["entry"])
            number = row_number(entry, attack)
            claims = claims_of(entry, entry["rows"][number]["attack"], published_claims())
            return entry_page(now.results, entry["id"], number, claims)
        if "benchmark" in asked:
            claims = [claim for claim in published_claims() if claim["benchmark"] == asked["benchmark"] and claim["attack"] == attack]
            return claim_page(claims) if claims else problem_page("There is no such published figure.")
        rows = [row for row in now.rows if row["attack"] == attack and row["auc"] is not None and row["budget"] == asked.get("budget")]
        if len(rows) == 1:
            return _page_of({"entry": rows[0]["entry"], "attack": attack})
        return attack_page(rows, attack) if rows else problem_page("There is no such attack on this board any more; load the page again.")
    except StoreError as error:
        return problem_page(str(error))
