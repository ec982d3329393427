"""The training monitor: the figures of an audit, nothing of the training run changed, a curve that resumes, and what is refused."""

from __future__ import annotations

import json
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from support.blobs import SIMA, blobs, perfect_memory
from support.tiny_pipelines import build, save_pipeline

import mia_hub
from mia_hub.auditing.monitor_log import MonitoredStep
from mia_hub.errors import MiaHubError

ATTACK = mia_hub.get_attack("sima", timesteps=[40])
GRID = mia_hub.get_attack("sima", timesteps=[10, 40])


def sides(n: int = 30, size: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {side: rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8) for side in ("members", "nonmembers")}


def split_of(**options):
    return mia_hub.make_split(**sides(**options))


def monitor_of(split=None, **options):
    return mia_hub.TrainingMonitor(split or split_of(), **{"attack": ATTACK, "shift_check": False, **options})


def alone():
    pipeline = build("ddpm")
    return (pipeline.unet, pipeline.scheduler), pipeline


def whole(name):
    pipeline = build(name)
    return (pipeline,), pipeline


def prepared():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    pipeline = build("ddpm")
    AcceleratorState._reset_state(reset_partial_state=True)
    network = Accelerator(cpu=True, mixed_precision="bf16").prepare_model(pipeline.unet)
    AcceleratorState._reset_state(reset_partial_state=True)
    return (network, pipeline.scheduler), pipeline


def parallel():
    pipeline = build("ddpm")
    return (torch.nn.DataParallel(pipeline.unet), pipeline.scheduler), pipeline


FORMS = {
    "network": alone,
    "pipeline": lambda: whole("ddpm"),
    "prepared": prepared,
    "parallel": parallel,
    "latent": lambda: whole("ldm-kl"),
    "text": lambda: whole("sd1"),
}


def networks_of(pipeline) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


@pytest.mark.parametrize(("form", "attack"), [*((form, ATTACK) for form in FORMS), ("network", GRID)])
def test_the_figures_are_those_of_an_audit_of_the_saved_checkpoint(form, attack, tmp_path):
    given, pipeline = FORMS[form]()
    seen = monitor_of(attack=attack, fprs=[0.1])(3, *given)
    model = mia_hub.load_model(str(save_pipeline(pipeline, tmp_path)), device="cpu")
    fixed = {"timestep": 40} if attack is ATTACK else {}
    report = mia_hub.audit(model, attack, split_of(), **fixed, fprs=[0.1], shift_check=False, progress=False)
    np.testing.assert_allclose(seen.scores.scores, report.scores.scores, rtol=1e-5)
    assert seen.scores.ids == report.scores.ids
    assert (seen.auc, seen.asr, seen.tpr_at_fpr, seen.timestep) == (report.auc, report.asr, report.tpr_at_fpr, report.timestep)
    assert seen.epsilon == report.epsilon and (seen.epsilon is None or seen.epsilon.method == "clopper-pearson")


@pytest.mark.parametrize("form", FORMS)
def test_the_training_run_is_left_as_it_was(form):
    given, pipeline = FORMS[form]()
    networks = networks_of(pipeline)
    for name, network in networks.items():
        network.train(name == "unet")
        network.requires_grad_(name == "unet")
    next(pipeline.unet.children()).eval()  # a part that the caller keeps in eval mode
    if form == "latent":
        networks["vqvae"].to(torch.float64)  # another precision than the denoiser's
    for p in pipeline.unet.parameters():
        p.grad = torch.full_like(p, 0.5)
    tensors = [(t, t.data_ptr(), t.dtype, t.clone()) for network in networks.values() for t in network.state_dict(keep_vars=True).values()]
    modes = [(module, module.training) for network in networks.values() for module in network.modules()]
    wanted = [(p, p.requires_grad) for network in networks.values() for p in network.parameters()]
    forward = pipeline.unet.__dict__.get("forward")

    torch.manual_seed(5), np.random.seed(6), random.seed(7)
    expected = torch.rand(3), np.random.rand(3), [random.random() for _ in range(3)]
    torch.manual_seed(5), np.random.seed(6), random.seed(7)
    monitor_of()(0, *given)
    assert torch.equal(torch.rand(3), expected[0]) and np.array_equal(np.random.rand(3), expected[1])
    assert [random.random() for _ in range(3)] == expected[2]

    assert all(module.training == mode for module, mode in modes)
    assert all(p.requires_grad == before for p, before in wanted)
    assert all(torch.equal(p.grad, torch.full_like(p, 0.5)) for p in pipeline.unet.parameters())
    for tensor, pointer, dtype, values in tensors:
        assert tensor.data_ptr() == pointer and tensor.dtype == dtype and torch.equal(tensor, values)
    assert pipeline.unet.__dict__.get("forward") is forward


def test_dropout_is_off_and_autocast_has_no_part():
    torch.manual_seed(0)
    options = {
        "sample_size": 16,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "layers_per_block": 1,
    }
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    network, scheduler, monitor = UNet2DModel(**options, **blocks, dropout=0.5).train(), DDPMScheduler(), monitor_of()
    first = monitor(0, network, scheduler).scores.scores
    with torch.autocast("cpu", torch.bfloat16):
        second = monitor(1, network, scheduler).scores.scores
    assert np.array_equal(first, second) and network.training


@pytest.fixture(scope="module")
def memory():
    """A network that has learned nothing, and one that knows the members by heart."""
    members = blobs(60, 0)
    split = mia_hub.make_split(members, blobs(60, 1), name="blobs")
    know_nothing = mia_hub.wrap_denoiser(
        lambda x, t: torch.tanh(3 * x), np.linspace(0.999, 0.01, 1000), sample_shape=(1, *members.shape[1:])
    )
    return split, know_nothing, perfect_memory(members)


def test_the_stop_rule_and_the_warnings(memory):
    split, innocent, guilty = memory
    monitor = monitor_of(split, attack=SIMA, warn_above="auc=.6", stop_above=["auc=.7", "asr=.99"])
    quiet = monitor(1, innocent)
    assert not quiet.warnings and not quiet.stops and not monitor.should_stop and quiet.auc.low < 0.6
    with pytest.warns(UserWarning, match=r"At step 2, AUC 1\.000 .* is above the limit 0\.[67]"):
        loud = monitor(2, guilty)
    assert monitor.should_stop and len(loud.warnings) == 1 and loud.stops[0].startswith("AUC 1.000")
    monitor(3, innocent)
    assert monitor.should_stop  # from then on
    assert [step.step for step in monitor.steps] == [1, 2, 3]
    assert f"{quiet.auc} at step 1, {quiet.auc} at step 3" in monitor.plot_svg()


def test_the_lines_resume(memory, tmp_path):
    split, innocent, guilty = memory
    log, logged = tmp_path / "run" / "monitor.jsonl", []
    tracker = SimpleNamespace(log=lambda values, step: logged.append((step, values)))
    first = monitor_of(split, log=log, attack=SIMA, accelerator=tracker, stop_above="auc=.7", fprs=[0.05])
    first(1, innocent)
    with pytest.warns(UserWarning, match="above the limit"):
        first(2, guilty)
    values = [json.loads(line) for line in log.read_text().splitlines()]
    assert [MonitoredStep.from_dict(value) for value in values] == first.steps
    assert [step for step, _ in logged] == [1, 2] and logged[1][1]["mia/auc"] == 1.0
    ends = {"mia/auc_low": first.steps[0].auc.low, "mia/tpr_at_0.05_fpr": first.steps[0].tpr_at_fpr[0.05].value}
    assert ends.items() <= logged[0][1].items()
    # Of an innocent and of a guilty network, at δ = 0.
    assert [values["mia/epsilon_clopper_pearson_at_delta_0"] for _, values in logged] == [
        step.epsilon.bounds[0].bound for step in first.steps
    ]
    assert logged[0][1]["mia/epsilon_clopper_pearson_at_delta_0"] < 0.5 < 2 < logged[1][1]["mia/epsilon_clopper_pearson_at_delta_0"]
    # Killed while a line was written; and started again from the checkpoint of step 1.
    log.write_text(log.read_text() + '{"step": 3, "au')
    again = monitor_of(split, log=log, attack=SIMA, stop_above="auc=.7", fprs=[0.05])
    assert again.steps == first.steps and again.should_stop
    again(2, innocent)
    assert not again.should_stop and [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2]
    again(5, innocent)
    assert monitor_of(split, log=log, attack=SIMA, fprs=[0.05]).steps == again.steps
    for other in ({"seed": 1}, {"attack": GRID}, {"limit": 50}):
        with pytest.raises(MiaHubError, match="holds the curve of another monitor"):
            monitor_of(split, log=log, **{"attack": SIMA, **other})
    log.write_text("step,auc\n1,0.5\n")
    with pytest.raises(MiaHubError, match="is no file of a monitor"):
        monitor_of(split, log=log, attack=SIMA)


def test_a_trainer_is_told_to_stop(memory):
    from transformers.trainer_callback import CallbackHandler, TrainerControl, TrainerState

    split, innocent, guilty = memory
    monitor = monitor_of(split, attack=SIMA, stop_above="auc=.7")
    handler = {model: CallbackHandler([monitor.trainer_callback()], model, None, None, None) for model in (innocent, guilty)}
    control = handler[innocent].on_save(None, TrainerState(global_step=10), TrainerControl())
    assert not control.should_training_stop
    with pytest.warns(UserWarning, match="At step 20"):
        control = handler[guilty].on_save(None, TrainerState(global_step=20), control)
    assert control.should_training_stop and [step.step for step in monitor.steps] == [10, 20]


def test_nothing_is_drawn_before_the_first_step():
    with pytest.raises(MiaHubError, match="no step to draw"):
        monitor_of().plot_svg()


def test_a_shift_between_the_sides_is_said():
    shifted = mia_hub.make_split(blobs(60, 0), blobs(60, 1) // 2)
    with pytest.warns(UserWarning, match="distribution-shift: a blind classifier"):
        assert monitor_of(shifted, shift_check=True).blind_auc.low > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": blobs(3, 0), "nonmembers": blobs(3, 1)}, "takes a split, or members"),
        ({"attack": "nonsense"}, "nonsense"),
        ({"attack": mia_hub.get_attack("sima", timesteps=[40]), "fprs": [0.001]}, "can't be measured with 30 non-members"),
        ({"attack": GRID, "limit": 3}, "too few"),
        ({"limit": 1}, "limit must be an integer ≥ 2"),
        ({"warn_above": "auc=60"}, "Accepted are auc=LIMIT"),
        ({"stop_above": ["tpr@.01=.1"]}, "measured are none"),
        ({"batch_size": 0}, "batch_size must be an integer ≥ 1"),
        ({"seed": -1}, "seed must be an integer ≥ 0"),
        ({"captions": "all"}, "captions must be"),
        ({"accelerator": 3}, "must have a method log"),
    ],
)
def test_bad_options_are_refused_before_training_begins(options, message):
    with pytest.raises(MiaHubError, match=re.escape(message)):
        monitor_of(split_of(), **options)


@pytest.mark.parametrize("given", [{}, {"members": blobs(3, 0)}, {"nonmembers": blobs(3, 0)}])
def test_a_monitor_needs_two_sides(given):
    with pytest.raises(MiaHubError, match="takes a split, or members=… and nonmembers=…"):
        mia_hub.TrainingMonitor(**given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: (0, build("ddpm").unet), "needs the noise scheduler"),
        (lambda: (0, torch.nn.Linear(2, 2)), "A Linear can't be queried by itself. Accepted are a diffusers pipeline"),
        (lambda: (0, "demo"), "str is no model that can be queried"),
        (lambda: (-1, build("ddpm")), "step must be an integer ≥ 0"),
        (lambda: (1.5, build("ddpm")), "step must be an integer ≥ 0"),
        (lambda: (0, mia_hub.load_model("demo")), "has 16 x 16 pixels, and demo takes 28 x 28"),
    ],
)
def test_what_is_no_model_or_another_size_is_refused(call, message):
    with pytest.raises(MiaHubError, match=re.escape(message)):
        monitor_of()(*call())
