"""The two main paths, `check` and `audit`, in a script and on the command line, on models with known answers and on the demo."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import mia_hub
from mia_hub.auditing.audit import held_out
from mia_hub.auditing.report import AuditReport
from mia_hub.checking.checker import MOST_DECODED, Checker
from mia_hub.checking.checks import get_checker
from mia_hub.checking.demo_reference import DEMO_OBSERVATIONS, DEMO_PROFILES, demo_reference, read_observations
from mia_hub.checking.image_answers import ImageCheck
from mia_hub.cli import parser as cli
from mia_hub.errors import AttackError, MiaHubError, SplitError
from mia_hub.images.sources import as_images
from mia_hub.metrics.p_values import ALPHA, FALSE_DISCOVERY_RATE
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod, training_set_denoiser
from mia_hub.scores import ScoreTable

N = 60


def blobs(n, seed, side=12):
    """Soft grey blobs, one kind of image, uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    centre, width = generator.uniform(3, side - 3, (n, 2, 1, 1)), generator.uniform(2, 4, (n, 1, 1))
    shape = np.exp(-((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2) / width**2)
    return (shape * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def memory():
    """Members, and the perfect memory of them."""
    members = blobs(N, 0)
    x0 = torch.tensor(np.stack([image.resized(12, 12, 1) for image in as_images(members)])).permute(0, 3, 1, 2).double() * 2 - 1
    return members, training_set_denoiser(x0)


SIMA = mia_hub.get_attack("sima", timesteps=(20, 60, 100))


def test_audit_of_a_perfect_memory(memory):
    members, model = memory
    report = mia_hub.audit(model, SIMA, mia_hub.make_split(members, blobs(400, 1)), progress=False)
    assert report.auc.value == 1.0
    assert report.auc.low < 1  # 30 members can't prove perfection
    assert report.tpr_at_fpr[0.01].value == 1.0
    assert report.asr.value == 1.0
    assert report.selection["method"] == "calibration"
    assert (report.auc.n_members, report.auc.n_nonmembers) == (30, 200)
    assert {flag.name for flag in report.flags} == {"few-nonmembers"}
    assert report.blind_auc.low < 0.5 < report.blind_auc.high
    assert report.cost.queries == 460 * 3
    assert report.provenance["versions"]["mia_hub"] == mia_hub.__version__
    assert AuditReport.from_dict(json.loads(report.to_json())) == report


def test_audit_of_held_out_against_held_out_is_chance(memory):
    _, model = memory
    report = mia_hub.audit(model, SIMA, mia_hub.make_split(blobs(300, 2), blobs(300, 3)), progress=False)
    assert report.auc.low < 0.5 < report.auc.high
    assert "distribution-shift" not in {flag.name for flag in report.flags}


def test_audit_flags_a_shift_that_the_model_has_nothing_to_do_with(memory):
    _, model = memory
    report = mia_hub.audit(model, SIMA, mia_hub.make_split(blobs(100, 2) // 2, blobs(100, 3)), progress=False)
    assert "distribution-shift" in {flag.name for flag in report.flags}
    assert report.blind_auc.low > 0.9


def test_audit_refuses_before_any_compute(memory):
    members, _ = memory

    def never(x, t):
        raise AssertionError("the model was queried")

    model = mia_hub.wrap_denoiser(never, [0.9, 0.5], sample_shape=(1, 12, 12))
    attack = mia_hub.get_attack("sima", timesteps=(0, 1))
    split = mia_hub.make_split(members, blobs(60, 1))
    for options, says in (
        ({"attack": SIMA}, "runs from 0 to 1"),
        ({"seed": -1}, "seed must be a whole number from 0 up"),
        ({"device": "cpu"}, "loaded already"),
        ({"timestep": 5}, "not among the scored ones"),
        ({"fprs": (0.001,)}, "At least 1000 non-members"),
        ({"selection": "best"}, "'calibration' or 'oracle'"),
        ({"split": mia_hub.make_split(members, members[:20])}, "both members and non-members"),
        ({"split": mia_hub.make_split(members[:3], blobs(60, 1))}, "too few"),
    ):
        with pytest.raises(MiaHubError, match=says):
            mia_hub.audit(model, **({"attack": attack, "split": split, "progress": False} | options))


def test_check_of_a_perfect_memory(memory):
    members, model = memory
    checker = Checker(model, SIMA, nonmembers=blobs(199, 1), progress=False)
    answers = checker.check(np.concatenate([members[:5], blobs(20, 4)]), progress=False)
    assert [answer.verdict for answer in answers[:5]] == ["evidence"] * 5
    assert all(answer.p_value == 1 / 200 for answer in answers[:5])
    fresh = [answer for answer in answers[5:] if answer.comparable]
    assert len(fresh) >= 18
    assert sum(answer.q_value <= FALSE_DISCOVERY_RATE for answer in fresh) <= 1
    one = checker.check(members[0], progress=False)[0]
    assert (one.verdict, one.q_value, one.p_value <= ALPHA) == ("evidence", None, True)
    assert one.sentence.startswith("Evidence that this image was in the training set: it is more like a training image of the model")
    assert len(one.profile.scores) == len(one.profile.nonmembers.middle) == 3
    assert one.profile.members is None


def test_p_values_of_fresh_nonmembers_are_uniform_or_larger(memory):
    _, model = memory
    checker = Checker(model, SIMA, nonmembers=blobs(199, 1), progress=False)
    p = np.array([a.p_value for a in checker.check(blobs(400, 5), progress=False) if a.comparable])
    assert len(p) > 380
    for level in (0.05, 0.2, 0.5, 0.8):
        # The null set is drawn once: its own sampling error adds to that of the 400.
        assert (p <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) * (1 / len(p) + 1 / 199))


def test_nonmembers_checked_against_themselves_are_left_out(memory):
    _, model = memory
    null = blobs(50, 1)
    answers = Checker(model, SIMA, nonmembers=null, progress=False).check(null, progress=False)
    assert {answer.n_null for answer in answers if answer.comparable} == {49}
    assert min(answer.p_value for answer in answers if answer.comparable) == 1 / 50


def test_copies_among_the_nonmembers_count_once(memory):
    _, model = memory
    null = blobs(25, 1)
    checker = Checker(model, SIMA, nonmembers=np.concatenate([null] * 5), progress=False)
    assert len(checker.reference.null) == 25
    assert "100 copies left out" in checker.reference.source
    assert checker.check(blobs(1, 7), progress=False)[0].n_null == 25
    with pytest.raises(SplitError, match="15 different known non-members"):
        Checker(model, SIMA, nonmembers=np.concatenate([null[:15]] * 5), progress=False)


def test_without_nonmembers_there_is_no_verdict(memory):
    members, model = memory
    answer = mia_hub.check_image(members[0], model, SIMA, progress=False)
    assert (answer.verdict, answer.p_value, answer.comparable) == ("no-null", None, None)
    assert answer.sentence.startswith("No verdict is possible")
    assert answer.timestep == SIMA.default_timestep == 60
    with pytest.raises(SplitError, match=r"19 different known non-members are too few"):
        Checker(model, SIMA, nonmembers=blobs(19, 1))


def test_a_long_series_is_decoded_lazily_and_judged_alike(memory):
    members, model = memory
    checker = Checker(model, SIMA, nonmembers=blobs(60, 1), progress=False)
    images = np.concatenate([members[:4], blobs(MOST_DECODED, 6)])
    long = checker.check(images, progress=False)
    short = checker.check(images[:4], progress=False)
    assert [a.p_value for a in long[:4]] == [a.p_value for a in short]


def overflowing(on_pass=lambda model: None):
    """A model that overflows at one image until it is moved to a wider precision, in which its answers are others."""

    def denoise(x, t):
        on_pass(model)
        narrow = not model.fallbacks
        return torch.where((x[:, :, :1, :1] == 1) & narrow, torch.nan, x.sin() * (1 if narrow else x.mean((1, 2, 3), keepdim=True)))

    def fall_back() -> bool:
        model.fallbacks = {"denoiser": "bfloat16"}
        return True

    model = wrap_denoiser(denoise, ddpm_alphas_cumprod(), sample_shape=(1, 12, 12))
    model.fallbacks, model.fall_back = {}, fall_back
    return model


@pytest.fixture(scope="module")
def dark_and_bright():
    """Images that overflow nowhere, and one that does; and what is said of the first of them in the wider precision."""
    dark, bright = blobs(40, 5) // 2, blobs(1, 6)
    bright[0, 0, 0] = 255
    wide = overflowing()
    wide.fall_back()
    expected = Checker(wide, SIMA, nonmembers=dark[5:], progress=False).check(dark[:2], progress=False)
    narrow = Checker(overflowing(), SIMA, nonmembers=dark[5:], progress=False).check(dark[:2], progress=False)
    assert [check.p_value for check in expected] != [check.p_value for check in narrow]
    return dark, bright, expected


@pytest.mark.parametrize("failure", [KeyboardInterrupt, torch.OutOfMemoryError])
def test_a_reference_that_could_not_be_remade_is_remade_by_the_next_question(dark_and_bright, failure):
    dark, bright, expected = dark_and_bright

    def fail(model):
        if fails and model.fallbacks and checker is not None:
            raise failure

    checker, fails = None, True
    checker = Checker(overflowing(fail), SIMA, nonmembers=dark[5:], batch_size=1, progress=False)
    for _ in range(2):
        with pytest.raises((KeyboardInterrupt, MiaHubError)):
            checker.check(bright, progress=False)
    fails = False
    assert [check.to_dict() for check in checker.check(dark[:2], progress=False)] == [
        check.to_dict() | {"model": checker.model.info.id} for check in expected
    ]


def test_two_who_ask_at_once_are_answered_by_one_reference_in_the_present_precision(dark_and_bright):
    dark, bright, expected = dark_and_bright
    remaking, answered, passes = threading.Event(), threading.Event(), []

    def on_pass(model):
        if model.fallbacks:
            passes.append(threading.current_thread())
            if len(passes) == 8:  # by then the image that overflowed is scored, and the reference is being remade
                remaking.set()
                answered.wait(2)

    checker = Checker(overflowing(on_pass), SIMA, nonmembers=dark[5:], batch_size=1, progress=False)
    first = threading.Thread(target=checker.check, args=(bright,), kwargs={"progress": False})
    first.start()
    assert remaking.wait(60)
    found = checker.check(dark[:2], progress=False)
    answered.set()
    first.join()
    assert [check.p_value for check in found] == [check.p_value for check in expected]
    assert len(passes) == 3 * (2 * 1 + 35 + 1 + 2), "the reference was made once"


def test_answers_survive_their_json_form(memory):
    members, model = memory
    checker = Checker(model, SIMA, nonmembers=blobs(60, 1), progress=False)
    answers = checker.check(members[:2], progress=False)
    found = json.loads(json.dumps(checker.to_dict(answers)))
    assert [ImageCheck.from_entry(entry, found["reference"]) for entry in found["images"]] == answers
    assert found["higher_score_means"] == "more likely a member"
    assert found["reference"]["n_nonmembers"] == 60


# --- the demo -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo():
    return mia_hub.load_split("demo")


def test_the_demo_is_as_strong_as_its_card_says_and_its_control_is_chance(demo):
    from mia_hub.defaults import DEMO_FOLDER

    report, control = (AuditReport.from_dict(json.loads((DEMO_FOLDER / f"{n}.json").read_text())) for n in ("audit", "held_out_audit"))
    assert report.auc.value >= 0.85
    assert report.tpr_at_fpr[0.01].value >= 0.15
    assert report.auc.n_nonmembers >= 2000
    assert "distribution-shift" not in {flag.name for flag in report.flags}
    assert control.auc.low < 0.5 < control.auc.high
    assert (control.split["name"], control.split["hash"]) == (held_out(demo).name, held_out(demo).hash)
    # The figures are those of the stored scores, recomputed.
    again = mia_hub.measure(ScoreTable.from_parquet(DEMO_FOLDER / "scores.parquet"))
    assert again.at_selected.auc == report.auc
    assert again.selection == report.selection
    card = (DEMO_FOLDER / "README.md").read_text()
    assert str(report.auc) in card and str(control.auc) in card
    assert not [path.name for path in DEMO_FOLDER.iterdir() if path.name != "README.md" and f"`{path.name}" not in card]
    assert sum(path.stat().st_size for path in DEMO_FOLDER.rglob("*") if path.is_file()) <= 20e6


def test_stored_scores_are_what_the_demo_model_gives(demo):
    table = ScoreTable.from_parquet(mia_hub.defaults.DEMO_FOLDER / "scores.parquet")
    rows = [0, 511, 512, 4511]
    images = [demo.images[i] for i in rows]
    assert [table.ids[i] for i in rows] == [image.id for image in images]
    model = mia_hub.load_model("demo", device="cpu")
    assert table.model["revision"] == model.info.revision
    fresh = mia_hub.get_attack("sima").score(model, images, progress=False)
    assert fresh.attack == table.attack
    np.testing.assert_allclose(fresh.scores, table.scores[rows], rtol=1e-5)


def test_members_and_nonmembers_of_the_demo_are_disjoint_and_counted(demo):
    assert (len(demo.members), len(demo.nonmembers)) == (512, 4000)
    members, others = ({image.id for image in part} for part in (demo.members, demo.nonmembers))
    assert (len(members), len(others)) == (512, 4000)
    assert not members & others


def test_demo_answers(demo):
    """A photograph is not comparable; members, as a set, are found; known non-members seldom are."""
    checker = get_checker("demo")
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    answer = checker.check(photo, progress=False)[0]
    assert (answer.comparable, answer.p_value, answer.verdict) == (False, None, "not-comparable")
    assert "scaled from 400×300" in answer.notes[0]
    reference = demo_reference()
    assert len(reference.null) == 2000
    p = np.array([reference.null.judge(seen).p_value for seen in reference.observations[reference.profiles.is_member == 1]])
    assert len(p) == 256 and np.median(p) < 0.01
    assert reference.power.value == (p <= ALPHA).mean() >= 0.6
    assert get_checker("demo") is checker


@pytest.mark.parametrize("plain", [True, False])
def test_p_values_of_the_demos_other_nonmembers_are_uniform_or_larger(demo, plain):
    """Non-members of the calibration part, against the null set of the 2,000 reported ones."""
    reference = demo_reference(plain=plain)
    table = ScoreTable.from_parquet(DEMO_PROFILES)
    observed = table.at(reference.timestep) if plain else read_observations(DEMO_OBSERVATIONS)[1]
    known = set(reference.profiles.ids)
    rows = [row for row, (i, m) in enumerate(zip(table.ids, table.is_member)) if m == 0 and i not in known]
    assert len(rows) == 2000
    p = np.array([reference.null.judge(observed[row]).p_value for row in rows[::2]])
    for level in (0.01, 0.05, 0.2, 0.5, 0.8):
        assert (p <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) * (1 / 1000 + 1 / 2000))


@pytest.mark.parametrize("attack", ["sima", "sima-cn"])
def test_a_stored_reference_is_what_would_be_computed(demo, attack):
    """What was stored with the demo agrees with the model's answer now."""
    reference = demo_reference(plain=attack == "sima")
    checker = get_checker("demo", attack)
    assert checker.reference.attack == reference.attack
    rows = [row for row, m in enumerate(reference.profiles.is_member) if m == 0][:8]
    images = [reference.images[i] for i in range(8)]
    assert [image.id for image in images] == [reference.profiles.ids[row] for row in rows]
    for answer, row in zip(checker.check(images, progress=False), rows):
        judged = reference.null.judge(reference.observations[row], reference.profiles.ids[row])
        assert answer.score == pytest.approx(judged.score, rel=1e-3, abs=1e-3)
        assert answer.p_value == pytest.approx(judged.p_value, abs=0.01)


# --- the command line -----------------------------------------------------------------------------------------------------------


def test_check_set_prints_one_answer(tmp_path, demo, capsys):
    reported = set(demo_reference().profiles.ids)
    members = [image for image in demo.members if image.id in reported][:12]
    for i, image in enumerate(members):
        image.to_pil().save(tmp_path / f"{i}.png")
    assert cli.main(["check-set", str(tmp_path), "--quiet", "--json", str(tmp_path / "answer.json")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("Evidence that images of this set were in the training set: as a set, the 12 images look more like")
    assert "Estimated share of training images" in out and "What this does not mean" in out
    found = json.loads((tmp_path / "answer.json").read_text())
    assert found["p_value"] < 0.001 and found["n"] == len(found["scores"]) == 12
    assert cli.main(["check-set", str(tmp_path / "0.png"), "--quiet"]) == 2
    assert "One image is too few for a set" in capsys.readouterr().err


@pytest.fixture
def images(tmp_path, demo):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in (("member.png", demo.members[0]), ("other.png", demo.nonmembers[0])):
        image.to_pil().save(folder / name)
    (folder / "broken.png").write_bytes((folder / "member.png").read_bytes()[:80])
    return folder


def run(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_check_prints_the_answer(capsys, images):
    status, out, err = run(capsys, "check", images / "member.png")
    expected = mia_hub.check_image(images / "member.png")
    assert (status, err) == (0, "")
    assert " ".join(out.split()).find(expected.sentence) > 0
    assert "What this does not mean" in out


def test_check_of_a_folder_goes_on_past_a_broken_file_and_says_so(capsys, images):
    status, out, err = run(capsys, "check", images, "--json", images / "found.json")
    assert status == 2
    assert "broken.png" in err and "damaged or cut short" in err
    assert "member.png" in out and "other.png" in out
    found = json.loads((images / "found.json").read_text())
    assert [entry["name"] for entry in found["images"]] == ["member.png", "other.png"]
    assert all(0 < entry["p_value"] <= entry["q_value"] <= 1 for entry in found["images"])


def test_check_json_to_standard_output_is_json_alone(capsys, images):
    status, out, _ = run(capsys, "check", images / "member.png", "--json", "-")
    assert status == 0
    assert json.loads(out)["images"][0]["name"] == "member.png"


def test_audit_writes_its_reports(capsys, tmp_path):
    out_folder = tmp_path / "out"
    settings = ("--limit", 40, "--set", "timesteps=60,100", "p=2", "--quiet", "--out", out_folder)
    status, out, _ = run(capsys, "audit", *settings)
    assert status == 0
    assert {path.name for path in out_folder.iterdir()} == {"report.json", "report.md", "report.html", "scores.parquet"}
    report = AuditReport.from_dict(json.loads((out_folder / "report.json").read_text()))
    assert report.attack == "SimA(timesteps=(60, 100), p=2, input='clean')"
    assert report.to_markdown() in out
    again = mia_hub.measure(ScoreTable.from_parquet(out_folder / "scores.parquet"))
    assert again.at_selected.auc == report.auc
    page = (out_folder / "report.html").read_text()
    assert "<svg" in page and "<script" not in page


def test_an_audit_that_comes_to_nothing_leaves_no_folder(capsys, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "a" / "b", tmp_path / "mine"):
        assert run(capsys, "audit", "--split", "nonsense", "--out", out)[0] == 2

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mia_hub.auditing.audit.audit", interrupted)
    assert run(capsys, "audit", "--out", tmp_path / "c")[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_interrupted_audit_goes_on(capsys, tmp_path, monkeypatch):
    kind, passes, last = type(mia_hub.load_model("demo")), [], 5
    real = kind.predict_noise

    def predict(self, x, t, cond=None):
        passes.append(len(x))
        if len(passes) == last:
            raise KeyboardInterrupt
        return real(self, x, t, cond)

    monkeypatch.setattr(kind, "predict_noise", predict)
    settings = ("audit", "--limit", 40, "--set", "timesteps=60,100", "--batch-size", 16, "--no-shift-check", "--quiet")
    out = tmp_path / "out"
    assert run(capsys, *settings, "--out", out)[::2] == (
        130, f"\nmia-hub: interrupted; finished work is in {out}. The same command resumes it.\n"
    )  # fmt: skip
    # Five batches of two passes each; two batches were finished.
    assert run(capsys, *settings, "--out", out)[0] == 0 and passes == [16] * (5 + 6)
    assert run(capsys, *settings, "--out", tmp_path / "undisturbed")[0] == 0
    found, expected = (ScoreTable.from_parquet(folder / "scores.parquet") for folder in (out, tmp_path / "undisturbed"))
    assert found.scores.tobytes() == expected.scores.tobytes() and not (out / "unfinished").exists()
    # The scores are there: another look at them asks nothing.
    assert run(capsys, *settings, "--selection", "oracle", "--out", out)[0] == 0 and len(passes) == 5 + 6 + 10


def test_a_broken_nonmember_is_named_and_left_out(capsys, tmp_path, images):
    known = tmp_path / "known"
    known.mkdir()
    for i, image in enumerate(blobs(25, 3, side=28)):
        Image.fromarray(image).save(known / f"{i}.png")
    (known / "broken.png").write_bytes((images / "broken.png").read_bytes())
    status, out, err = run(capsys, "check", images / "member.png", "--nonmembers", known, "--attack", "sima", "--quiet", "--json", "-")
    assert status == 0 and err.startswith("mia-hub: left out of the non-members: broken.png: ") and err.count("\n") == 1
    assert json.loads(out)["reference"]["n_nonmembers"] == 25


def test_attacks_lists_parameters(capsys):
    status, out, _ = run(capsys, "attacks")
    assert status == 0
    for text in ("sima ", "sima-mc ", "gray-box", "draws = 10", "input = 'clean'"):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "nowhere.png"], "there is no file nowhere.png"),
        (["check", "IMAGE", "--model", "nonsense"], "There is no model 'nonsense'"),
        (["check", "IMAGE", "--model", "alice/absent"], "The Hub has no model 'alice/absent'"),
        (["check", "IMAGE", "--attack", "simaa"], "Did you mean 'sima'"),
        (["check", "IMAGE", "--set", "p"], "NAME=VALUE"),
        (["check", "IMAGE", "--set", "draws=3"], "no parameter 'draws'"),
        (["check", "IMAGE", "--nonmembers", "FOLDER"], "has no images"),
        (["check", "IMAGE", "--device", "warp"], "device 'warp' is not available"),
        (["check", "FOLDER"], "has no images"),
        (["audit", "--split", "nonsense"], "There is no split 'nonsense'"),
        (["audit", "--limit", "1"], "limit must be a whole number from 2 up"),
        (["audit", "--limit", "30", "--seed", "-1"], "seed must be a whole number from 0 up"),
        (["audit", "--limit", "40", "--fpr", "0.001"], "At least 1000 non-members"),
        (["audit", "--timestep", "5"], "not among the scored ones"),
        (["audit", "--out", "IMAGE/x"], "can't be made"),
        (["audit", "--revision", "main"], "is for models on the Hub"),
    ],
)
def test_mistakes_get_one_line_and_status_2(capsys, tmp_path, images, arguments, says):
    (tmp_path / "empty").mkdir()
    known = {"IMAGE": images / "member.png", "FOLDER": tmp_path / "empty", "IMAGE/x": images / "member.png" / "x"}
    status, out, err = run(capsys, *(known.get(argument, argument) for argument in arguments), "--quiet")
    assert (status, out) == (2, "")
    assert says in err
    assert err.startswith("mia-hub: ") and err.count("\n") == 1


def test_module_and_console_script_are_the_same_program():
    for command in ([sys.executable, "-m", "mia_hub"], [os.path.join(os.path.dirname(sys.executable), "mia-hub")]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"mia-hub {mia_hub.__version__}\n"


def test_a_reader_that_goes_away_causes_no_traceback():
    done = subprocess.run(f"{sys.executable} -m mia_hub attacks | head -n 1", shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_the_demos_own_nonmembers_serve_the_demo_alone():
    """Asked at another size, or under its name alone, it is another model."""
    image = mia_hub.load_split("demo").nonmembers[0]
    enlarged = mia_hub.load_model("demo", size=56, device="cpu")
    namesake = mia_hub.wrap_denoiser(lambda x, t: x, [0.9] * 300, sample_shape=(1, 28, 28), name="demo")
    for model in (enlarged, namesake):
        assert Checker(model, "sima", progress=False).check([image])[0].p_value is None


def test_what_chose_on_the_calibration_part_is_not_reported_on_it():
    split = mia_hub.load_split("demo", limit=48)
    model = mia_hub.load_model("demo", device="cpu")
    attack = mia_hub.get_attack("sima-cn", timesteps=(100,))
    report = mia_hub.audit(model, attack, split, timestep=100, shift_check=False, progress=False)
    assert report.scores.chosen and (report.auc.n_members, report.auc.n_nonmembers) == (24, 24)
    plain = mia_hub.audit(model, mia_hub.get_attack("sima", timesteps=(100,)), split, timestep=100, shift_check=False, progress=False)
    assert (plain.auc.n_members, plain.auc.n_nonmembers) == (48, 48)


@pytest.mark.parametrize("labels", [[2, 0], [0.7, 1], "01", [1]])
def test_labels_are_checked_before_anything_is_asked(labels):
    model = mia_hub.wrap_denoiser(lambda *_: pytest.fail("the model was queried"), [0.9, 0.5], sample_shape=(1, 12, 12))
    with pytest.raises(AttackError, match="is_member"):
        mia_hub.get_attack("sima", timesteps=(1,)).score(model, [np.zeros((12, 12), np.uint8)] * 2, is_member=labels)


def test_no_image_is_overwritten_by_an_answer(tmp_path, capsys):
    victim = tmp_path / "victim.png"
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(victim)
    before = victim.read_bytes()
    assert cli.main(["check", "--json", str(victim), str(victim)]) == 2
    assert "is not overwritten" in capsys.readouterr().err and victim.read_bytes() == before


def test_captions_for_the_nonmembers_of_an_unconditional_model_are_refused():
    with pytest.raises(MiaHubError, match="takes no captions"):
        Checker("demo", nonmember_captions=["a"], progress=False)


@pytest.mark.parametrize(
    "label, said", [(1, "known to be in the training set"), (0, "known not to be in the training set, and was not compared")]
)
def test_a_image_that_the_answer_is_known_of_is_told_so(label, said):
    from mia_hub.checking.demo_reference import demo_reference

    profiles, split = demo_reference().profiles, mia_hub.load_split("demo")
    known = {sample for sample, own in zip(profiles.ids, profiles.is_member) if own == label}
    image = next(one for one in (split.members if label else split.nonmembers) if one.id in known)
    assert said in mia_hub.check_image(image, progress=False).notes[0]
