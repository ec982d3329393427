"""The advice of messages works: each suggestion is tried, and every command, option and name in a text exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from support.advice import commands, texts, wrong_with
from support.command_line import leaf_parsers

import mia_hub
from leaderboard.worker.command import worker_parser
from mia_hub.attacks import get_attack, list_attacks
from mia_hub.attacks.spelling import parse_attack, parse_parameters
from mia_hub.auditing.measurement import measure
from mia_hub.errors import AttackError, MetricError, MiaHubError, ModelError
from mia_hub.metrics.p_values import null_rows
from mia_hub.metrics.roc import legacy_swapped_tpr, tpr_at_fpr
from mia_hub.metrics.set_tests import compare_sets
from mia_hub.models.denoiser import FunctionModel
from mia_hub.models.families.pixel import check_size
from mia_hub.models.protocol import ModelInfo
from mia_hub.models.schedule import NoiseSchedule
from mia_hub.scores import ScoreTable

ROOT = Path(__file__).parents[1]
SHAPE = (1, 8, 8)


# Timesteps, steps and numbers of samples, on schedules of all lengths


class Half(torch.nn.Module):
    """A denoiser of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x, t, cond=None):
        return x * self.weight


@cache
def model(schedule: str, conditioning: str = "none") -> FunctionModel:
    """A model with a schedule such as "linear 100"; "zero 50" and "dark 50" (of v and of ε), and "flow 1000", end in pure noise."""
    kind, steps = schedule.split()
    alphas = torch.linspace(0.999, 0.01, int(steps)).double()
    if kind in ("zero", "dark"):
        alphas[-1] = 0
    noises = NoiseSchedule.rectified_flow(int(steps)) if kind == "flow" else NoiseSchedule.from_alphas_cumprod(alphas)
    prediction = {"flow": "flow_prediction", "zero": "v_prediction"}.get(kind, "epsilon")
    info = ModelInfo(id="half", revision=None, family="function", sample_shape=SHAPE, num_train_timesteps=int(steps))
    info = mia_hub.models.denoiser.replace(info, prediction_type=prediction, conditioning=conditioning)
    condition = None if conditioning == "none" else lambda captions: torch.zeros(len(captions), 1)
    one, base, other = (FunctionModel(Half(), noises, info, torch.float32, condition) for _ in range(3))
    return mia_hub.load_model(one, base=base, reference_models=[other])


def refusal(name: str, schedule: str, parameters: dict, *, run: bool = False) -> str | None:
    """The message where an attack refuses a model; None where it takes it and, if asked for, has been run."""
    try:
        attack = get_attack(name, **parameters)
        captions = ["a", "b", "c"] if attack.needs_caption or attack.needs_text else None
        checked = model(schedule, "text" if captions else "none")
        attack.check(checked, captions)
    except AttackError as error:
        return str(error)
    if run and not (attack.needs_training or attack.needs_gradients or attack.setup_queries or attack.queries_per_image > 400):
        images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
        assert np.isfinite(attack.score(checked, images, captions=captions, progress=False).scores).all()
    return None


def suggestions(message: str, parameters: dict) -> list[dict]:
    """The parameters that a message suggests in place of some."""
    choices = []
    if nearest := re.search(r"The nearest (?:is|are) ([\d, ]+)", message):
        choices += [{"timesteps": (int(t),)} for t in re.findall(r"\d+", nearest[1])]
    if window := re.search(r"aggregate='sum'(?: and timesteps up to (\d+))?", message):
        choices.append({"aggregate": "sum"} | ({"timesteps": (int(window[1]),)} if window[1] else {}))
    elif together := re.search(r"choose k=(\d+) and timesteps up to (\d+)", message):
        choices.append({"k": int(together[1]), "timesteps": (int(together[2]),)})
    else:
        choices += [{"timesteps": (int(t),)} for t in re.findall(r"timesteps up to (\d+)", message)]
        choices += [{"k": int(k)} for k in re.findall(r"(?:choose|or) k=(\d+)", message)]
    choices += [{"steps": int(steps)} for steps in re.findall(r"sample with (\d+) or fewer", message)]
    choices += [{"neighbours": int(n)} for n in re.findall(r"choose (\d+) or fewer", message)]
    if integers := re.search(r"timesteps must be integers, such as \(([\d, ]+)\)", message):
        choices.append({"timesteps": tuple(map(int, re.findall(r"\d+", integers[1])))})
    if one := re.search(r"of one timestep, such as timesteps=\((\d+),\)", message):
        choices.append({"timesteps": (int(one[1]),)})
    if total := re.search(r"timesteps=range\((\d+)\)", message):
        choices.append({"timesteps": range(int(total[1]))})
    return [parameters | choice for choice in choices]


SCHEDULES = [f"{kind} {steps}" for kind in ("linear", "zero", "dark", "flow") for steps in (1000, 100, 50, 10)]
QUERYING = [name for name in list_attacks() if name not in ("combine", "random")]
RUN_ON = ("linear 100", "flow 50", "zero 10")
# What is tried beside timesteps at and beyond the schedule's end: (attack, parameters).
BESIDE = [
    *(("secmi", {"timesteps": (t,), "k": k}) for t, k in [(990, 10), (997, 7), (0, 1000), (0, 999), (500, 500)]),
    *(("secmi", {"timesteps": (t,), "k": k}) for t, k in [(0, 5), (8, 4), (95, 10), (999, 10), (3, 2000), (999, 2000)]),
    ("secmi", {"timesteps": (90, 95, 101)}),
    ("secmi", {"k": 7}),
    ("secmi-nns", {"timesteps": (45,)}),
    ("secmi-nns", {"timesteps": "all"}),
    ("secmi", {"timesteps": "all"}),
    ("sima", {"timesteps": 1.5}),
    ("forensics-vlb", {"aggregate": "total"}),
    ("forensics-vlb", {"aggregate": "total", "timesteps": range(1000)}),
    ("forensics-vlb", {"aggregate": "total", "timesteps": range(50)}),
    ("nearest-generated", {"steps": 5000}),
    ("nearest-generated", {"neighbours": 5000, "steps": 1}),
]  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_suggested_value_of_a_parameter_is_accepted(schedule):
    steps, run = int(schedule.split()[1]), schedule in RUN_ON
    ends = [(steps - 1,), (steps,), (steps + 7,), (0, steps + 7)]
    small = {"steps": 1}  # of attacks that sample
    tried = [(name, {"timesteps": t} | (small if "steps" in get_attack(name).parameters() else {})) for name in QUERYING for t in ends]
    refused = 0
    for name, parameters in [*tried, *((name, {}) for name in QUERYING), *BESIDE]:
        message = refusal(name, schedule, parameters)
        if message is None:
            continue
        refused += 1
        choices = suggestions(message, parameters)
        assert choices, f"{name} {parameters}: no advice in {message!r}"
        # Advice that was given before the model was known, or about another parameter, may meet a further refusal, whose advice must do.
        final = ("timesteps up to" in message and "On a schedule" not in message) or (steps == 1000 and "nearest" in message)
        for choice in choices:
            again = refusal(name, schedule, choice, run=run)
            if again is not None and not final and schedule != "flow 1000":
                assert again != message
                again = min((refusal(name, schedule, last, run=run) or "" for last in suggestions(again, choice)), default=again)
            assert not again, f"{name} {choice}: {message!r}, then {again!r}"
    assert refused > len(QUERYING)


# Numbers of images


def table(members: int, nonmembers: int) -> ScoreTable:
    rng = np.random.default_rng(0)
    total = members + nonmembers
    return ScoreTable(
        ids=[f"sha256:{row:064x}" for row in range(total)],
        is_member=np.repeat([1, 0], [members, nonmembers]),
        timesteps=np.array([10, 20]),
        scores=rng.normal(size=(total, 2)),
        attack="sima",
        model="demo",
        split="demo",
        seed=0,
    )


def plain(members: int, nonmembers: int) -> tuple[np.ndarray, np.ndarray]:
    one = table(members, nonmembers)
    return one.scores[:, 0], one.is_member


@pytest.mark.parametrize(
    ("run", "patterns"),
    [
        *(
            (
                lambda n, options=options: measure(table(n, n), **options),
                (r"at least (\d+) of each", r"(\d+) in all", r"At least (\d+) non"),
            )
            for options in (
                {},
                {"calibration_fraction": 0.1},
                {"calibration_fraction": 0.37},
                {"calibration_fraction": 0.9},
                {"fprs": (0.01,)},
                {"fprs": (0.03,), "calibration_fraction": 0.2},
                {"fprs": (0.03,), "calibration_fraction": 0.85},
                {"fprs": (0.01,), "timestep": 10},
                {"fprs": (0.01,), "timestep": 10, "fitted": True},
                {"fprs": (0.01,), "selection": "oracle"},
            )
        ),
        (lambda n: tpr_at_fpr(*plain(3, n), 0.03), (r"At least (\d+) non-members",)),
        (lambda n: legacy_swapped_tpr(*plain(n, 3), 0.03), (r"At least (\d+) members",)),
        (lambda n: null_rows(np.zeros(n)), (r"give at least (\d+)",)),
        (lambda n: compare_sets(np.arange(6.0), np.arange(float(n))), (r"at least (\d+) are needed",)),
        (lambda n: compare_sets(np.arange(float(n)), np.arange(30.0)), (r"give at least (\d+)",)),
    ],
)
def test_the_number_that_is_asked_for_is_enough_and_no_more_than_needed(run, patterns):
    n, tries = 1, []
    while len(tries) < 5:
        try:
            run(n)
            break
        except MetricError as error:
            needed = int(next(match[1] for each in patterns if (match := re.search(each, str(error)))))
            assert needed > n, str(error)
            tries.append(n := needed)
    assert 1 <= len(tries) <= 2, "one message for the parts, and one for the rate"
    with pytest.raises(MetricError):
        run(n - 1)


@pytest.mark.parametrize("unit", [4, 8, 16])
@pytest.mark.parametrize("size", [0, 1, -5, 7, 33, 12.0, 30.9, 1e6, float("inf"), float("nan"), True, "32", None, (32, 32)])
def test_the_suggested_size_is_accepted(size, unit):
    with pytest.raises(ModelError) as refused:
        check_size(size, unit, "half")
    check_size(int(re.search(r"Try size=(\d+)\.", str(refused.value))[1]), unit, "half")


# Spelling


@pytest.mark.parametrize("name", list_attacks())
def test_a_mistyped_attack_or_parameter_is_met_with_one_that_exists(name):
    with pytest.raises(AttackError) as refused:
        get_attack(f"{name}x")
    for known in [
        *re.findall(r"Did you mean '([^']+)'", str(refused.value)),
        *str(refused.value).partition("Known are: ")[2].rstrip(".").split(", "),
    ]:
        assert get_attack(known).name == known
    defaults = get_attack(name).parameters()
    with pytest.raises(AttackError) as refused:
        get_attack(name, timestepz=1)
    suggested = re.findall(r"Did you mean '([^']+)'", str(refused.value))
    assert suggested == ["timesteps"]
    for parameter in str(refused.value).partition("It takes: ")[2].rstrip(".").split(", "):
        if name != "combine" or parameter != "timesteps":
            get_attack(name, **{parameter: defaults[parameter]})


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (parse_attack, "sima:p"),
        (parse_attack, "sima-mc:=4"),
        (lambda text: parse_parameters([text]), "p"),
        (lambda text: parse_parameters([text]), "=5"),
    ],
)
def test_the_examples_of_an_attack_in_text_are_read(run, text):
    with pytest.raises(MiaHubError) as refused:
        run(text)
    examples = re.search(r"such as (.+?); got", str(refused.value))[1].split(" or ")
    for example in examples:
        assert run(example)


# Commands, options and names in texts


# Commands and options of other programs.
FOREIGN_COMMAND = re.compile(r"(?:['`]|\b)(?:hf|pip|git|uv|accelerate) [^'`]*['`]")
FOREIGN = {"--upgrade", "--python", "--no-project", "--with", "--name-only", "--show-toplevel"}


@cache
def all_texts() -> list[tuple[str, str]]:
    return [pair for package in ("mia_hub", "leaderboard") for pair in texts(ROOT / package)]


def test_each_command_in_a_text_exists_and_takes_its_options():
    wrong = [(place, problem) for place, text in all_texts() for words in commands(text) if (problem := wrong_with(words))]
    assert wrong == []
    assert sum(bool(commands(text)) for _, text in all_texts()) > 10


def test_each_option_in_a_text_exists():
    parsers = [*(parser for _, parser in leaf_parsers()), worker_parser()]
    known = {option for parser in parsers for option in parser._option_string_actions} | FOREIGN | {"--version", "--into"}
    named = {
        (option, place) for place, text in all_texts() for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", FOREIGN_COMMAND.sub("", text))
    }
    assert {pair for pair in named if pair[0] not in known} == set()


def test_each_name_in_a_message_exists():
    def exists(name: str) -> bool:
        first, *rest = name.split(".")
        place = ROOT / first
        while rest and ((place / rest[0]).is_dir() or (place / f"{rest[0]}.py").is_file()):
            place /= rest.pop(0)
        source = (place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_text(encoding="utf-8")
        return all(re.search(rf"\b{part}\b", source) for part in rest[:1])

    messages = [(place, text) for place, text in all_texts() if "\n" not in text and " " in text]
    named = {(name, place) for place, text in messages for name in re.findall(r"(?<![\w.])mia_hub(?:\.[A-Za-z_]+)+", text)}
    assert {pair for pair in named if not exists(pair[0])} == set()
    modules = {name for _, text in all_texts() for name in re.findall(r"python -m ((?:leaderboard|mia_hub)[\w.]*[\w])", text)}
    assert modules and all(exists(name) for name in modules)
