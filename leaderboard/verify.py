"""Compute every figure of entries again from their scores.

    python -m leaderboard.verify                                  # all entries that the board shows
    python -m leaderboard.verify 0123456789abcdef --results hub:owner/results

An entry is in order if its file has the right format, its scores are those that it names, every figure follows from them, and its reports
agree. The exit status is 0 if all are in order, 1 if something differs, and 2 if an entry or a store isn't there.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leaderboard.config import results_address
from leaderboard.errors import StoreError
from leaderboard.results.entry import FIGURES
from leaderboard.results.index import read_index
from leaderboard.results.reader import ENTRY, OmittedEntry, Results, ResultsReader, store_to_read
from leaderboard.results.recomputation import Read, discrepancies
from leaderboard.stores.store import Store
from mia_hub.errors import MiaHubError
from mia_hub.system.streams import any_terminal

IN_ORDER, DIFFERS, NOT_THERE = 0, 1, 2
Write = Callable[[str], object]


def differences(results: Results, entry: Mapping[str, Any]) -> list[str]:
    """Return what of an entry doesn't follow from its scores, or differs from its reports; nothing for an honest entry."""

    def read(path: str) -> bytes:
        return results.read(entry["id"], path)

    try:
        wrong = discrepancies(entry, read)
    except MiaHubError as error:
        wrong = [f"its scores can't be measured: {error}"]
    for number, row in enumerate(entry["rows"]):
        wrong += [f"{row['attack']}: {text}" for text in _report_differences(row, f"reports/{number:02d}.json", read)]
    return wrong


def _report_differences(row: Mapping[str, Any], path: str, read: Read) -> list[str]:
    try:
        report = json.loads(read(path))
        if report["selection"]["timestep"] != row["timestep"]:
            return [f"its report is of the timestep {report['selection']['timestep']}"]
        return [f"its report has another {figure}" for figure in (*FIGURES, "tpr_at_fpr") if report[figure] != row[figure]]
    except KeyError as error:
        return [f"its report {path} is missing or lacks a part ({error})"]
    except (ValueError, TypeError, RecursionError) as error:
        return [f"its report {path} can't be read ({type(error).__name__})"]


def index_differences(store: Store) -> list[str]:
    """Return where a store's index differs from its files; nothing if there is no index."""
    index = read_index(store)
    present = {match[1] for path in store.files() if (match := ENTRY.fullmatch(path))} if index else set()
    contents = store.read_many(f"results/{id}/entry.json" for id in index)
    differing = [f"{id}: the index has another content" for id, entry in index.items() if contents.get(f"results/{id}/entry.json") != entry]
    return differing + [f"{id}: not in the index" for id in sorted(present - index.keys())]


def verify(ids: Sequence[str], address: str | None, *, write: Write = print) -> int:
    """Verify entries and write the outcome for each.

    Args:
        ids: of the entries; all entries if empty.
        address: of a store of results; by default all that the board shows: the configured store and the entries of the software.
        write: is called with each line.

    Returns:
        The exit status.

    Raises:
        StoreError: if the store can't be read, or an id isn't one.
    """
    for id in ids:
        if not re.fullmatch("[0-9a-f]{16}", id):
            raise StoreError(f"{id[:40]!r} is not an entry's id; an id has 16 hexadecimal digits, and is on the entry's page.")
    if address is not None and not address.startswith("hub:") and not Path(address).is_dir():
        raise StoreError(f"There is no folder {address!r}; give a folder of results, or hub:owner/name.")
    results = (ResultsReader(results_address()) if address is None else ResultsReader(address, None)).read()
    if results.problem and (address is not None or ids):
        raise StoreError(results.problem)
    if results.problem:
        write(f"Only the entries of the software are verified: {results.problem}")
    chosen = [entry for entry in results.entries if not ids or entry["id"] in ids]
    omitted = [entry for entry in results.omitted if not ids or entry.id in ids]
    gone = set(ids) - {entry["id"] for entry in chosen} - {entry.id for entry in omitted}
    status = _verify_each(results, chosen, omitted, write)
    for id in sorted(gone):
        write(f"{id}  is not there")
    if not ids and address is not None:
        for line in index_differences(store_to_read(address)):
            status = DIFFERS
            write(f"{line}; publishing an entry again repairs it")
    if not chosen and not omitted and not gone:
        write("There are no entries.")
    return NOT_THERE if gone else status


def _verify_each(results: Results, chosen: Sequence[Mapping[str, Any]], omitted: Sequence[OmittedEntry], write: Write) -> int:
    status = IN_ORDER
    for entry in chosen:
        wrong = differences(results, entry)
        rows = "1 attack" if len(entry["rows"]) == 1 else f"{len(entry['rows'])} attacks"
        write(
            f"{entry['id']}  {'DIFFERS' if wrong else 'ok'}  {entry['model']['id']} on {entry['split']['name']}, {rows}, {entry['origin']}"
        )
        for line in wrong:
            write(f"    {line}")
        status = DIFFERS if wrong else status
    for broken in omitted:
        write(f"{broken.id}  DIFFERS  in {broken.where}")
        write(f"    {broken.reason}")
        status = DIFFERS
    return status


@any_terminal()
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m leaderboard.verify", description="Compute every figure of entries again from their scores."
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="of an entry, as its page has it (default: all)")
    parser.add_argument(
        "--results",
        metavar="ADDRESS",
        help="a folder, or hub:owner/name (default: all that the board shows: MIA_HUB_RESULTS and shipped entries)",
    )
    args = parser.parse_args(arguments)
    try:
        return verify(args.ids, args.results)
    except StoreError as error:
        print(f"python -m leaderboard.verify: {error}", file=sys.stderr)
        return NOT_THERE


if __name__ == "__main__":
    sys.exit(main())
