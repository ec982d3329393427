"""From a name to a model: what loads and to what, what is fetched for it, and every way it is refused."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

import mia_hub.models.loading as loading
from mia_hub.errors import ModelError
from mia_hub.models import assembly
from mia_hub.models.families.pixel import PixelModel
from mia_hub.models.protocol import DiffusionModel

ONE_FILE = {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "unet/diffusion_pytorch_model.safetensors"}
T = torch.tensor([3, 500])


def load_model(id_or_path="demo", *, device="cpu", **options):
    """On the CPU unless told otherwise, so that results are the same to the bit where there is a GPU."""
    return loading.load_model(id_or_path, device=device, **options)


def some_x(model, rows=2) -> torch.Tensor:
    return torch.randn(rows, *model.info.sample_shape, generator=torch.Generator().manual_seed(1))


def epsilon(model) -> torch.Tensor:
    return model.predict_noise(some_x(model), T)


@pytest.fixture(scope="module")
def tiny(tiny_pixel_repo) -> Path:
    return tiny_pixel_repo()


@pytest.fixture
def on_hub(loopback_hub, request):
    """``on_hub(files, …) -> id``: puts a repository on the Hub for one test."""
    made = []

    def add(files, **options):
        repo_id = f"alice/{request.node.originalname}-{len(loopback_hub.log)}-{len(made)}"
        loopback_hub.add_repo("model", repo_id, files, **options)
        made.append(repo_id)
        return repo_id

    yield add
    for repo_id in made:
        loopback_hub.delete_repo("model", repo_id)


@pytest.fixture
def variant_of(tiny, tmp_path):
    """A copy of the tiny model, to be damaged."""
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    return folder


# What loads


@pytest.mark.parametrize("layout", ["folders", "root"])
@pytest.mark.parametrize("weights", ["safetensors", "fp16", "sharded"])
def test_every_layout_loads_from_folder_and_hub(tiny_pixel_repo, on_hub, loopback_hub, weights, layout):
    folder = tiny_pixel_repo(weights=weights, layout=layout)
    unet = UNet2DModel.from_pretrained(tiny_pixel_repo() / "unet")  # the same weights, in float32
    if weights == "fp16":
        unet = unet.half().float()
    local, remote = load_model(folder), load_model(on_hub(folder))
    with torch.no_grad():
        expected = unet(some_x(local), T).sample
    assert torch.equal(epsilon(local), expected)
    assert torch.equal(epsilon(remote), expected)
    assert local.info.id == str(folder) and local.info.revision.startswith("sha256:")
    assert remote.info.sample_shape == (1, 8, 8) and remote.info.num_train_timesteps == 1000 and remote.info.family == "pixel"
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert sorted(loopback_hub.files_fetched(remote.info.id)) == sorted(on_disk)


def test_local_weights_are_told_apart(tiny, tiny_pixel_repo):
    same, other = load_model(tiny_pixel_repo()), load_model(tiny_pixel_repo(seed=1))
    assert load_model(tiny).info.revision == same.info.revision != other.info.revision
    assert not torch.allclose(epsilon(same), epsilon(other))


def test_only_what_is_needed_is_fetched(tiny, tiny_pixel_repo, loopback_hub, on_hub):
    repo_id = on_hub(tiny)
    extra = {
        "README.md": "---\nlicense: mit\n---\n",
        "unet/diffusion_pytorch_model.bin": b"pickle",
        "unet/diffusion_pytorch_model.non_ema.safetensors": b"other weights",
        "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
        "unet_ema/diffusion_pytorch_model.safetensors": b"other weights",
        "unet/modeling.py": "raise SystemExit('run')",
        "sample.png": b"image",
    }
    loopback_hub.commit("model", repo_id, extra)
    load_model(repo_id)
    assert sorted(loopback_hub.files_fetched(repo_id)) == sorted(ONE_FILE)


def test_a_large_download_is_announced(tiny, on_hub, monkeypatch, capsys):
    import mia_hub.models.repository as repository

    repo_id = on_hub(tiny)
    monkeypatch.setattr(repository, "ANNOUNCED", 1000)
    load_model(repo_id)
    size = (tiny / "unet/diffusion_pytorch_model.safetensors").stat().st_size
    assert f"Downloading {repo_id}: {size / 2**20:.0f} MiB in 1 files" in capsys.readouterr().err
    load_model(repo_id)
    assert f"Downloading {repo_id}" not in capsys.readouterr().err


def test_a_second_load_fetches_nothing(tiny, loopback_hub, on_hub):
    repo_id = on_hub(tiny)
    first = load_model(repo_id)
    fetched = loopback_hub.files_fetched(repo_id)
    assert torch.equal(epsilon(first), epsilon(load_model(repo_id)))
    assert loopback_hub.files_fetched(repo_id) == fetched


def test_a_revision_becomes_its_commit(tiny, tiny_pixel_repo, loopback_hub, on_hub):
    repo_id = on_hub(tiny)
    first = load_model(repo_id)
    second_commit = loopback_hub.commit("model", repo_id, tiny_pixel_repo(seed=1))
    branch_commit = loopback_hub.commit("model", repo_id, tiny_pixel_repo(seed=2), branch="trial")
    second = load_model(repo_id, revision="main")
    assert (second.info.revision, load_model(repo_id).info.revision) == (second_commit, second_commit)
    assert load_model(repo_id, revision="trial").info.revision == branch_commit
    again = load_model(repo_id, revision=first.info.revision)
    assert again.info.revision == first.info.revision != second_commit
    assert torch.equal(epsilon(again), epsilon(first)) and not torch.allclose(epsilon(again), epsilon(second))
    with pytest.raises(ModelError, match=f"{repo_id} has no revision 'v9'; leave it out"):
        load_model(repo_id, revision="v9")


OFFLINE = """
import sys
from mia_hub.errors import ModelError
from mia_hub.models.loading import load_model
for name in sys.argv[1:]:
    try:
        print(load_model(name).info.revision)
    except ModelError as error:
        print(error)
"""


def test_without_a_network_the_cache_serves(tiny, tiny_pixel_repo, loopback_hub, on_hub):
    cached, half, unseen = on_hub(tiny), on_hub(tiny_pixel_repo(weights="bin")), on_hub(tiny)
    commit = load_model(cached).info.revision
    with pytest.raises(ModelError):
        load_model(half)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        env = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{free.getsockname()[1]}", "OMP_NUM_THREADS": "1"}
        asked = subprocess.run([sys.executable, "-c", OFFLINE, cached, half, unseen], env=env, capture_output=True, text=True, check=True)
    assert asked.stdout.splitlines()[0] == commit
    for repo_id, message in zip((half, unseen), asked.stdout.splitlines()[1:], strict=True):
        assert "The Hub can't be reached" in message and "a folder, or 'demo'" in message
        assert f"{repo_id} is not in the local cache" in message


def test_a_stranger_gets_nothing_out_of_the_cache(tiny, on_hub, monkeypatch):
    """It may hold what only its owner may see."""
    import huggingface_hub

    repo_id = on_hub(tiny)
    load_model(repo_id)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    assert load_model(repo_id).info.id == repo_id
    with pytest.raises(ModelError, match="The Hub can't be reached"):
        load_model(repo_id, trusted=False)


def test_a_model_is_returned_as_it_is(tiny):
    model = load_model(tiny)
    assert loading.load_model(model) is model
    assert isinstance(model, DiffusionModel)


def test_gated_and_private_models_load_for_their_owner(tiny, on_hub, monkeypatch):
    for options in ({"gated": True}, {"private": True}):
        repo_id = on_hub(tiny, **options)
        monkeypatch.setenv("HF_TOKEN", "hf_alice")
        assert load_model(repo_id).info.id == repo_id


# What is refused: by name


@pytest.mark.parametrize(
    "name, says",
    [
        ("nonsense", ("neither 'demo', nor an existing folder, nor a Hub id", "'google/ddpm-cifar10-32'")),
        ("a/b/c", ("neither 'demo', nor an existing folder, nor a Hub id", "'owner/name'")),
        ("", ("neither 'demo', nor an existing folder",)),
        ("./no/such/folder", ("nor an existing folder",)),
        ("x" * 5000, ("nor an existing folder",)),
        ("https://huggingface.co/alice/tiny/tree/main", ("such as 'alice/tiny'",)),
        ("https://huggingface.co/datasets/alice/images", ("such as 'google/ddpm-cifar10-32'",)),
        ("alice/--tiny..", ("not a valid Hub id", "'owner/name'")),
        ("alice/unheard-of", ("no model 'alice/unheard-of' that you may see", "spelling", "hf auth login")),
    ],
)
def test_a_wrong_name_is_refused(loopback_hub, name, says):
    with pytest.raises(ModelError) as error:
        load_model(name)
    assert name in str(error.value)
    for phrase in says:
        assert phrase in str(error.value)


@pytest.mark.parametrize("token", [None, "hf_bob"])
@pytest.mark.parametrize(
    "options, says",
    [
        ({"gated": True}, ("is gated", "accept its terms on https://huggingface.co/alice/", "hf auth login", "HF_TOKEN")),
        ({"private": True}, ("no model", "that you may see", "hf auth login", "HF_TOKEN")),
    ],
)
def test_a_closed_repository_is_refused(tiny, on_hub, loopback_hub, monkeypatch, options, says, token):
    repo_id = on_hub(tiny, **options)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ModelError) as error:
        load_model(repo_id)
    for phrase in (repo_id, *says):
        assert phrase in str(error.value)
    assert not [path for path in loopback_hub.files_fetched(repo_id) if not path.endswith(".json")]


@pytest.mark.parametrize(
    "answer, says",
    [
        (500, "The model alice/tiny at revision 'v1' could not be read: the Hub answered 500 .* Try again"),
        (401, "the Hub answered 401 .* log in with 'hf auth login'"),
        (403, "the Hub answered 403 .* log in with 'hf auth login'"),
        ("<html>Welcome to the hotel!</html>", "The model alice/tiny .* could not be read: what answered is not the Hub .*log-in page"),
    ],
)
def test_a_broken_answer_is_said_clearly(loopback_hub, answer, says):
    with loopback_hub.broken(answer), pytest.raises(ModelError, match=says):
        load_model("alice/tiny", revision="v1")


@pytest.mark.parametrize("device", ["cuda", "banana", 3.5])
def test_an_unknown_device_is_refused(tiny, device):
    if device == "cuda" and torch.cuda.is_available():
        device = "cuda:99"
    with pytest.raises(ModelError, match=rf"The device '?{device}'? is not available here .*try 'cpu'"):
        load_model(tiny, device=device)


@pytest.mark.parametrize("dtype", ["float8", "double", torch.int64])
def test_an_unknown_precision_is_refused(tiny, dtype):
    with pytest.raises(ModelError, match=f"Unknown precision '?{dtype}'?; choose one of float32, float64, bfloat16, float16"):
        load_model(tiny, dtype=dtype)


# What is refused: by content. Each case changes a folder that loads; `weights_seen` where the fault is in the weights themselves.


def change_json(path: Path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "drop"}))


def change_index(**changes):
    return lambda folder: change_json(folder / "model_index.json", **changes)


def change_unet(**changes):
    return lambda folder: change_json(folder / "unet/config.json", **changes)


def change_scheduler(name, **changes):
    def change(folder):
        change_json(folder / "model_index.json", scheduler=["diffusers", name])
        change_json(folder / "scheduler/scheduler_config.json", _class_name=name, **changes)

    return change


def remove(path):
    return lambda folder: (folder / path).unlink()


def write(path, content):
    return lambda folder: (folder / path).write_bytes(content)


def all_of(*changes):
    def change(folder):
        for one in changes:
            one(folder)

    return change


def transformers_repo(folder):
    for path in ("unet", "scheduler"):
        shutil.rmtree(folder / path)
    (folder / "model_index.json").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    save_file({"w": torch.zeros(1)}, folder / "model.safetensors")


def pickled(folder):
    unet = folder / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(unet), unet.with_suffix(".bin"))
    unet.unlink()


def truncate(folder):
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def drop_weights(folder):
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_in.weight"], weights["conv_out.bias"]
    save_file(weights, path)


def pickle_in_shards(folder):
    pickled(folder)
    index = {"metadata": {}, "weight_map": {"conv_in.weight": "diffusion_pytorch_model.bin"}}
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


STABLE_DIFFUSION = {
    "_class_name": "StableDiffusionPipeline",
    "vae": ["diffusers", "AutoencoderKL"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
}
CANT_AUDIT = ("this version can't audit", "image models", "no audio or video", "wrap_denoiser")
REPAIR = ("Download it again, or ask its owner",)
REFUSED = {
    "transformers": (transformers_repo, ("not a diffusion model in diffusers' layout", "model_index.json", "wrap_denoiser")),
    "single file": (
        all_of(remove("model_index.json"), write("model.ckpt", b"pickle")),
        ("not a diffusion model in diffusers' layout (pickled or single-file weights)", "wrap_denoiser"),
    ),
    "video": (
        change_index(_class_name="StableVideoDiffusionPipeline", vae=["diffusers", "AutoencoderKLTemporalDecoder"]),
        ("is a StableVideoDiffusionPipeline", *CANT_AUDIT),
    ),
    "half a text-to-image model": (
        change_index(**STABLE_DIFFUSION),
        ("as a StableDiffusionPipeline it needs a tokenizer, which model_index.json doesn't list", *REPAIR),
    ),
    "half a latent model": (
        change_index(_class_name="LDMPipeline", vqvae=["diffusers", "VQModel"]),
        ("its vqvae has no config.json", *REPAIR),
    ),
    "other network": (
        change_index(unet=["diffusers", "DiTTransformer2DModel"]),
        ("a DDPMPipeline with a DiTTransformer2DModel", *CANT_AUDIT),
    ),
    "no scheduler": (change_index(scheduler="drop"), ("as a DDPMPipeline it needs a scheduler", *REPAIR)),
    "four channels": (change_unet(in_channels=4, out_channels=4), ("takes 4 channels and puts out 4", "1 or 3", "can't be audited")),
    "own network": (
        all_of(change_index(unet=["my_unet", "UNet2DModel"]), write("unet/my_unet.py", b"raise SystemExit('run')")),
        ("needs code from its own repository (its component 'unet', from 'my_unet')", "never runs code", "wrap_denoiser"),
    ),
    "own scheduler": (change_index(scheduler=["os", "system"]), ("its component 'scheduler', from 'os'", "never runs code")),
    "own pipeline": (change_index(_class_name=["pipeline", "Mine"]), ("needs code", "its pipeline", "never runs code", "wrap_denoiser")),
    "odd component": (
        change_index(unet=["diffusers"]),
        ("model_index.json should give library and class of its unet, not ['diffusers']", *REPAIR),
    ),
    "only pickled": (pickled, ("only pickled weights", "safetensors alone", "Ask its owner to add safetensors", "convert")),
    "pickled shards": (pickle_in_shards, ("names weights that are no safetensors files", *REPAIR)),
    "no weights": (remove("unet/diffusion_pytorch_model.safetensors"), ("has no weights", "missing from its unet folder", *REPAIR)),
    "no unet config": (remove("unet/config.json"), ("its unet has no config.json", *REPAIR)),
    "no scheduler config": (remove("scheduler/scheduler_config.json"), ("its scheduler has no scheduler_config.json", *REPAIR)),
    "broken index": (write("model_index.json", b"{"), ("model_index.json is not readable JSON", *REPAIR)),
    "index is a list": (write("model_index.json", b"[]"), ("model_index.json should hold a JSON object", *REPAIR)),
    "nested index": (write("model_index.json", b"[" * 200_000), ("model_index.json is not readable JSON", *REPAIR)),
    "quantised": (change_unet(quantization_config={"quant_method": "x"}), ("needs quantised weights in its unet",)),
    "attention of its own": (change_unet(attn_implementation="evil/kernel"), ("needs attention of the kind 'evil/kernel'",)),
    "broken unet config": (write("unet/config.json", b"\xff"), ("is broken: config.json is not readable JSON", *REPAIR)),
    "broken scheduler config": (
        write("scheduler/scheduler_config.json", b""),
        ("is broken: scheduler_config.json is not readable", *REPAIR),
    ),
    "impossible network": (change_unet(down_block_types=["Nonsense"] * 2), ("could not be loaded", "Nonsense", *REPAIR)),
    "no sample size": (change_unet(sample_size=None), ("doesn't state its image size", "sample_size", "Add it to a copy")),
    "class timesteps": (change_unet(class_embed_type="timestep"), ("something other than class indices", "'timestep'", "wrap_denoiser")),
    "score sde": (
        change_scheduler("ScoreSdeVeScheduler"),
        ("noise schedule", "can't be derived from its scheduler ScoreSdeVeScheduler", "DDPMScheduler", "wrap_denoiser"),
    ),
    "flat schedule": (
        change_scheduler("DDPMScheduler", beta_start=0.0),
        ("The noise schedule of", "can't be used: alphas_cumprod must be a non-increasing sequence"),
    ),
    "unknown scheduler": (change_scheduler("FutureScheduler"), ("scheduler FutureScheduler, which the installed diffusers", "--upgrade")),
    "no scheduler class": (change_scheduler("UNet2DModel"), ("scheduler UNet2DModel, which the installed diffusers",)),
    "impossible schedule": (change_scheduler("DDPMScheduler", beta_schedule="cubic"), ("could not be loaded", "cubic", *REPAIR)),
}
BROKEN_WEIGHTS = {
    "truncated": (truncate, ("could not be loaded", *REPAIR)),
    "no safetensors": (write("unet/diffusion_pytorch_model.safetensors", b"version https://git-lfs"), ("could not be loaded", *REPAIR)),
    "missing weights": (drop_weights, ("is incomplete: 2 weights are missing (such as conv_in.weight)", "would have been random", *REPAIR)),
    "another width": (change_unet(block_out_channels=[16, 32]), ("could not be loaded", "expected shape torch.Size([16])", *REPAIR)),
}


@pytest.mark.parametrize("case", [*REFUSED, *BROKEN_WEIGHTS])
def test_what_is_no_pixel_model_is_refused(variant_of, on_hub, loopback_hub, case):
    change, says = (REFUSED | BROKEN_WEIGHTS)[case]
    change(variant_of)
    for name in (str(variant_of), on_hub(variant_of)):
        with pytest.raises(ModelError) as error:
            load_model(name)
        for phrase in (name, *says):
            assert phrase in str(error.value)
    fetched = loopback_hub.files_fetched(name)
    allowed = (".json", ".safetensors") if case in BROKEN_WEIGHTS else (".json",)
    assert [path for path in fetched if not path.endswith(allowed)] == []


def test_refused_without_weights_in_memory(variant_of, monkeypatch):
    """A folder is refused by its configs too: its weights are never opened."""
    change_unet(class_embed_type="timestep")(variant_of)
    monkeypatch.setattr(UNet2DModel, "from_pretrained", lambda *_, **__: pytest.fail("weights were opened"))
    with pytest.raises(ModelError, match="class indices"):
        load_model(variant_of)


def test_the_demo_is_a_folder_of_the_package(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, "DEMO_FOLDER", tmp_path)
    shutil.copytree(tiny, tmp_path / "model")
    assert load_model("demo").info.id == load_model().info.id == "demo"
    assert torch.equal(epsilon(load_model()), epsilon(load_model(tiny)))


# What a loaded model predicts


def by_hand(output, x, t, scheduler, prediction_type):
    """ε from the network's output: x_t = a·x0 + s·ε and v = a·ε - s·x0, solved for ε row by row."""
    rows = []
    for out, noisy, step in zip(output, x, t):
        a, s = scheduler.alphas_cumprod[step].sqrt(), (1 - scheduler.alphas_cumprod[step]).sqrt()
        rows.append({"epsilon": out, "v_prediction": a * out + s * noisy, "sample": (noisy - a * out) / s}[prediction_type])
    return torch.stack(rows)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_noise_is_predicted_whatever_the_network_predicts(tiny_pixel_repo, prediction_type):
    scheduler = DDIMScheduler(prediction_type=prediction_type, clip_sample=False)
    folder = tiny_pixel_repo(channels=3, scheduler=scheduler)
    unet, model = UNet2DModel.from_pretrained(folder / "unet"), load_model(folder)
    assert model.info.prediction_type == prediction_type
    x, t, s = some_x(model), 500, 480
    with torch.no_grad():
        output = unet(x, T).sample
        at_t = unet(x, t).sample
    torch.testing.assert_close(model.predict_noise(x, T), by_hand(output, x, T, scheduler, prediction_type), rtol=1e-5, atol=1e-5)

    # One DDIM step made from our ε is the one diffusers makes from the network's output.
    scheduler.set_timesteps(50)
    assert s in scheduler.timesteps and t in scheduler.timesteps
    expected = scheduler.step(at_t, t, x, eta=0.0).prev_sample
    ours = model.schedule.ddim_step(x, model.predict_noise(x, torch.tensor([t, t])), t, s)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_learned_variance_is_left_out(tiny_pixel_repo, channels):
    folder = tiny_pixel_repo(channels=channels, out_channels=2 * channels)
    unet, model = UNet2DModel.from_pretrained(folder / "unet"), load_model(folder)
    with torch.no_grad():
        output = unet(some_x(model), T).sample
    assert output.shape[1] == 2 * channels
    assert torch.equal(epsilon(model), output[:, :channels])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_batch_may_mix_timesteps(tiny_pixel_repo, prediction_type):
    model = load_model(tiny_pixel_repo(prediction_type=prediction_type), dtype="float64")
    x, t = some_x(model, 3).double(), torch.tensor([0, 500, 999])
    batch = model.predict_noise(x, t)
    for row in range(3):
        torch.testing.assert_close(batch[row : row + 1], model.predict_noise(x[row : row + 1], t[row : row + 1]), rtol=1e-10, atol=1e-10)
        assert not torch.allclose(batch[row], model.predict_noise(x[row : row + 1], t[[row - 1]])[0], rtol=1e-4, atol=1e-4)


def test_size_need_not_be_square(tiny_pixel_repo):
    model = load_model(tiny_pixel_repo(size=(8, 16)))
    assert model.info.sample_shape == (1, 8, 16)
    assert epsilon(model).shape == (2, 1, 8, 16)


@pytest.mark.parametrize(
    "dtype, returned, tolerance",
    [
        ("float64", torch.float64, 1e-5),
        ("float32", torch.float32, 0),
        (torch.bfloat16, torch.float32, 0.1),
        ("float16", torch.float32, 0.02),
    ],
)
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample"])
@pytest.mark.parametrize("given", [torch.float32, torch.float64])
def test_precisions(tiny_pixel_repo, dtype, returned, tolerance, prediction_type, given):
    folder = tiny_pixel_repo(prediction_type=prediction_type)
    model, reference = load_model(folder, dtype=dtype), load_model(folder)
    assert model.dtype == getattr(torch, str(dtype).removeprefix("torch.")) and model.device == torch.device("cpu")
    assert {parameter.dtype for parameter in model.network.parameters()} == {model.dtype}
    t = torch.tensor([500, 900])
    found, expected = model.predict_noise(some_x(model).to(given), t), reference.predict_noise(some_x(model), t)
    assert found.dtype == returned
    assert (found - expected).abs().max() <= tolerance


def test_a_model_is_queried_without_dropout_and_its_weights_need_no_gradients(tiny_pixel_repo):
    model = load_model(tiny_pixel_repo(dropout=0.5))
    x = some_x(model)
    assert torch.equal(model.predict_noise(x, T), model.predict_noise(x, T))
    assert not model.predict_noise(x, T).requires_grad
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_images_enter_at_the_models_size(tiny_pixel_repo):
    model = load_model(tiny_pixel_repo(channels=3, size=(8, 16)), dtype="bfloat16")
    ramp = torch.linspace(0, 1, 3 * 8 * 16).reshape(1, 3, 8, 16)
    x0 = model.encode(ramp)
    assert x0.dtype == torch.float32
    torch.testing.assert_close(x0, ramp * 2 - 1, rtol=0, atol=1.01 / 255)
    assert model.encode(torch.ones(2, 3, 40, 40)).eq(1).all() and model.encode(torch.zeros(1, 3, 40, 40)).eq(-1).all()
    assert model.encode(torch.ones(2, 3, 40, 40)).shape == (2, 3, 8, 16)


def test_captions_are_refused(tiny):
    model = load_model(tiny)
    assert model.condition(None) is None
    with pytest.raises(ModelError, match=r"unconditional.*takes no captions; leave them out"):
        model.condition(["a cat"])


# Its noise schedule

SCHEDULES = [
    *[("DDPMScheduler", {"beta_schedule": shape}) for shape in ("linear", "scaled_linear", "squaredcos_cap_v2")],
    ("DDPMScheduler", {"num_train_timesteps": 50, "variance_type": "learned_range"}),
    ("DDIMScheduler", {"rescale_betas_zero_snr": True, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}),
    ("PNDMScheduler", {"beta_start": 0.00085, "beta_end": 0.012}),
    ("DPMSolverMultistepScheduler", {"beta_schedule": "squaredcos_cap_v2"}),
    ("EulerDiscreteScheduler", {"beta_schedule": "scaled_linear"}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "prediction_type": "sample"}),
    ("UniPCMultistepScheduler", {}),
]


@pytest.mark.parametrize("name, options", SCHEDULES, ids=lambda value: value if isinstance(value, str) else "-".join(value))
def test_the_schedule_is_the_schedulers(tiny, name, options):
    import diffusers

    scheduler = getattr(diffusers, name)(**options)
    model = PixelModel(UNet2DModel.from_pretrained(tiny / "unet"), scheduler, id="tiny")
    expected = scheduler.alphas_cumprod.double()
    assert len(model.schedule) == model.info.num_train_timesteps == len(expected)
    torch.testing.assert_close(model.schedule.signals**2, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(model.schedule.noises**2, 1 - expected, rtol=1e-12, atol=1e-14)
    if "rescale_betas_zero_snr" in options:
        assert model.schedule.signals[-1] == 0 and epsilon(model).isfinite().all()


def test_the_schedule_survives_saving(tiny_pixel_repo):
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", num_train_timesteps=70)
    model = load_model(tiny_pixel_repo(scheduler=scheduler))
    assert torch.equal(model.schedule.signals, scheduler.alphas_cumprod.double().sqrt())
