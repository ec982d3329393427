"""Where a local model comes from, as its folder says."""

import json

import pytest

from leaderboard.errors import StoreError
from leaderboard.results.entry import parse_entry
from leaderboard.results.training_facts import training_facts
from leaderboard.stores.store import as_json

N = 30


HASH = "sha256:" + "0" * 64


FACTS = {
    "data": "noise-8", "source": "drawn <b>by hand</b>", "licence": "MIT", "members": N, "steps": 7, "recipe": {"batch": 4, "at": [1, 2]},
    "command": "python -m training.demo --out 'runs/<i>x</i>'",
}  # fmt: skip


LONG = "x" * 5000


SAID = {
    "all": (json.dumps(FACTS), "Trained on 30 images of noise-8", FACTS["command"]),
    "little": ('{"data": "d"}', "Trained on d.", ""),
    "nothing": (None, "", ""),
    "no JSON": ("{", "", ""),
    "a list": ("[]", "", ""),
    "too deep": ("[" * 100_000, "", ""),
    "too large": (json.dumps({"data": "d", "source": "x" * 2**20}), "", ""),
    "odd values": ('{"data": {"a": 1}, "command": [["a"]], "recipe": 7, "members": true}', "", "[['a']]"),
    "control characters": (json.dumps({"data": "a\x1b[31m\nb\u202ec", "command": "x\ny"}), "Trained on a [31m b c.", "x y"),
    "long": (json.dumps({"data": LONG, "command": LONG}), "Trained on xxx", "x" * 999 + "…"),
}


@pytest.mark.parametrize("case", SAID)
def test_where_a_model_comes_from_is_one_bounded_line(tmp_path, case):
    content, begins, command = SAID[case]
    if content is not None:
        (tmp_path / "training.json").write_text(content)
    (facts,) = training_facts(["local:x"], [tmp_path])
    assert facts["sentence"].startswith(begins) and bool(facts["sentence"]) == bool(begins) and facts["command"] == command
    for text in facts.values():
        assert text.isprintable() and len(text) <= 1001


FORGED = {
    "no list": {"name": "x"},
    "too many": [{"name": "x", "sentence": "", "command": ""}] * 11,
    "a part more": [{"name": "x", "sentence": "", "command": "", "link": "x"}],
    "a part less": [{"name": "x"}],
    "too long": [{"name": "x", "sentence": LONG, "command": ""}],
    "lines": [{"name": "x", "sentence": "a\nb", "command": ""}],
    "a number": [{"name": "x", "sentence": 7, "command": ""}],
}


@pytest.mark.parametrize("case", FORGED)
def test_an_entry_that_says_it_otherwise_is_left_out(tmp_path, case):
    from support.made_entries import honest_entry

    entry, _ = honest_entry(tmp_path, model="local:tiny", revision=HASH)
    honest = [{"name": "local:tiny", "sentence": "", "command": ""}]
    assert parse_entry(as_json(entry | {"trained": honest}), entry["id"])["trained"] == honest
    with pytest.raises(StoreError, match="trained"):
        parse_entry(as_json(entry | {"trained": FORGED[case]}), entry["id"])
