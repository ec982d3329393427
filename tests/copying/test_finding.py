"""The whole search: planted copies are found, fresh draws are not, a run resumes to the bit, and what can't be judged is refused."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.populations import mixture_images
from transformers import Dinov2Config, Dinov2Model

import mia_hub
from mia_hub.copying import embedding, generating
from mia_hub.copying.embedders import LARGEST_SIDE, embedder
from mia_hub.copying.finding import find_copies
from mia_hub.errors import MiaHubError
from mia_hub.images.image import InputImage
from mia_hub.images.sources import open_image
from mia_hub.models.exact import ddpm_alphas_cumprod, gaussian_mixture_denoiser, training_set_denoiser

SIDE = 16


def drawn(rng, n) -> list[np.ndarray]:
    """Images of one distribution: smooth blotches, uint8 ``[16, 16]``."""
    small = rng.random((n, 6, 6), dtype=np.float32)
    return [np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BICUBIC).point(lambda v: v * 255).convert("L"))
            for each in small]  # fmt: skip


def noised(image, rng):
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def jpeg(image):
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=70)
    return np.asarray(Image.open(buffer))


@pytest.fixture(scope="module")
def population():
    """Training images, one of them twice; non-members; and generated images: 6 copies, 30 fresh draws."""
    rng = np.random.default_rng(0)
    training, nonmembers, fresh = drawn(rng, 80), drawn(rng, 240), drawn(rng, 30)
    copies = [training[0], training[0], noised(training[1], rng), noised(training[2], rng), jpeg(training[3]), jpeg(training[4])]
    return [*training, training[0]], nonmembers, [*copies, *fresh]


def save(images, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{row:03}.png")
    return folder


@pytest.mark.parametrize("name", ["pixels", "features"])
def test_planted_copies_are_found_and_fresh_draws_are_not(name, population, tmp_path):
    training, nonmembers, generated = (save(images, tmp_path / str(i)) for i, images in enumerate(population))
    report = find_copies(training=training, nonmembers=nonmembers, generated=generated, embedder=name, progress=False)
    assert report.verdict == "copies" and report.control.fits
    found = {int(pair.generated[:3]) for pair in report.pairs if pair.is_copy}
    assert {0, 1, 2, 3, 4, 5} <= found and len(found) <= 7
    assert all(int(pair.training[:3]) == max(0, int(pair.generated[:3]) - 1) for pair in report.pairs if int(pair.generated[:3]) < 6)
    first = report.copied[0]
    assert (first.training, first.copies, first.repeats) == ("000.png", 2, 2)
    assert (report.training["n"], report.training["n_distinct"]) == (81, 80) and report.neighbours == 50
    assert report.model is None and any("repeat another one" in note for note in report.notes)
    assert report.copies.low <= len(found) / 36 <= report.copies.high
    assert report.figures.c_t < 0 and report.figures.authenticity.value < report.figures.authenticity_nonmembers.value + 0.2

    assert Image.open(BytesIO(report.sheet)).size[0] > 800
    values = json.loads(report.to_json())
    assert len(values["pairs"]) == 20 and "sheet" not in values and values["copies"]["value"] == report.copies.value
    assert len(report.to_csv().splitlines()) == 37
    for text in (report.to_markdown(), report.to_html()):
        assert "Evidence that the model gives training images back" in text and "000.png" in text
    assert "data:image/png;base64," in report.to_html()


def test_copies_that_are_too_few_to_be_told_from_chance_are_not_called_absent():
    rng = np.random.default_rng(5)
    training, nonmembers, fresh = (rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8) for n in (60, 40, 195))
    generated = np.concatenate([training[:5], fresh])
    report = find_copies(training=list(training), nonmembers=list(nonmembers), generated=list(generated), progress=False)
    assert report.verdict == "cannot tell" and report.copies.count == 0 and report.fewest > 5
    assert "to tell copies from chance; give more non-members" in report.to_markdown()


def test_a_folder_of_the_user_inside_the_output_folder_is_kept(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    images = list(np.random.default_rng(6).integers(0, 256, (50, 8, 8), dtype=np.uint8))
    find_copies(training=images[:10], generated=images[10:15], folder=tmp_path, progress=False)
    assert (tmp_path / "work" / "thesis.txt").read_text() == "mine" and not (tmp_path / ".mia_hub_copies").exists()


def test_the_model_that_embeds_images_of_elsewhere_has_to_be_named():
    images = list(np.random.default_rng(7).integers(0, 256, (20, 28, 28), dtype=np.uint8))
    with pytest.raises(MiaHubError, match="none is named: give it as --model"):
        find_copies(training=images[:10], generated=images[10:], embedder="denoiser", progress=False)


def test_a_perfect_memory_copies_and_a_perfect_generalisation_does_not():
    means, _, images = mixture_images(260)
    sources = {"training": images[:60], "nonmembers": images[60:], "n": 40, "progress": False}
    memory = find_copies(training_set_denoiser(images[:60].double() * 2 - 1), **sources, steps=8)
    assert memory.verdict == "copies" and memory.copies.value > 0.9
    knows_nothing = find_copies(gaussian_mixture_denoiser(means, 0.1), **sources, steps=200)
    assert knows_nothing.verdict == "no copies found" and knows_nothing.control.fits
    # With few steps its images are blander than real ones, and so nearer to all of them.
    bland = find_copies(gaussian_mixture_denoiser(means, 0.1), **sources, steps=8)
    assert bland.verdict == "cannot tell" and "the control fails" in bland.reason and not bland.control.fits
    assert "Cannot tell" in bland.to_markdown() and "it fails" in bland.to_html()


@pytest.mark.parametrize(
    ("count", "says"),
    [(0, "no images are known that the model was certainly not trained on"), (37, "37 non-members are too few")],
)
def test_without_enough_non_members_nothing_is_told(count, says, population):
    training, nonmembers, generated = population
    report = find_copies(training=training, nonmembers=nonmembers[:count] or None, generated=generated, progress=False)
    assert report.verdict == "cannot tell" and says in report.reason and "38" in report.reason
    assert report.pairs[0].ratio == 0 and report.control is None
    assert says in report.to_html() and says in report.to_markdown() and report.to_json()


@pytest.fixture(scope="module")
def tiny(tiny_pixel_repo):
    return mia_hub.load_model(str(tiny_pixel_repo(size=SIDE)), device="cpu")


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("at", ["generating", "embedding"])
def test_an_interrupted_run_resumes_to_the_bit(at, tiny, population, tmp_path, monkeypatch):
    training, nonmembers, _ = population
    options = {"training": training, "nonmembers": nonmembers[:40], "n": 10, "steps": 2, "batch_size": 3, "progress": False}
    whole = find_copies(tiny, **options)
    place, name, most = (generating, "_store", 2) if at == "generating" else (embedding.FinishedBatches, "write", 2)
    work, done = getattr(place, name), []

    def interrupted(*arguments):
        if len(done) == most:
            raise Interrupted
        done.append(work(*arguments))

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(place, name, interrupted)
        find_copies(tiny, folder=tmp_path, **options)
    stored = sorted((tmp_path / "generated").glob("*.png"))
    times = [file.stat().st_mtime_ns for file in stored]
    assert len(stored) == (6 if at == "generating" else 10)
    resumed = find_copies(tiny, folder=tmp_path, **options)
    assert [file.stat().st_mtime_ns for file in stored] == times
    assert resumed.pairs == whole.pairs and resumed.control == whole.control and resumed.figures == whole.figures
    assert resumed.sheet == whole.sheet
    assert len(list((tmp_path / "generated").iterdir())) == 10 and not (tmp_path / ".mia_hub_copies").exists()
    # More images of the same run; the first ones are the same.
    more = find_copies(tiny, folder=tmp_path, **options | {"n": 12})
    assert {pair.generated: pair.distance for pair in resumed.pairs}.items() <= {p.generated: p.distance for p in more.pairs}.items()
    with pytest.raises(MiaHubError, match=r"another run, which differs in: steps\. Give another folder"):
        find_copies(tiny, folder=tmp_path, **options | {"steps": 3})


def vision_model(folder: Path, *, safetensors: bool = True) -> Path:
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Dinov2Model(config)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {"crop_size": {"height": 28, "width": 28}, "image_mean": [0.5] * 3, "image_std": [0.2] * 3, "size": {"shortest_edge": 32}}
        )
    )
    if not safetensors:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def test_every_embedder_maps_an_image_to_one_vector(tiny, tmp_path):
    images = [open_image(image) for image in drawn(np.random.default_rng(3), 5)]
    names = ["pixels", "features", "denoiser", f"transformers:{vision_model(tmp_path / 'vision')}"]
    for name in names:
        chosen = embedder(name, model=tiny, shape=(1, SIDE, SIDE), device="cpu")
        together, alone = chosen.vectors(images), chosen.vectors(images[3:4])
        assert together.dtype == np.float32 and together.ndim == 2
        np.testing.assert_allclose(alone[0], together[3], rtol=1e-4, atol=1e-5)
        assert len(np.unique(together, axis=0)) == 5, name
    expected = (np.repeat(images[0].resized(28, 28, 3)[None], 1, 0) - 0.5) / 0.2
    network = Dinov2Model.from_pretrained(tmp_path / "vision").eval()
    pooled = network(torch.from_numpy(expected.transpose(0, 3, 1, 2)).float()).pooler_output.detach().numpy()[0]
    np.testing.assert_allclose(chosen.vectors(images[:1])[0], pooled / np.linalg.norm(pooled), rtol=1e-4, atol=1e-5)
    large = embedder("pixels", model=None, shape=(3, 256, 512))
    assert large.vectors([images[0]]).shape == (1, 3 * LARGEST_SIDE // 2 * LARGEST_SIDE)


class Ours:
    """An embedder of the user's own."""

    identity = "mean and spread"

    def vectors(self, images: list[InputImage]) -> np.ndarray:
        return np.array([[image.pixels.mean(), image.pixels.std()] for image in images], np.float32)


class Nothing(Ours):
    identity = "nothing"

    def vectors(self, images):
        return np.full((len(images), 2), np.nan)


class Constant(Ours):
    identity = "constant"

    def vectors(self, images):
        return np.zeros((len(images), 2))


def test_an_embedder_may_be_an_object(population):
    training, nonmembers, generated = population
    report = find_copies(training=training, nonmembers=nonmembers, generated=generated, embedder=Ours(), progress=False)
    assert report.embedder == "mean and spread" and report.pairs[0].ratio == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n": 0}, "n, the number of images to generate, must be an integer ≥ 1; got 0"),
        ({"neighbours": 1}, "neighbours must be an integer ≥ 2"),
        ({"rate": 1.5}, "must lie between 0 and 1"),
        ({"limit": 1}, "limit must be an integer ≥ 2"),
        ({"training": None}, "The training images are missing"),
        ({"training": "overlapping"}, r"1 of the non-members are among the training images \(the first: 003\.png\)"),
        ({"training": "one"}, "needs at least 2 different training images"),
        ({"embedder": Constant()}, "to the embedder there is 1"),
        ({"embedder": Nothing()}, r"one vector of finite numbers for each of 32 images"),
        ({"embedder": "pixel"}, "There is no embedder 'pixel'; choose 'pixels'"),
        ({"embedder": 3}, "An embedder is a name, or an object"),
        ({"embedder": "transformers:pickled"}, "has only pickled weights"),
        ({"embedder": "transformers:nowhere"}, "There is no model 'nowhere'"),
        ({"prompts": ["a"]}, "prompts are for images that are generated here"),
        ({"generated": None, "model": "tiny", "prompts": ["a"]}, "is an unconditional model and takes no prompts"),
        ({"generated": None, "model": "tiny", "steps": 2000}, "more than the 1000 timesteps"),
        ({"generated": "empty"}, "no image"),
        ({"generated": None, "model": "tiny", "folder": "other"}, "holds files of something else"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused(options, says, tiny, population, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training, nonmembers, generated = population
    for name, images in (
        ("training", training[:40]),
        ("nonmembers", nonmembers[:38]),
        ("generated", generated[:4]),
        ("one", [training[0]] * 2),
    ):
        save(images, tmp_path / name)
    save([*training[:20], nonmembers[3]], tmp_path / "overlapping")
    vision_model(tmp_path / "pickled", safetensors=False)
    (tmp_path / "empty").mkdir()
    save([training[0]], tmp_path / "other" / "generated")
    given = {"training": "training", "nonmembers": "nonmembers", "generated": "generated", "steps": 2, "n": 2, "progress": False} | options
    if given.get("model") == "tiny":
        given["model"] = tiny
    with pytest.raises(MiaHubError, match=says):
        find_copies(**given)


def test_prompts_are_the_captions_of_the_training_images(tiny):
    class Text:
        info = mia_hub.ModelInfo("text", None, "text-to-image", (1, 8, 8), 1000, conditioning="text")

    captions = ["a", "b", None, "c"]
    chosen = generating.choose_prompts(Text(), "captions", captions, 0)
    assert sorted(chosen) == ["", "a", "b", "c"] and chosen != ["a", "b", "", "c"]
    assert generating.choose_guidance(Text(), None, chosen) == 7.5 and generating.choose_guidance(Text(), 2, chosen) == 2
    assert generating.choose_prompts(Text(), "empty", captions, 0) == [""] == generating.choose_prompts(Text(), "captions", None, 0)
    assert generating.choose_guidance(Text(), None, [""]) == 1
    assert generating.choose_prompts(tiny, "captions", captions, 0) is None
    Text.info = mia_hub.ModelInfo("of classes", None, "pixel", (1, 8, 8), 1000, conditioning="class", num_classes=3)
    assert sorted(generating.choose_prompts(Text(), "captions", [0, 2, 1], 0)) == [0, 1, 2]
    with pytest.raises(MiaHubError, match="always needs a class, and none is known here"):
        generating.choose_prompts(Text(), "captions", None, 0)
    with pytest.raises(MiaHubError, match="can't be guided"):
        generating.choose_guidance(Text(), 2.0, [1])


def test_images_follow_their_prompts_and_the_guidance(tmp_path):
    alphas = ddpm_alphas_cumprod(100)
    levels = {"": 0.1, "dark": -0.2, "light": 0.3}

    def denoiser(x, t, cond):
        """Knows one flat image for each caption, so that whatever is generated is that image."""
        signal, noise = alphas[t].sqrt()[:, None, None, None], (1 - alphas[t]).sqrt()[:, None, None, None]
        return (x - signal * cond[:, :, None, None]) / noise

    model = mia_hub.wrap_denoiser(
        denoiser, alphas, sample_shape=(1, 4, 4), dtype=torch.float64,
        condition=lambda captions: torch.tensor([[levels[caption]] for caption in captions], dtype=torch.float64),
    )  # fmt: skip
    for guidance, expected in ((1.0, [0.3, -0.2, 0.3]), (2.0, [0.5, -0.5, 0.5]), (0.0, [0.1] * 3)):
        sampling = generating.Sampling(3, guidance, 0, ["light", "dark"])
        folder = tmp_path / str(guidance)
        folder.mkdir()
        files = generating.generate_images(model, sampling, 3, folder, batch_size=2)
        values = [np.asarray(Image.open(file)) for file in files]
        np.testing.assert_allclose([value.mean() / 255 * 2 - 1 for value in values], expected, atol=0.005)
