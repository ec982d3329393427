"""A part that overflows in half precision moves to a wider one, at loading or later, and results record that."""

from __future__ import annotations

import pytest
import torch
from support import tiny_pipelines

import mia_hub
from mia_hub.errors import ModelError
from mia_hub.models.families.pixel import PixelModel
from mia_hub.models.precision import DENOISER, PartPrecisions, match_precision, precision_of, probe_precision, widen_parts, wider_denoiser
from mia_hub.splits.loading import load_split

SIMA = mia_hub.get_attack("sima", timesteps=(100,))


def tiny_model(dtype: str) -> PixelModel:
    pipeline = tiny_pipelines.build("ddpm")
    return PixelModel(pipeline.unet, pipeline.scheduler, id="tiny", dtype=getattr(torch, dtype))


def overflowing(*dtypes: torch.dtype) -> PixelModel:
    """A float16 model whose network overflows in some precisions."""
    model = tiny_model("float16")
    output = model.output
    model.output = lambda x, t, cond: output(x, t, cond) * (torch.inf if x.dtype in dtypes else 1)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_work_that_overflows_is_done_again_in_a_wider_precision():
    layer = torch.nn.Linear(1, 1, bias=False).half()
    layer.weight.data.fill_(300)
    parts = PartPrecisions(torch.float16)
    parts.add("part", [layer])
    before = parts.fallbacks

    def work():
        return layer(torch.full((1, 1), 300.0, dtype=parts.of("part")))

    assert not work().isfinite().all()
    assert parts.finite("part", work) == 90000 and layer.weight.dtype == parts.of("part") == torch.float32
    assert parts.fallbacks == {"part": "float32"} and before == {}
    assert parts.finite("part", lambda: {"a": torch.tensor(torch.inf)})["a"] == torch.inf, "no precision is wider"


def test_what_was_no_number_before_is_no_overflow():
    parts = PartPrecisions(torch.float16)
    parts.add("part", [])
    parts.finite("part", lambda: torch.tensor(torch.nan), torch.tensor([1.0, torch.nan]))
    assert parts.fallbacks == {} and parts.of("part") == torch.float16


def test_parts_move_to_greater_ranges_alone():
    parts = PartPrecisions(torch.bfloat16)
    parts.add("part", [])
    parts.add(DENOISER, [], wider_denoiser(torch.device("cpu")))
    assert not parts.widen("part", torch.float16) and not parts.widen("part", torch.bfloat16) and not parts.widen("other", torch.float32)
    assert not parts.fall_back(DENOISER), "it has the range of float32"
    assert parts.fall_back("part") and not parts.fall_back("part") and parts.fallbacks == {"part": "float32"}


def test_an_overflow_is_met_when_the_model_is_loaded(images):
    model = overflowing(torch.float16)
    probe_precision(model)
    assert model.fallbacks == {"denoiser": "bfloat16"} and precision_of(model) == "float16 (denoiser in bfloat16)"
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.bfloat16} and not model.fall_back()
    table = SIMA.score(model, images, progress=False)
    assert table.precision == "float16 (denoiser in bfloat16)"
    assert table.remarks["precision-fallback"] == "values overflowed in float16; denoiser in bfloat16"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_is_probed_in_float16_alone(monkeypatch, dtype):
    model, passes = tiny_model(dtype), []
    output = model.output
    monkeypatch.setattr(model, "output", lambda *query: passes.append(1) or output(*query))
    probe_precision(model)
    assert bool(passes) == (dtype == "float16") and model.fallbacks == {}


def test_a_probe_that_fails_is_no_failure_to_load(monkeypatch):
    model = tiny_model("float16")
    monkeypatch.setattr(model, "output", lambda *query: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory.")))
    probe_precision(model)
    assert model.fallbacks == {}


def test_an_overflow_that_the_probe_missed_is_met_by_the_attack(images):
    model = overflowing(torch.float16)
    table = SIMA.score(model, images, progress=False)
    assert table.precision == precision_of(model) == "float16 (denoiser in bfloat16)"
    assert table.remarks["precision-fallback"] == "values overflowed in float16; denoiser in bfloat16"
    with pytest.raises(ModelError, match="NaN or infinity in bfloat16"):
        SIMA.score(overflowing(torch.float16, torch.bfloat16), images, progress=False)


def test_a_model_is_brought_to_the_precision_of_results(images):
    results = SIMA.score(overflowing(torch.float16), images, progress=False)
    model = tiny_model("float16")
    assert match_precision(model, "float16") and model.fallbacks == {}
    assert match_precision(model, results.precision) and model.fallbacks == {"denoiser": "bfloat16"}
    assert not match_precision(model, "float16"), "it doesn't move back"
    assert not match_precision(model, "float16 (autoencoder in float32, denoiser in bfloat16)"), "it has no autoencoder"
    for wide in (tiny_model("float32"), tiny_model("bfloat16")):
        assert not match_precision(wide, results.precision) and not match_precision(wide, "float32 (denoiser in bfloat16)")
        assert wide.fallbacks == {}


def test_what_overflowed_in_another_process_moves_here_too():
    model = tiny_model("float16")
    widen_parts(model, {"denoiser": "bfloat16"})
    widen_parts(model, {"denoiser": "float32"})
    assert model.fallbacks == {"denoiser": "bfloat16"}, "it moved already"


@pytest.mark.slow
def test_auc_is_the_same_in_half_precision():
    from mia_hub.metrics.roc import auc

    split = load_split("demo", limit=60)
    values = []
    for dtype in ("float32", "bfloat16"):
        table = SIMA.score(mia_hub.load_model("demo", device="cpu", dtype=dtype), split.images, is_member=split.is_member, progress=False)
        assert table.precision == dtype
        values.append(float(auc(table.scores[:, 0], split.is_member)))
    assert values[0] > 0.8 and abs(values[0] - values[1]) <= 0.002


def test_a_denoiser_of_zeros_is_called_that():
    """It is no overflow, though logarithms of its predictions are infinite."""
    model = tiny_model("float32")
    for parameter in model.network.parameters():
        parameter.data.zero_()
    images = list(torch.rand(2, *model.info.sample_shape, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ModelError, match=r"tiny predicts 0 as the noise in every image.*are all zero"):
        mia_hub.get_attack("sima-c").observe(model, images, progress=False)
