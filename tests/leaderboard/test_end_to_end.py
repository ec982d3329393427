"""From nothing to a row on the board, as somebody would do it who has only the Hub's address: each step in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.running_app import running_app

from mia_hub.splits.loading import load_split

ROOT = Path(__file__).parents[2]
OWNER, RESEARCHER, N = "vera", "rosa", 30
MODEL, SPLIT = f"{OWNER}/mia_hub-demo", f"{RESEARCHER}/clothes"
STORES = {"MIA_HUB_REQUESTS": f"hub:{OWNER}/mia_hub-requests", "MIA_HUB_RESULTS": f"hub:{OWNER}/mia_hub-results"}


@pytest.fixture(scope="module")
def someone(loopback_hub, tmp_path_factory):
    """``someone(token, *words)``: runs mia-hub, or with "leaderboard.…" that module, as whoever has the token; returns what it said."""
    folder = tmp_path_factory.mktemp("elsewhere")

    def run(user: str, *words: str) -> str:
        module = words[0] if words[0].startswith("leaderboard.") else "mia_hub"
        command = [sys.executable, "-m", module, *(words[1:] if module == words[0] else words)]
        environment = os.environ | STORES | {"PYTHONPATH": str(ROOT), "HF_TOKEN": f"hf_{user}", "HF_HOME": str(folder / user)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def prepared(someone, tmp_path_factory):
    """The page, the demo model and the two stores are published; somebody else publishes a split of images that they have."""
    someone(OWNER, "publish", "space", OWNER, "--stores", "--yes")
    someone(OWNER, "publish", "demo-model", OWNER, "--yes")
    images, demo = tmp_path_factory.mktemp("images"), load_split("demo")
    for kind, part in (("member", demo.members), ("nonmember", demo.nonmembers)):
        (images / kind).mkdir()
        for row in range(N):
            part[row].to_pil().save(images / kind / f"{row:03}.png")
    said = someone(RESEARCHER, "make-split", str(images), "--push", SPLIT, "--license", "mit", "--model", MODEL, "--quiet")
    assert f'load_split("{SPLIT}"' in said
    return images


def test_a_request_from_the_page_becomes_a_row_of_the_board(prepared, someone, browser, tmp_path):
    from huggingface_hub import snapshot_download

    folder = snapshot_download(f"{OWNER}/mia_hub", repo_type="space", local_dir=tmp_path / "space")
    environment = STORES | {"PYTHONPATH": folder, "HF_TOKEN": f"hf_{OWNER}"}
    with running_app(tmp_path, checkout=Path(folder), **environment) as app:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(app.url)
        page.get_by_role("tab", name="Submit").click()
        page.locator("#submit-model textarea, #submit-model input").first.fill(MODEL)
        page.locator("#submit-split textarea, #submit-split input").first.fill(SPLIT)
        page.locator("#submit-attacks textarea, #submit-attacks input").first.fill("random sima:timesteps=50,100")
        page.locator("#submit-go-model").click()
        said = page.locator("#submit-answer .mia-verdict")
        said.wait_for(timeout=90_000)
        id = re.search(r"[0-9a-f]{16}", said.inner_text())[0]
        page.locator("#submissions tbody tr", has_text=id).first.wait_for(state="attached", timeout=60_000)
        assert json.loads(someone(RESEARCHER, "submissions", id, "--json"))["status"]["state"] == "PENDING"

        someone(OWNER, "leaderboard.worker", "--once", "--work", str(tmp_path / "work"), "--device", "cpu")
        status = json.loads(someone(RESEARCHER, "submissions", id, "--json"))["status"]
        assert status["state"] == "FINISHED", status

        page.goto(f"{app.url}?entry={id}")
        entry = page.locator("#entry-page")
        entry.get_by_text(MODEL).first.wait_for(timeout=90_000)
        shown = entry.inner_text()
        assert SPLIT in shown and "sima" in shown
        assert f"--model {MODEL}" in page.locator("#entry-command").inner_text().replace("\n", " ")
        page.locator("#board-views").get_by_role("tab", name="All rows").click()
        # Among all rows that come with the software, it needn't be among the first.
        page.locator("#board-rows input[type=search]").fill(MODEL)
        page.locator("#board-rows td", has_text=MODEL).first.wait_for(timeout=30_000)
        page.close()
    assert not problems
    assert "ok" in someone(RESEARCHER, "leaderboard.verify", id).lower()
