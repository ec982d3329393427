"""From a name to a model: what loads and to what, what is fetched for it, and every name that is refused."""

from __future__ import annotations

import shutil
import socket

import pytest
import torch
from diffusers import UNet2DModel

import mia_hub.models.loading as loading
from mia_hub.errors import ModelError
from mia_hub.models import assembly
from mia_hub.models.protocol import DiffusionModel

ONE_FILE = {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "unet/diffusion_pytorch_model.safetensors"}
T = torch.tensor([3, 500])


def load_model(id_or_path="demo", *, device="cpu", **options):
    """Load on the CPU by default, so that results are the same to the bit where there is a GPU."""
    return loading.load_model(id_or_path, device=device, **options)


def some_x(model, rows=2) -> torch.Tensor:
    return torch.randn(rows, *model.info.sample_shape, generator=torch.Generator().manual_seed(1))


def epsilon(model) -> torch.Tensor:
    return model.predict_noise(some_x(model), T)


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


def test_local_weights_are_distinguished(tiny, tiny_pixel_repo):
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


def test_without_a_network_the_cache_serves(tiny, tiny_pixel_repo, on_hub, monkeypatch):
    from huggingface_hub import constants

    cached, half, unseen = on_hub(tiny), on_hub(tiny_pixel_repo(weights="bin")), on_hub(tiny)
    commit = load_model(cached).info.revision
    with pytest.raises(ModelError, match="only pickled weights"):
        load_model(half)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        assert load_model(cached).info.revision == commit
        for repo_id in (half, unseen):
            with pytest.raises(ModelError, match=f"The Hub can't be reached .*{repo_id} is not in the local cache.*a folder, or 'demo'"):
                load_model(repo_id)


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
def test_a_broken_answer_is_reported(loopback_hub, answer, says):
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


def test_the_demo_is_a_folder_of_the_package(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(assembly, "DEMO_FOLDER", tmp_path)
    shutil.copytree(tiny, tmp_path / "model")
    assert load_model("demo").info.id == load_model().info.id == "demo"
    assert torch.equal(epsilon(load_model()), epsilon(load_model(tiny)))
