"""Published settings: every file is sound, and its page says what it is."""

from __future__ import annotations

import json
import re
from collections import Counter

import datasets
import numpy as np
import pytest
from support.edited_settings import FAST, edited

import mia_hub
from mia_hub.attacks import ATTACKS
from mia_hub.auditing.published_settings import BenchmarkError, list_benchmarks, load_benchmark
from mia_hub.auditing.published_settings.draw_order import draw_order
from mia_hub.auditing.published_settings.pages import list_text, show_markdown
from mia_hub.auditing.published_settings.run import run_benchmark
from mia_hub.auditing.published_settings.setting import SETTINGS
from mia_hub.auditing.report import AuditReport
from mia_hub.cli import parser as cli
from mia_hub.defaults import PACKAGE_FOLDER
from mia_hub.errors import SplitError

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
    assert b.title and b.preprocessing and b.condition and b.shift.note
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
    assert (PACKAGE_FOLDER / "demo" / "audit.json").exists()


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
            assert np.array_equal(by_page, draw_order(source, n)[: source.count])


def test_list_is_one_line_each():
    text = list_text([load_benchmark(name) for name in NAMES])
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert set(NAMES) < set(lines) and all(len(line) < 130 for line in lines.values())
    assert re.search(r"  yes  +sima, sima-cn$", lines["demo-fashion-mnist"])
    assert lines["sd14-coco"].endswith("with the Hub and --model  not computed")


# Mistakes in a file


@pytest.mark.parametrize(
    "name, changes, says",
    [
        ("ddpm-cifar10", {"members.counts": 3}, "own.json: members has no field 'counts'. Did you mean 'count'?"),
        ("ddpm-cifar10", {"members.count": None}, "own.json: members lacks the field 'count'"),
        ("ddpm-cifar10", {"members.count": "2.5k"}, "own.json: members.count must be an integer; got '2.5k'"),
        ("ddpm-cifar10", {"members.count": True}, "count must be an integer; got True"),
        ("ddpm-cifar10", {"members.count": 1}, "own.json: members.count must be at least 2; got 1"),
        ("ddpm-cifar10", {"members.count": 60_000}, "60,000 rows from 0 on are more than the 50,000 that there are"),
        ("ddpm-cifar10", {"members.dataset": "cifar10"}, "an id on the Hub of the form 'owner/name'; got 'cifar10'"),
        ("ddpm-cifar10", {"members.image_column": None}, "either image_column or url_column must be given"),
        ("ddpm-cifar10", {"members.url_column": "url"}, "either image_column or url_column must be given, and not both"),
        ("ddpm-cifar10", {"nonmembers.first": 24_999}, "own.json: members and non-members are overlapping ranges of one permutation"),
        ("ddpm-cifar10", {"nonmembers.seed": 1}, "must share seed, pool, per_class and where, or they may overlap"),
        ("ddpm-cifar10", {"model.available": "perhaps"}, "own.json: model.available must be 'package', 'hub', "),
        ("ddpm-cifar10", {"model.id": "a/b"}, "own.json: model: a model that is available as 'train' has no id; got 'a/b'"),
        ("ddpm-cifar10", {"model.recipe": None, "model.note": None}, "a recipe, or a note that says why there is none"),
        ("ddpm-cifar10", {"model.recipe.source": None}, "a recipe has a 'source'"),
        ("ddpm-cifar10", {"published.0.source": None}, "own.json: published[0] lacks the field 'source'"),
        ("ddpm-cifar10", {"published.0.positive": None}, "own.json: published[0] lacks the field 'positive'"),
        ("ddpm-cifar10", {"published.0.value": 90.5}, "own.json: published[0]: value must lie in [0, 1]; got 90.5"),
        ("ddpm-cifar10", {"published.0.metric": "accuracy"}, "metric must be 'auc', 'asr' or 'tpr_at_1_fpr'; got 'accuracy'"),
        ("ddpm-cifar10", {"attacks": []}, "own.json: attacks must name one at least"),
        ("ddpm-cifar10", {"attacks": "sima"}, "own.json: attacks must be a list; got 'sima'"),
        ("ddpm-cifar10", {"attacks": [FAST[0], FAST[0]]}, "attacks name each attack once; got sima, sima"),
        ("ddpm-cifar10", {"attacks.0.parameters.timesteps": {"from": 0, "to": 10}}, "timesteps must be a list, or a grid"),
        ("ddpm-cifar10", {"members": [1]}, "own.json: members must be a JSON object; got [1]"),
        ("sd14-coco", {"nonmembers.caption_column": None}, "a model conditioned on text needs a caption_column in members and nonmembers"),
        ("sd14-coco", {"members.replace_missing": True}, "own.json: replace_missing would draw members and non-members of"),
        ("dit-imagenet", {"members.class_column": None}, "own.json: members: per_class needs a class_column"),
        ("guided-imagenet", {"nonmembers.class_pattern": "("}, "class_pattern '(' is no regular expression"),
        ("guided-imagenet", {"nonmembers.class_pattern": r"\d+"}, "must have one group"),
        ("sd15-laion-coco", {"members.where.0.above": None}, "own.json: members.where[0]: a condition needs a column, and above"),
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
        plain = [s.model_copy(update={"where": ()}) for s in (b.members, b.nonmembers)]
        return [draw_order(s, s.pool or s.rows or 31_014)[: s.count].tolist() for s in plain]

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
    drawn = draw_order(source, 100_000, classes=classes)[: source.count]
    assert set(Counter(classes[drawn].tolist()).values()) == {5} and len(set(drawn.tolist())) == 5000
    fulfils = classes % 2 == 0
    with pytest.raises(SplitError, match=r"has 2,500 rows that fulfil its conditions to draw from .* and 5,000 from 0 on are needed"):
        draw_order(source, 100_000, classes=classes, eligible=fulfils)
    halves = load_benchmark("ddpm-cifar10")
    members, others = (draw_order(s, 50_000)[: s.count] for s in (halves.members, halves.nonmembers))
    assert sorted([*members, *others]) == list(range(50_000))


def test_show_and_list_on_the_command_line(capsys):
    assert cli.main(["benchmark", "list"]) == 0
    assert capsys.readouterr().out.count("not computed") == len(NAMES) - 1
    assert cli.main(["benchmark", "show", "demo-fashion-mnist"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("# The embedded demo") and "Computed here: sima, sima-cn." in page and "0.932 [0.918, 0.944]" in page
    with pytest.raises(SystemExit):
        cli.main(["benchmark"])
    assert "the following arguments are required: ACTION" in capsys.readouterr().err
