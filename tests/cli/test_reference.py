"""`mia-hub reference`, and the verdict on a well-known model in one step."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import PIL.Image
import pytest
from huggingface_hub import hf_hub_download
from support.command_line import run
from support.known_blobs import folder_of, members, nonmembers, parquet_of

ATTACK = ("--attack", "sima", "--set", "timesteps=20,60,100")


@pytest.fixture(scope="module")
def hub(loopback_hub, tiny_pixel_repo):
    loopback_hub.add_repo("model", "known/tiny-ddpm", tiny_pixel_repo())
    loopback_hub.add_repo("model", "known/unknown", tiny_pixel_repo(seed=1))
    loopback_hub.add_repo("dataset", "known/heldout", {"data/test-00000-of-00001.parquet": parquet_of(nonmembers(120))})
    return loopback_hub


@pytest.fixture(autouse=True)
def home(hub, tmp_path, monkeypatch):
    """A fresh home whose table of references names the tiny model."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("MIA_HUB_HOME", str(folder))
    monkeypatch.setenv("HF_TOKEN", "hf_known")
    known = {"models": ["known/tiny-ddpm"], "nonmembers": "known/heldout:test", "limit": 110, "caveats": ["They are blobs."]}
    notes = {"models": ["known/unknown"], "note": "Its training data are not published."}
    (folder / "references.json").write_text(json.dumps({"known": [known, notes]}))
    return folder


@pytest.fixture
def image(tmp_path):
    PIL.Image.fromarray(members()[0]).save(tmp_path / "x.png")
    return tmp_path / "x.png"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_known_model_gets_a_verdict_in_one_step_and_the_second_at_once(capsys, image, hub):
    status, out, err = run(capsys, "check", image, "--model", "known/tiny-ddpm", "--yes")
    assert status == 0 and "Cannot tell: " in out and "They are blobs." in " ".join(out.split())
    assert "A reference of the model known/tiny-ddpm can be built of up to 110 non-members of known/heldout:test" in err
    assert "110 images × " in err and "Nobody has run this yet" in err
    before = len(hub.files_fetched("known/heldout"))
    status, again, err = run(capsys, "check", image, "--model", "known/tiny-ddpm")
    assert (status, err) == (0, "") and again == out and len(hub.files_fetched("known/heldout")) == before


@pytest.mark.parametrize(("answer", "built"), [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False)])
def test_on_a_terminal_the_question_is_put(capsys, monkeypatch, image, answer, built):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    status, out, err = run(capsys, "check", image, "--model", "known/tiny-ddpm")
    assert status == 0 and "Do that now? [y/N]" in err
    assert ("No verdict is possible" in out) != built


def test_without_a_terminal_nothing_is_fetched_unasked(capsys, monkeypatch, image, hub):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    before = len(hub.files_fetched("known/heldout"))
    status, out, err = run(capsys, "check", image, "--model", "known/tiny-ddpm")
    assert status == 0 and "No verdict is possible" in out and "it is done with --yes" in err
    assert len(hub.files_fetched("known/heldout")) == before


def test_for_a_model_without_certain_nonmembers_the_table_says_what_to_do(capsys, image):
    status, out, err = run(capsys, "check", image, "--model", "known/unknown", "--yes")
    assert status == 0 and "Its training data are not published." in err and "No verdict is possible" in out


def test_a_reference_is_built_listed_shown_verified_and_removed(capsys, tmp_path, image):
    source = folder_of(nonmembers(120), tmp_path / "known")
    (source / "drawing.psd").write_bytes(b"8BPS")
    build = ("reference", "build", "--model", "known/tiny-ddpm", "--nonmembers", source, *ATTACK, "--quiet")
    status, out, err = run(capsys, *build, "--stated", "drawn in 2025", "--out", tmp_path / "out", "--push", "known/reference")
    assert status == 0 and "120 images × 3 queries, about " in err and "published as the data set known/reference" in err
    assert "drawing.psd" in err
    assert "120, of 120 images of the folder known; stated: drawn in 2025" in out and "Power unknown" in out
    assert "a score above those of all 120 non-members" in out
    status, listed, _ = run(capsys, "reference", "list")
    id = listed.split()[0]
    assert status == 0 and len(listed.splitlines()) == 1 and "known/tiny-ddpm  sima  120 non-members" in listed
    for name in (id, id[:12], tmp_path / "out", "known/reference"):
        status, shown, _ = run(capsys, "reference", "show", name)
        assert status == 0 and "drawn in 2025" in shown
        status, checked, err = run(capsys, "check", image, "--reference", name)
        assert (status, err) == (0, ""), name
        assert "of 120 images known not to be in the training set" in " ".join(checked.split())
    described = json.loads(run(capsys, "reference", "show", id, "--json")[1])
    card = Path(hf_hub_download("known/reference", "README.md", repo_type="dataset")).read_text(encoding="utf-8")
    for text in (card, *described["source"]["notes"]):
        assert "drawing.psd" in text and str(tmp_path) not in text
    assert (described["n_nonmembers"], described["power_at_p_0.01"], described["smallest_effect"]["n_above"]) == (120, None, 0)
    status, out, _ = run(capsys, "reference", "verify", id, "--quiet")
    assert status == 0 and "20 non-members of the reference were scored again, and agree" in out
    status, out, _ = run(capsys, "reference", "remove", id)
    assert status == 0 and out.startswith("Removed ")
    assert run(capsys, "reference", "verify", id)[0] == 2
    assert "There are no references in" in run(capsys, "reference", "list")[1]
    status, out, _ = run(capsys, "reference", "pull", "known/reference")
    assert status == 0 and "Reference known--reference-" in out


WRONG = {
    "no such source": (("build", "--nonmembers", "nowhere"), "There are no known images in 'nowhere'"),
    "no such reference": (("show", "nothing"), "There is no reference 'nothing' on this machine"),
    "a date that is none": (("build", "--nonmembers", "demo", "--made-after", "soon"), "must be a date such as 2024-05-31"),
    "a name that is none": (("build", "--nonmembers", "demo", "--push", "x"), "of the form 'owner/name'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_can_not_be_done_is_refused_with_the_reason(capsys, case):
    arguments, reason = WRONG[case]
    status, out, err = run(capsys, "reference", *arguments)
    assert (status, out) == (2, "") and reason in err


def test_an_offer_is_of_the_attack_that_was_asked_for(capsys, image):
    status, out, err = run(capsys, "check", image, "--model", "known/tiny-ddpm", "--yes", *ATTACK)
    assert status == 0 and "110 images × 3 queries" in err and "of 110 images known not to be in the training set" in " ".join(out.split())


def test_an_empty_source_is_refused(capsys, image):
    status, _, err = run(capsys, "check", image, "--nonmembers", "")
    assert status == 2 and "got an empty text" in err


def test_a_reference_and_nonmembers_exclude_one_another(capsys, image):
    status, _, err = run(capsys, "check", image, "--reference", "a", "--nonmembers", "b")
    assert status == 2 and "give --reference or --nonmembers, not both" in err


@pytest.mark.parametrize("source", ["known/heldout", "known/heldout:test"])
def test_check_takes_any_source_of_nonmembers(capsys, image, source):
    status, out, _ = run(capsys, "check", image, "--model", "known/unknown", "--nonmembers", source, *ATTACK, "--quiet")
    assert status == 0 and "of 120 images known not to be in the training set" in " ".join(out.split())
