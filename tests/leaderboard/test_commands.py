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
    command = ["submit", "--model", "demo", "--split", "demo"]
    status, output, _ = run(capsys, *command, "--attacks", "sima", "pia:timesteps=200", "--note", "n", "--offer-result", "--json")
    accepted = json.loads(output)
    assert status == 0 and accepted["new"] and accepted["request"]["push"] and accepted["request"]["submitter"] == "alice"
    assert accepted["request"]["attacks"] == ["pia:timesteps=200", "sima"]
    parquet_of(score_table(), tmp_path / "t.parquet")
    status, output, _ = run(capsys, *command, "--scores", tmp_path / "t.parquet", "--attack-name", "mine")
    assert status == 0 and "is in the queue" in output and "mia-hub submissions" in output
    queue = Queue(open_store(tmp_path / "requests"))
    assert queue.claim("w") == accepted["id"]
    queue.fail(accepted["id"], "w", "It \x1b[31mbroke\ndown.")
    _, output, _ = run(capsys, "submissions")
    assert "number 1 in the queue" in output and "Error: It [31mbroke down." in output and "\x1b" not in output
    _, output, _ = run(capsys, "submissions", accepted["id"])
    for part in ("failed", "pia:timesteps=200, sima", "Before", "claimed by w", "alice", "UTC"):
        assert part in output
    assert json.loads(run(capsys, "submissions", accepted["id"], "--json")[1])["status"]["error"] == "It \x1b[31mbroke\ndown."
    assert {each["id"] for each in json.loads(run(capsys, "submissions", "--json")[1])} > {accepted["id"]}
    assert "made before: waiting" not in run(capsys, *command, "--attacks", "sima", "pia:timesteps=200", "--note", "n")[1]
    assert "made before: waiting" in run(capsys, *command, "--attacks", "sima", "pia:timesteps=200")[1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["submit", "--model", "demo", "--split", "demo", "--attacks", "simma"], "Did you mean 'sima'"),
        (["submit", "--model", "demo", "--split", "demo", "--scores", "/nowhere", "--attack-name", "x"], "No such file"),
        (["submit", "--model", "demo", "--split", "demo", "--attacks", "sima", "--pull-request"], "Submit without one"),
        (["submissions", "0" * 16], "There is no request"),
    ],
)
def test_the_command_line_says_what_is_wrong(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.setenv("MIA_HUB_REQUESTS", str(tmp_path / "requests"))
    status, output, error = run(capsys, *arguments)
    assert status == 2 and output == "" and message in error


def test_what_became_of_an_offer_is_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MIA_HUB_REQUESTS", str(tmp_path))
    queue = Queue(open_store(tmp_path))
    accepted = submit(queue, DEMO | {"push": True}, submitter="alice")
    assert queue.claim("w") == accepted.id and queue.finish(accepted.id, "w", offered="https://hub/x/discussions/1 \x1b[31m<b>\nnone")
    for arguments in (["submissions"], ["submissions", accepted.id]):
        _, output, _ = run(capsys, *arguments)
        assert "Offered" in output and "https://hub/x/discussions/1 [31m<b> none" in output and "\x1b" not in output
    ((state, *_),) = table_rows(queue.listing())
    assert state.endswith("; offered: https://hub/x/discussions/1 [31m<b> none")
