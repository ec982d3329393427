"""The default batch size: as many rows as fit in the memory, measured once."""

from __future__ import annotations

import json
import math

import pytest
import torch

import mia_hub
from mia_hub.models.measurements import StoredMeasurements
from mia_hub.models.rows import default_rows, memory_of_rows, rows_within, sample_queries


@pytest.fixture(scope="module")
def model():
    return mia_hub.load_model("demo", device="cpu")


def test_rows_fill_the_memory_and_no_more():
    base, row = 10**9, 3 * 10**6

    def peak(rows):
        return base + rows * row

    measured = memory_of_rows(peak)
    for memory in (2 * 10**9, 8 * 10**9):
        rows = rows_within(memory, **measured)
        assert peak(rows) <= memory < peak(math.ceil(rows * 33 / 32))
    assert rows_within(2 * 10**9, **measured) == rows_within(199 * 10**7, **measured), "a little more or less changes nothing"
    assert rows_within(10**6, **measured) == 1, "where not even one row fits, one is tried"
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


def test_a_measurement_is_made_once(model, tmp_path):
    stored = StoredMeasurements("row-memory", tmp_path)
    assert stored.of(model, lambda: {"each": 3}) == {"each": 3}
    assert stored.of(model, lambda: pytest.fail("measured again")) == {"each": 3}
    (file,) = tmp_path.iterdir()
    assert file.name == "measured-row-memory.json" and list(json.loads(file.read_text()).values()) == [{"each": 3}]
    file.write_text("no JSON")
    assert stored.of(model, lambda: 4) == 4


def test_where_hardly_a_row_fits_nothing_is_stored(model, tmp_path):
    def peak(rows):
        if rows > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 100

    stored = StoredMeasurements("row-memory", tmp_path)
    assert stored.of(model, lambda: memory_of_rows(peak)) is None
    assert stored.of(model, lambda: memory_of_rows(lambda rows: rows * 10)) == {"few": 8, "held": 80, "each": 10}, "more is free now"
    with pytest.raises(RuntimeError, match="no such kernel"):
        memory_of_rows(lambda rows: (_ for _ in ()).throw(RuntimeError("no such kernel")))


def test_rows_on_a_cpu(model):
    assert default_rows(model) == 64
    assert 64 * math.prod(model.info.sample_shape) <= 2**18


def test_sample_queries_are_queries_of_the_model(model):
    x, t, cond = sample_queries(model, 11, 0.5)
    assert x.shape == (11, *model.info.sample_shape) and t.tolist() == [500] * 11 and cond is None
    assert model.predict_noise(x, t, cond).isfinite().all()
