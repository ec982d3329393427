"""`mia-hub check` and `mia-hub check-set`."""

from __future__ import annotations

import csv
import hashlib
import json
import re

import numpy as np
import pytest
from PIL import Image
from support.blobs import blobs
from support.command_line import run

import mia_hub
from mia_hub.cli import main
from mia_hub.references.demo_reference import demo_reference

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


def test_check_for_copies_names_what_it_found(capsys, images, demo):
    mirrored = images / "mirrored.png"
    demo.members[0].to_pil().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    status, out, _ = run(capsys, "check", mirrored, "--copies", "--quiet", "--json", images / "answer.json")
    expected = mia_hub.check_image(mirrored, copies=True, progress=False)
    answer = json.loads((images / "answer.json").read_text())
    assert status == 0 and answer["attack"].startswith("SimACopies(") and answer["images"][0]["candidate"] == expected.candidate
    assert f"Most like a training image {expected.candidate}" in " ".join(out.split())
    with pytest.raises(SystemExit):
        main(["check-set", str(images), "--copies"])


def test_check_json_to_standard_output_is_json_alone(capsys, images):
    status, out, _ = run(capsys, "check", images / "member.png", "--json", "-")
    assert status == 0
    assert json.loads(out)["images"][0]["name"] == "member.png"


@pytest.mark.parametrize(
    ("command", "names", "shown"),
    [
        ("check", ["member.png"], ["Score over the timesteps", "What the verdict is made of", "p-value"]),
        ("check", ["member.png", "other.png"], ["What the verdicts are made of", "2 images checked together"]),
        ("check-set", [], ["What the verdict is made of", "permutation test"]),
    ],
)
def test_an_answer_is_written_with_its_plots(capsys, tmp_path, demo, images, command, names, shown):
    paths = [images / name for name in names]
    for row, image in enumerate(demo.nonmembers[5:11] if not names else []):
        image.to_pil().save(tmp_path / f"{row}.png")
        paths.append(tmp_path / f"{row}.png")
    out = tmp_path / "new" / "answer"
    status, text, err = run(capsys, command, *paths, "--quiet", "--out", out)
    assert status == 0 and f"Written to {out}: {command}.html, {command}.json" in err + text
    page, values = (out / f"{command}.html").read_text(encoding="utf-8"), json.loads((out / f"{command}.json").read_text())
    assert all(one in page for one in shown) and "default-src 'none'" in page
    known = values["reference"]["verdict_scores"] if command == "check" else values["known_scores"]
    assert len(known["edges"]) == len(known["nonmembers"]) + 1 and sum(known["nonmembers"]) > 1900
    status, _, err = run(capsys, command, *paths, "--quiet", "--out", images / "member.png")
    assert status == 2 and "member.png" in err


def test_a_folder_is_checked_as_one_report(capsys, tmp_path, demo, images):
    (images / "deeper").mkdir()
    for row in range(4):
        demo.nonmembers[5 + row].to_pil().save(images / "deeper" / f"{row}.png")
    out = tmp_path / "report"
    status, text, err = run(capsys, "check", "--batch", images, "--quiet", "--out", out)
    assert status == 0 and "broken.png" in err and "Written to" in err
    assert {path.name for path in out.iterdir()} == {"check.json", "check.csv", "check.html", "check.pdf"}
    values, page = json.loads((out / "check.json").read_text()), (out / "check.html").read_text()
    rows = list(csv.DictReader((out / "check.csv").open()))
    files = {row["file"]: row for row in rows}
    assert set(files) == {"member.png", "other.png", "broken.png", *(f"deeper/{row}.png" for row in range(4))}
    assert files["broken.png"]["verdict"] == "unreadable" and rows[-1]["file"] == "broken.png"
    assert files["member.png"]["sha256_of_file"] == hashlib.sha256((images / "member.png").read_bytes()).hexdigest()
    assert files["member.png"]["content_id"] == demo.members[0].id
    by_id = {entry["id"]: entry for entry in values["images"]}
    for row in rows[:-1]:
        assert float(row["p"]) == pytest.approx(by_id[row["content_id"]]["p_value"])
    assert values["set"]["n"] == 6 and values["set"]["sentence"] in " ".join(text.replace("-\n", "-").split())
    assert hashlib.sha256((out / "check.csv").read_bytes()).hexdigest() in page and "broken.png" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "No image was given"),
        (["--batch", "FOLDER", "FOLDER/member.png", "--out", "OUT"], "leave out"),
        (["--batch", "FOLDER"], "with --out"),
        (["--batch", "FOLDER/member.png", "--out", "OUT"], "is not a folder"),
        (["--batch", "FOLDER/none", "--out", "OUT"], "is not a folder"),
        (["--batch", "EMPTY", "--out", "OUT"], "has no images"),
        (["--batch", "BROKEN", "--out", "OUT"], "broken.png"),
    ],
)
def test_a_batch_that_cannot_be_checked_is_refused_before_anything_is_written(capsys, tmp_path, images, arguments, says):
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (images / "broken.png").rename(tmp_path / "broken" / "broken.png")
    places = {"FOLDER": str(images), "OUT": str(tmp_path / "out"), "EMPTY": str(tmp_path / "empty"), "BROKEN": str(tmp_path / "broken")}
    given = [re.sub("FOLDER|OUT|EMPTY|BROKEN", lambda found: places[found[0]], argument) for argument in arguments]
    status, out, err = run(capsys, "check", *given)
    assert status == 2 and out == "" and says in err and not (tmp_path / "out").exists()


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


@pytest.fixture
def part_heic(tmp_path, demo):
    """A folder of six images, a HEIC image, a broken link, and a text."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for row in range(6):
        demo.members[row].to_pil().save(folder / f"{row}.png")
    for name in ("phone.HEIC", "notes.txt"):
        (folder / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    (folder / "lost.png").symlink_to("nowhere.png")
    return folder


@pytest.mark.parametrize("command", ["check", "check-set"])
def test_what_a_folder_leaves_out_is_in_every_answer(capsys, part_heic, command):
    heic = (
        f"1 HEIC image in {part_heic} is left out, as this format is not read (phone.HEIC). Export it as PNG or JPEG, or install what reads"
    )
    link = f"1 link in {part_heic} is left out, as nothing is where it leads (lost.png). Repair or remove it."
    status, out, err = run(capsys, command, part_heic, "--quiet", "--json", part_heic / "answer.json")
    assert status == 2 and "notes.txt" not in out + err
    for sentence in (heic, link):  # the text is wrapped, also within the path
        assert f"mia-hub: {sentence}" in err and "".join(sentence.split()) in "".join(out.split())
    answer = json.loads((part_heic / "answer.json").read_text())
    stated = answer["left_out"] if command == "check" else answer["notes"]
    assert [sentence for sentence in stated if "left out" in sentence][:2] == [link, stated[1]] and stated[1].startswith(heic)


def test_one_image_of_a_folder_that_leaves_others_out_has_them_in_its_answer(capsys, part_heic):
    for row in range(1, 6):
        (part_heic / f"{row}.png").unlink()
    status, out, _ = run(capsys, "check", part_heic, "--quiet")
    assert status == 2 and "Left out" in out and "phone.HEIC" in out


def test_what_the_folder_of_nonmembers_leaves_out_is_said_of_them(capsys, tmp_path, images):
    known = tmp_path / "known"
    known.mkdir()
    for i, image in enumerate(blobs(25, 3, side=28)):
        Image.fromarray(image).save(known / f"{i}.png")
    (known / "raw.NEF").write_bytes(b"raw")
    status, out, err = run(capsys, "check", images / "member.png", "--nonmembers", known, *FEW, "--quiet", "--json", "-")
    sentence = "1 camera raw file of the non-members is left out, as this format is not read (raw.NEF). Develop it to PNG or TIFF in a raw"
    assert status == 0 and err.startswith(f"mia-hub: {sentence}")
    assert json.loads(out)["left_out"][0].startswith(sentence)


def test_a_folder_of_other_formats_alone_is_refused_with_what_to_do(capsys, tmp_path):
    (tmp_path / "a.heic").write_bytes(b"")
    status, out, err = run(capsys, "check", tmp_path)
    assert status == 2 and out == "" and 'pip install "mia_hub[heif]"' in err


def test_an_answer_with_nothing_left_out_says_nothing_of_it(capsys, images):
    (images / "broken.png").unlink()
    status, out, _ = run(capsys, "check", images, "--quiet", "--json", "-")
    assert status == 0 and "left_out" not in json.loads(out)
