"""Speed of the leaderboard's page with many rows: `python -m benchmarks.board [--rows 10000] [--attacks 10]`.

The benchmark writes a store of made-up entries (without scores) to a temporary folder, starts the app on it, and opens the page in headless
Chromium. It prints, in seconds:

- read: reading and checking all entries, and making them rows; done once for each version of the store, in the server
- tab: from the click on the tab until the first table's rows are visible, with that reading in it
- rows: from the click on "All rows" until its rows are visible: the server makes the table, sends it, the browser draws it
- search, choose, sort: from the key or click until the browser has painted the new rows; the median of several

Beside each is the processor time of server and browser together: on a machine that does other work, it is more reliable than the wall
clock.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.running_app import running_app
from leaderboard.requests.request import Request
from leaderboard.stores.store import as_json
from mia_hub.system.streams import any_terminal

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# From an action in the page until the frame after the one that shows its effect, in milliseconds.
TIMED = """async ([action, argument]) => {
    const board = document.querySelector("#board-rows");
    const start = performance.now();
    if (action === "search") {
        const field = board.querySelector("input[type=search]");
        field.value = argument;
        field.dispatchEvent(new Event("input", {bubbles: true}));
    } else if (action === "choose") {
        const select = board.querySelector("select");
        select.selectedIndex = argument;
        select.dispatchEvent(new Event("change", {bubbles: true}));
    } else board.querySelectorAll("th button")[argument].click();
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    return performance.now() - start;
}"""


def made_up_entry(number: int, attacks: int, draw: random.Random) -> dict:
    """Return a valid entry with figures from a random generator."""
    names = [f"sima:timesteps={100 + attack}" for attack in range(attacks)]
    request = Request(
        kind="model", model=f"owner-{number % 97}/model-{number}", revision=COMMIT, split=f"data/split-{number % 20}",
        split_revision=COMMIT, attacks=tuple(names),
    )  # fmt: skip

    def estimate(value: float) -> dict:
        return {"value": value, "low": value * 0.97, "high": value + (1 - value) * 0.03, "n_members": 2500, "n_nonmembers": 2500}

    def row(name: str, place: int) -> dict:
        rates = {"0.01": estimate(draw.random()), "0.001": estimate(draw.random())}
        return {"attack": name, "access": "gray", "queries": 1 + place * 7, "timestep": 100 + place, "auc": estimate(draw.random()),
                "asr": estimate(draw.random()), "tpr_at_fpr": rates, "flags": [], "scores": f"scores/{place:02d}.parquet",
                "sha256": "0" * 64}  # fmt: skip

    return {
        "schema": 1, "id": request.id, "origin": "computed", "request": request.to_dict(),
        "model": {"id": request.model, "revision": COMMIT}, "split": {"name": request.split, "hash": f"sha256:{number % 20:064x}"},
        "blind_auc": estimate(0.5), "flags": [], "rows": [row(name, place) for place, name in enumerate(names)],
        "command": "mia-hub compare", "provenance": {"created": f"2026-01-01T00:00:{number % 60:02d}+00:00"},
    }  # fmt: skip


def fill(folder: Path, rows: int, attacks: int) -> None:
    """Fill a folder, as a store of results, with made-up entries."""
    draw = random.Random(0)
    for number in range(rows // attacks):
        entry = made_up_entry(number, attacks, draw)
        path = folder / "results" / entry["id"] / "entry.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(as_json(entry))


class Stopwatch:
    """Wall-clock seconds, and processor seconds of this process and its children, since the last reading."""

    def __init__(self):
        self.read()

    def read(self) -> tuple[float, float]:
        import psutil

        this, used = psutil.Process(), 0.0
        for process in (this, *this.children(recursive=True)):
            with suppress(psutil.Error):
                times = process.cpu_times()
                used += times.user + times.system
        now, before = (time.perf_counter(), used), getattr(self, "before", (0.0, 0.0))
        self.before = now
        return now[0] - before[0], now[1] - before[1]


def time_reading(folder: Path) -> tuple[float, float]:
    from leaderboard.page.standings import standings_of
    from leaderboard.results.reader import ResultsReader

    watch = Stopwatch()
    standings_of(ResultsReader(str(folder)).read())
    return watch.read()


def time_page(url: str, rows: int) -> dict[str, tuple[float, float]]:
    """Return wall-clock and processor seconds of each step in Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromium:
        raise SystemExit("This benchmark needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(url)
        page.wait_for_load_state("load")
        times = {}
        for name, tab, table in (("tab", "Leaderboard", "attacks"), ("rows", "All rows", "rows")):
            watch = Stopwatch()
            # Until the demo model is loaded, which the server does in the background.
            while page.wait_for_timeout(1000) or watch.read()[1] > 0.1:
                pass
            page.get_by_role("tab", name=tab).click()
            page.locator(f"#board-{table} .mia-line").first.wait_for()
            times[name] = watch.read()
        assert f"{rows:,}"[:2] in page.locator("#board-rows .mia-count").inner_text()
        steps = {
            "search": [("search", word) for word in ("m", "model-1", "model-12 timesteps=103", "data/split-7", "nothing", "")],
            "choose": [("choose", place) for place in (3, 50, 0)],
            "sort": [("sort", column) for column in (3, 3, 0, 2)],
        }
        for name, actions in steps.items():
            watch = Stopwatch()
            wall = statistics.median(page.evaluate(TIMED, list(action)) for action in actions) / 1000
            times[name] = (wall, watch.read()[1] / len(actions))
        browser.close()
    return times


def show(name: str, seconds: tuple[float, float]) -> None:
    print(f"  {name:<7} {seconds[0]:7.3f} {seconds[1]:7.3f}")


@any_terminal()
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.board", description="Times the leaderboard's page.")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--attacks", type=int, default=10, help="rows of each entry (default: 10)")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mia_hub_board_") as temporary:
        folder = Path(temporary) / "results"
        fill(folder, args.rows, args.attacks)
        print(f"{args.rows:,} rows in {args.rows // args.attacks:,} entries; seconds by the wall clock, and of the processor")
        show("read", time_reading(folder))
        with running_app(Path(temporary), MIA_HUB_RESULTS=str(folder)) as app:
            for name, seconds in time_page(app.url, args.rows).items():
                show(name, seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
