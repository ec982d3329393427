"""Published settings: every file is sound, and one of each kind runs end to end on stand-ins that have the real data sets' layout."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import datasets
import numpy as np
import pytest
from PIL import Image
from support.loopback_web import Web
from support.tiny_pipelines import save

import mia_hub
from mia_hub.attacks import ATTACKS
from mia_hub.auditing.published_settings import BenchmarkError, list_benchmarks, load_benchmark
from mia_hub.auditing.published_settings.draw import candidates
from mia_hub.auditing.published_settings.pages import list_text, show_markdown
from mia_hub.auditing.published_settings.run import run_and_tell, run_benchmark
from mia_hub.auditing.published_settings.setting import PACKAGE, SETTINGS
from mia_hub.auditing.published_settings.sources import ON_BOTH_SIDES, Opened, cropped
from mia_hub.auditing.report import AuditReport
from mia_hub.cli import parser as cli
from mia_hub.errors import SplitError
from mia_hub.images.sources import open_image
from mia_hub.splits import hub_rows
from mia_hub.splits.image_store import COPY, NO_IMAGE
from mia_hub.system import web as fetching

NAMES = list_benchmarks()
# What the project has promised: members, non-members, resolution, how the model can be had.
PROMISED = {
    "demo-fashion-mnist": (512, 4000, 28, "package"),
    "ddpm-cifar10": (25_000, 25_000, 32, "train"),
    "ddpm-cifar100": (25_000, 25_000, 32, "train"),
    "ddpm-stl10": (50_000, 50_000, 32, "train"),
    "ddpm-celeba": (30_000, 30_000, 32, "train"),
    "ddpm-cifar10-public": (10_000, 10_000, 32, "hub"),
    "guided-imagenet": (3000, 3000, 256, "elsewhere"),
    "ldm-imagenet": (3000, 3000, 256, "elsewhere"),
    "dit-imagenet": (5000, 5000, 256, "hub"),
    "sd14-pokemon": (416, 417, 512, "train"),
    "sd14-coco": (2500, 2500, 512, "train"),
    "sd14-flickr30k": (10_000, 10_000, 512, "train"),
    "sd14-laion-mi": (5000, 5000, 512, "hub"),
    "sd15-laion-translated": (2500, 2500, 512, "hub"),
    "sd15-laion-coco": (2500, 2500, 512, "hub"),
}
# AUC of sima, pia, secmi, loss as SimA's authors published it, and of sima in the second version of their paper.
PUBLISHED = {
    "ddpm-cifar10": (0.905, 0.919, 0.897, 0.847, 0.9216),
    "ddpm-cifar100": (0.899, 0.896, 0.886, 0.822),
    "ddpm-stl10": (0.963, 0.963, 0.952, 0.914),
    "ddpm-celeba": (0.829, 0.822, 0.815, 0.760),
    "guided-imagenet": (0.898, 0.664, 0.826, 0.604),
    "ldm-imagenet": (0.561, 0.568, 0.569, 0.479),
    "sd14-pokemon": (0.930, 0.946, 0.879, 0.879, 0.9701),
    "sd14-coco": (0.678, 0.670, 0.702, 0.627, 0.9424),
    "sd14-flickr30k": (0.633, 0.626, 0.655, 0.589, 0.7223),
    "sd15-laion-translated": (0.633, 0.639, 0.586, 0.370),
    "sd15-laion-coco": (0.536, 0.522, 0.559, 0.493),
}
UNORDERED = {"ddpm-stl10", "ddpm-celeba", "sd15-laion-translated", "sd15-laion-coco"}
FAST = [{"name": "sima", "parameters": {"timesteps": [50, 100]}}, {"name": "pia", "parameters": {"timesteps": [100]}}]
N = 12


# The files


def test_every_promised_setting_is_there_with_its_sizes():
    found = {}
    for name in NAMES:
        b = load_benchmark(name)
        found[name] = (b.members.count, b.nonmembers.count, b.resolution, b.model.available)
    assert found == PROMISED


@pytest.mark.parametrize("name", NAMES)
def test_each_file_states_what_it_must(name):
    b = load_benchmark(name)
    for planned in b.attacks:
        attack = planned.build()
        assert attack.name == planned.name and attack.timesteps[-1] < 1000 and "timesteps" in planned.parameters
    assert b.title and b.preprocessing and b.told and b.shift.note
    for source in (b.members, b.nonmembers):
        if source.dataset != "demo":
            stated = json.loads((SETTINGS / f"{name}.json").read_text())
            assert "revision" in stated["members"] and "revision" in stated["nonmembers"] and "revision" not in ("main",)
            assert source.revision is None or "/" in source.revision, "nobody here can have seen a commit"
            assert any("Nobody here has reached the Hub" in note for note in b.notes)
    if b.model.available == "train":
        assert b.model.recipe["source"] and {"batch_size", "steps", "learning_rate", "horizontal_flips"} <= set(b.model.recipe)
    if b.model.conditioning == "text":
        assert b.members.caption_column and b.nonmembers.caption_column
    assert not re.search(r"/work|shared", (SETTINGS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_published_figures_have_source_and_positive_class_and_are_the_published_ones(name):
    published = load_benchmark(name).published
    assert all(p.attack in ATTACKS and p.source and p.positive and p.selection for p in published)
    assert tuple(p.value for p in published) == PUBLISHED.get(name, ())
    assert [p.attack for p in published] == ["sima", "pia", "secmi", "loss", "sima"][: len(published)]
    assert all(("unverified" in p.note) == (name in UNORDERED) for p in published)
    assert {p.metric for p in published} <= {"auc"}, "a TPR of swapped classes can't stand beside ours"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_shown_as_computed_that_was_not(name):
    b, page = load_benchmark(name), show_markdown(load_benchmark(name))
    assert set(b.computed) == {result.attack for result in b.results}, "a result that isn't there"
    for attack, values in b.computed.items():
        report = AuditReport.from_dict(values)
        assert report.attack.startswith(ATTACKS[attack].__name__ + "(") and attack in {planned.name for planned in b.attacks}
        assert report.model["id"] == b.model.id and report.selection["method"] == "calibration"
        assert (report.split["n_members"], report.split["n_nonmembers"]) == (b.members.count, b.nonmembers.count)
        assert str(report.auc) in page
    assert ("**Not computed here.**" in page) == (not b.computed)
    measured = re.findall(r"0\.\d{3} \[", page)
    assert bool(measured) == bool(b.computed), "an interval is the mark of a measurement of ours"
    assert all(f"{p.value:.3f}" in page or f"{p.value:.4f}" in page for p in b.published)


def test_only_the_demo_is_computed_so_far():
    assert [name for name in NAMES if load_benchmark(name).computed] == ["demo-fashion-mnist"]
    assert set(load_benchmark("demo-fashion-mnist").computed) == {"sima", "sima-cn"}
    assert (PACKAGE / "demo" / "audit.json").exists()


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_how_to_draw_the_same_rows(name):
    b, page = load_benchmark(name), show_markdown(load_benchmark(name))
    sources = [source for source in (b.members, b.nonmembers) if source.dataset != "demo"]
    plain = re.findall(r"- Rows: `numpy\.random\.default_rng\((\d+)\)\.permutation\((\w+)\)\[(\d+):(\d+)\]`\.", page)
    sifted = re.findall(r"- Rows: `\[(\d+):(\d+)\]` of `numpy\.random\.default_rng\((\d+)\)\.permutation\((\w+)\)`, once ", page)
    assert len(plain) == sum(not (s.where or s.per_class) for s in sources) and len(plain) + len(sifted) == len(sources)
    for source in sources:
        if not (source.where or source.per_class):
            seed, rows, first, last = plain.pop(0)
            n = 100_000 if rows == "number_of_rows" else int(rows)
            by_page = np.random.default_rng(int(seed)).permutation(n)[int(first) : int(last)]
            assert np.array_equal(by_page, candidates(source, n)[: source.count])


def test_list_is_one_line_each():
    text = list_text([load_benchmark(name) for name in NAMES])
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert set(NAMES) < set(lines) and all(len(line) < 130 for line in lines.values())
    assert re.search(r"  yes  +sima, sima-cn$", lines["demo-fashion-mnist"])
    assert lines["sd14-coco"].endswith("with the Hub and --model  not computed")


# Mistakes in a file


def edited(tmp_path, name, changes, stem="own"):
    """A setting's file with some values changed: {"members.count": 3, "notes": None}; None takes a field out."""
    values = json.loads((SETTINGS / f"{name}.json").read_text())
    for place, value in changes.items():
        *parents, last = place.split(".")
        target = values
        for parent in parents:
            target = target[int(parent) if isinstance(target, list) else parent]
        if value is None:
            target.pop(last)
        else:
            target[last] = value
    path = tmp_path / f"{stem}.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    "name, changes, says",
    [
        ("ddpm-cifar10", {"members.counts": 3}, "own.json, members has no field 'counts'. Did you mean 'count'?"),
        ("ddpm-cifar10", {"members.count": None}, "own.json, members lacks the field 'count'"),
        ("ddpm-cifar10", {"members.count": "2.5k"}, "own.json, members: count must be a whole number; got '2.5k'"),
        ("ddpm-cifar10", {"members.count": True}, "count must be a whole number; got True"),
        ("ddpm-cifar10", {"members.count": 1}, "own.json, members: count must be a whole number from 2 up; got 1"),
        ("ddpm-cifar10", {"members.count": 60_000}, "60,000 rows from 0 on are more than the 50,000 that there are"),
        ("ddpm-cifar10", {"members.dataset": "cifar10"}, "an id on the Hub of the form 'owner/name'; got 'cifar10'"),
        ("ddpm-cifar10", {"members.image_column": None}, "either image_column or url_column must be given"),
        ("ddpm-cifar10", {"members.url_column": "url"}, "either image_column or url_column must be given, and not both"),
        ("ddpm-cifar10", {"nonmembers.first": 24_999}, "own.json: members and non-members are overlapping ranges of one permutation"),
        ("ddpm-cifar10", {"nonmembers.seed": 1}, "must share seed, pool, per_class and where, or they may overlap"),
        ("ddpm-cifar10", {"model.available": "perhaps"}, "own.json, model: available must be one of 'package', 'hub', "),
        ("ddpm-cifar10", {"model.id": "a/b"}, "own.json, model: a model that is available as 'train' has no id; got 'a/b'"),
        ("ddpm-cifar10", {"model.recipe": None, "model.note": None}, "a recipe, or a note that says why there is none"),
        ("ddpm-cifar10", {"model.recipe.source": None}, "a recipe has a 'source'"),
        ("ddpm-cifar10", {"published.0.source": None}, "own.json, published[0] lacks the field 'source'"),
        ("ddpm-cifar10", {"published.0.positive": None}, "own.json, published[0] lacks the field 'positive'"),
        ("ddpm-cifar10", {"published.0.value": 90.5}, "own.json, published[0]: value must lie in [0, 1]; got 90.5"),
        ("ddpm-cifar10", {"published.0.metric": "accuracy"}, "metric must be one of 'auc', 'asr', 'tpr_at_1_fpr'; got 'accuracy'"),
        ("ddpm-cifar10", {"attacks": []}, "own.json: attacks must name one at least"),
        ("ddpm-cifar10", {"attacks": "sima"}, "own.json: attacks must be a list; got 'sima'"),
        ("ddpm-cifar10", {"attacks": [FAST[0], FAST[0]]}, "attacks name each attack once; got sima, sima"),
        ("ddpm-cifar10", {"attacks.0.parameters.timesteps": {"from": 0, "to": 10}}, "timesteps must be a list, or a grid"),
        ("ddpm-cifar10", {"members": [1]}, "own.json, members must be an object; got [1]"),
        ("sd14-coco", {"nonmembers.caption_column": None}, "a model conditioned on text needs a caption_column in members and nonmembers"),
        ("sd14-coco", {"members.replace_missing": True}, "own.json: replace_missing would draw members and non-members of"),
        ("dit-imagenet", {"members.class_column": None}, "own.json, members: per_class needs a class_column"),
        ("guided-imagenet", {"nonmembers.class_pattern": "("}, "class_pattern '(' is no regular expression"),
        ("guided-imagenet", {"nonmembers.class_pattern": r"\d+"}, "must have one group"),
        ("sd15-laion-coco", {"members.where.0.above": None}, "own.json, members, where[0]: a condition needs a column, and above"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_named_with_its_place(tmp_path, name, changes, says):
    with pytest.raises(BenchmarkError, match=re.escape(says)):
        load_benchmark(edited(tmp_path, name, changes))


def test_an_unknown_attack_and_a_file_that_is_none(tmp_path):
    wrong = load_benchmark(edited(tmp_path, "ddpm-cifar10", {"attacks.0.name": "simma"}))
    with pytest.raises(mia_hub.MiaHubError, match=r"There is no attack 'simma'\. Did you mean 'sima'\?"):
        run_benchmark(wrong)
    (tmp_path / "torn.json").write_text('{"title": ')
    with pytest.raises(BenchmarkError, match=r"torn\.json can't be read as JSON"):
        load_benchmark(tmp_path / "torn.json")
    with pytest.raises(BenchmarkError, match=r"absent\.json can't be read"):
        load_benchmark(tmp_path / "absent.json")


def test_an_unknown_name_suggests_the_nearest(capsys):
    with pytest.raises(BenchmarkError, match=r"no benchmark 'ddpm-cifar'\. Did you mean 'ddpm-cifar10'\? There are: ddpm-celeba, "):
        load_benchmark("ddpm-cifar")
    with pytest.raises(BenchmarkError, match=r"There is no benchmark '\.\./reading'"):
        load_benchmark("../reading")
    assert cli.main(["benchmark", "show", "sd14-pokemn"]) == 2
    assert "Did you mean 'sd14-pokemon'?" in capsys.readouterr().err


# Which rows are drawn


def test_seeds_and_ranges_are_those_of_the_authors_own_splits():
    """Their notebook draws with the library datasets and with numpy; the files claim the same rows."""

    def rows(name):
        b = load_benchmark(name)
        plain = [replace(s, where=()) for s in (b.members, b.nonmembers)]
        return [candidates(s, s.pool or s.rows or 31_014)[: s.count].tolist() for s in plain]

    numbers = datasets.Dataset.from_dict({"i": range(833)}).train_test_split(test_size=417, shuffle=True, seed=42)
    assert [sorted(part) for part in rows("sd14-pokemon")] == [sorted(numbers[part]["i"]) for part in ("train", "test")]
    for name, n, count in (("sd14-coco", 5000, 2500), ("sd14-flickr30k", 31_014, 10_000)):
        shuffled = datasets.Dataset.from_dict({"i": range(n)}).shuffle(seed=2025)["i"]
        assert rows(name) == [list(shuffled[:count]), list(shuffled[count : 2 * count])]
    halves = np.arange(60_000)
    np.random.default_rng(42).shuffle(halves)
    assert rows("ddpm-celeba") == [halves[:30_000].tolist(), halves[30_000:].tolist()]
    assert rows("sd15-laion-coco")[1] == rows("sd14-coco")[1]


def test_draws_are_disjoint_nested_and_checked():
    source = load_benchmark("dit-imagenet").members
    classes = np.random.default_rng(1).integers(0, 1000, 100_000)
    drawn = candidates(source, 100_000, classes=classes)[: source.count]
    assert set(Counter(classes[drawn].tolist()).values()) == {5} and len(set(drawn.tolist())) == 5000
    fulfils = classes % 2 == 0
    with pytest.raises(SplitError, match=r"has 2,500 rows that fulfil its conditions to draw from .* and 5,000 from 0 on are asked for"):
        candidates(source, 100_000, classes=classes, fulfils=fulfils)
    halves = load_benchmark("ddpm-cifar10")
    members, others = (candidates(s, 50_000)[: s.count] for s in (halves.members, halves.nonmembers))
    assert sorted([*members, *others]) == list(range(50_000))


# Stand-ins on the loopback Hub


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def noise(n, side=16, seed=0, dark=0):
    return [png(pixels) for pixels in np.random.default_rng(seed).integers(0, 256 - dark, (n, side, side, 3), dtype=np.uint8)]


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


def test_a_small_draw_reads_little_and_is_the_beginning_of_the_whole(hub, loopback_hub, tmp_path, monkeypatch):
    cifar(hub)
    b = load_benchmark(edited(tmp_path, "ddpm-cifar10-public", PUBLIC))
    monkeypatch.setattr(hub_rows, "SMALL_FILE", 0)
    loopback_hub.log.clear()
    few = Opened(b, limit=3, cache=tmp_path / "cache").draw(progress=False)
    asked = [entry for entry in loopback_hub.log if entry.method == "GET" and entry.path.endswith(".parquet")]
    assert all(entry.range for entry in asked), "whole files were fetched for three rows"
    # The footers of three files, and of 12 row groups those that hold the six rows.
    assert 3 < len(asked) <= 3 + 6
    whole = Opened(b, cache=tmp_path / "cache").draw(progress=False)
    assert set(few.members.rows) < set(whole.members.rows) and set(few.nonmembers.rows) < set(whole.nonmembers.rows)
    assert len(few.split.members) == 3 and ids_of(few.split.members) < ids_of(whole.split.members)
    again = Opened(b, cache=tmp_path / "elsewhere").draw(progress=False)
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
    done = run_and_tell(file, model=str(model), cache=tmp_path, device="cpu", progress=False)
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
    done = run_and_tell(edited(tmp_path, "dit-imagenet", changes), cache=tmp_path / "cache", device="cpu", progress=False)
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
    opened = Opened(load_benchmark(file), cache=tmp_path / "cache").draw(progress=False)
    assert Counter(opened.split.classes[10:]) == {c: 3 for c in range(5)}
    assert all(row // 6 == label for row, label in zip(opened.nonmembers.rows, opened.split.classes[10:]))
    wrong = load_benchmark(edited(tmp_path, "guided-imagenet", changes | {"nonmembers.class_pattern": "x(.)x"}))
    with pytest.raises(SplitError, match=r"holds 'imagenetv2-matched-frequency-format-val/0/0000', which is no class index by the pattern"):
        Opened(wrong, cache=tmp_path / "cache").draw(progress=False)


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
    done = run_and_tell(file, model=str(save("sd1", tmp_path / "sd")), cache=tmp_path / "cache", device="cpu", progress=False)
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
    drawn = Opened(b, cache=tmp_path / "cache").draw(progress=False)
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

    few = Opened(load_benchmark(file), limit=10, cache=cache).draw(progress=False)
    assert (few.members.tried, few.nonmembers.tried) == (10, 10) and set(few.members.rows) < set(range(20)), "missing ones were replaced"

    # A server that was busy is asked again; what was had, and what is gone for good, is not.
    web.asked.clear()
    web.mended = True
    again = Opened(load_benchmark(file), cache=cache).draw(progress=False)
    assert web.asked == ["/busy/5"] and len(again.members.rows) == 14 and "HTTP 503" not in again.members.missing
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
    drawn = Opened(b, cache=tmp_path / "cache").draw(progress=False)
    assert len(drawn.members.rows) == 5 and all(row % 3 == 0 and row % 5 and row % 7 and row < 36 for row in drawn.members.rows)
    order = [row for row in np.random.default_rng(2025).permutation(36) if row % 5 and row % 7]
    good = [row for row in order if row % 3 == 0]
    assert set(drawn.members.rows) == set(good[:5]), "the next of the permutation takes the place of a missing one"
    assert set(drawn.members.missing) == {"HTTP 404", "too small"} and drawn.members.tried == order.index(good[4]) + 1
    assert list(drawn.split.captions[5:]) == [f"c{row}" for row in drawn.nonmembers.rows]
    with pytest.raises(SplitError, match=r"No image is left of the members of own: 0 of \d+ tried \(\d+ HTTP 404"):
        monkeypatch.setattr(fetching, "_quoted", lambda address: f"{web.url}/gone/1")
        Opened(b, cache=tmp_path / "other").draw(progress=False)


def test_addresses_that_lead_nowhere_or_elsewhere(web, monkeypatch):
    assert fetching.fetch(f"{web.url}/good/1").content == noise(64, 20, 7)[1]
    assert fetching.fetch(f"{web.url}/good/1/ä b%20c?d=é").content and web.asked[-1] == "/good/1/%C3%A4%20b%20c?d=%C3%A9"
    assert fetching.fetch(f"{web.url}/moved/1").content == noise(64, 20, 7)[1] and web.asked[-1].startswith("/good/1?a=%")
    for address in (
        "file:///etc/hostname",
        "ftp://x/y.png",
        "data:image/png;base64,AA",
        "/etc/hostname",
        "http://",
        "http://a b:x/",
        "",
        "http://[::1",
    ):
        found = fetching.fetch(address)
        assert (found.content, found.reason, found.lasting) == (None, "no web address", True), address
    away = fetching.fetch(f"{web.url}/away/1")
    assert away.content is None and away.reason == "HTTP 302"
    assert fetching.fetch("http://127.0.0.1:9/x.png") == fetching.FetchResult(reason="no answer", lasting=False)
    silent = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler, bind_and_activate=True)  # accepts, and never answers
    monkeypatch.setattr(fetching, "ANSWER_SECONDS", 0.2)
    assert fetching.fetch(f"http://127.0.0.1:{silent.server_address[1]}/x.png") == fetching.FetchResult(reason="no answer", lasting=False)
    silent.server_close()
    for most in (50_000, 20):  # a length that was announced, and one that wasn't
        with monkeypatch.context() as patched:
            patched.setattr(fetching, "MOST_BYTES", most)
            assert fetching.fetch(f"{web.url}/{'huge' if most > 20 else 'good'}/1") == fetching.FetchResult(reason="too large")
    monkeypatch.setattr(fetching, "ANSWER_SECONDS", 10.0)
    monkeypatch.setattr(fetching, "IMAGE_SECONDS", -1.0)
    assert fetching.fetch(f"{web.url}/good/1") == fetching.FetchResult(reason="too slow", lasting=False)


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


def test_show_and_list_on_the_command_line(capsys):
    assert cli.main(["benchmark", "list"]) == 0
    assert capsys.readouterr().out.count("not computed") == len(NAMES) - 1
    assert cli.main(["benchmark", "show", "demo-fashion-mnist"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("# The embedded demo") and "Computed here: sima, sima-cn." in page and "0.932 [0.918, 0.944]" in page
    with pytest.raises(SystemExit):
        cli.main(["benchmark"])
    assert "the following arguments are required: ACTION" in capsys.readouterr().err


# Data sets that are not as the file says


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"members.image_column": "image"}, "has no column 'image' in its split 'train'; it has img, label"),
        ({"members.split": "training"}, "has no split 'training'; it has train, test"),
        ({"members.rows": 41}, "has 40 rows at commit .*, and 41 are expected"),
        ({"members.rows": 40_000, "members.count": 12_000}, "has 40 rows at commit .*, and 40,000 are expected"),
        ({"members.rows": None, "members.count": 41}, "has 40 rows to draw from in its split 'train', and 41 from 0 on are asked for"),
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
        Opened(load_benchmark(file), cache=tmp_path / "cache")


def test_a_gated_data_set_and_a_hub_that_fails(loopback_hub, hub, tmp_path):
    imagenet(hub, gated=True)
    b = load_benchmark(edited(tmp_path, "dit-imagenet", CLASSES))
    with pytest.raises(SplitError, match=r"The data set ILSVRC/imagenet-1k is gated: accept its terms on https://"):
        Opened(b, cache=tmp_path / "cache")
    cifar(hub)
    b = load_benchmark(edited(tmp_path, "ddpm-cifar10-public", PUBLIC))
    opened = Opened(b, cache=tmp_path / "cache")
    with loopback_hub.broken(403), pytest.raises(SplitError, match="The data set uoft-cs/cifar10 could not be read"):
        opened.draw(progress=False)
    assert len(opened.draw(progress=False).members.rows) == N, "the same command goes on once the Hub is back"


def test_what_was_fetched_is_kept_and_a_broken_file_is_named(hub, tmp_path):
    cifar(hub)
    b = load_benchmark(edited(tmp_path, "ddpm-cifar10-public", PUBLIC))
    Opened(b, cache=tmp_path / "cache").draw(progress=False)
    kept = sorted((tmp_path / "cache").rglob("*.parquet"))
    assert len(kept) == 2 and not list((tmp_path / "cache").rglob("*.tmp"))
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    with pytest.raises(SplitError, match=r"is broken .* delete it, and its images are fetched again"):
        Opened(b, cache=tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(SplitError, match="can't be made"):
        Opened(b, cache=tmp_path / "file")
    with pytest.raises(SplitError, match="limit must be a whole number from 2 up; got 1"):
        Opened(b, limit=1, cache=tmp_path / "cache")


def test_the_middle_is_cut_out_before_resizing(hub, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    assert np.array_equal(cropped(open_image(png(pixels)), 140).pixels, pixels[39:179, 19:159])
    assert cropped(open_image(png(pixels[:100])), 140).pixels.shape == (100, 140, 3)
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
    drawn = Opened(b, cache=tmp_path / "cache").draw(progress=False)
    assert {image.pixels.shape for image in drawn.split.images} == {(14, 14, 3)}
    assert drawn.nonmembers.missing == {ON_BOTH_SIDES: 1} and other not in drawn.nonmembers.rows and member in drawn.members.rows
    assert max(*drawn.members.rows, *drawn.nonmembers.rows) < 10
