"""From nothing to a row on the board, as people do it who have only the Hub's address."""

from __future__ import annotations

import io
import json
import os
import re
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import pytest
from support.running_app import running_app

from leaderboard.verify import main as verify
from leaderboard.worker.command import main as worker
from mia_hub.cli import main as mia_hub_command
from mia_hub.splits.loading import load_split

OWNER, RESEARCHER, N = "vera", "rosa", 30
MODEL, SPLIT = f"{OWNER}/mia_hub-demo", f"{RESEARCHER}/clothes"
STORES = {"MIA_HUB_REQUESTS": f"hub:{OWNER}/mia_hub-requests", "MIA_HUB_RESULTS": f"hub:{OWNER}/mia_hub-results"}


MODULES = {"leaderboard.verify": verify, "leaderboard.worker": worker}


def someone(user: str, *words: str) -> str:
    """Run mia-hub, or one of `MODULES`, as whoever has the token; return its output."""
    run, arguments = (MODULES[words[0]], words[1:]) if words[0] in MODULES else (mia_hub_command, words)
    output = io.StringIO()
    with mock.patch.dict(os.environ, STORES | {"HF_TOKEN": f"hf_{user}"}), redirect_stdout(output):
        assert run(list(arguments)) == 0, f"{' '.join(words)}\n{output.getvalue()}"
    return output.getvalue()


@pytest.fixture(scope="module")
def prepared(loopback_hub, tmp_path_factory):
    """The page, the demo model and the two stores are published; somebody else publishes a split of images that they have."""
    someone(OWNER, "publish", "space", OWNER, "--stores", "--yes")
    someone(OWNER, "publish", "demo-model", OWNER, "--yes")
    images, demo = tmp_path_factory.mktemp("images"), load_split("demo")
    for kind, part in (("member", demo.members), ("nonmember", demo.nonmembers)):
        (images / kind).mkdir()
        for row in range(N):
            part[row].to_pil().save(images / kind / f"{row:03}.png")
    output = someone(RESEARCHER, "make-split", str(images), "--push", SPLIT, "--license", "mit", "--model", MODEL, "--quiet")
    assert f'load_split("{SPLIT}"' in output
    return images


@pytest.mark.slow
def test_a_request_from_the_page_becomes_a_row_of_the_board(prepared, browser, tmp_path):
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
        message = page.locator("#submit-answer .mia-verdict")
        message.wait_for(timeout=90_000)
        id = re.search(r"[0-9a-f]{16}", message.inner_text())[0]
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
