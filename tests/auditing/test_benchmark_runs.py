"""One published setting of each kind runs end to end on stand-ins that have the real data sets' layout."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter

import datasets
import numpy as np
import pytest
from support.edited_settings import FAST, edited
from support.loopback_web import Web
from support.noise_images import noise, png
from support.tiny_pipelines import save

import mia_hub
from mia_hub.auditing.published_settings import BenchmarkError, load_benchmark
from mia_hub.auditing.published_settings.drawing import OpenBenchmark
from mia_hub.auditing.published_settings.run import benchmark_run, run_benchmark
from mia_hub.auditing.published_settings.side import ON_BOTH_SIDES, centre_square
from mia_hub.cli import parser as cli
from mia_hub.errors import SplitError
from mia_hub.images.sources import open_image
from mia_hub.splits import hub_rows
from mia_hub.splits.image_store import COPY, NO_IMAGE
from mia_hub.system import web as fetching

N = 12


def parquet(columns, **features) -> bytes:
    """A Parquet file as the library datasets writes it, in row groups of four; lists of bytes are images."""
    images = {name: datasets.Image() for name, cells in columns.items() if isinstance(cells[0], bytes)}
    cells = {name: [{"bytes": c, "path": None} for c in col] if name in images else col for name, col in columns.items()}
    table = datasets.Dataset.from_dict(cells)
    for name, feature in (images | features).items():
        table = table.cast_column(name, feature)
    buffer = io.BytesIO()
    table.to_parquet(buffer, batch_size=4)
    return buffer.getvalue()


def card(config, **splits) -> str:
    """A README that names the files of a configuration's splits."""
    files = "".join(f"  - split: {split}\n    path: {path}\n" for split, path in splits.items())
    return f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{files}---\n"


@pytest.fixture
def hub(loopback_hub):
    """``hub(kind, id, files, branch="main") -> commit``: publishes, and takes it away after the test."""
    made = []

    def publish(kind, name, files, branch="main", **options):
        made.append((kind, name))
        if branch == "main":
            return loopback_hub.add_repo(kind, name, files, **options)
        loopback_hub.add_repo(kind, name, {"README.md": "nothing here"}, **options)
        return loopback_hub.commit(kind, name, files, branch=branch)

    yield publish
    for kind, name in made:
        loopback_hub.delete_repo(kind, name)


def cifar(hub, n_train=40, n_test=20, **columns):
    train, test = noise(n_train, 32, 1), noise(n_test, 32, 2)
    files = {
        "plain_text/train-00000-of-00002.parquet": parquet({"img": train[:25], "label": [i % 10 for i in range(25)]}),
        "plain_text/train-00001-of-00002.parquet": parquet({"img": train[25:], "label": [i % 10 for i in range(25, n_train)]}),
        "plain_text/test-00000-of-00001.parquet": parquet({"img": test, "label": [0] * n_test}),
        "README.md": card("plain_text", train="plain_text/train-*", test="plain_text/test-*"),
    }
    return hub("dataset", "uoft-cs/cifar10", files), train, test


PUBLIC = {"members.rows": 40, "members.count": N, "nonmembers.rows": 20, "nonmembers.count": N, "attacks": FAST}


def ids_of(images):
    return {image.id for image in images}


def test_a_pixel_model_with_two_splits_of_the_hub(hub, loopback_hub, tmp_path, tiny_pixel_repo, capsys):
    commit, train, test = cifar(hub)
    weights = hub("model", "google/ddpm-cifar10-32", tiny_pixel_repo(channels=3, size=32))
    # All attacks of the setting, each at one timestep, on its own model by name.
    sizes = {"members.rows": 40, "members.count": 20, "nonmembers.rows": 20, "nonmembers.count": 20}
    short = {f"attacks.{i}.parameters.timesteps": [100 if i != 2 else 10] for i in range(5)}
    file = edited(tmp_path, "ddpm-cifar10-public", sizes | short, "ddpm-cifar10-public")
    out = tmp_path / "out"
    command = ["benchmark", "run", str(file), "--out", str(out), "--cache", str(tmp_path / "cache"), "--device", "cpu", "--quiet"]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert "# Benchmark ddpm-cifar10-public" in said.out and "benchmark.json" in said.err and "Not the setting's row" not in said.out
    comparison = mia_hub.Comparison.from_dict(json.loads((out / "comparison.json").read_text()))
    assert [row.report.scores or row.label.split(":")[0] for row in comparison.rows] == ["sima", "pia", "secmi", "loss", "sima-cn"]
    assert comparison.model["id"] == "google/ddpm-cifar10-32" and comparison.model["revision"] == weights
    assert comparison.split["revision"] == f"uoft-cs/cifar10@{commit}" and comparison.rows[0].report.selection["method"] == "calibration"
    record = json.loads((out / "benchmark.json").read_text())
    assert record["complete"] and not record["model_given"] and record["setting"]["members"]["seed"] == 0
    assert [record[part]["found"] for part in ("members", "nonmembers")] == [20, 20] and record["members"]["commit"] == commit
    # Exactly the rows that the file's rule names.
    table = mia_hub.ScoreTable.from_parquet(next(out.glob("scores-sima-*.parquet")))
    drawn = [np.random.default_rng(0).permutation(n)[:20] for n in (40, 20)]
    expected = [ids_of(open_image(part[row]) for row in rows) for part, rows in zip((train, test), drawn)]
    for label, ids in zip((1, 0), expected):
        assert {table.ids[row] for row in np.flatnonzero(table.is_member == label)} == ids
    assert {path.name for path in out.iterdir()} >= {f"comparison.{end}" for end in ("json", "md", "html", "svg")} | {"benchmark.md"}

    # Again: nothing is fetched or scored a second time.
    loopback_hub.log.clear()
    assert cli.main(command) == 0
    assert not [path for path in loopback_hub.files_fetched("uoft-cs/cifar10") if path.endswith(".parquet")]


def test_a_draw_names_data_sets_as_the_hub_spells_them(hub, tmp_path):
    commit, *_ = cifar(hub)
    spelled = {"members.dataset": "UofT-CS/CIFAR10", "nonmembers.dataset": "uoft-cs/Cifar10"}
    setting = load_benchmark(edited(tmp_path, "ddpm-cifar10-public", PUBLIC | spelled, "ddpm-cifar10-public"))
    drawn = OpenBenchmark(setting, limit=None, cache=tmp_path / "cache").draw(progress=False)
    assert drawn.split.revision == f"uoft-cs/cifar10@{commit}"
    assert [draw.source for draw in (drawn.members, drawn.nonmembers)] == ["uoft-cs/cifar10, train", "uoft-cs/cifar10, test"]


def test_a_small_draw_reads_little_and_is_the_beginning_of_the_whole(hub, loopback_hub, tmp_path, monkeypatch):
    cifar(hub)
    b = load_benchmark(edited(tmp_path, "ddpm-cifar10-public", PUBLIC))
    monkeypatch.setattr(hub_rows, "SMALL_FILE", 0)
    loopback_hub.log.clear()
    few = OpenBenchmark(b, limit=3, cache=tmp_path / "cache").draw(progress=False)
    asked = [entry for entry in loopback_hub.log if entry.method == "GET" and entry.path.endswith(".parquet")]
    assert all(entry.range for entry in asked), "whole files were fetched for three rows"
    # The footers of three files, and of 12 row groups those that hold the six rows.
    assert 3 < len(asked) <= 3 + 6
    whole = OpenBenchmark(b, cache=tmp_path / "cache").draw(progress=False)
    assert set(few.members.rows) < set(whole.members.rows) and set(few.nonmembers.rows) < set(whole.nonmembers.rows)
    assert len(few.split.members) == 3 and ids_of(few.split.members) < ids_of(whole.split.members)
    again = OpenBenchmark(b, cache=tmp_path / "elsewhere").draw(progress=False)
    assert again.split.hash == whole.split.hash and whole.split.name == "benchmark own"


def test_a_model_that_must_be_given(hub, loopback_hub, tmp_path, tiny_pixel_repo, capsys):
    halves = {"members.rows": 40, "nonmembers.rows": 40, "members.count": N, "nonmembers.first": N, "nonmembers.count": N, "attacks": FAST}
    file = edited(tmp_path, "ddpm-cifar10", halves)
    loopback_hub.log.clear()
    assert cli.main(["benchmark", "run", str(file)]) == 2
    said = capsys.readouterr().err
    assert "The model of own isn't public: DDPM on 25,000 of CIFAR-10 was trained on just these 12 members" in said and "--model" in said
    assert not loopback_hub.log, "refused before anything was asked"
    with pytest.raises(BenchmarkError, match="is public, but in no form that can be loaded by name"):
        run_benchmark("guided-imagenet")
    cifar(hub)
    model = tiny_pixel_repo(channels=3, size=32)
    done = benchmark_run(file, model=str(model), cache=tmp_path, device="cpu", progress=False)
    assert done.model_given and done.complete and len(done.comparison.rows) == 2
    rows = np.random.default_rng(0).permutation(40)
    assert set(done.drawn.members.rows) == set(rows[:N]) and set(done.drawn.nonmembers.rows) == set(rows[N : 2 * N])


def test_a_model_that_does_not_fit_is_refused_before_images_are_fetched(hub, tmp_path, tiny_pixel_repo):
    cifar(hub)
    file = edited(tmp_path, "ddpm-cifar10-public", PUBLIC)
    with pytest.raises(BenchmarkError, match=r"is of images of 32 x 32, and .* takes 16 x 16"):
        run_benchmark(file, model=str(tiny_pixel_repo(channels=3, size=16)), cache=tmp_path / "cache", device="cpu")
    with pytest.raises(BenchmarkError, match=r"is of a model conditioned on 'none', and .* is conditioned on 'class'"):
        run_benchmark(file, model=str(tiny_pixel_repo(channels=3, size=32, num_class_embeds=5)), cache=tmp_path / "cache", device="cpu")
    assert not list((tmp_path / "cache").rglob("*.parquet"))


def imagenet(hub, **options):
    def part(seed, n):
        columns = {"image": noise(n, 16, seed), "label": [i % 6 for i in range(n)]}
        return parquet(columns, label=datasets.ClassLabel(num_classes=1000))

    files = {f"data/train-0000{k}-of-00002.parquet": part(k, 30) for k in (0, 1)}
    return hub("dataset", "ILSVRC/imagenet-1k", files | {"data/validation-00000-of-00001.parquet": part(3, 36)}, **options)


CLASSES = {"members.rows": 60, "members.pool": 50, "members.per_class": 2, "members.count": N, "nonmembers.count": N, "resolution": 16}


def test_a_class_conditional_transformer_with_a_class_column(hub, tmp_path):
    imagenet(hub)
    model = hub("model", "facebook/DiT-XL-2-256", save("dit", tmp_path / "dit"), branch="refs/pr/1")
    changes = CLASSES | {"nonmembers.rows": 36, "nonmembers.per_class": 2, "attacks": FAST}
    done = benchmark_run(edited(tmp_path, "dit-imagenet", changes), cache=tmp_path / "cache", device="cpu", progress=False)
    assert done.comparison.model["revision"] == model, "the weights are on another branch than main"
    split = done.drawn.split
    assert [Counter(part) for part in (split.classes[:N], split.classes[N:])] == [Counter({c: 2 for c in range(6)})] * 2
    assert [c % 6 for c in done.drawn.members.rows if c < 30] == split.classes[: sum(r < 30 for r in done.drawn.members.rows)]
    assert max(done.drawn.members.rows) < 50, "drawn from beyond the pool"
    report = done.comparison.rows[0].report
    assert report.scores.captions == "given" and report.split["captions_hash"]


def test_an_archive_whose_folders_are_classes(hub, tmp_path):
    imagenet(hub)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for i, content in enumerate(noise(30, 16, 9)):
            info = tarfile.TarInfo(f"imagenetv2-matched-frequency-format-val/{i // 6}/{i:04x}.jpeg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    other = archive.getvalue()
    hub(
        "dataset",
        "vaishaal/ImageNetV2",
        {"imagenetv2-matched-frequency.tar.gz": other, "imagenetv2-top-images.tar.gz": other, "README.md": ""},
    )
    changes = CLASSES | {"members.per_class": 2, "nonmembers.rows": 30, "nonmembers.per_class": 3, "nonmembers.count": 15, "attacks": FAST}
    model = save("ddpm-learned-variance", tmp_path / "adm")
    file = edited(tmp_path, "guided-imagenet", changes | {"members.count": 10})
    # This stand-in knows 5 classes; ImageNet's has 6.
    with pytest.raises(mia_hub.MiaHubError, match="class"):
        run_benchmark(file, model=str(model), cache=tmp_path / "cache", device="cpu", progress=False)
    opened = OpenBenchmark(load_benchmark(file), cache=tmp_path / "cache").draw(progress=False)
    assert Counter(opened.split.classes[10:]) == {c: 3 for c in range(5)}
    assert all(row // 6 == label for row, label in zip(opened.nonmembers.rows, opened.split.classes[10:]))
    wrong = load_benchmark(edited(tmp_path, "guided-imagenet", changes | {"nonmembers.class_pattern": "x(.)x"}))
    with pytest.raises(SplitError, match=r"holds 'imagenetv2-matched-frequency-format-val/0/0000', which is no class index by the pattern"):
        OpenBenchmark(wrong, cache=tmp_path / "cache").draw(progress=False)


def test_a_text_to_image_model_with_captions(hub, tmp_path):
    images = noise(41, 20, 4)
    rows = parquet({"image": images, "text": [f"a drawing of {i}" for i in range(41)]})
    hub("dataset", "reach-vb/pokemon-blip-captions", {"data/train-00000-of-00001-566c.parquet": rows})
    changes = {
        "members.rows": 41,
        "nonmembers.rows": 41,
        "members.first": 21,
        "members.count": 20,
        "nonmembers.count": 21,
        "resolution": 16,
    }
    attacks = [FAST[0], {"name": "clid", "parameters": {"timesteps": [440]}}]
    file = edited(tmp_path, "sd14-pokemon", changes | {"attacks": attacks}, "sd14-pokemon")
    done = benchmark_run(file, model=str(save("sd1", tmp_path / "sd")), cache=tmp_path / "cache", device="cpu", progress=False)
    assert [row.label.split(":")[0] for row in done.comparison.rows] == ["sima", "clid"]
    assert done.comparison.rows[0].report.scores.captions == "given"
    rows = [*done.drawn.members.rows, *done.drawn.nonmembers.rows]
    assert list(done.drawn.split.captions) == [f"a drawing of {row}" for row in rows] and sorted(rows) == list(range(41))
    known = {open_image(content).id: i for i, content in enumerate(images)}
    assert [known[image.id] for image in done.drawn.split.images] == rows


def test_the_hubs_own_conversion_is_read_where_a_script_no_longer_runs(hub, tmp_path):
    part = [parquet({"image": noise(8, 20, k), "caption": [[f"first {k}.{i}", "second"] for i in range(8)]}) for k in (0, 1)]
    files = {"TEST/test/0000.parquet": part[0], "TEST/test/0001.parquet": part[1], "flickr30k.py": "raise SystemExit"}
    hub("dataset", "nlphuji/flickr30k", files, branch="refs/convert/parquet")
    b = load_benchmark(edited(tmp_path, "sd14-flickr30k", {"members.count": 5, "nonmembers.first": 5, "nonmembers.count": 5}))
    drawn = OpenBenchmark(b, cache=tmp_path / "cache").draw(progress=False)
    rows = [*drawn.members.rows, *drawn.nonmembers.rows]
    assert list(drawn.split.captions) == [f"first {row // 8}.{row % 8}" for row in rows] and len(set(rows)) == 10


# Images behind addresses


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(fetching, "ALLOWED_INSIDE", frozenset({"127.0.0.1"}))
    server = Web(noise(64, 20, 7))
    yield server
    server.stop()


LAION_MI = {
    "members.rows": 20, "members.count": 20, "nonmembers.rows": 18, "nonmembers.count": 18, "resolution": 16,
    "attacks": [{"name": "sima", "parameters": {"timesteps": [50]}}],
}  # fmt: skip


def laion_mi(hub, web):
    troubled = ["gone/1", "gone/2", "page/3", "huge/4", "busy/5", "away/6", "moved/7"]
    members = [f"{web.url}/{path}" for path in (*troubled, *(f"good/{i}.png" for i in range(8, 20)))] + ["ftp://example.org/a.png"]
    others = [f"{web.url}/good/{i}" for i in range(20, 34)] + [f"{web.url}/good/30?other=1", f"{web.url}/good/8?s=2", "not an address", ""]
    files = {
        f"data/{split}-00000-of-00001-{'ab' * 8}.parquet": parquet({"url": urls, "caption": [f"{split} {i}" for i in range(len(urls))]})
        for split, urls in (("members", members), ("nonmembers", others))
    }
    return hub("dataset", "antoniaaa/laion_mi", files)


def test_images_behind_addresses_are_fetched_and_the_missing_counted(hub, web, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fetching, "MOST_BYTES", 50_000)
    laion_mi(hub, web)
    hub("model", "CompVis/stable-diffusion-v1-4", save("sd1", tmp_path / "sd"))
    file, out, cache = edited(tmp_path, "sd14-laion-mi", LAION_MI, "sd14-laion-mi"), tmp_path / "out", tmp_path / "cache"
    command = ["benchmark", "run", str(file), "--out", str(out), "--cache", str(cache), "--device", "cpu", "--quiet"]
    assert cli.main(command) == 0
    record = json.loads((out / "benchmark.json").read_text())
    assert record["members"]["missing"] == {"HTTP 404": 2, "HTTP 302": 1, "HTTP 503": 1, NO_IMAGE: 1, "too large": 1, "no web address": 1}
    assert record["nonmembers"]["missing"] == {COPY: 1, ON_BOTH_SIDES: 1, "no web address": 2}
    assert (record["members"]["tried"], record["members"]["found"], record["nonmembers"]["found"]) == (20, 13, 14)
    said = capsys.readouterr().out
    assert "13 of 20 tried (1 HTTP 302, 2 HTTP 404, 1 HTTP 503, " in said and "with 13 of 20 members and 14 of 18 non-members" in said
    comparison = json.loads((out / "comparison.json").read_text())
    assert comparison["rows"][0]["report"]["split"]["n_members"] == 13
    assert "captions_hash" in record["split"]

    few = OpenBenchmark(load_benchmark(file), limit=10, cache=cache).draw(progress=False)
    assert (few.members.tried, few.nonmembers.tried) == (10, 10) and set(few.members.rows) < set(range(20)), "missing ones were replaced"

    # A server that was busy is asked again; what was had, and what is gone for good, is not.
    web.requested.clear()
    web.mended = True
    again = OpenBenchmark(load_benchmark(file), cache=cache).draw(progress=False)
    assert web.requested == ["/busy/5"] and len(again.members.rows) == 14 and "HTTP 503" not in again.members.missing
    assert list(again.split.captions[:14]) == [f"members {row}" for row in again.members.rows]


def test_conditions_and_replacement(hub, web, tmp_path, monkeypatch):
    n = 40
    kinds = ["good", "gone", "small"]
    values = {
        "URL": [f"{web.url}/{kinds[i % 3]}/{i}" for i in range(n)],
        "TEXT": [f"text {i}" for i in range(n)],
        "AESTHETIC_SCORE": [None if i == 0 else 4.0 if i % 5 == 0 else 6.0 for i in range(n)],
        "pwatermark": [0.9 if i % 7 == 0 else 0.1 for i in range(n)],
    }
    hub(
        "dataset",
        "laion/laion2B-en-aesthetic",
        {"part-00000-x.snappy.parquet": parquet(values), "part-00001-x.snappy.parquet": parquet(values)},
    )
    coco = {"coco_url": [f"{web.url}/good/{i}" for i in range(40, 60)], "captions": [[f"c{i}", "d"] for i in range(20)]}
    hub("dataset", "phiyodr/coco2017", {"data/train-00000.parquet": parquet(coco), "data/validation-00000.parquet": parquet(coco)})
    changes = {
        "members.pool": 36,
        "members.count": 5,
        "members.min_bytes": 400,
        "nonmembers.rows": 20,
        "nonmembers.first": 10,
        "nonmembers.count": 10,
    }
    b = load_benchmark(edited(tmp_path, "sd15-laion-coco", changes))
    drawn = OpenBenchmark(b, cache=tmp_path / "cache").draw(progress=False)
    assert len(drawn.members.rows) == 5 and all(row % 3 == 0 and row % 5 and row % 7 and row < 36 for row in drawn.members.rows)
    order = [row for row in np.random.default_rng(2025).permutation(36) if row % 5 and row % 7]
    good = [row for row in order if row % 3 == 0]
    assert set(drawn.members.rows) == set(good[:5]), "the next of the permutation takes the place of a missing one"
    assert set(drawn.members.missing) == {"HTTP 404", "too small"} and drawn.members.tried == order.index(good[4]) + 1
    assert list(drawn.split.captions[5:]) == [f"c{row}" for row in drawn.nonmembers.rows]
    with pytest.raises(SplitError, match=r"No image is left of the members of own: 0 of \d+ tried \(\d+ HTTP 404"):
        monkeypatch.setattr(fetching, "_quoted", lambda address: f"{web.url}/gone/1")
        OpenBenchmark(b, cache=tmp_path / "other").draw(progress=False)


# The demo


def run_the_demo(name, tmp_path, capsys):
    """`benchmark run` on 20 members and 20 non-members of the demo."""
    assert cli.main(["benchmark", "run", str(name), "--limit", "20", "--out", str(tmp_path / "out"), "--device", "cpu", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "**Not the setting's row:** at most 20 members and non-members were used, of 512 / 4,000." in said
    record = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert not record["complete"] and not record["model_given"] and record["limit"] == record["members"]["found"] == 20
    comparison = mia_hub.Comparison.from_dict(json.loads((tmp_path / "out" / "comparison.json").read_text()))
    assert (comparison.split["n_members"], comparison.split["n_nonmembers"]) == (20, 20)
    return {row.label.split(":")[0]: row.report.auc.value for row in comparison.rows}


def test_the_demo_runs_here(tmp_path, capsys):
    file = edited(tmp_path, "demo-fashion-mnist", {"attacks": [{"name": "sima", "parameters": {"timesteps": [70]}}, FAST[1]]})
    found = run_the_demo(file, tmp_path, capsys)
    assert set(found) == {"sima", "pia"} and found["sima"] > 0.7


@pytest.mark.slow
def test_the_demo_runs_by_its_name_with_all_attacks(tmp_path, capsys):
    found = run_the_demo("demo-fashion-mnist", tmp_path, capsys)
    assert set(found) == {"sima", "pia", "secmi", "loss", "sima-cn"} and found["sima-cn"] > 0.8


# Data sets that are not as the file says


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"members.image_column": "image"}, "has no column 'image' in its split 'train'; it has img, label"),
        ({"members.split": "training"}, "has no split 'training'; it has train, test"),
        ({"members.rows": 41}, "has 40 rows at commit .*, and 41 are expected"),
        ({"members.rows": 40_000, "members.count": 12_000}, "has 40 rows at commit .*, and 40,000 are expected"),
        ({"members.rows": None, "members.count": 41}, "has 40 rows to draw from in its split 'train', and 41 from 0 on are needed"),
        ({"members.revision": "v9"}, "The data set uoft-cs/cifar10 has no revision 'v9'"),
        ({"members.dataset": "nobody/nothing"}, "The Hub has no data set 'nobody/nothing' that you may see"),
        ({"members.files": ["data/*.parquet"]}, r"has no file 'data/\*\.parquet' at this revision"),
        ({"members.class_column": ["img"], "members.per_class": 1}, "holds .*, which is no class index"),
    ],
)
def test_a_data_set_that_is_not_as_stated(hub, tmp_path, changes, says):
    cifar(hub)
    file = edited(tmp_path, "ddpm-cifar10-public", PUBLIC | {"members.count": N} | changes)
    with pytest.raises(SplitError, match=says):
        OpenBenchmark(load_benchmark(file), cache=tmp_path / "cache")


def test_a_gated_data_set_and_a_hub_that_fails(loopback_hub, hub, tmp_path):
    imagenet(hub, gated=True)
    b = load_benchmark(edited(tmp_path, "dit-imagenet", CLASSES))
    with pytest.raises(SplitError, match=r"The data set ILSVRC/imagenet-1k is gated: accept its terms on https://"):
        OpenBenchmark(b, cache=tmp_path / "cache")
    cifar(hub)
    b = load_benchmark(edited(tmp_path, "ddpm-cifar10-public", PUBLIC))
    opened = OpenBenchmark(b, cache=tmp_path / "cache")
    with loopback_hub.broken(403), pytest.raises(SplitError, match="The data set uoft-cs/cifar10 could not be read"):
        opened.draw(progress=False)
    assert len(opened.draw(progress=False).members.rows) == N, "the same command goes on once the Hub is back"


def test_what_was_fetched_is_kept_and_a_broken_file_is_named(hub, tmp_path):
    cifar(hub)
    b = load_benchmark(edited(tmp_path, "ddpm-cifar10-public", PUBLIC))
    OpenBenchmark(b, cache=tmp_path / "cache").draw(progress=False)
    kept = sorted((tmp_path / "cache").rglob("*.parquet"))
    assert len(kept) == 2 and not list((tmp_path / "cache").rglob("*.tmp"))
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    with pytest.raises(SplitError, match=r"is broken .* delete it, and its images will be fetched again"):
        OpenBenchmark(b, cache=tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(SplitError, match="can't be made"):
        OpenBenchmark(b, cache=tmp_path / "file")
    with pytest.raises(SplitError, match="limit must be an integer ≥ 2; got 1"):
        OpenBenchmark(b, limit=1, cache=tmp_path / "cache")


def test_the_middle_is_cut_out_before_resizing(hub, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    assert np.array_equal(centre_square(open_image(png(pixels)), 140).pixels, pixels[39:179, 19:159])
    assert centre_square(open_image(png(pixels[:100])), 140).pixels.shape == (100, 140, 3)
    arrays = np.random.default_rng(1).integers(0, 256, (12, 22, 18, 3), dtype=np.uint8)
    member, other = np.random.default_rng(42).permutation(10)[[0, 4]]
    arrays[other, 4:18, 2:16] = arrays[member, 4:18, 2:16]  # alike where they are looked at, and nowhere else
    images = [png(pixels) for pixels in arrays]
    files = {"img_align+identity+attr/train-00000-of-00001.parquet": parquet({"image": images, "celeb_id": list(range(12))})}
    hub("dataset", "flwrlabs/celeba", files | {"README.md": card("img_align+identity+attr", train="img_align+identity+attr/train-*")})
    changes = {
        f"{part}.{field}": value for part in ("members", "nonmembers") for field, value in (("rows", 12), ("pool", 10), ("count", 4))
    }
    b = load_benchmark(edited(tmp_path, "ddpm-celeba", changes | {"nonmembers.first": 4, "centre_crop": 14}))
    drawn = OpenBenchmark(b, cache=tmp_path / "cache").draw(progress=False)
    assert {image.pixels.shape for image in drawn.split.images} == {(14, 14, 3)}
    assert drawn.nonmembers.missing == {ON_BOTH_SIDES: 1} and other not in drawn.nonmembers.rows and member in drawn.members.rows
    assert max(*drawn.members.rows, *drawn.nonmembers.rows) < 10
