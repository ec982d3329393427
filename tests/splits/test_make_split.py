"""From a source to a published split and back: the same images, captions, classes and hash, and what is refused on the way."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import HfApi
from PIL import Image

import mia_hub
from mia_hub.auditing.audit import held_out
from mia_hub.auditing.compare import compare
from mia_hub.cli import parser as cli
from mia_hub.errors import SplitError
from mia_hub.images.image import encoded_file
from mia_hub.images.sources import as_images
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.splits import writing as split_writing
from mia_hub.splits.card import SplitRecord, card_text
from mia_hub.splits.drawing import decode_split, draw_split
from mia_hub.splits.loading import load_split
from mia_hub.splits.member_split import make_split
from mia_hub.splits.origins import Origin
from mia_hub.splits.publishing import find_target
from mia_hub.splits.sources import Pool
from mia_hub.splits.writing import write_split

N = 40


def png(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)


def as_folder(tmp_path, _) -> list[str]:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, pixels in enumerate(noise(N)):
        # JPEG and PNG: the file itself must be kept, as another encoder would change the pixels.
        Image.fromarray(pixels).save(folder / f"{i:02}.{'jpg' if i % 2 else 'png'}")
    rows = [{"file_name": path.name, "text": f"text {path.stem}", "class": int(path.stem) % 3} for path in sorted(folder.iterdir())]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [str(folder)]


def as_parquet(tmp_path, _, name="train") -> list[str]:
    columns = {
        "img": [{"bytes": png(pixels), "path": f"{i}.png"} for i, pixels in enumerate(noise(N))],
        "text": [[f"text {i:02}", "another one"] for i in range(N)],
        "label": [i % 3 for i in range(N)],
    }
    table = datasets.Dataset.from_dict(columns).cast_column("img", datasets.Image())
    table = table.cast_column("label", datasets.ClassLabel(names=["cat", "dog", "cow"]))
    table.to_parquet(tmp_path / f"{name}-00000-of-00001.parquet", batch_size=7)
    return [str(tmp_path / f"{name}-00000-of-00001.parquet"), "--class-column", "label"]


def on_the_hub(tmp_path, hub) -> list[str]:
    as_parquet(tmp_path / "hub", hub)
    as_parquet(tmp_path / "hub", hub, "test")
    hub.add_repo("dataset", "alice/source", {f"data/{p.name}": p.read_bytes() for p in (tmp_path / "hub").iterdir()} | {
        "README.md": "---\nlicense: cc-by-4.0\n---\n"
    })  # fmt: skip
    return ["alice/source", "--class-column", "label", "--image-column", "img"]


@pytest.fixture
def logged_in(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_alice")


@pytest.fixture(autouse=True)
def forget(loopback_hub):
    yield
    for kind, name in list(loopback_hub._repos):
        if name in ("alice/source", "alice/split", "alice/other", "alice/several", "alice/published"):
            loopback_hub.delete_repo(kind, name)


def run(*words: str, capsys=None) -> tuple[int, str, str]:
    code = cli.main(["make-split", *map(str, words), "--quiet"])
    said = capsys.readouterr()
    return code, said.out, said.err


# What another process finds in published splits.
READ = """
import json, sys, datasets, mia_hub
found = {}
for name in sys.argv[1:]:
    split = mia_hub.load_split(name)
    whole = datasets.load_dataset(name)
    streamed = datasets.load_dataset(name, streaming=True)
    found[name] = {
        "hash": split.hash, "ids": [image.id for image in split.images], "captions": list(split.captions), "classes": list(split.classes),
        "revision": split.revision, "splits": {name: len(part) for name, part in whole.items()},
        "names": {name: part.features["label"].names for name, part in {**whole, **streamed}.items()},
        "labels": {name: sorted({row["label"] for row in part}) for name, part in streamed.items()},
        "sizes": sorted({row["image"].size for part in streamed.values() for row in part}),
    }
print(json.dumps(found))
"""
SOURCES = {"alice/of-a-folder": as_folder, "alice/of-parquet": as_parquet, "alice/of-the-hub": on_the_hub}


@pytest.fixture(scope="module")
def published(tmp_path_factory, loopback_hub) -> dict[str, dict]:
    """A split of each source, in a folder and on the Hub."""
    made = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_TOKEN", "hf_alice")
        for name, source in SOURCES.items():
            folder = tmp_path_factory.mktemp("source")
            words = [*source(folder, loopback_hub), "--members", "8", "--nonmembers", "9", "--seed", "5", "--no-shift-check", "--quiet"]
            out, options = io.StringIO(), ["--license", "cc0-1.0", "--model", "alice/my-model"]
            with contextlib.redirect_stdout(out):
                assert cli.main(["make-split", *words, "--out", str(folder / "out"), "--push", name, *options]) == 0
            made[name] = {"source": words[0], "folder": folder, "out": out.getvalue()}
        made["alice/of-the-hub"]["commit"] = HfApi().dataset_info("alice/source").sha
        done = subprocess.run([sys.executable, "-c", READ, *SOURCES], capture_output=True, text=True, check=True)
    for name, found in json.loads(done.stdout.splitlines()[-1]).items():
        made[name] |= found
    yield made
    for name in SOURCES:
        loopback_hub.delete_repo("dataset", name)


@pytest.mark.parametrize("name", SOURCES)
def test_there_and_back(published, name):
    found, out = published[name], published[name]["folder"] / "out"
    here = load_split(out)
    assert found["hash"] == here.hash and here.hash in found["out"]
    assert f'load_split("{name}", revision="{found["revision"]}")' in found["out"]
    assert found["splits"] == {"member": 8, "nonmember": 9} and found["sizes"] == [[9, 9]]
    assert found["names"] == {"member": ["nonmember", "member"], "nonmember": ["nonmember", "member"]}
    assert found["labels"] == {"member": [1], "nonmember": [0]}
    # Every image with its own caption and class, and the very file that it came in.
    if SOURCES[name] is as_folder:
        files = [path.read_bytes() for path in sorted(Path(found["source"]).iterdir()) if path.suffix != ".jsonl"]
    else:
        files = [png(pixels) for pixels in noise(N)]
    number = {image.id: i for i, image in enumerate(as_images(files))}
    rows = [number[id] for id in found["ids"]]
    assert len(set(rows)) == 17
    assert found["captions"] == [f"text {row:02}" for row in rows] and found["classes"] == [row % 3 for row in rows]
    assert [encoded_file(here.images, i) for i in range(17)] == [files[row] for row in rows]


@pytest.mark.parametrize("name", SOURCES)
def test_the_card_says_what_the_viewer_and_a_reader_need(published, name):
    found, out = published[name], published[name]["folder"] / "out"
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "cc0-1.0" and front["configs"][0]["data_files"][0] == {"split": "member", "path": "data/member-*"}
    assert front["dataset_info"]["features"][1]["dtype"] == {"class_label": {"names": {"0": "nonmember", "1": "member"}}}
    for said in (found["hash"], "with seed 5", "https://huggingface.co/alice/my-model", f'load_split("{name}")'):
        assert said in card
    if SOURCES[name] is on_the_hub:
        source = f"[alice/source](https://huggingface.co/datasets/alice/source) at commit `{found['commit']}`, split `train`."
        assert source in card and "The source's own card states cc-by-4.0" in card
    else:
        assert str(found["folder"]) not in card + (out / "split.json").read_text(), "a path is private"


def pool(files) -> Pool:
    return Pool(Origin("here"), as_images(files))


def test_a_draw_is_seeded_and_never_has_a_image_on_both_sides(tmp_path):
    files = [png(pixels) for pixels in noise(30)]
    # The same image in another file, and files that are none.
    files += [png(noise(30)[i], compress_level=1) for i in range(10)] + [b"nonsense"] * 5
    one, again, other = (draw_split(pool(files), 15, 15, seed=seed, progress=False) for seed in (1, 1, 2))
    assert one.split.hash == again.split.hash != other.split.hash
    assert len(set(one.ids.tolist())) == 30 and one.left_out["duplicate"] and one.left_out["unreadable"]
    assert "this is not an image file" in one.example
    assert [id.decode() for id in one.ids] == [image.id for image in one.split.images]
    with pytest.raises(SplitError, match=r"has 30 different images that can be used, and 31 are needed \(left out: 10 dup.*, 5 unr"):
        draw_split(pool(files), 15, 16, progress=False)


def test_images_that_occur_often_are_no_likelier_members():
    """Drawing members first, and only then sorting copies out, would put them among the members."""
    images = noise(12)
    often = [0, 1, 2]
    files = [png(pixels) for pixels in images] + [png(images[i]) for i in often] * 8
    ids = {as_images(files)[i].id for i in often}
    sides = Counter()
    for seed in range(120):
        drawn = draw_split(pool(files), 4, 4, seed=seed, progress=False)
        sides["member"] += len({id.decode() for id in drawn.ids[:4]} & ids)
        sides["nonmember"] += len({id.decode() for id in drawn.ids[4:]} & ids)
    total = sides.total()
    assert total > 300 and abs(sides["member"] - total / 2) < 3 * np.sqrt(total) / 2


def test_two_sources_are_drawn_from_and_warned_of(tmp_path, capsys):
    for name, part in (("bright", noise(60) // 2 + 128), ("dark", noise(60, 1) // 2)):
        (tmp_path / name).mkdir()
        for i, pixels in enumerate(part):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    words = [tmp_path / "bright", "--nonmembers-from", tmp_path / "dark", "--members", 40, "--nonmembers", 40, "--out", tmp_path / "out"]
    code, out, err = run(*words, capsys=capsys)
    assert code == 0 and "members and non-members come from two sources, which may differ in more than their use in training" in err
    assert "Shift check: Yes. A classifier that sees the images and never a model" in out and "no licence was given" in err
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- **Source of the members:** files of `bright`" in card and "- **Source of the non-members:** files of `dark`" in card
    assert "**Licence of the images:** unknown: nobody stated it." in card and "license: unknown" in card
    assert json.loads((tmp_path / "out" / "split.json").read_text())["flags"][0]["name"] == "distribution-shift"
    assert load_split(tmp_path / "out").members[0].pixels.mean() > 150


def test_a_split_that_is_there_is_written_as_it_is(tmp_path, capsys):
    split = make_split(noise(6), noise(5, 1), captions=[f"c{i}" for i in range(11)], classes=list(range(11)))
    record = write_split(split, tmp_path / "one", license="mit", progress=False)
    assert record.hash == split.hash == load_split(tmp_path / "one").hash and record.seed is None and record.blind_auc is None
    # Again from its own folder, now by the command.
    code, _, err = run(tmp_path / "one", "--out", tmp_path / "two", "--license", "mit", capsys=capsys)
    two = load_split(tmp_path / "two")
    assert code == 0 and not err and two.hash == split.hash and list(two.captions) == list(split.captions)
    assert "as in the source" in (tmp_path / "two" / "README.md").read_text()
    code, _, err = run(tmp_path / "one", "--members", 2, "--nonmembers", 2, "--out", tmp_path / "three", capsys=capsys)
    assert code == 2 and "already says which images are members; leave --members and --nonmembers out" in err
    broken = make_split([*noise(3), b"nonsense"], [*noise(3, 1), noise(3, 1)[0]])
    drawn = decode_split(broken, progress=False)
    assert (drawn.left_out, drawn.copies, len(drawn.split.members)) == (Counter(unreadable=1), 1, 3)
    with pytest.raises(SplitError, match="1 images of custom are both members and non-members"):
        write_split(make_split(noise(3), [*noise(2, 1), noise(3)[0]]), tmp_path / "four", progress=False)
    assert not (tmp_path / "four").exists()


def test_folders_on_disk_and_of_member_images(tmp_path, capsys):
    for kind, seed in (("member", 0), ("nonmember", 1)):
        (tmp_path / "mine" / kind).mkdir(parents=True)
        for i, pixels in enumerate(noise(4, seed)):
            (tmp_path / "mine" / kind / f"{i}.png").write_bytes(png(pixels))
    (tmp_path / "mine" / "member" / "9.png").write_bytes(b"nonsense")
    code, out, err = run(tmp_path / "mine", "--out", tmp_path / "out", capsys=capsys)
    assert code == 0 and "4 members and 4 non-members" in out
    assert "(left out: 1 unreadable)" in err and "9.png: this is not an image file" in err
    # A split of ours is replaced, anything else is not.
    assert run(tmp_path / "mine", "--out", tmp_path / "out", capsys=capsys)[0] == 0
    (tmp_path / "out" / "notes.txt").write_text("mine")
    code, _, err = run(tmp_path / "mine", "--out", tmp_path / "out", capsys=capsys)
    assert code == 2 and "has other files in it, such as 'notes.txt', and is left unchanged" in err
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine" and not list(tmp_path.glob(".*"))


def test_what_was_known_of_a_split_is_kept_when_it_is_published_later(tmp_path, logged_in, capsys):
    words = [*as_folder(tmp_path, None), "--members", 4, "--nonmembers", 4, "--seed", 7, "--license", "mit", "--no-shift-check"]
    assert run(*words, "--model", "alice/my-model", "--out", tmp_path / "out", capsys=capsys)[0] == 0
    code, out, err = run(tmp_path / "out", "--push", "alice/split", "--out", tmp_path / "again", "--no-shift-check", capsys=capsys)
    assert code == 0 and "Published as alice/split at commit" in out and not err
    first, second = (json.loads((tmp_path / name / "split.json").read_text()) for name in ("out", "again"))
    assert {k: v for k, v in first.items() if k != "provenance"} == {k: v for k, v in second.items() if k != "provenance"}
    assert second["seed"] == 7 and second["origins"][0]["name"] == "images" and second["model"] == "alice/my-model"
    (tmp_path / "out" / "split.json").write_text("{}")
    code, _, err = run(tmp_path / "out", "--dry-run", "--no-shift-check", capsys=capsys)
    assert code == 2 and "split.json can't be read as the record of a split" in err


def test_notes_reach_the_published_split_and_every_report(tmp_path, logged_in, capsys):
    """What is said of missing images is said wherever a figure on those that are left is; and obeyed nowhere."""
    told = ("3 of the 9 members are missing: 3 gone.", "Beware: <script>alert(1)</script> | `x`")
    split = replace(make_split(noise(30), noise(30, 1)), notes=told)
    write_split(split, tmp_path / "out", shift_check=False, progress=False)
    code, _, err = run(tmp_path / "out", "--push", "alice/split", "--out", tmp_path / "again", "--no-shift-check", capsys=capsys)
    assert code == 0, err
    first, second = (json.loads((tmp_path / name / "split.json").read_text()) for name in ("out", "again"))
    assert first["notes"] == second["notes"] == list(told)
    assert "- **Note:** 3 of the 9 members are missing: 3 gone." in (tmp_path / "again" / "README.md").read_text()

    model = mia_hub.wrap_denoiser(lambda x, t: x, ddpm_alphas_cumprod(), sample_shape=(3, 9, 9))
    report = mia_hub.audit(model, "random", split.limited(25), shift_check=False, progress=False)
    assert report.split["notes"] == report.to_dict()["split"]["notes"] == report.scores.split["notes"] == list(told)
    assert mia_hub.AuditReport.from_dict(json.loads(report.to_json())) == report
    compared = compare(model, split, ["random"], shift_check=False, progress=False)
    for result in (report, compared):
        page, text = result.to_html(), result.to_markdown()
        assert told[0] in page and f"**Of the split:** {told[0]}" in text
        assert "<script>" not in page + text.replace("\\<", "") and "&lt;script&gt;" in page
    assert held_out(split).notes == told and "Of the split" not in mia_hub.audit(
        model, "random", replace(split, notes=()), shift_check=False, progress=False
    ).to_html()  # fmt: skip


def test_images_of_another_split_keep_their_files(tmp_path):
    """Byte for byte, with their metadata, however the split was made of others."""
    exif = Image.Exif()
    exif[0x010E] = "a description"
    images, files = noise(12), []
    for kind, part in (("member", images[:6]), ("nonmember", images[6:])):
        (tmp_path / kind).mkdir()
        for i, pixels in enumerate(part):
            files.append(tmp_path / kind / f"{i}.jpg")
            Image.fromarray(pixels).save(files[-1], quality=60, exif=exif)
    came = {path.read_bytes() for path in files}
    limited = load_split(tmp_path).limited(4)
    for split in (limited, make_split(limited.members, limited.nonmembers), make_split(limited.members[1:], limited.nonmembers[:2])):
        write_split(split, tmp_path / "out", shift_check=False, progress=False)
        found = load_split(tmp_path / "out").images
        kept = [encoded_file(found, i) for i in range(len(found))]
        assert set(kept) <= came and len(set(kept)) == len(split.images) and found[0].id == split.images[0].id


def written(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


FOREIGN = {
    "another's record": ({"split.json": b"{}"}, "split.json"),
    "a record without its hash": ({"split.json": b'{"hash": "x", "n_members": 1}'}, "split.json"),
    "a record that is no JSON": ({"split.json": b"\xff["}, "split.json"),
    "a file of another beside the parts": ({"data/precious.bin": b"mine"}, "data/precious.bin"),
    "a folder of another beside the parts": ({"data/mine/member-00000-of-00001.parquet": b"mine"}, "data/mine"),
    "parts of another name": ({"data/members-00000-of-00001.parquet": b"mine"}, "data/members-00000-of-00001.parquet"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_split_of_ours_is_left_alone(case, tmp_path, loopback_hub, logged_in, capsys):
    """In a folder and on the Hub; a split whose files were added to is one, as is a repository that only has its name from us."""
    changes, named = FOREIGN[case]
    write_split(make_split(noise(3), noise(3, 1)), tmp_path / "out", shift_check=False, progress=False)
    for path, content in changes.items():
        (tmp_path / "out" / path).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / path).write_bytes(content)
    before = written(tmp_path / "out")
    loopback_hub.add_repo("dataset", "alice/other", before)
    commit = HfApi().dataset_info("alice/other").sha
    with pytest.raises(SplitError, match=re.escape(named.split("/")[-1]) + ".* left unchanged; name a new or an empty one"):
        write_split(make_split(noise(3), noise(3, 1)), tmp_path / "out", progress=False)
    assert written(tmp_path / "out") == before
    words = [*as_folder(tmp_path, None), "--members", 3, "--nonmembers", 3, "--no-shift-check", "--push", "alice/other"]
    code, _, err = run(*words, capsys=capsys)
    assert code == 2 and "alice/other exists and holds something other than a split" in err and named in err
    assert HfApi().dataset_info("alice/other").sha == commit


@pytest.mark.parametrize("moment", [1, 2])
def test_interrupted_while_it_is_replaced_a_split_is_the_old_one(moment, tmp_path, monkeypatch):
    first, second = make_split(noise(3), noise(3, 1)), make_split(noise(4, 2), noise(4, 3))
    write_split(first, tmp_path / "out", shift_check=False, progress=False)
    before, renames, real = written(tmp_path / "out"), [], Path.rename

    def rename(self, target):
        if self.is_dir():
            renames.append(target)
            if len(renames) == moment:
                raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            write_split(second, tmp_path / "out", shift_check=False, progress=False)
    assert written(tmp_path / "out") == before and [path.name for path in tmp_path.iterdir()] == ["out"]
    # Killed there, it could tidy nothing up: the next attempt does.
    (tmp_path / "out").rename(tmp_path / ".out.replaced")
    with pytest.raises(SplitError, match="are both members and non-members"):
        write_split(make_split(noise(3), noise(3)), tmp_path / "out", shift_check=False, progress=False)
    write_split(second, tmp_path / "out", shift_check=False, progress=False)
    assert load_split(tmp_path / "out").hash == second.hash and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_large_splits_are_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(split_writing, "SHARD_BYTES", 3000)
    monkeypatch.setattr(split_writing, "ROWS_PER_GROUP", 4)
    split = make_split(noise(30), noise(5, 1))
    write_split(split, tmp_path / "out", progress=False, shift_check=False)
    files = sorted((tmp_path / "out" / "data").iterdir())
    assert [path.name for path in files if path.name.startswith("member")] == [f"member-{i:05}-of-00004.parquet" for i in range(4)]
    assert max(pq.read_metadata(path).row_group(0).num_rows for path in files) == 4
    assert load_split(tmp_path / "out").hash == split.hash


def test_a_dry_run_shows_the_card_and_writes_nothing(tmp_path, loopback_hub, logged_in, capsys):
    words = [*as_folder(tmp_path, None), "--members", 3, "--nonmembers", 3, "--out", tmp_path / "out"]
    code, out, err = run(*words, "--push", "alice/split", "--dry-run", capsys=capsys)
    assert code == 0 and out.startswith("---\nlicense: unknown") and "nothing was published" in err
    assert not (tmp_path / "out").exists() and ("dataset", "alice/split") not in loopback_hub._repos


def test_a_second_push_replaces_the_first(tmp_path, loopback_hub, logged_in, capsys, monkeypatch):
    (source,) = as_folder(tmp_path, None)
    words = [source, "--nonmembers", 3, "--no-shift-check", "--push", "alice/split"]
    with monkeypatch.context() as patched:
        patched.setattr(split_writing, "SHARD_BYTES", 1)
        patched.setattr(split_writing, "ROWS_PER_GROUP", 3)
        assert run(*words, "--members", 9, "--private", capsys=capsys)[0] == 0
    first = HfApi().dataset_info("alice/split")
    assert first.private and sum(s.rfilename.startswith("data/member-") for s in first.siblings) == 3
    code, _, err = run(*words, "--members", 4, capsys=capsys)
    assert code == 0, err
    assert len(load_split("alice/split").members) == 4
    loopback_hub.add_repo("dataset", "alice/other", {"data.csv": "a,b"})
    for name, more, says in (
        ("alice/other", [], "exists and holds something other than a split"),
        ("bob/split", [], "You are logged in as alice and can't write to bob/split; you can to alice"),
        ("split", [], "of the form 'owner/name'; got 'split'"),
        ("alice/../x", [], "of the form 'owner/name'"),
    ):
        code, _, err = run(source, "--members", 3, "--nonmembers", 3, "--push", name, *more, capsys=capsys)
        assert code == 2 and says in err, name
    with (
        loopback_hub.broken(503),
        pytest.raises(SplitError, match=r"alice/split could not be pushed: the Hub answered 503 .*Nothing was published"),
    ):
        find_target("alice/split")


@pytest.mark.parametrize(
    "words, says",
    [
        (["--members", "30", "--nonmembers", "30"], "has 40 different images that can be used, and 60 are needed. Ask for fewer"),
        (["--members", "3", "--nonmembers", "3", "--seed", "-1"], "seed must be an integer ≥ 0; got -1"),
        (["--members", "1", "--nonmembers", "3"], "members must be an integer ≥ 2; got 1"),
        (["--members", "3"], "--members and --nonmembers go together"),
        ([], "doesn't say which images are members; give the numbers to draw"),
        (["--nonmembers-from", "x"], "give both numbers, --members and --nonmembers"),
        (["--members", "3", "--nonmembers", "3", "--license", "mine: all"], "A licence is named as on the Hub, such as cc-by-4.0"),
        (["--members", "3", "--nonmembers", "3", "--model", "<b>x"], "A model is named by its id on the Hub"),
        (["--members", "3", "--nonmembers", "3", "--config", "x"], "config='x' is for data sets on the Hub"),
        (["--members", "3", "--nonmembers", "3", "--caption-column", "title"], "There is no column 'title'"),
        (["--members", "3", "--nonmembers", "3", "--private"], "--private is for a data set that is published"),
        (
            ["--members", "3", "--nonmembers", "3", "--push", "alice/split"],
            "Pushing to alice/split needs a token: log in with 'hf auth login'",
        ),
    ],
)
def test_what_is_refused(words, says, tmp_path, capsys):
    code, _, err = run(*as_folder(tmp_path, None), "--out", tmp_path / "out", *words, capsys=capsys)
    assert code == 2 and says in err, err
    assert not (tmp_path / "out").exists()


def test_sources_that_are_none(tmp_path, loopback_hub, capsys):
    loopback_hub.add_repo("dataset", "alice/source", {"train.parquet": Path(as_parquet(tmp_path, None)[0]).read_bytes()}, gated=True)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty").mkdir()
    as_parquet(tmp_path / "several", None, "test")
    as_parquet(tmp_path / "several", None, "valid")
    urls = datasets.Dataset.from_dict({"url": ["https://example.org/1.png"] * 4})
    urls.to_parquet(tmp_path / "urls.parquet")
    counts = ["--members", 2, "--nonmembers", 2]
    for source, says in (
        ("alice/source", "alice/source is gated: accept its terms"),
        ("alice/absent", "The Hub has no data set 'alice/absent' that you may see"),
        ("nonsense", "'nonsense' is neither a folder, nor a Parquet file, nor a data set on the Hub"),
        (tmp_path / "a.txt", "is neither a folder nor a Parquet file"),
        (tmp_path / "empty", "has no images"),
        (tmp_path / "several", "has several splits; name the one to draw from with --source-split: test, valid"),
        (tmp_path / "urls.parquet", "holds no images, but their addresses (in the column 'url')"),
    ):
        code, _, err = run(source, *counts, "--out", tmp_path / "out", capsys=capsys)
        assert code == 2 and says in err, err
    code, _, err = run(
        tmp_path / "several", *counts, "--source-split", "test", "--out", tmp_path / "out", "--no-shift-check", capsys=capsys
    )
    assert code == 0, err
    assert run(tmp_path / "several", *counts, capsys=capsys)[2].startswith("mia-hub: Say where to write the split: --out FOLDER")


@pytest.mark.parametrize("where", ["folder", "hub"])
def test_the_split_that_is_asked_for_is_the_one_that_is_written(where, tmp_path, loopback_hub, capsys):
    """Also where its rows, or those of the others, say already who is a member."""

    def stored(name: str, splits: dict[str, list[int]]) -> str:
        files = {}
        for seed, (split, labels) in enumerate(splits.items()):
            columns = {"image": [{"bytes": png(pixels), "path": None} for pixels in noise(len(labels), seed)], "label": labels}
            made = datasets.Dataset.from_dict(columns).cast_column("label", datasets.ClassLabel(names=["nonmember", "member"]))
            made.to_parquet(tmp_path / "one.parquet")
            files[f"data/{split}-00000-of-00001.parquet"] = (tmp_path / "one.parquet").read_bytes()
        if where == "hub":
            loopback_hub.add_repo("dataset", f"alice/{name}", files)
            return f"alice/{name}"
        (tmp_path / name / "data").mkdir(parents=True)
        for path, content in files.items():
            (tmp_path / name / path).write_bytes(content)
        return str(tmp_path / name)

    several = stored("several", {"test": [0, 1, 0, 1, 1], "train": [1, 0, 0, 1]})
    for asked, counts in (([], (2, 2)), (["--source-split", "test"], (3, 2))):
        out = tmp_path / f"out{len(asked)}"
        code, _, said = run(several, *asked, "--out", out, "--no-shift-check", capsys=capsys)
        assert code == 0, said
        split = load_split(out)
        assert (len(split.members), len(split.nonmembers)) == counts
    published = stored("published", {"member": [1, 1, 1], "nonmember": [0, 0]})
    code, _, said = run(published, "--source-split", "member", "--out", tmp_path / "no", "--no-shift-check", capsys=capsys)
    assert code == 2 and "has no non-members: by the column 'label', none of the 3 rows of its split 'member' is one" in said


def test_floats_that_no_file_holds_are_refused(tmp_path):
    exact, other = noise(4).transpose(0, 3, 1, 2) / np.float32(255), np.random.default_rng(0).random((4, 3, 9, 9), np.float32)
    split = make_split(exact[:2], exact[2:])
    assert write_split(split, tmp_path / "exact", progress=False).hash == load_split(tmp_path / "exact").hash == split.hash
    with pytest.raises(SplitError, match="which no 8-bit file holds"):
        write_split(make_split(other[:2], other[2:]), tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


def test_text_from_strangers_stays_text_on_the_card():
    hostile = "a](x) <script>`|\n---\nlicense: mit"
    record = SplitRecord("sha256:0", 2, 2, (Origin(hostile, hostile, hostile, "0" * 40, hostile),), notes=(hostile,), left_out={hostile: 1})
    front, body = card_text(record).split("\n---\n\n")
    assert yaml.safe_load(front.removeprefix("---\n"))["license"] == "unknown"
    assert "<script>" not in body.replace("`a](x) <script>'\\| --- license: mit`", "") and "\n---" not in body


def test_the_demo_by_name_is_no_source(tmp_path, capsys):
    assert mia_hub.load_split("demo").members[0].id
    code, _, err = run("demo", "--members", 2, "--nonmembers", 2, "--out", tmp_path / "out", capsys=capsys)
    assert code == 2 and "'demo' is neither a folder" in err


def test_the_page_about_splits_runs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "splits.md").read_text()
    commands, script = re.findall(r"```(?:python)?\n(.*?)```", page, re.DOTALL)
    lines = [shlex.split(line) for line in commands.splitlines()]
    assert len(lines) == 5 and all(cli.build_parser().parse_args(line[1:]).command == "make-split" for line in lines)
    as_folder(tmp_path, None)
    monkeypatch.chdir(tmp_path)
    first, last = lines[0], lines[-1]
    assert cli.main([word.replace("500", "20") for word in first[1:]]) == 0 and cli.main(last[1:]) == 0
    assert "20 members and 20 non-members" in capsys.readouterr().out
    exec(script, {"members": noise(3), "nonmembers": noise(3, 1), "captions": list("abcdef")})
    assert list(load_split("my-split").captions) == list("abcdef")
