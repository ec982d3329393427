"""`mia-hub check` and `mia-hub check-set`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from support.blobs import blobs
from support.command_line import run

import mia_hub
from mia_hub.checking.demo_reference import demo_reference
from mia_hub.cli import main

FEW = ("--attack", "sima", "--set", "timesteps=50,100")


@pytest.fixture(scope="module")
def demo():
    return mia_hub.load_split("demo")


@pytest.fixture
def images(tmp_path, demo):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in (("member.png", demo.members[0]), ("other.png", demo.nonmembers[0])):
        image.to_pil().save(folder / name)
    (folder / "broken.png").write_bytes((folder / "member.png").read_bytes()[:80])
    return folder


def test_check_prints_the_answer(capsys, images):
    status, out, err = run(capsys, "check", images / "member.png", "--quiet")
    expected = mia_hub.check_image(images / "member.png")
    assert (status, err) == (0, "")
    assert " ".join(out.split()).find(expected.sentence) > 0
    assert "What this does not mean" in out


def test_check_of_a_folder_goes_on_past_a_broken_file_and_says_so(capsys, images):
    status, out, err = run(capsys, "check", images, "--json", images / "answers.json")
    assert status == 2
    assert "broken.png" in err and "damaged or cut short" in err
    assert "member.png" in out and "other.png" in out
    answer = json.loads((images / "answers.json").read_text())
    assert [entry["name"] for entry in answer["images"]] == ["member.png", "other.png"]
    assert all(0 < entry["p_value"] <= entry["q_value"] <= 1 for entry in answer["images"])


def test_check_json_to_standard_output_is_json_alone(capsys, images):
    status, out, _ = run(capsys, "check", images / "member.png", "--json", "-")
    assert status == 0
    assert json.loads(out)["images"][0]["name"] == "member.png"


def test_a_broken_nonmember_is_named_and_left_out(capsys, tmp_path, images):
    known = tmp_path / "known"
    known.mkdir()
    for i, image in enumerate(blobs(25, 3, side=28)):
        Image.fromarray(image).save(known / f"{i}.png")
    (known / "broken.png").write_bytes((images / "broken.png").read_bytes())
    status, out, err = run(capsys, "check", images / "member.png", "--nonmembers", known, *FEW, "--quiet", "--json", "-")
    assert status == 0 and err.startswith("mia-hub: left out of the non-members: broken.png: ") and err.count("\n") == 1
    assert json.loads(out)["reference"]["n_nonmembers"] == 25


def test_no_image_is_overwritten_by_an_answer(tmp_path, capsys):
    victim = tmp_path / "victim.png"
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(victim)
    before = victim.read_bytes()
    assert main(["check", "--json", str(victim), str(victim)]) == 2
    assert "is not overwritten" in capsys.readouterr().err and victim.read_bytes() == before


def test_check_set_prints_one_answer(tmp_path, demo, capsys):
    reported = set(demo_reference().profiles.ids)
    members = [image for image in demo.members if image.id in reported][:12]
    for i, image in enumerate(members):
        image.to_pil().save(tmp_path / f"{i}.png")
    assert main(["check-set", str(tmp_path), "--quiet", "--json", str(tmp_path / "answer.json")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("Evidence that images of this set were in the training set: as a set, the 12 images look more like")
    assert "Estimated share of training images" in out and "What this does not mean" in out
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["p_value"] < 0.001 and answer["n"] == len(answer["scores"]) == 12
    assert main(["check-set", str(tmp_path / "0.png"), "--quiet"]) == 2
    assert "One image is too few for a set" in capsys.readouterr().err


def test_a_set_says_which_images_it_is_of_and_how_many_files_were_no_images(tmp_path, capsys):
    part = mia_hub.load_split("demo").members
    for row in range(5):
        part[row].to_pil().save(tmp_path / f"{row}.png")
    (tmp_path / "5.png").write_bytes(b"no image")
    assert main(["check-set", str(tmp_path), "--json", "-", "--quiet"]) == 2
    output = capsys.readouterr()
    answer = json.loads(output.out)
    assert [name.rpartition("/")[2] for name in answer["names"]] == [f"{row}.png" for row in range(5)]
    assert answer["notes"][-1] == "1 file could not be read, and is not part of the set."
