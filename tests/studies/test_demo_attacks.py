"""docs/attacks.md is what is stored, and its table of differences names what exists."""

from __future__ import annotations

from mia_hub.attacks import ATTACKS
from mia_hub.attacks.authors import HasAuthorsVariant
from mia_hub.attacks.registry import decomposed
from mia_hub.attacks.spelling import parse_attack
from studies.agreement import CASES
from studies.demo_attacks import DOCS, NAME, page
from studies.differences import DIFFERENCES
from studies.page import read_results


def test_the_page_is_what_is_stored():
    written = (DOCS / f"{NAME}.md").read_text(encoding="utf-8")
    assert written == page(read_results(NAME, DOCS)), "python -m studies.demo_attacks --render writes the page again"


def test_the_stored_differences_are_those_of_all_cases_and_are_rounding():
    stored = read_results(NAME, DOCS)["agreement"]
    assert list(stored) == [case.attack for case in CASES], "python -m studies.agreement measures them again"
    assert all(0 <= stored[case.attack] < case.tolerance for case in CASES)


def test_the_table_of_differences_names_attacks_that_exist_and_all_that_have_a_variant():
    named = {name for row in DIFFERENCES for name in row.attacks.split()}
    with_variant = {name for name, attack in ATTACKS.items() if issubclass(attack, HasAuthorsVariant)}
    assert with_variant <= named <= set(ATTACKS)
    for row in DIFFERENCES:
        assert {decomposed(parse_attack(text))[0].name for text in row.spelled.split()} == set(row.attacks.split())
    # All that was compared with the authors' variant, or needs none, is in the table; Data Forensics without clipping is said in words.
    compared = {case for row in DIFFERENCES for case in row.compared}
    assert {case.attack for case in CASES} - compared == {case.attack for case in CASES if case.attack.endswith("aggregate=none")}
