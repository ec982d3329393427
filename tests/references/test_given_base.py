"""References and answers of attacks that are given the base: they record it, and fit no other one."""

from __future__ import annotations

import numpy as np
import pytest
from support.known_blobs import nonmembers
from support.tiny_pipelines import save, save_lora

import mia_hub
from mia_hub.checking import treated_images
from mia_hub.checking.checks import get_checker
from mia_hub.defaults import (
    VERDICT_ATTACK,
    VERDICT_ATTACK_GIVEN_BASE,
    VERDICT_ATTACK_GIVEN_BASE_ON_LATENTS,
    VERDICT_ATTACK_ON_LATENTS,
)
from mia_hub.errors import AttackError, SplitError
from mia_hub.references.kept import KeptReferences
from mia_hub.references.reference import Reference
from mia_hub.references.verdict_attack import default_verdict_attack

QUIET = {"progress": False}
ATTACK = mia_hub.get_attack("sima-b", timesteps=(100,))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def repos(tiny_pixel_repo):
    """The folders of a model, of its base, and of another base."""
    return [str(tiny_pixel_repo(seed=seed)) for seed in range(3)]


@pytest.fixture
def any_treatment(monkeypatch):
    """Verdicts on images of any treatment: these are too few non-members to see signs of it."""
    monkeypatch.setattr(treated_images, "_measured", dict)


def test_with_few_nonmembers_the_default_alone_gives_verdicts_given_a_base(repos):
    """sima-b calls blurred non-members evidence too often, so that it must see whether an image was treated; the default holds there."""
    model, base, _ = repos
    answer = mia_hub.check_image(nonmembers(1)[0], model, "sima-b", base=base, nonmembers=nonmembers(), keep=False, **QUIET)
    assert (answer.attack, answer.verdict, answer.p_value) == ("sima-b", "not-comparable", None)
    assert "that shows only with 199 known non-members or more" in answer.sentence and "choose the attack sima-lpb" in answer.sentence
    answer = mia_hub.check_image(nonmembers(1)[0], model, base=base, nonmembers=nonmembers(), keep=False, **QUIET)
    assert answer.attack == "sima-lpb" and answer.p_value is not None


def test_a_reference_says_which_base_it_used_and_answers_for_it_alone(repos, tmp_path, any_treatment):
    model, base, other = repos
    reference = Reference.build(model, nonmembers(), ATTACK, base=base, **QUIET)
    stored = Reference.read(reference.save(tmp_path / "reference"))
    assert stored.profiles.model["base"] == {"id": base, "revision": mia_hub.load_model(base).info.revision, "precision": "float32"}
    image = nonmembers(1)[0]
    answer = mia_hub.check_image(image, model, base=base, reference=stored, **QUIET)
    assert answer.attack == "sima-b" and answer.p_value is not None
    assert any(base in caveat and "in the training set of neither" in caveat for caveat in answer.caveats)
    with pytest.raises(SplitError, match=f"(?s)with its base {base} at sha256.*the base at hand is {other} at sha256.*--base"):
        mia_hub.check_image(image, model, base=other, reference=stored, **QUIET)
    with pytest.raises(AttackError, match=r"none is known\. Give base="):
        mia_hub.check_image(image, model, reference=stored, **QUIET)


def test_references_of_other_bases_have_other_ids(repos):
    model, *bases = repos
    for base in bases:
        Reference.build(model, nonmembers(), ATTACK, base=base, **QUIET)
    kept = KeptReferences.of_this_machine().all()
    assert sorted(each.record.model["base"]["id"] for each in kept) == sorted(bases)
    for base in bases:
        loaded = mia_hub.load_model(model, base=base)
        (fitting,) = KeptReferences.of_this_machine().fitting(loaded)
        assert fitting.record.model["base"]["id"] == base
    assert not list(KeptReferences.of_this_machine().fitting(mia_hub.load_model(model)))


def test_a_reference_without_the_base_stays_what_it_was(repos):
    model, base, _ = repos
    attack = mia_hub.get_attack("sima", timesteps=(100,))
    ids = set()
    for loaded in (mia_hub.load_model(model), mia_hub.load_model(model, base=base)):
        Reference.build(loaded, nonmembers(), attack, **QUIET)
        ids |= {each.id for each in KeptReferences.of_this_machine().all()}
    assert len(ids) == 1 and "base" not in KeptReferences.of_this_machine().all()[0].record.model


def test_a_kept_reference_by_another_attack_that_is_given_this_base_serves(repos, any_treatment):
    model, base, other = repos
    Reference.build(model, nonmembers(), ATTACK, base=base, **QUIET)
    assert get_checker(model, base=base, **QUIET).attack == ATTACK
    unknown = get_checker(model, base=other, **QUIET)
    assert unknown.reference is None and unknown.attack == mia_hub.get_attack("sima-lpb")


def test_with_a_base_verdicts_are_made_by_sima_lpb(repos):
    model, base, _ = repos
    assert get_checker(model, base=base, nonmembers=nonmembers(), **QUIET).attack == mia_hub.get_attack("sima-lpb")
    assert get_checker(model, nonmembers=nonmembers(), **QUIET).attack == mia_hub.get_attack(VERDICT_ATTACK)


def test_a_base_that_the_attack_does_not_use_is_refused(repos):
    model, base, _ = repos
    for call in (
        lambda: mia_hub.check_image(nonmembers(1)[0], model, "sima", base=base, nonmembers=nonmembers(), **QUIET),
        lambda: Reference.build(model, nonmembers(), "sima", base=base, **QUIET),
        lambda: mia_hub.audit(model, "sima", "demo", base=base, **QUIET),
        lambda: mia_hub.compare(model, "demo", ["sima", "pia"], base=base, **QUIET),
    ):
        with pytest.raises(AttackError, match=r"A base was given, and .* the model with none\. Choose 'sima-lpb'"):
            call()


def test_a_base_in_memory_is_used_without_being_asked_for(repos, tmp_path):
    based, plain = mia_hub.load_model(repos[0], base=repos[1]), mia_hub.load_model(repos[0])
    assert default_verdict_attack(based).name == VERDICT_ATTACK_GIVEN_BASE and default_verdict_attack(plain).name == VERDICT_ATTACK
    with_lora = mia_hub.load_model(f"{save('sd1', tmp_path / 'sd1')} + {save_lora('sd1', tmp_path / 'lora')}")
    assert default_verdict_attack(with_lora).name == VERDICT_ATTACK_GIVEN_BASE_ON_LATENTS


def test_checkers_of_other_bases_are_others(repos):
    name, base, other = repos
    model = mia_hub.load_model(name)
    options = {"nonmembers": nonmembers(), "attack": ATTACK} | QUIET
    for subject in (name, model):
        by_name = get_checker(subject, base=base, **options)
        assert get_checker(subject, base=base, **options) is by_name
        assert get_checker(subject, base=other, **options) is not by_name
    based = mia_hub.load_model(model, base=base)
    first = get_checker(based, **options)
    assert get_checker(based, **options) is first
    assert get_checker(mia_hub.load_model(model, base=other), **options) is not first
    answers = [get_checker(model, base=each, **options).judge(nonmembers(1))[0].score for each in (base, other)]
    assert np.isfinite(answers).all() and answers[0] != answers[1]


def test_the_default_depends_on_the_space_that_a_model_works_in(repos, tmp_path):
    latent, pixels = mia_hub.load_model(str(save("sd1", tmp_path / "sd1"))), mia_hub.load_model(repos[0])
    assert default_verdict_attack(latent).name == VERDICT_ATTACK_ON_LATENTS
    assert default_verdict_attack(latent, base_given=True).name == VERDICT_ATTACK_GIVEN_BASE_ON_LATENTS
    assert default_verdict_attack(pixels, timesteps=(40,)) == mia_hub.get_attack(VERDICT_ATTACK, timesteps=(40,))
