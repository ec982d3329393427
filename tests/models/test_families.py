"""Every family against diffusers itself: its pipelines run, and what their denoisers, schedulers and autoencoders did is compared."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from safetensors.torch import load_file, save_file
from support.tiny_pipelines import PIPELINES, save

from mia_hub import get_attack, load_model
from mia_hub.errors import ModelError
from mia_hub.models.schedule import NoiseSchedule

T = 1000


class Family(NamedTuple):
    """What a family's tiny model is, written down by hand."""

    family: str
    conditioning: str
    prediction: str
    sample: tuple[int, int, int]
    image: int
    classes: int | None = None
    scaling: float = 1.0  # of its autoencoder
    shift: float = 0.0
    settings: dict = {"latents": "mode"}  # noqa: RUF012
    longest: int = 0  # words of a caption that its longest text encoder sees; each is one token


PIXELS, LATENTS = ("pixel", "none"), (4, 8, 8)
EXPECTED = {
    "ddpm": Family(*PIXELS, "epsilon", (3, 16, 16), 16, settings={}),
    "ddim": Family(*PIXELS, "v_prediction", (3, 16, 16), 16, settings={}),
    "ddpm-class": Family("pixel", "class", "epsilon", (3, 16, 16), 16, classes=5, settings={}),
    "ddpm-learned-variance": Family("pixel", "class", "epsilon", (3, 16, 16), 16, classes=5, settings={}),
    "ldm-vq": Family("latent", "none", "epsilon", (3, 8, 8), 16, scaling=0.18215),
    "ldm-kl": Family("latent", "none", "epsilon", LATENTS, 16, scaling=0.18215),
    "dit": Family("latent", "class", "epsilon", LATENTS, 16, classes=1000, scaling=0.18215),
    # CLIP takes 77 tokens with two special ones, T5 as many as its pipeline asks for, with one.
    "sd1": Family("text-to-image", "text", "epsilon", LATENTS, 16, scaling=0.18215, longest=75),
    "sd2": Family("text-to-image", "text", "v_prediction", LATENTS, 16, scaling=0.18215, longest=75),
    "sdxl": Family("text-to-image", "text", "epsilon", LATENTS, 16, scaling=0.13025, longest=75),
    "pixart-alpha": Family("text-to-image", "text", "epsilon", (4, 128, 128), 256, scaling=0.18215, longest=119),
    "pixart-sigma": Family("text-to-image", "text", "epsilon", LATENTS, 16, scaling=0.13025, longest=299),
    "sd3": Family("flow", "text", "flow_prediction", (8, 8, 8), 16, scaling=1.5305, shift=0.0609, longest=255),
    "flux-dev": Family(
        *("flow", "text", "flow_prediction", (8, 128, 128), 256),
        **{"scaling": 0.3611, "shift": 0.1159, "settings": {"latents": "mode", "guidance": 1.0}, "longest": 511},
    ),
    "flux-schnell": Family("flow", "text", "flow_prediction", (8, 128, 128), 256, scaling=0.3611, shift=0.1159, longest=511),
    # Of Sana's 300 tokens, one is of the instruction.
    "sana": Family("flow", "text", "flow_prediction", (8, 8, 8), 32, scaling=0.41407, longest=299),
}
TEXT = [name for name, known in EXPECTED.items() if known.conditioning == "text"]
OF_LATENTS = [name for name, known in EXPECTED.items() if known.family != "pixel"]
SAMPLED = [name for name in OF_LATENTS if name not in ("ldm-vq", "sana")]  # whose autoencoders have a posterior
# The larger models are asked for smaller images, which takes a tenth of the time.
SIDE = {name: 32 if known.image == 256 else known.image for name, known in EXPECTED.items()}
GIVEN = {"none": None, "class": [3, 0, 4], "text": ["a red cat", "the House of zebras, on a hill!", ""]}


# Models as on the Hub, and variants of them


def change_json(path: Path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "drop"}))


def changed(path: str, **changes):
    return lambda folder: change_json(folder / path, **changes)


def index(**changes):
    return changed("model_index.json", **changes)


def scheduler(**changes):
    return changed("scheduler/scheduler_config.json", **changes)


def removed(*paths: str):
    def change(folder):
        for path in paths:
            shutil.rmtree(folder / path)

    return change


def all_of(*changes):
    def change(folder):
        for each in changes:
            each(folder)

    return change


def noted(folder: Path):
    """Adds to an SDXL's autoencoder what some have: mean and spread of each channel of its latents."""
    change_json(folder / "vae/config.json", latents_mean=[0.3, -0.2, 0.1, 0.5], latents_std=[1.5, 0.7, 2.0, 1.1])


# Real models differ from the tiny ones in these as well. name: (of which family, what is changed)
VARIANTS = {
    "ddpm-sample": ("ddpm", scheduler(prediction_type="sample")),
    "ddpm-class-v": ("ddpm-class", scheduler(prediction_type="v_prediction")),
    "dit-older": (
        "dit",
        all_of(
            index(transformer=["diffusers", "Transformer2DModel"]),
            changed("transformer/config.json", _class_name="Transformer2DModel", norm_type="ada_norm_zero"),
        ),
    ),
    "sd2-sample": ("sd2", scheduler(prediction_type="sample")),
    "sdxl-v": ("sdxl", scheduler(prediction_type="v_prediction")),
    "sdxl-means": ("sdxl", noted),
    "pixart-older": (
        "pixart-sigma",
        all_of(
            index(transformer=["diffusers", "Transformer2DModel"]),
            changed("transformer/config.json", _class_name="Transformer2DModel", norm_type="ada_norm_single"),
        ),
    ),
    "sd3-without-t5": (
        "sd3",
        all_of(index(text_encoder_3=[None, None], tokenizer_3=[None, None]), removed("text_encoder_3", "tokenizer_3")),
    ),
    "flux-fast-tokenizer": ("flux-dev", index(tokenizer_2=["transformers", "T5TokenizerFast"])),
    "sana-times": ("sana", changed("transformer/config.json", timestep_scale=0.001)),
}
ALL = [*EXPECTED, *VARIANTS]


def base(name: str) -> str:
    return VARIANTS[name][0] if name in VARIANTS else name


def prediction_of(name: str) -> str:
    return {"sample": "sample", "v": "v_prediction"}.get(name.rpartition("-")[2], EXPECTED[base(name)].prediction)


@pytest.fixture(scope="session")
def repo(tmp_path_factory):
    """``repo(name) -> Path``: a tiny model as a folder, made once."""
    root = tmp_path_factory.mktemp("families")

    @cache
    def made(name: str) -> Path:
        if name not in VARIANTS:
            return save(name, root / name)
        of, change = VARIANTS[name]
        folder = Path(shutil.copytree(made(of), root / name))
        change(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def ours(repo):
    """``ours(name, dtype="float64") -> DiffusionModel``: through mia_hub, loaded once; for images of SIDE."""

    @cache
    def made(name: str, dtype: str = "float64"):
        model = load_model(repo(name), device="cpu", dtype=dtype, size=SIDE[base(name)])
        encode, encoded = model.condition, {}

        def condition(captions):
            # Sana's instruction alone takes a second; the same captions are asked for again and again.
            if repr(captions) not in encoded:
                encoded[repr(captions)] = encode(captions)
            return encoded[repr(captions)]

        model.condition = condition
        return model

    return made


@pytest.fixture(scope="session")
def theirs(repo):
    """``theirs(name) -> DiffusionPipeline``: the same files through diffusers, in float64, loaded once."""

    @cache
    def made(name: str):
        left_out = dict.fromkeys(("text_encoder_3", "tokenizer_3")) if name == "sd3-without-t5" else {}
        pipeline = DiffusionPipeline.from_pretrained(repo(name), dtype=torch.float64, local_files_only=True, **left_out)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return made


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """What is computed here is so little that threads cost more than they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def copied(repo, tmp_path):
    """``copied(name, *changes) -> Path``: a copy that may be damaged."""

    def make(name, *changes) -> Path:
        folder = Path(shutil.copytree(repo(name), tmp_path / name))
        all_of(*changes)(folder)
        return folder

    return make


@pytest.fixture
def on_hub(loopback_hub, request):
    """``on_hub(files) -> id``: puts a repository on the Hub for one test."""
    made = []

    def add(files):
        made.append(f"alice/{request.node.originalname}-{len(loopback_hub.log)}-{len(made)}")
        loopback_hub.add_repo("model", made[-1], files)
        return made[-1]

    yield add
    for repo_id in made:
        loopback_hub.delete_repo("model", repo_id)


def given(model, rows: int = 3):
    """Captions or classes for some rows, all different; None for an unconditional model."""
    found = GIVEN[model.info.conditioning]
    return found and found[:rows]


def some_x(model, rows: int = 3) -> torch.Tensor:
    x = torch.randn(rows, *model.info.sample_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x if model.dtype == torch.float64 else x.float()


def epsilon(model, t, x=None, captions="some") -> torch.Tensor:
    x = some_x(model) if x is None else x
    captions = given(model, len(x)) if isinstance(captions, str) else captions
    return model.predict_noise(x, torch.as_tensor(t).expand(len(x)), model.condition(captions))


def random_images(side: int, n: int = 3, seed: int = 0) -> list[Image.Image]:
    """Smooth colours and some noise."""
    rng = np.random.default_rng(seed)
    slopes = np.linspace(0, 1, side)[:, None, None] * rng.random((n, 1, 1, 3)) + np.linspace(0, 1, side)[:, None] * rng.random((n, 1, 1, 3))
    return [Image.fromarray(each) for each in (slopes * 100 + rng.random((n, side, side, 3)) * 50).astype(np.uint8)]


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative, as root mean squares."""
    assert found.shape == expected.shape and found.isfinite().all() and expected.isfinite().all()
    return float((found.double() - expected.double()).square().mean().sqrt() / expected.double().square().mean().sqrt())


# What diffusers does


class Call(NamedTuple):
    """One query of the denoiser by a pipeline; images ``[N, C, h, w]`` in float64."""

    x: torch.Tensor
    t: float  # of its scheduler
    output: torch.Tensor


@contextmanager
def overheard(denoiser):
    """What a network is given as its image, and what it puts out, call by call."""
    heard = []

    def widened(_, args):
        # LDMPipeline draws its latents in float32, whatever the network's precision is.
        return (args[0].to(denoiser.dtype), *args[1:]) if args else None

    def hook(_, args, kwargs, output):
        heard.append(((args[0] if args else kwargs["hidden_states"]).double(), output[0].double()))

    handles = [denoiser.register_forward_pre_hook(widened), denoiser.register_forward_hook(hook, with_kwargs=True)]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def options(name: str, pipeline, captions, steps: int, output_type: str) -> dict:
    """How the pipeline is called, so that it asks for what we ask: without guidance, at this size, with the caption as it is."""
    side, unguided = SIDE[name], {"guidance_scale": 1.0}
    found = {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(2), "output_type": output_type}
    if EXPECTED[name].conditioning == "none":
        return found | {"batch_size": 2, "output_type": "np"}
    if name == "dit":
        return found | unguided | {"class_labels": captions, "output_type": "np"}
    if name.startswith(("pixart", "sana")):
        found |= {"use_resolution_binning": False, "clean_caption": False}
    return found | unguided | {"prompt": captions, "height": side, "width": side}


def calls(name: str, pipeline, captions, *, steps: int = 4, **more) -> list[Call]:
    """The queries of one run of a pipeline with its own scheduler."""
    denoiser = getattr(pipeline, "transformer", None) or pipeline.unet
    times = pipeline.scheduler
    if EXPECTED[name].family == "pixel" and EXPECTED[name].classes:
        return by_hand(denoiser, times, captions, steps)
    with overheard(denoiser) as heard:
        pipeline(**options(name, pipeline, captions, steps, "latent") | more)
    if name.startswith("flux"):
        heard = [
            tuple(pipeline._unpack_latents(each, SIDE[name], SIDE[name], pipeline.vae_scale_factor) for each in pair) for pair in heard
        ]
    assert len(heard) == len(times.timesteps)
    return [Call(x, float(t), output) for (x, output), t in zip(heard, times.timesteps)]


def by_hand(unet, times, classes, steps: int) -> list[Call]:
    """For class-conditional pixel models, of which diffusers has no pipeline."""
    times.set_timesteps(steps)
    x, found = torch.randn(len(classes), 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64), []
    for t in times.timesteps:
        with torch.no_grad():
            output = unet(x, t, class_labels=torch.tensor(classes)).sample
        found.append(Call(x, float(t), output))
        x = times.step(output if isinstance(times, diffusers.DDPMScheduler) else output[:, :3], t, x).prev_sample
    return found


def timestep(call: Call, prediction: str) -> int:
    """Ours for theirs: flows are told σ·T, and ours begin at σ = 1/T."""
    found = round(call.t)
    assert abs(found - call.t) < 1e-3
    return found - 1 if prediction == "flow_prediction" else found


def textbook(call: Call, times, prediction: str) -> torch.Tensor:
    """ε from the network's output, solved by hand from how images are noised."""
    x, output = call.x, call.output[:, : call.x.shape[1]]
    if prediction == "flow_prediction":  # x = (1-σ)·x0 + σ·ε and v = ε - x0
        return x + (1 - call.t / T) * output
    alpha = times.alphas_cumprod[round(call.t)].double()
    a, s = alpha.sqrt(), (1 - alpha).sqrt()
    return {"epsilon": output, "v_prediction": a * output + s * x, "sample": (x - a * output) / s}[prediction]


class OurLevels(FlowMatchEulerDiscreteScheduler):
    """A flow's scheduler at noise levels that, after its own shift, are multiples of 1/T, rid of float32's rounding."""

    LEVELS = np.array([0.9, 0.601, 0.1, 0.011, 0.001])

    def set_timesteps(self, num_inference_steps=None, device=None, sigmas=None, mu=None, timesteps=None):
        shift = np.exp(mu) if self.config.use_dynamic_shifting else self.shift
        super().set_timesteps(sigmas=list(self.LEVELS / (shift - (shift - 1) * self.LEVELS)), device=device, mu=mu)
        exact = torch.tensor([*self.LEVELS, 0])
        assert (self.sigmas - exact).abs().max() < 1e-6
        self.sigmas, self.timesteps = exact, exact[:-1] * T


class Unmoved(FlowMatchEulerDiscreteScheduler):
    """Adds no noise to what an image-to-image pipeline encoded."""

    def scale_noise(self, sample, timestep, noise=None):
        return sample


class UnmovedDDIM(DDIMScheduler):
    """As `Unmoved`."""

    def add_noise(self, original_samples, noise, timesteps):
        return original_samples


# What loads


def test_the_table_is_complete():
    assert set(EXPECTED) == set(PIPELINES)


# What real repositories hold beside the model.
BESIDE = {
    **dict.fromkeys(
        ("README.md", "model.ckpt", "model.safetensors", "model-ema.safetensors", "unet_ema/diffusion_pytorch_model.safetensors")
    ),
    **dict.fromkeys(("safety_checker/config.json", "safety_checker/model.safetensors", "safety_checker/pytorch_model.bin")),
    **dict.fromkeys(("feature_extractor/preprocessor_config.json", "image_encoder/model.safetensors", "text_encoder_9/model.safetensors")),
}
BESIDE_WEIGHTS = (
    *("pytorch_model.bin", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors"),
    *("diffusion_pytorch_model.non_ema.safetensors", "flax_model.msgpack", "model.onnx", "modeling.py", "openvino_model.bin"),
)


@pytest.mark.parametrize("name", EXPECTED)
def test_it_loads_from_a_folder_and_from_the_hub(repo, copied, on_hub, loopback_hub, name):
    known, crowded = EXPECTED[name], copied(name)
    needed = {path.relative_to(crowded).as_posix() for path in crowded.rglob("*") if path.is_file()}
    beside = [*BESIDE, *(f"{path.parent.name}/{file}" for path in crowded.glob("*/*.safetensors") for file in BESIDE_WEIGHTS)]
    for path in beside:
        (crowded / path).parent.mkdir(exist_ok=True)
        (crowded / path).write_bytes(b"not needed")
    if known.conditioning == "text":
        checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "feature_extractor": ["transformers", "X"]}
        change_json(crowded / "model_index.json", image_encoder=[None, None], **checker)
    size = None if known.family == "pixel" else SIDE[name]
    local, remote = load_model(repo(name), device="cpu", size=size), load_model(on_hub(crowded), device="cpu", size=size)
    fetched = loopback_hub.files_fetched(remote.info.id)
    # A file whose content is there already, as with two tokenizers that are alike, isn't fetched again.
    assert set(fetched) <= needed and len(set(fetched)) == len(fetched)
    assert {(crowded / path).read_bytes() for path in fetched} == {(crowded / path).read_bytes() for path in needed}
    assert torch.equal(epsilon(local, 300), epsilon(remote, 300))
    assert local.info.revision.startswith("sha256:") and len(remote.info.revision) == 40


@pytest.mark.parametrize("name", EXPECTED)
def test_it_says_what_it_is(repo, name):
    known, info = EXPECTED[name], load_model(repo(name), device="cpu").info
    found = (info.family, info.conditioning, info.prediction_type, info.sample_shape, info.picture_shape, info.num_classes, info.settings)
    assert found == (*known[:4], (3, known.image, known.image), known.classes, known.settings)
    assert info.num_train_timesteps == T


@pytest.mark.parametrize("name, shards", [("sd1", "10GB"), ("sd3", "40KB"), ("sana", "40KB")])
def test_half_precision_weights_are_preferred_for_half_precision(repo, copied, on_hub, loopback_hub, name, shards):
    folder = copied(name)
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float16)
    pipeline.save_pretrained(folder, variant="fp16", max_shard_size=shards)
    repo_id = on_hub(folder)
    model = load_model(repo_id, device="cpu", dtype="float16")
    fetched = [path for path in loopback_hub.files_fetched(repo_id) if "safetensors" in path]
    assert fetched and all(".fp16" in path for path in fetched)
    assert any("-00002-of-" in path for path in fetched) == (shards == "40KB")
    assert difference(epsilon(model, 300), epsilon(load_model(repo(name), device="cpu"), 300)) < 0.01


# As fine-tuned models, distilled ones and people's own pipelines are called. Of a name that is unknown the parts decide.
@pytest.mark.parametrize(
    "name, pipeline",
    [
        ("ddpm", "DDIMPipeline"),
        ("ddpm", "MyOwnPipeline"),
        ("ldm-kl", "MyOwnPipeline"),
        ("sd1", "StableDiffusionImg2ImgPipeline"),
        ("sd2", "StableDiffusionSAGPipeline"),
        ("sdxl", "StableDiffusionXLImg2ImgPipeline"),
        ("sd3", "StableDiffusion3Img2ImgPipeline"),
        ("flux-schnell", "FluxImg2ImgPipeline"),
        ("sana", "SanaPAGPipeline"),
    ],
)
def test_other_pipelines_of_the_family_are_recognised(ours, copied, name, pipeline):
    model = load_model(copied(name, index(_class_name=pipeline)), device="cpu", dtype="float64", size=SIDE[name])
    assert type(model) is type(ours(name))
    assert torch.equal(epsilon(model, 300), epsilon(ours(name), 300))


# What it predicts


def exact(scheduler, prediction: str):
    """The pipeline's noise levels under a scheduler whose every step is a deterministic one of first order."""
    if prediction == "flow_prediction":
        config = scheduler.config
        return OurLevels.from_config(config, shift=config.get("shift") or config.flow_shift)
    # DDIMScheduler knows no other spacing: it steps by T/n whatever its timesteps are.
    ddim = DDIMScheduler.from_config(scheduler.config, clip_sample=False, timestep_spacing="leading", steps_offset=1)
    ddim.alphas_cumprod = ddim.alphas_cumprod.double()
    return ddim


def comparable_steps(scheduler, prediction: str, which: str) -> int:
    """How many steps of a run are the deterministic ones of first order. Euler's, on x/√ᾱ, are DDIM's; so is DPM-Solver++'s first."""
    if which == "own":
        kind = "" if prediction == "flow_prediction" else type(scheduler).__name__
        return {"EulerDiscreteScheduler": 3, "DPMSolverMultistepScheduler": 1}.get(kind, 0)
    return 4 if prediction == "flow_prediction" else 3


# The flows that shift their noise levels by themselves pass through none of ours.
OWN = [name for name in ALL if not name.startswith(("sd3", "flux-dev", "flux-fast"))]


@pytest.mark.parametrize("name, which", [*((name, "own") for name in OWN), *((name, "exact") for name in ALL)])
def test_epsilon_and_steps_are_those_of_the_pipelines_run(ours, theirs, monkeypatch, name, which):
    """A pipeline runs. ε is what each query of its denoiser implies, and one step from it leads to where the next query is made."""
    model, pipeline, prediction, captions = ours(name), theirs(name), prediction_of(name), given(ours(name), 2)
    assert model.info.prediction_type == prediction
    if which == "exact":
        monkeypatch.setattr(pipeline, "scheduler", exact(pipeline.scheduler, prediction))
    run = calls(base(name), pipeline, captions)
    times = [timestep(call, prediction) for call in run]
    found = [epsilon(model, t, call.x, captions) for t, call in zip(times, run)]
    for call, each in zip(run, found):
        assert each.dtype == torch.float64
        assert difference(each, textbook(call, pipeline.scheduler, prediction)) < 1e-8, call.t
    steps = comparable_steps(pipeline.scheduler, prediction, which)
    assert len(run) > steps
    for i in range(steps):
        stepped = model.schedule.ddim_step(run[i].x, found[i], times[i], times[i + 1])
        assert difference(stepped, run[i + 1].x) < 1e-6, run[i].t


@pytest.mark.parametrize("name", ALL)
def test_rows_are_independent(ours, name):
    model, t = ours(name, "float32"), torch.tensor([3, 400, 950])
    x, captions = some_x(model), given(model)
    batch = model.predict_noise(x, t, model.condition(captions))
    for row in range(3):
        alone = epsilon(model, t[row], x[[row]], captions and [captions[row]])
        assert difference(batch[[row]], alone) < 1e-5
        assert difference(epsilon(model, t[row - 1], x[[row]], captions and [captions[row]]), alone) > 1e-3
        if captions:
            assert difference(epsilon(model, t[row], x[[row]], [captions[row - 1]]), alone) > 1e-3


def test_a_flow_of_one_image_is_known_exactly():
    """Of a single training image x0*, the velocity is (x - x0*)/σ and the noise (x - (1-σ)·x0*)/σ."""
    schedule, generator = NoiseSchedule.rectified_flow(T), torch.Generator().manual_seed(0)
    x, only = (torch.randn(4, 8, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 10, 600, 999])
    sigma = ((t + 1) / T).double().reshape(-1, 1, 1, 1)
    found = schedule.to_epsilon((x - only) / sigma, x, t, "flow_prediction")
    torch.testing.assert_close(found, (x - (1 - sigma) * only) / sigma, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(schedule.predict_x0(x, found, t)[:3], only[:3], rtol=1e-6, atol=1e-6)  # at σ = 1 nothing of x0 is left


def test_a_score_sde_is_its_closed_form(tiny_pixel_repo):
    from diffusers.schedulers import ScoreSdeVpScheduler

    folder = tiny_pixel_repo(channels=3, scheduler=ScoreSdeVpScheduler(T, beta_min=0.2, beta_max=15))
    # As on the Hub. Since it is deprecated, diffusers itself saves it under a library of that name.
    change_json(folder / "model_index.json", scheduler=["diffusers", "ScoreSdeVpScheduler"])
    model = load_model(folder, device="cpu")
    t = torch.arange(T, dtype=torch.float64) / (T - 1)
    alphas = torch.exp(-0.5 * t**2 * (15 - 0.2) - t * 0.2)
    torch.testing.assert_close(model.schedule.signals[1:] ** 2, alphas[1:], rtol=1e-12, atol=1e-14)
    assert 1 - 1e-3 < model.schedule.signals[0] < 1 and model.info.prediction_type == "epsilon"
    assert torch.equal(epsilon(model, 7), model.network(some_x(model), 7).sample)


def test_a_flow_of_pixels_is_told_its_noise_level(tiny_pixel_repo):
    folder = tiny_pixel_repo(channels=3, scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0))
    model, unet = load_model(folder, device="cpu", dtype="float64"), UNet2DModel.from_pretrained(folder / "unet").double()
    assert (model.info.family, model.info.prediction_type) == ("pixel", "flow_prediction")
    x = some_x(model, 2)
    for t in (0, 299, 999):
        with torch.no_grad():
            velocity = unet(x, t + 1).sample
        assert difference(epsilon(model, t, x), x + (1 - (t + 1) / T) * velocity) < 1e-9


# Images and latents


@pytest.mark.parametrize("name", [*OF_LATENTS, "sdxl-means"])
def test_latents_are_the_pipelines(ours, theirs, monkeypatch, name):
    model, pipeline, known = ours(name), theirs(name), EXPECTED[base(name)]
    images = random_images(SIDE[base(name)], 2)
    # Pipelines draw from the posterior; its mode is what we compare with.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    if name.startswith(("sd", "flux")):
        other = diffusers.AutoPipelineForImage2Image.from_pipe(pipeline)
        flow = known.prediction == "flow_prediction"
        other.scheduler = Unmoved() if flow else UnmovedDDIM()
        other.set_progress_bar_config(disable=True)
        expected = calls(base(name), other, GIVEN["text"][:2], steps=2, image=images, strength=1.0)[0].x
    else:
        vae = pipeline.vqvae if name.startswith("ldm") else pipeline.vae
        x = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).double() / 127.5 - 1
        with torch.no_grad():
            encoded = vae.encode(x)
        z = encoded.latent_dist.mode() if name in SAMPLED else encoded.latent if name == "sana" else encoded.latents
        expected = z * known.scaling
    found = model.encode(images)
    assert found.shape == (2, *model.info.sample_shape)
    assert difference(found, expected) < 1e-5


@pytest.mark.parametrize("name", [*OF_LATENTS, "sdxl-means"])
def test_latents_are_decoded_as_the_pipeline_does(ours, theirs, monkeypatch, name):
    model, pipeline, known = ours(name), theirs(name), EXPECTED[base(name)]
    vae, seen = pipeline.vqvae if name.startswith("ldm") else pipeline.vae, []
    decode = vae.decode
    monkeypatch.setattr(vae, "decode", lambda z, *args, **kwargs: seen.append(z) or decode(z, *args, **kwargs))
    run = options(base(name), pipeline, given(model, 2), 2, "np")
    with overheard(getattr(pipeline, "transformer", None) or pipeline.unet):
        images = torch.from_numpy(pipeline(**run).images).permute(0, 3, 1, 2)
    if "prompt" in run:
        latents = pipeline(**options(base(name), pipeline, given(model, 2), 2, "latent")).images
        if name.startswith("flux"):
            latents = pipeline._unpack_latents(latents, SIDE[name], SIDE[name], pipeline.vae_scale_factor)
    else:
        latents = seen[0] * known.scaling  # these pipelines don't show theirs
    found = model.to_pixels(latents.double())
    assert images.std() > 0.1 and found.min() >= 0 and found.max() <= 1
    torch.testing.assert_close(found.float(), images.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_sample_of_the_posterior_belongs_to_its_image(repo, ours, theirs, name):
    known, images = EXPECTED[name], random_images(SIDE[name], 24)
    model, mode = load_model(repo(name), device="cpu", dtype="float64", size=SIDE[name], latents="sample"), ours(name).encode(images)
    assert model.info.settings["latents"] == "sample"
    sample = model.encode(images)
    assert torch.equal(model.encode(images), sample)
    torch.testing.assert_close(model.encode(images[::-1]).flip(0), sample, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.encode(images[5]), sample[[5]], rtol=1e-9, atol=1e-9)

    vae = theirs(name).vqvae if name.startswith("ldm") else theirs(name).vae
    x = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).double() / 127.5 - 1
    with torch.no_grad():
        spread = vae.encode(x).latent_dist.std * known.scaling
    draws = ((sample - mode) / spread).flatten(1)
    # At least 6144 of them should be standard normal.
    assert abs(draws.mean()) < 0.06 and abs(draws.std() - 1) < 0.05 and abs(draws.abs().mean() - (2 / np.pi) ** 0.5) < 0.05
    assert abs(torch.corrcoef(draws).fill_diagonal_(0)).max() < 0.4  # and no two images share them


@pytest.mark.parametrize("name", ["ldm-vq", "sana"])
def test_without_a_posterior_a_sample_is_the_encoding(repo, ours, name):
    images = random_images(SIDE[name])
    assert torch.equal(load_model(repo(name), device="cpu", dtype="float64", latents="sample").encode(images), ours(name).encode(images))


# Attacks

ATTACKS = {
    "sima": {"timesteps": (10, 50)},
    "sima-mc": {"timesteps": (10, 50), "draws": 2},
    "loss": {"timesteps": (10, 50)},
    "secmi": {"timesteps": (50,), "k": 50},
    "pia": {"timesteps": (10, 50)},
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", EXPECTED)
def test_attacks_run(ours, name, attack):
    model, images = ours(name, "float32"), random_images(SIDE[name])
    captions, chosen = given(model), get_attack(attack, **ATTACKS[attack])
    table = chosen.score(model, images, captions=captions, progress=False)
    assert table.scores.shape == (3, len(chosen.timesteps)) and np.isfinite(table.scores).all()
    one_by_one = chosen.score(model, images, captions=captions, batch_size=1, progress=False)
    np.testing.assert_allclose(one_by_one.scores, table.scores, rtol=1e-4)
    if captions:
        others = chosen.score(model, images, captions=captions[1:] + captions[:1], progress=False)
        assert (~np.isclose(others.scores, table.scores, rtol=1e-3)).any(axis=1).all()


# Conditions


@pytest.mark.parametrize("name", ["ddpm-class", "dit"])
@pytest.mark.parametrize("wrong", [-1, "banana", 10**6, 1.5, True, "1.0", "max"])
def test_a_wrong_class_is_refused(ours, name, wrong):
    model, count = ours(name), EXPECTED[name].classes
    wrong = count if wrong == "max" else wrong
    with pytest.raises(ModelError, match=f"conditioned on classes 0 to {count - 1}, and {wrong!r} is none of them; give captions="):
        model.condition([0, wrong])
    with pytest.raises(ModelError, match=f"conditioned on classes; give captions=.*one class index from 0 to {count - 1} per image"):
        model.condition(None)


def test_classes_may_be_numbers_or_digits(ours):
    for name in ("ddpm-class", "dit"):
        assert ours(name).condition([0, "3", np.int64(4)]).tolist() == [0, 3, 4]


def test_no_class_is_the_one_that_guidance_uses(ours, theirs):
    model, pipeline = ours("dit"), theirs("dit")
    with overheard(pipeline.transformer) as heard:
        pipeline(**options("dit", pipeline, [3, 7], 2, "np") | {"guidance_scale": 4.0})
    x, output = heard[0]
    t = int(pipeline.scheduler.timesteps[0])
    assert difference(epsilon(model, t, x[2:], ["", None]), output[2:, :4]) < 1e-9
    with pytest.raises(ModelError, match="was not trained without classes, so each image needs one; give captions="):
        ours("ddpm-class").condition([1, ""])


@pytest.mark.parametrize("name", TEXT)
def test_captions_that_are_cut_off_are_counted(ours, name):
    model, longest = ours(name), EXPECTED[name].longest
    fits, cut = " ".join(["cat"] * longest), " ".join(["cat"] * (longest + 1))

    def encoded(caption):
        return model.condition([caption])

    def same(one, other):
        return all(torch.equal(one[key], other[key]) for key in one)

    assert not same(encoded(fits), encoded(fits.removesuffix("cat") + "dog"))
    assert same(encoded(cut), encoded(cut.removesuffix("cat") + "dog"))
    assert model.truncated([fits, cut, "", "a cat", cut]) == 2


@pytest.mark.parametrize("name", TEXT)
def test_what_is_no_text_is_refused(ours, name):
    for wrong in (None, [1, 2], ["a cat", None]):
        with pytest.raises(ModelError, match=r"is conditioned on text; give captions=\[…\], one per image"):
            ours(name).condition(wrong)


@pytest.mark.parametrize("zeros", [True, False])
def test_the_empty_caption_of_sdxl_is_what_guidance_uses(copied, zeros):
    """Zeros where it was trained so, else the encoding of the empty text, as its pipeline makes them for classifier-free guidance."""
    folder = copied("sdxl", index(force_zeros_for_empty_prompt=zeros))
    model = load_model(folder, device="cpu", dtype="float64")
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float64)
    text, empty, pooled, empty_pooled = pipeline.encode_prompt("a red cat", do_classifier_free_guidance=True)
    found = model.condition(["a red cat", ""])
    assert bool(empty.any()) is not zeros
    for name, expected in {"prompt_embeds": torch.cat([text, empty]), "pooled": torch.cat([pooled, empty_pooled])}.items():
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-9)


# Half precision


@pytest.mark.parametrize("dtype, tolerance", [("float16", 0.01), ("bfloat16", 0.08)])
@pytest.mark.parametrize("name", EXPECTED)
def test_half_precision_is_near(ours, name, dtype, tolerance):
    half, full = ours(name, dtype), ours(name, "float32")
    assert half.network.dtype == half.dtype == getattr(torch, dtype)
    for t in (10, 499):  # at σ = 1/2, which bfloat16 holds exactly: diffusers rounds a flow's time to the denoiser's precision
        found = epsilon(half, t)
        assert found.dtype == torch.float32
        assert difference(found, epsilon(full, t)) < tolerance
    images = random_images(SIDE[name])
    assert difference(half.encode(images), full.encode(images)) < tolerance
    if name != "ldm-vq":  # there a rounded latent may be another word of the codebook
        assert difference(half.to_pixels(half.encode(images)), full.to_pixels(full.encode(images))) < tolerance
    assert not half.fallbacks


def scaled(path: str, factor: float):
    """Makes some weights larger, so that float16 overflows behind them, and float32 doesn't."""
    folder, _, keys = path.partition(":")

    def change(root: Path):
        file = next((root / folder).glob("*.safetensors"))
        weights = load_file(file)
        found = [key for key in weights if any(part in key for part in keys.split(","))]
        assert found
        for key in found:
            weights[key] = weights[key] * factor
            assert weights[key].abs().max() < 60000
        save_file(weights, file, {"format": "pt"})

    return change


def both(folder: Path):
    return load_model(folder, device="cpu", dtype="float16"), load_model(folder, device="cpu")


@pytest.mark.parametrize("name", ["sdxl", "ldm-kl"])
def test_an_autoencoder_that_overflows_falls_back(copied, name):
    part = "vqvae" if name == "ldm-kl" else "vae"
    half, full = both(copied(name, scaled(f"{part}:encoder.conv_in.weight,encoder.down_blocks.0.downsamplers.0.conv.weight", 1000)))
    images = random_images(16)
    assert difference(half.encode(images), full.encode(images)) < 1e-2
    assert half.fallbacks == {"autoencoder": "float32"} and full.fallbacks == {}
    assert difference(half.encode(images), full.encode(images)) < 1e-2  # from then on


def test_a_decoder_that_overflows_falls_back(copied):
    half, full = both(copied("sdxl", scaled("vae:decoder.conv_in.weight,decoder.up_blocks.0.upsamplers.0.conv.weight", 1000)))
    x = some_x(half)
    assert difference(half.to_pixels(x), full.to_pixels(x)) < 1e-2
    assert half.fallbacks == {"autoencoder": "float32"} and full.fallbacks == {}


@pytest.mark.parametrize(
    "name, weights", [("sd1", "text_encoder:layers.0.mlp.fc"), ("pixart-sigma", "text_encoder:block.0.layer.1.DenseReluDense.wi")]
)
def test_a_text_encoder_that_overflows_falls_back(copied, name, weights):
    half, full = both(copied(name, scaled(weights, 1000)))
    found, expected = (model.condition(GIVEN["text"])["prompt_embeds"] for model in (half, full))
    assert difference(found, expected) < 1e-2
    assert half.fallbacks == {"text encoder": "float32"} and full.fallbacks == {}


def test_a_denoiser_that_overflows_falls_back(copied):
    half, full = both(copied("sd1", scaled("unet:conv_in.weight,down_blocks.0.downsamplers.0.conv.weight", 1000)))
    assert half.fallbacks == {"denoiser": "bfloat16"}, "as met when it was loaded"
    assert difference(epsilon(half, 300), epsilon(full, 300)) < 0.1
    assert not half.fall_back() and not full.fall_back() and full.fallbacks == {}


# What is refused, before any weights are fetched


def only_pickled(folder: Path):
    weights = folder / "text_encoder/model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()


def as_scheduler(name: str, **config):
    return all_of(index(scheduler=["diffusers", name]), scheduler(_class_name=name, **config))


NO_EFFECT = ("has no effect on", "which has no such choice; leave it out")
# case: (which model, what is changed, options, what the message says)
REFUSED = {
    "inpainting": ("sd1", changed("unet/config.json", in_channels=9), {}, ("takes 9 channels, and its autoencoder makes 4", "inpainting")),
    "inpainting pipeline": (
        "sd1",
        index(_class_name="StableDiffusionInpaintPipeline", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"]),
        {},
        ("is a StableDiffusionInpaintPipeline, which this version can't audit", "wrap_denoiser"),
    ),
    "latent consistency": (
        "sd1",
        all_of(index(_class_name="LatentConsistencyModelPipeline"), changed("unet/config.json", time_cond_proj_dim=8)),
        {},
        ("conditioned on its guidance (a latent consistency model)", "Audit the model that it was distilled from"),
    ),
    "own text encoder": (
        "sdxl",
        index(text_encoder_2=["my_lib", "MyEncoder"]),
        {},
        ("needs code from its own repository (its component 'text_encoder_2', from 'my_lib')", "never runs code"),
    ),
    "other text encoder": (
        "flux-dev",
        index(text_encoder_2=["transformers", "UMT5EncoderModel"]),
        {},
        ("is a FluxPipeline with a UMT5EncoderModel, which this version can't audit",),
    ),
    "no text encoder": ("sd3", removed("text_encoder_2"), {}, ("is incomplete: its text_encoder_2 has no config.json",)),
    "no tokenizer": ("sd1", removed("tokenizer"), {}, ("is incomplete: its tokenizer has no tokenizer_config.json",)),
    "no autoencoder": ("dit", removed("vae"), {}, ("is incomplete: its vae has no config.json",)),
    "not listed": ("flux-schnell", index(text_encoder="drop"), {}, ("as a FluxPipeline it needs a text_encoder",)),
    "pickled": ("sd2", only_pickled, {}, ("only pickled weights", "safetensors alone")),
    "video": (
        "sd1",
        index(_class_name="TextToVideoSDPipeline", unet=["diffusers", "UNet3DConditionModel"]),
        {},
        ("is a TextToVideoSDPipeline", "no audio or video"),
    ),
    "schedule": (
        "sdxl",
        as_scheduler("EDMEulerScheduler", sigma_min=0.002, sigma_max=80.0),
        {},
        ("can't be derived from its scheduler EDMEulerScheduler", "wrap_denoiser"),
    ),
    "size": ("sd1", None, {"size": 17}, ("multiple of 2 pixels; got size=17. Try size=16",)),
    "size of patches": ("sd3", None, {"size": 18}, ("multiple of 4 pixels; got size=18",)),
    "too large": ("sd3", None, {"size": 68}, ("takes images whose side is at most 64 pixels; got size=68",)),
    "size of packs": ("flux-dev", None, {"size": 30}, ("multiple of 4 pixels; got size=30. Try size=32",)),
    "size of a UNet": ("ldm-kl", None, {"size": 18}, ("multiple of 4 pixels; got size=18",)),
    "size of pixels": ("ddpm", None, {"size": 0}, ("multiple of 2 pixels; got size=0. Try size=2",)),
    "no size": ("sd1", changed("unet/config.json", sample_size="drop"), {}, ("doesn't state the side of its images", "give it as size=")),
    "latents": ("dit", None, {"latents": "median"}, ("latents must be 'mode'", "'sample'", "'median'")),
    "latents of pixels": ("ddpm", None, {"latents": "mode"}, ("latents='mode'", *NO_EFFECT)),
    "offload of pixels": ("ddpm", None, {"offload": "model"}, ("offload='model'", *NO_EFFECT)),
    "offload without text": ("dit", None, {"offload": "model"}, ("offload='model'", *NO_EFFECT)),
    "offload on the CPU": ("sana", None, {"offload": "model"}, ("Offloading", "this model is on the CPU; leave offload out")),
    "other offload": ("sana", None, {"offload": "disk"}, ("offload must be None, 'model' or 'sequential'; got 'disk'",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_weights_are_fetched(copied, on_hub, loopback_hub, monkeypatch, case):
    name, change, asked, says = REFUSED[case]
    folder = copied(name, *[change] * (change is not None))
    repo_id = on_hub(folder)
    for where in (str(folder), repo_id):
        with pytest.raises(ModelError) as error:
            load_model(where, device="cpu", **asked)
        for phrase in says:
            assert phrase in str(error.value)
    assert [path for path in loopback_hub.files_fetched(repo_id) if not path.endswith(".json")] == []
