"""`mia-hub submit` and `mia-hub submissions`."""

import json

import pytest
from support.made_requests import DEMO, parquet_of, run, score_table, submit

from leaderboard.requests.queue import Queue
from leaderboard.requests.submission_text import table_rows
from leaderboard.stores.opening import open_store


def test_the_command_line_submits_and_follows(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MIA_HUB_REQUESTS", str(tmp_path / "requests"))
    monkeypatch.setenv("LOGNAME", "alice")
    assert "Nothing was submitted yet" in run(capsys, "submissions")[1]
    asked = ["submit", "--model", "demo", "--split", "demo"]
    status, said, _ = run(capsys, *asked, "--attacks", "sima", "pia:timesteps=200", "--note", "n", "--offer-result", "--json")
    made = json.loads(said)
    assert status == 0 and made["new"] and made["request"]["push"] and made["request"]["submitter"] == "alice"
    assert made["request"]["attacks"] == ["pia:timesteps=200", "sima"]
    parquet_of(score_table(), tmp_path / "t.parquet")
    status, said, _ = run(capsys, *asked, "--scores", tmp_path / "t.parquet", "--attack-name", "mine")
    assert status == 0 and "is in the queue" in said and "mia-hub submissions" in said
    queue = Queue(open_store(tmp_path / "requests"))
    assert queue.claim("w") == made["id"]
    queue.fail(made["id"], "w", "It \x1b[31mbroke\ndown.")
    _, said, _ = run(capsys, "submissions")
    assert "number 1 in the queue" in said and "Error: It [31mbroke down." in said and "\x1b" not in said
    _, said, _ = run(capsys, "submissions", made["id"])
    for part in ("failed", "pia:timesteps=200, sima", "Before", "claimed by w", "alice", "UTC"):
        assert part in said
    assert json.loads(run(capsys, "submissions", made["id"], "--json")[1])["status"]["error"] == "It \x1b[31mbroke\ndown."
    assert {each["id"] for each in json.loads(run(capsys, "submissions", "--json")[1])} > {made["id"]}
    assert "made before: waiting" not in run(capsys, *asked, "--attacks", "sima", "pia:timesteps=200", "--note", "n")[1]
    assert "made before: waiting" in run(capsys, *asked, "--attacks", "sima", "pia:timesteps=200")[1]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["submit", "--model", "demo", "--split", "demo", "--attacks", "simma"], "Did you mean 'sima'"),
        (["submit", "--model", "demo", "--split", "demo", "--scores", "/nowhere", "--attack-name", "x"], "No such file"),
        (["submit", "--model", "demo", "--split", "demo", "--attacks", "sima", "--pull-request"], "Submit without one"),
        (["submissions", "0" * 16], "There is no request"),
    ],
)
def test_the_command_line_says_what_is_wrong(tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.setenv("MIA_HUB_REQUESTS", str(tmp_path / "requests"))
    status, said, error = run(capsys, *arguments)
    assert status == 2 and said == "" and says in error


def test_what_became_of_an_offer_is_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MIA_HUB_REQUESTS", str(tmp_path))
    queue = Queue(open_store(tmp_path))
    made = submit(queue, DEMO | {"push": True}, submitter="alice")
    assert queue.claim("w") == made.id and queue.finish(made.id, "w", offered="https://hub/x/discussions/1 \x1b[31m<b>\nnone")
    for arguments in (["submissions"], ["submissions", made.id]):
        _, said, _ = run(capsys, *arguments)
        assert "Offered" in said and "https://hub/x/discussions/1 [31m<b> none" in said and "\x1b" not in said
    ((state, *_),) = table_rows(queue.listing())
    assert state.endswith("; offered: https://hub/x/discussions/1 [31m<b> none")
