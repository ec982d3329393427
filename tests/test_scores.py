"""The score table, and how it is stored."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.made_scores import table

from mia_hub.errors import MetricError
from mia_hub.scores import ScoreTable


def test_parquet_keeps_everything_to_the_last_bit(tmp_path):
    one = table(seed=3, queries=7, seconds=1.5, split={"hash": "h"}, is_member=np.resize([1, 0, -1], 600))
    one.to_parquet(tmp_path / "scores.parquet")
    other = ScoreTable.from_parquet(tmp_path / "scores.parquet")
    for name in ("is_member", "timesteps", "scores"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    for name in ("ids", "attack", "model", "split", "seed", "queries", "seconds", "device", "precision"):
        assert getattr(one, name) == getattr(other, name)
    plain = pq.read_table(tmp_path / "scores.parquet")
    assert plain.column_names == ["id", "is_member", "score_t10", "score_t20", "score_t30"]
    assert plain["is_member"].null_count == 200  # unknown is null, for other readers


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "not.parquet").write_text("hello")
    with pytest.raises(MetricError, match="not a ScoreTable"):
        ScoreTable.from_parquet(tmp_path / "not.parquet")
    with pytest.raises(MetricError, match="needs scores of shape"):
        table(scores=np.zeros((5, 3)))
    with pytest.raises(MetricError, match="must be 1"):
        table(is_member=np.full(600, 2))
    with pytest.raises(MetricError, match="no timestep 15; it has 10, 20, 30"):
        table().at(15)
