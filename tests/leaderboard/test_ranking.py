"""Rankings, with answers known beforehand."""

import time

import pytest
from support.made_entries import entry_of

from leaderboard.results import ranking


def test_attacks_are_ranked_over_settings_among_those_of_their_cost():
    entries = [
        entry_of("a/m", "s1", {"sima": 0.9, "pia": 0.8, "random": 0.5, "sima-mc": 0.95}, queries={"sima-mc": 30, "pia": 1}),
        entry_of("a/m", "s2", {"sima": 0.6, "pia": 0.7, "random": 0.5}, id="f" * 16),
    ]
    table = ranking.attack_ranking(entries)
    by_attack = {row["attack"]: row for row in table}
    assert [row["attack"] for row in table] == ["pia", "sima", "random", "sima-mc"]
    assert [by_attack[a]["mean_rank"] for a in ("sima", "pia", "random", "sima-mc")] == [0.25, 0.25, 1, 0.5]
    assert by_attack["sima"]["settings"] == 2 and by_attack["sima-mc"]["budget"] == "6 to 50 queries"
    # The mean of two independent figures of half width .02 has half width .02/√2.
    auc = by_attack["sima"]["auc"]
    assert (auc["value"], auc["n"]) == (pytest.approx(0.75), 2)
    assert (auc["low"], auc["high"]) == (pytest.approx(0.75 - 0.02 / 2**0.5), pytest.approx(0.75 + 0.02 / 2**0.5))


def test_ties_share_their_rank():
    table = ranking.attack_ranking([entry_of("a/m", "s", {"one": 0.7, "two": 0.7, "three": 0.6})])
    assert [row["mean_rank"] for row in table] == [0.25, 0.25, 1]


def test_the_strongest_attack_pays_for_having_been_picked():
    (one,) = ranking.model_ranking([entry_of("a/m", "s", {"sima": 0.7})])
    (many,) = ranking.model_ranking([entry_of("a/m", "s", {f"attack{i}": 0.5 + i / 100 for i in range(21)})])
    assert (one["auc"]["low"], one["auc"]["high"]) == (pytest.approx(0.68), pytest.approx(0.72))
    # 1 - .025/21 of a normal is at 3.037; of .975 at 1.960.
    assert many["auc"]["low"] == pytest.approx(0.7 - 0.02 * 3.0368 / 1.96, abs=1e-4) and many["attacks"] == 21
    leaky = entry_of("b/n", "s", {"sima": 0.8}, id="f" * 16)
    assert [row["model"] for row in ranking.model_ranking([entry_of("a/m", "s", {"sima": 0.7}), leaky])] == ["b/n", "a/m"]


def test_ten_thousand_entries_are_tables_in_under_two_seconds():
    # Not a race against this machine: the bound leaves an order of magnitude.
    entries = [entry_of(f"a/m{i % 500}", f"s{i % 20}", {"sima": 0.5 + i % 50 / 100}, id=f"{i:016d}") for i in range(10_000)]
    started = time.process_time()
    assert len(ranking.attack_ranking(entries)) == 1 and len(ranking.model_ranking(entries)) == 500
    assert time.process_time() - started < 20
