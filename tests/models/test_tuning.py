"""How a denoiser is run: every way agrees with the plain one, and the fastest is chosen only if it is."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

import mia_hub
from mia_hub.checking.reference import stored_for
from mia_hub.errors import ModelError
from mia_hub.metrics.roc import auc
from mia_hub.models import tuning
from mia_hub.models.kept_choices import KeptChoices
from mia_hub.models.network import Arrangement
from mia_hub.models.protocol import moved_to, precision_of
from mia_hub.models.rows import IMAGES, KINDS, default_rows, memory_of_rows, probe, rows_within
from mia_hub.models.tuning import LEAST_GAIN, Trial, candidates, fastest, trial, tune
from mia_hub.splits.loading import load_split

PLAIN, HALF, LAST = Arrangement(), Arrangement("bfloat16"), Arrangement(channels_last=True)


@pytest.fixture(scope="module")
def model():
    return mia_hub.load_model("demo", device="cpu")


@pytest.mark.parametrize("arrangement", [HALF, LAST, Arrangement("bfloat16", True), Arrangement("float16")])
def test_a_way_of_running_agrees_is_recorded_and_can_be_left(model, arrangement):
    # Single values, other than norms, agree only where there is noise to be seen.
    x, t, cond = probe(model, 4, first=6)
    plain = model.predict_noise(x, t, cond)
    model.arrange(arrangement)
    try:
        assert model.info.settings == {"denoiser": str(arrangement)} and model.info.to_dict()["settings"] == model.info.settings
        assert {p.dtype for p in model.network.parameters()} == {getattr(torch, arrangement.dtype or "float32")}
        other = model.predict_noise(x, t, cond)
        assert other.dtype == torch.float32 and not (arrangement.dtype and torch.equal(other, plain))
        assert torch.allclose(other, plain, atol=0.05 if arrangement.dtype else 1e-3)
    finally:
        model.arrange(PLAIN)
    assert torch.equal(model.predict_noise(x, t, cond), plain) and model.info.settings == {}


def test_auc_is_kept_in_half_precision(model):
    split, attack = load_split("demo", limit=60), mia_hub.get_attack("sima", timesteps=(100,))
    found = []
    for arrangement in (PLAIN, HALF):
        model.arrange(arrangement)
        table = attack.score(model, split.images, is_member=split.is_member, progress=False)
        found.append(float(auc(table.scores[:, 0], split.is_member)))
    model.arrange(PLAIN)
    assert found[0] > 0.8 and abs(found[0] - found[1]) <= 0.002


def test_the_fastest_that_agrees_is_chosen():
    def one(arrangement, seconds, deviation=0.0, failed=""):
        return Trial(arrangement, seconds, deviation, failed)

    plain = one(PLAIN, 1.0)
    assert fastest([plain]) == PLAIN
    assert fastest([plain, one(HALF, 0.3), one(LAST, 0.5)]) == HALF
    assert fastest([plain, one(HALF, 0.3, deviation=0.02), one(LAST, 0.5)]) == LAST
    assert fastest([plain, one(HALF, 0.0, failed="no such kernel")]) == PLAIN
    assert fastest([plain, one(LAST, 1 / LEAST_GAIN + 1e-6)]) == PLAIN, "it could be chance"
    assert fastest([plain, one(LAST, 1 / LEAST_GAIN - 1e-3)]) == LAST


def test_a_trial_measures_all_ways_and_leaves_the_model_as_it_was(model, monkeypatch):
    x, t, cond = probe(model, 2)
    plain = model.predict_noise(x, t, cond)
    arranged = model.arrange

    def no_half(arrangement):
        if arrangement.dtype == "float16":
            raise RuntimeError("no such kernel\nand much more")
        arranged(arrangement)

    monkeypatch.setattr(model, "arrange", no_half)
    found = trial(model, 2, [*candidates("cpu"), Arrangement("float16")])
    assert [one.arrangement for one in found[:-1]] == [PLAIN, LAST, HALF, Arrangement("bfloat16", True)]
    assert found[0].deviation == 0 and all(0 < one.seconds < 60 for one in found[:-1])
    assert found[1].deviation < 1e-4 < found[2].deviation < 0.1
    assert found[-1].failed == "no such kernel" and not found[-1].agrees
    assert model.arrangement == PLAIN and torch.equal(model.predict_noise(x, t, cond), plain)


@pytest.mark.parametrize("rows", [1, 4, 64])
@pytest.mark.parametrize("timestep", [0, 200])
def test_what_differs_on_clean_images_alone_does_not_agree(model, monkeypatch, rows, timestep):
    """As SimA asks them, from the first timesteps on."""
    predict = model.predict_noise

    def skewed(x, t, cond=None):
        smooth = x.diff(dim=-1).abs().flatten(1).mean(1) < 0.1
        wrong = (model.arrangement == LAST) & (t == timestep) & smooth
        return predict(x, t, cond) * (1 + 0.02 * wrong.reshape(-1, 1, 1, 1))

    monkeypatch.setattr(model, "predict_noise", skewed)
    assert trial(model, rows, [PLAIN, LAST])[1].deviation == pytest.approx(0.02, abs=1e-4)


def test_every_kind_of_input_is_asked_of_every_kind_of_image(model):
    rows = len(KINDS) * IMAGES
    x, t, _ = probe(model, rows)
    assert (
        sorted(set(t.tolist())) == [0, 10, 50, 100, 200] and len({(x[row].numpy().tobytes(), t[row].item()) for row in range(rows)}) == rows
    )
    later, t_later, _ = probe(model, 4, first=12)
    clean = [0, 2]
    assert torch.equal(later[clean], x[12:16][clean]) and torch.equal(t_later, t[12:16]), "in turns from where it is told to begin"


def test_compiling_is_tried_where_it_can_gain():
    assert not any(one.compiled for one in candidates("cpu"))
    assert sum(bool(one.compiled) for one in candidates("cuda")) == len(candidates("cuda")) / 2
    assert candidates("cuda")[0] == candidates("cpu")[0] == PLAIN


def test_a_choice_is_measured_once(model, tmp_path, monkeypatch):
    def tried(*_):
        return [Trial(PLAIN, 1.0, 0.0), Trial(HALF, 0.5, 0.0)]

    monkeypatch.setattr(tuning, "trial", tried)
    try:
        assert tune(model, 4, kept=tmp_path) == HALF == model.arrangement
        model.arrange(PLAIN)
        monkeypatch.setattr(tuning, "trial", None)
        assert tune(model, 4, kept=tmp_path) == HALF == model.arrangement
        model.arrange(PLAIN)
        monkeypatch.setattr(tuning, "trial", lambda *_: [Trial(PLAIN, 1.0, 0.0)])
        assert tune(model, 5, kept=tmp_path) == PLAIN, "with another number of rows it is another choice"
    finally:
        model.arrange(PLAIN)
    (file,) = tmp_path.iterdir()
    assert sorted(json.loads(file.read_text()).values(), key=str) == sorted([asdict(HALF), asdict(PLAIN)], key=str)
    file.write_text("no JSON")
    assert KeptChoices("arrangement", tmp_path).of(model, lambda: 3) == 3


def test_auto_is_a_precision_of_the_command_line_and_of_load_model(tmp_path, monkeypatch):
    monkeypatch.setenv("MIA_HUB_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "trial", lambda *_: [Trial(PLAIN, 1.0, 0.0), Trial(LAST, 0.5, 0.0)])
    model = mia_hub.load_model("demo", device="cpu", dtype="auto")
    assert model.info.settings == {"denoiser": "channels-last"} and (tmp_path / "measured-arrangement.json").exists()
    assert model.dtype == torch.float32
    with pytest.raises(ModelError, match="offloaded"):
        mia_hub.load_model("demo", dtype="auto", offload="model")


def test_rows_fill_the_memory_and_no_more():
    base, row = 10**9, 3 * 10**6

    def peak(rows):
        return base + rows * row

    found = memory_of_rows(peak)
    for memory in (2 * 10**9, 8 * 10**9):
        rows = rows_within(memory, **found)
        assert peak(rows) <= memory < peak(math.ceil(rows * 33 / 32))
    assert rows_within(2 * 10**9, **found) == rows_within(199 * 10**7, **found), "a little more or less changes nothing"
    assert rows_within(10**6, **found) == 1, "what doesn't fit is tried with one row"
    assert rows_within(2 * 10**9, **memory_of_rows(lambda rows: base)) == 8192
    # A workspace that comes with more rows only makes them fewer.
    assert peak(rows_within(8 * 10**9, **memory_of_rows(lambda rows: peak(rows) + 10**8 * (rows > 8)))) <= 8 * 10**9


@pytest.mark.parametrize(("most", "few"), [(31, 4), (8, 2), (7, 1), (2, 1)])
def test_memory_is_measured_with_as_many_rows_as_it_takes(most, few):
    def peak(rows):
        if rows > most:
            raise torch.OutOfMemoryError("CUDA out of memory.") if rows % 16 else RuntimeError("CUDA error: out of memory")
        return 100 + rows * 10

    assert memory_of_rows(peak) == {"few": few, "held": 100 + 10 * few, "each": 10}
    assert rows_within(100 + most * 10, **memory_of_rows(peak)) == most


def test_where_hardly_a_row_fits_nothing_is_kept_of_it(model, tmp_path):
    def peak(rows):
        if rows > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 100

    kept = KeptChoices("row-memory", tmp_path)
    assert kept.of(model, lambda: memory_of_rows(peak)) is None
    assert kept.of(model, lambda: memory_of_rows(lambda rows: rows * 10)) == {"few": 8, "held": 80, "each": 10}, "more is free now"
    with pytest.raises(RuntimeError, match="no such kernel"):
        memory_of_rows(lambda rows: (_ for _ in ()).throw(RuntimeError("no such kernel")))


def test_rows_on_a_cpu(model):
    assert default_rows(model) == 64
    shape = np.array(model.info.sample_shape)
    assert 64 * shape.prod() <= 2**18


def test_results_name_the_precision_that_the_denoiser_ran_in(model, tmp_path):
    split, sima = load_split("demo", limit=4), mia_hub.get_attack("sima", timesteps=(100,))
    asked = {"folder": tmp_path, "shift_check": False, "progress": False}
    try:
        plain = mia_hub.audit(model, sima, split, **asked).scores
        assert plain.precision == precision_of(model) == "float32"
        model.arrange(HALF)
        assert stored_for(mia_hub.get_attack("sima"), model) is None, "its scores were made in float32"
        half = mia_hub.audit(model, sima, split, **asked).scores
        assert half.precision == precision_of(model) == "float32 (denoiser in bfloat16)"
        assert moved_to(model, half.precision) and model.fallbacks == {} and not moved_to(model, "float32")
    finally:
        model.arrange(PLAIN)
    assert not moved_to(model, half.precision) and precision_of(model) == "float32", "it doesn't overflow into a narrower one"


def test_what_overflows_names_the_precision_that_it_did_so_in(monkeypatch):
    model, images = mia_hub.load_model("demo", device="cpu"), load_split("demo", limit=2).images
    sima, output = mia_hub.get_attack("sima", timesteps=(100,)), model.output
    narrow = (torch.float16,)
    monkeypatch.setattr(model, "output", lambda x, t, cond: output(x, t, cond) * (torch.inf if x.dtype in narrow else 1))
    model.arrange(Arrangement("float16"))
    table = sima.score(model, images, progress=False)
    assert table.precision == "float32 (denoiser in bfloat16)"
    assert table.remarks["precision-fallback"] == "values overflowed in float16; denoiser in bfloat16"
    narrow = (torch.bfloat16,)
    with pytest.raises(ModelError, match="NaN or infinity in bfloat16"):
        sima.score(model, images, progress=False)


def test_what_a_compiled_denoiser_put_out_is_not_overwritten_by_its_next_run(model, monkeypatch):
    """As the graphs of CUDA do, which put all that they put out into the same place."""
    place = torch.empty(2, *model.info.sample_shape)
    monkeypatch.setattr(model, "output", lambda x, t, cond: place.copy_(x))
    monkeypatch.setattr(model, "arrangement", Arrangement(compiled="reduce-overhead"))
    t = torch.zeros(2, dtype=torch.long)
    first, second = (model.predict_noise(torch.full(place.shape, value), t) for value in (1.0, 2.0))
    assert (first == 1).all() and (second == 2).all()
