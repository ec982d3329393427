"""Submissions in words: for a terminal, and for the page's table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mia_hub.rendering.terminal import columns, paragraph
from mia_hub.rendering.text import one_line, without_formula

if TYPE_CHECKING:
    from leaderboard.requests.intake import Accepted
    from leaderboard.requests.queue import Submission
    from leaderboard.requests.request import Request
    from leaderboard.requests.status import Status

SHOWN_COMMIT = 8
LONGEST_CELL = 2000
HEADERS = ["State", "What", "Attacks", "Submitted", "By", "ID"]


def accepted_text(accepted: Accepted, requests: str | None = None) -> str:
    """Return what became of a submission, and how to follow it."""
    id, follow = accepted.id, f"mia-hub submissions {accepted.id}" + (f" --requests {requests}" if requests else "")
    if accepted.pull_request:
        return f"The request {id} is proposed: {accepted.pull_request}\nOnce it is merged, follow it with: {follow}"
    if not accepted.new:
        return f"The request {id} was made before: {state_text(accepted.status)}.\nFollow it with: {follow}"
    return f"The request {id} is in the queue.\nFollow it with: {follow}"


def state_text(status: Status, place: int | None = None) -> str:
    """Return where a request stands, in a few words."""
    if status.state == "PENDING" and status.submitted is None:
        return "waiting; it came by a pull request, and no worker has read it yet"
    if status.state == "PENDING":
        return f"waiting, number {place} in the queue" if place else "waiting"
    if status.state == "RUNNING":
        return f"running, {one_line(status.progress)}" if status.progress else "running"
    return status.state.lower()


def time_text(stamped: str | None) -> str:
    """Return a time as people read it, in UTC to the minute."""
    return stamped[:16].replace("T", " ") + " UTC" if stamped else ""


def revision_text(name: str, revision: str | None) -> str:
    """Return a name with the beginning of its commit."""
    return f"{name} at {revision.removeprefix('sha256:')[:SHOWN_COMMIT]}" if revision else name


def setting_text(request: Request) -> str:
    """Return which model is audited on which split."""
    return f"{revision_text(request.model, request.revision)} on {revision_text(request.split, request.split_revision)}"


def submission_text(submission: Submission) -> str:
    """Return one request, line by line."""
    status, request = submission.status, submission.request
    rows = [["Request", one_line(submission.id)], ["State", state_text(status, submission.place)]]
    if request is not None:
        kind = "scores of their own" if request.kind == "scores" else "a model to audit"
        rows += [["Kind", kind], ["Model", revision_text(request.model, request.revision)]]
        rows += [["Split", revision_text(request.split, request.split_revision)], ["Attacks", ", ".join(request.attacks)]]
        rows += [["Captions", request.captions], ["Seed", str(request.seed)], ["Note", request.note]]
    rows += [["Submitter", status.submitter], ["Submitted", time_text(status.submitted)], ["Started", time_text(status.started)]]
    rows += [["Finished", time_text(status.finished)], ["Worker", status.worker or ""]]
    rows += [["Attempts", str(status.attempts) if status.attempts > 1 else ""], ["Error", status.error or ""], ["Offered", status.offered]]
    for past in status.history:
        rows.append(["Before", f"{past.get('state', '')} until {time_text(past.get('until'))}: {past.get('why', '')}"])
    return "\n".join(columns([[name, one_line(value, LONGEST_CELL)] for name, value in rows if value]))


def submissions_text(submissions: Sequence[Submission]) -> str:
    """Return all requests, two lines each and one more for an error."""
    if not submissions:
        return "Nothing was submitted yet. Submit with 'mia-hub submit --model … --split … --attacks …'."
    lines = []
    for each in submissions:
        lines += [f"{one_line(each.id, 64)}  {state_text(each.status, each.place)}  {time_text(each.status.submitted)}"]
        if each.request:
            lines += paragraph(one_line(f"{setting_text(each.request)}: {', '.join(each.request.attacks)}"), "    ")
        lines += paragraph(one_line(f"Error: {each.status.error}"), "    ") if each.status.error else []
        lines += paragraph(one_line(f"Offered: {each.status.offered}"), "    ") if each.status.offered else []
    return "\n".join(lines)


def table_rows(submissions: Sequence[Submission]) -> list[list[str]]:
    """Return rows of `HEADERS`, as plain text; no cell begins like a spreadsheet's formula."""
    rows = []
    for each in submissions:
        status, request = each.status, each.request
        state = state_text(status, each.place)
        state += f", {time_text(status.finished)}" if status.finished else ""
        state += f": {status.error}" if status.error else ""
        state += f"; offered: {status.offered}" if status.offered else ""
        attacks = ", ".join(request.attacks) if request else ""
        own = " (own scores)" if request and request.kind == "scores" else ""
        row = [state, setting_text(request) if request else "", attacks + own, time_text(status.submitted), status.submitter, each.id]
        rows.append([without_formula(one_line(cell)) for cell in row])
    return rows
