"""A data set has one name in all results, whatever spelling led to it."""

from __future__ import annotations

import pytest
from support.board_setting import write_split
from support.spelled_names import SPELLINGS, SpelledNames

from mia_hub.errors import SplitError
from mia_hub.splits.loading import load_split
from mia_hub.splits.publishing import find_target
from mia_hub.splits.sources import open_source


@pytest.fixture(scope="module")
def names(loopback_hub, tmp_path_factory):
    folder = tmp_path_factory.mktemp("spelled")
    (folder / "model").mkdir()
    (folder / "model" / "README.md").touch()
    return SpelledNames(loopback_hub, folder / "model", folder / "model", write_split(folder / "split"))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_results_name_a_data_set_as_the_hub_spells_it(names, spelling):
    name, id, commit = names.spelled("data set", spelling), names.ids["data set"], names.commits["data set"]
    for revision in (None, commit):
        split = load_split(name, revision=revision)
        assert (split.name, split.revision, split.members[0].width) == (id, commit, 8)
    source, origin = open_source(name)
    assert (source.name, origin.name, origin.revision) == (id, id, commit)


@pytest.mark.parametrize("spelling", [*SPELLINGS, "present"])
def test_a_split_is_pushed_to_the_repository_that_a_spelling_leads_to(names, loopback_hub, spelling, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", f"hf_{names.owners[1]}")
    # It holds a split that nobody here has written.
    with pytest.raises(SplitError, match="holds something other than a split"):
        find_target(names.spelled("data set", spelling))
    new = f"{names.owners[1].upper()}/New"
    target = find_target(new)
    assert (target.name, target.exists) == (f"{names.owners[1]}/New", False)
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    with pytest.raises(SplitError, match=r"logged in as alice and can't write to .*; you can to alice"):
        find_target(names.spelled("data set", spelling))
