"""Every training recipe, for two steps: stopped and resumed, opened by mia_hub, scored, and with its card."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import ClassLabel, Dataset, Features
from datasets import Image as Picture
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTokenizer

import mia_hub
from mia_hub.auditing.report import AuditReport
from mia_hub.errors import MiaHubError
from training import build_demo, demo, recipe, train_ddpm, train_ldm, train_lora, train_text2image, train_vae
from training.cifar10 import CLASSES
from training.data import EMOJI_FONT, TrainingSet, cifar10, emoji, fashion_mnist
from training.fashion_mnist import DEBIAN_FILE
from training.lora import add_lora, merged
from training.watching import WATCHED_TIMESTEPS

pytestmark = pytest.mark.slow
PACKAGES = {DEBIAN_FILE: "dataset-fashion-mnist", EMOJI_FONT: "fonts-noto-color-emoji"}
SMALL = ("--members", "32", "--nonmembers", "64", "--batch", "4", "--check-every", "1")
SAMPLES = 16
# By name: the recipe, its own options, and what it writes; {…} is the folder of another one.
RECIPES = {
    "ddpm": (train_ddpm, "--side 16 --flips", "step-000002"),
    "vae": (train_vae, "--beta 1e-4 --adversary 0.1", "vae"),
    "ldm": (train_ldm, "--vae {vae} --latents mode --stop-at 1", "step-000002"),
    "vae-emoji": (train_vae, "--data emoji", "vae"),
    "t2i": (train_text2image, "--vae {vae-emoji}", "step-000002"),
    "lora": (train_lora, "--base {t2i}", "step-000002"),
    "fine-tune": (train_ddpm, "--side 16 --base {ddpm} --skip 96", "step-000002"),
    "fused-lora": (train_ddpm, "--side 16 --base {ddpm} --skip 96 --rank 4", "step-000002"),
    "cifar10": (train_ddpm, "--data cifar10 --images {photos} --stop-at 1", "step-000002"),
    "t2i-fine-tune": (train_text2image, "--data cifar10 --images {photos} --base {t2i} --skip 8", "step-000002"),
}
SIDES = {"ddpm": 16, "vae": 32, "ldm": 32, "fine-tune": 16, "fused-lora": 16}
SKIPPED = {"fine-tune": 96, "fused-lora": 96, "t2i-fine-tune": 8}
PHOTOS = 120


def data_of(name: str, photos: Path) -> TrainingSet:
    """What a recipe is trained on."""
    skip = SKIPPED.get(name, 0)
    if name in SIDES:
        return fashion_mnist(32, 64, side=SIDES[name], skip=skip)
    if name in ("cifar10", "t2i-fine-tune"):
        return cifar10(32, 64, images=str(photos), skip=skip)
    return emoji(32, 64, artist=name == "lora")


@pytest.fixture(scope="module", autouse=True)
def small():
    """A quick end; and no test without its images."""
    for file, package in PACKAGES.items():
        if not file.exists():
            missing = f"{file} is missing: on Debian and Ubuntu, apt-get install {package}."
            pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "SAMPLES", SAMPLES)
        patch.setattr(train_ddpm, "SAMPLING_STEPS", 2)
        patch.setattr(demo, "N_MEMBERS", 48)
        patch.setattr(demo, "N_NONMEMBERS", 64)
        # One process has one precision, unless it forgets.
        AcceleratorState._reset_state(reset_partial_state=True)
        yield
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A Parquet file like CIFAR-10's; three of its images occur twice."""
    pixels = np.random.default_rng(0).integers(0, 256, (PHOTOS, 32, 32, 3), dtype=np.uint8)
    pixels[-3:] = pixels[:3]
    features = Features({"img": Picture(), "label": ClassLabel(names=list(CLASSES))})
    path = tmp_path_factory.mktemp("photos") / "train.parquet"
    rows = {"img": [Image.fromarray(one) for one in pixels], "label": [row % 10 for row in range(PHOTOS)]}
    Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def made(small, photos, tmp_path_factory):
    """``made(name) -> Path`` of what a recipe wrote after two steps in one go."""
    root = tmp_path_factory.mktemp("recipes")

    def make(name: str) -> Path:
        if name == "photos":
            return photos
        found = root / name / RECIPES[name][2]
        if not found.exists():
            run(name, root / name, 2, make)
        return found

    return make


def run(name: str, out: Path, steps: int, made) -> None:
    module, options, _ = RECIPES[name]
    folders = {f"{{{other}}}": other for other in (*RECIPES, "photos")}
    words = [str(made(folders[word])) if word in folders else word for word in options.split()]
    module.main(["--out", str(out), "--steps", str(steps), *SMALL, *words])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {f"{path.relative_to(folder)}:{key}": value for path in folder.rglob("*.safetensors") for key, value in load_file(path).items()}


def losses(folder: Path) -> list[dict]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", RECIPES)
def test_a_stopped_recipe_goes_on_as_if_it_had_not_been(name, made, tmp_path):
    run(name, tmp_path, 1, made)
    run(name, tmp_path, 2, made)
    expected, found = weights(made(name)), weights(tmp_path / RECIPES[name][2])
    assert expected and expected.keys() == found.keys() and all(torch.equal(expected[key], found[key]) for key in expected)
    assert losses(tmp_path) == losses(made(name).parent) and len(losses(tmp_path)) == 2
    assert RECIPES[name][2] == "vae" or weights(tmp_path / "step-000001").keys() == expected.keys()


@pytest.mark.parametrize("name", ["raw", *(name for name in RECIPES if not name.startswith("vae"))])
def test_mia_hub_opens_and_scores_what_a_recipe_writes(name, made, photos):
    opened = {"raw": lambda: made("ddpm").parent / "raw", "lora": lambda: f"{made('t2i')} + {made('lora')}"}
    data = data_of("ddpm" if name == "raw" else name, photos)
    model = mia_hub.load_model(str(opened.get(name, lambda: made(name))()))
    captions = data.member_captions[:3] if model.info.conditioning == "text" else None
    scores = mia_hub.get_attack("sima", timesteps=(50,)).score(model, list(data.members[:3]), captions=captions).scores
    assert scores.shape == (3, 1) and np.isfinite(scores).all() and len(set(scores[:, 0])) == 3


@pytest.mark.parametrize("name", RECIPES)
def test_the_card_says_how_the_model_came_about(name, made, photos):
    card, data = (made(name) / "README.md").read_text(), data_of(name, photos)
    facts = json.loads((made(name) / "training.json").read_text())
    assert facts["data"] == data.name and data.name in card
    assert facts["split_hash"] == data.hash and data.hash in card
    assert (facts["members"], facts["nonmembers"], facts["steps"], facts["recipe"]["seed"]) == (len(data.members), 64, 2, 0)
    assert "- Steps: 2." in card and "seed 0" in card and facts["command"] in card
    for step, loss in enumerate(losses(made(name).parent), start=1):
        assert f"| {step} | " + " | ".join(f"{value:.4f}" for value in loss.values()) + " |" in card
    assert all(f"- {figure}: {value:.4g}" in card and np.isfinite(value) for figure, value in facts["quality"].items())
    wanted = "PSNR of 64 non-members" if name.startswith("vae") else f"Fréchet distance of {SAMPLES} samples to 64 non-members"
    assert any(figure.startswith(wanted) for figure in facts["quality"])
    side = data.members.shape[1]
    assert "![Samples](samples.png)" in card
    # An autoencoder's samples: each image above its reconstruction.
    assert Image.open(made(name) / "samples.png").size == (16 * side, side * (2 if name.startswith("vae") else 1))


def test_the_command_on_a_card_makes_it_again(made):
    card = (made("lora") / "README.md").read_text()
    words = shlex.split(json.loads((made("lora") / "training.json").read_text())["command"])
    assert words[:3] == ["python", "-m", "training.train_lora"]
    facts, log = (json.loads((made("lora") / "training.json").read_text()), (made("lora") / "log.jsonl").read_text())
    (made("lora") / "README.md").unlink()
    train_lora.main(words[3:])
    again = json.loads((made("lora") / "training.json").read_text())
    # Samples are drawn anew, and sums over threads differ in their last digits from run to run.
    assert again.pop("quality") == pytest.approx(facts.pop("quality"), rel=1e-3)
    assert (again, (made("lora") / "log.jsonl").read_text()) == (facts, log)
    without_quality = [line for line in card.splitlines() if "distance" not in line and "real images" not in line]
    assert without_quality == [
        line for line in (made("lora") / "README.md").read_text().splitlines() if "distance" not in line and "real images" not in line
    ]


def test_a_lora_is_the_average_of_its_updates_and_leaves_the_base_alone(made, tmp_path):
    from diffusers import StableDiffusionPipeline

    checkpoint = load_file(made("lora").parent / "checkpoint.safetensors")
    assert checkpoint and all(".lora_" in key for key in checkpoint)
    saved = load_file(made("lora") / "pytorch_lora_weights.safetensors")
    averages = {key.removeprefix("unet.ema."): value for key, value in checkpoint.items() if key.startswith("unet.ema.")}
    norms = [sorted(float(value.norm()) for value in one.values()) for one in (saved, averages)]
    assert len(saved) == len(averages) and norms[0] == norms[1]
    assert {min(value.shape) for value in saved.values()} == {8}

    base, lora = (mia_hub.load_model(name) for name in (str(made("t2i")), f"{made('t2i')} + {made('lora')}"))
    pipeline = StableDiffusionPipeline.from_pretrained(made("t2i"))
    pipeline.load_lora_weights(made("lora"))
    x, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([50, 400])
    captions = ["a cat", "a lemon"]
    plain, ours = (model.predict_noise(x, t, model.condition(captions)) for model in (base, lora))
    with torch.no_grad():
        text = pipeline.text_encoder(train_text2image.tokens_of(pipeline.tokenizer, captions)).last_hidden_state
        theirs = pipeline.unet(x, t, encoder_hidden_states=text).sample
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(ours, plain, atol=1e-5)


def test_a_fine_tune_begins_with_its_base_and_never_sees_its_images(made):
    """The images of two draws are disjoint; weights that are not trained stay those of the base."""
    base, tuned, fused, text = (weights(made(name)) for name in ("ddpm", "fine-tune", "fused-lora", "t2i"))
    assert base.keys() == tuned.keys() == fused.keys()
    changed = {key for key in base if not torch.equal(base[key], fused[key])}
    assert changed and all(any(f".{layer}.weight" in key for layer in ("to_q", "to_k", "to_v", "to_out.0")) for key in changed)
    assert all((tuned[key] - base[key]).abs().max() < 0.01 for key in base)
    encoder = [key for key in text if key.startswith("text_encoder")]
    assert encoder and all(torch.equal(text[key], weights(made("t2i-fine-tune"))[key]) for key in encoder)
    drawn = fashion_mnist(96, 0, side=16).members, fashion_mnist(32, 64, side=16, skip=96)
    images = [{one.tobytes() for one in part} for part in (drawn[0], drawn[1].members, drawn[1].nonmembers)]
    assert [len(part) for part in images] == [96, 32, 64] and len(set.union(*images)) == 192


def test_merged_updates_give_the_output_of_the_network_with_updates():
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(sample_size=16, in_channels=1, out_channels=1, **train_ddpm.UNET).eval()
    plain = {key: value.clone() for key, value in network.state_dict().items()}
    add_lora(network, 4)
    for key, value in network.named_parameters():
        if ".lora_B." in key:
            torch.nn.init.normal_(value, std=0.1)
    x, copy = torch.randn(2, 1, 16, 16), merged(network)
    with torch.no_grad():
        outputs = [one(x, 50).sample for one in (network, copy)]
    assert torch.allclose(*outputs, atol=1e-5) and copy.state_dict().keys() == plain.keys()
    assert not all(torch.equal(value, plain[key]) for key, value in copy.state_dict().items())


def test_cifar10_is_drawn_without_copies_and_captioned_by_class(photos):
    data = cifar10(50, 200, images=str(photos))
    images = [one.tobytes() for part in (data.members, data.nonmembers) for one in part]
    assert len(images) == len(set(images)) == PHOTOS - 3 == len(data.captions) and "may differ" in data.source
    assert {"a small photo of an airplane", "a small photo of a truck"} < set(data.captions) and len(set(data.captions)) == 10
    assert cifar10(20, 30, images=str(photos), skip=50).hash == cifar10(20, 30, images=str(photos), skip=50).hash != data.hash


def test_training_stops_at_the_rule_on_the_calibration_part(photos, tmp_path):
    options = ["--data", "cifar10", "--images", str(photos), *SMALL, "--steps", "3"]
    train_ddpm.main(["--out", str(tmp_path), *options, "--stop-at", "0.0001"])
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1] and list(log[0]["sima"]) == [str(t) for t in WATCHED_TIMESTEPS]
    assert json.loads((tmp_path / "step-000001" / "training.json").read_text())["recipe"]["stops at a calibration AUC of"] == 0.0001


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (train_ddpm, "--rank 4", "--rank needs --base"),
        (train_ddpm, "--data emoji --skip 4", "--skip is for"),
        (train_ddpm, "--skip -5", "an integer from 0 up is needed; got -5"),
        (train_ddpm, "--base a --rank -1", "an integer from 0 up is needed; got -1"),
        (train_ddpm, "--stop-at 0", "an AUC above 0, up to 1, is needed; got 0"),
        (train_ddpm, "--stop-at nan", "an AUC above 0, up to 1, is needed; got nan"),
        (train_lora, "--base a --rank 0", "an integer from 1 up is needed; got 0"),
        (train_ddpm, "--skip 59990 --members 20", "too few images for --skip 59990 --members 20"),
        (train_ddpm, "--skip 70000 --members 1", "there are 0, and some must be left as non-members"),
        (train_ddpm, "--data cifar10 --images nowhere.parquet", "nowhere.parquet"),
        (train_text2image, "--data emoji", "required"),
        (train_text2image, "--data emoji --vae a --base b", "not allowed with"),
    ],
)
def test_options_that_do_not_go_together_are_refused(module, options, message, tmp_path, capsys):
    with pytest.raises((SystemExit, MiaHubError)) as refused:
        module.main(["--out", str(tmp_path), *options.split()])
    assert message in f"{refused.value} {capsys.readouterr().err}"


def test_a_tokenizer_is_the_same_every_time_and_stays_that_of_its_run(made, tmp_path):
    captions = emoji().captions
    first, *others = (train_text2image.tokenizer_of(captions) for _ in range(4))
    assert len(first) > 2000 and all(other.get_vocab() == first.get_vocab() for other in others)
    first.save_pretrained(tmp_path / "saved")
    saved = CLIPTokenizer.from_pretrained(tmp_path / "saved")
    assert torch.equal(train_text2image.tokens_of(first, captions), train_text2image.tokens_of(saved, captions))

    run("t2i", tmp_path, 1, made)
    # Of other captions, as if another version had made it.
    options = ["--steps", "2", *SMALL, "--nonmembers", "40", "--vae", str(made("vae-emoji"))]
    train_text2image.main(["--out", str(tmp_path), *options])
    both = [(tmp_path / f"step-00000{step}" / "tokenizer" / "tokenizer.json").read_text() for step in (1, 2)]
    assert both[0] == both[1]


def test_a_recipe_that_needs_captions_says_so(made, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train_lora.main(["--out", str(tmp_path), "--base", str(made("t2i")), "--data", "fashion-mnist"])
    assert "has no captions" in capsys.readouterr().err


def test_the_demo_stops_once_enough_is_remembered_and_its_card_is_made_of_its_log(tmp_path, monkeypatch):
    options = ["--out", str(tmp_path), "--check-every", "1", "--flips"]
    demo.main([*options, "--max-steps", "1"])
    monkeypatch.setattr(demo, "STOP_AT", dict(auc=0.0, tpr_at_1_fpr=0.0))
    demo.main([*options, "--max-steps", "9"])
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2] and list(log[1]["sima"]) == [str(t) for t in WATCHED_TIMESTEPS]
    demo.main([*options, "--max-steps", "4", "--go-on"])
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 4

    images = fashion_mnist(3, 3).members
    folders = [tmp_path / "step-000004", tmp_path / "model"]
    scores = [mia_hub.get_attack("sima", timesteps=(80,)).score(mia_hub.load_model(str(one)), list(images)).scores for one in folders]
    assert np.isfinite(scores[0]).all() and np.array_equal(*scores)

    reports = [
        AuditReport.from_dict(json.loads((build_demo.DEMO_FOLDER / f"{name}.json").read_text())) for name in ("audit", "held_out_audit")
    ]
    monkeypatch.setattr(build_demo, "DEMO_FOLDER", tmp_path)
    build_demo.write_demo_card(tmp_path / "step-000002", *reports, "")
    card = (tmp_path / "README.md").read_text()
    seen = " | ".join(f"{figures['auc']:.3f} / {figures['tpr_at_1_fpr']:.3f}" for figures in log[1]["sima"].values())
    assert f"| 2 | {seen} |" in card and "| 3 |" not in card and "build_demo runs/demo/step-000002" in card
