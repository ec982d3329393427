"""The ranking of the members most at risk: who is in it, against whom, and what is stored and shown of it."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import PIL.Image
import pytest
from support.blobs import SIMA, blobs, perfect_memory
from support.command_line import run
from support.made_reports import Text

import mia_hub
from mia_hub.auditing.ranking import check_rank, rank_members
from mia_hub.auditing.report import AuditReport
from mia_hub.errors import MetricError
from mia_hub.images.sources import as_images
from mia_hub.images.thumbnails import LONGEST_SIDE
from mia_hub.metrics.p_values import adjusted
from mia_hub.scores import ScoreTable
from mia_hub.splits.partition import calibration_part

N = 60


@pytest.fixture(scope="module")
def images():
    return as_images(np.concatenate([blobs(N, 0), blobs(N, 1)]))


@pytest.fixture(scope="module")
def table(images):
    labels = np.repeat([1, 0], N)
    values = np.random.default_rng(5).normal(size=(2 * N, 2)) + labels[:, None]
    return ScoreTable([image.id for image in images], labels, np.array([10, 20]), values, "made", {})


HALVES = {"timestep": 20, "n_calibration_members": N // 2, "n_calibration_nonmembers": N // 2, "seed": 4, "fraction": 0.5}


@pytest.mark.parametrize(("selection", "listed"), [(HALVES, 7), ({"timestep": 10}, 5), (HALVES, 1000)])
def test_members_of_the_reported_part_are_judged_against_its_nonmembers(table, images, selection, listed):
    part = calibration_part(table.ids, table.is_member, seed=4) if "seed" in selection else np.zeros(len(table), bool)
    ranking = rank_members(table, selection, images, listed)
    column = table.scores[:, [10, 20].index(selection["timestep"])]
    members, null = (np.flatnonzero(~part & (table.is_member == label)) for label in (1, 0))
    expected = {table.ids[row]: (1 + (column[null] >= column[row]).sum()) / (len(null) + 1) for row in members}
    q_values = dict(zip(expected, adjusted(list(expected.values()))))
    assert (ranking.n_ranked, ranking.n_null, ranking.n_held_back) == (len(members), len(null), N - len(members))
    assert len(ranking.images) == min(listed, len(members))
    assert [image.score for image in ranking.images] == sorted(column[members], reverse=True)[:listed]
    for image in ranking.images:
        assert (image.p_value, image.q_value) == (expected[image.id], q_values[image.id])
        assert image.name == next(each.name for each in images if each.id == image.id)


def test_a_thumbnail_is_the_image_made_small(table):
    large = as_images([np.full((200, 400, 3), shade, np.uint8) for shade in range(2 * N)])
    ranking = rank_members(table, {"timestep": 10}, large, 3)
    for image in ranking.images:
        small = PIL.Image.open(io.BytesIO(image.thumbnail))
        assert small.format == "PNG" and small.size == (LONGEST_SIDE, LONGEST_SIDE // 2)
        assert base64.b64decode(image.thumbnail_url.partition(",")[2]) == image.thumbnail
        assert small.getpixel((5, 5))[0] == [each.id for each in large].index(image.id)


@pytest.mark.parametrize(
    ("rank", "nonmembers", "parted", "message"),
    [(0, 400, True, "integer ≥ 1"), (-3, 400, True, "integer ≥ 1"), (2.5, 400, True, "integer ≥ 1"), (True, 400, True, "integer ≥ 1"),
     (3, 38, True, "there are 19 in the part that is reported. Give at least 40"), (3, 19, False, "there are 19. Give at least 20")],
)  # fmt: skip
def test_a_ranking_that_cannot_be_made_is_refused(rank, nonmembers, parted, message):
    with pytest.raises(MetricError, match=re.escape(message)):
        check_rank(rank, nonmembers, parted=parted)
    check_rank(3, 40, parted=True)
    check_rank(3, 20, parted=False)


def test_an_audit_that_can_rank_nobody_is_refused_before_any_query():
    def never(x, t):
        raise AssertionError("the model was queried")

    split, model = (
        mia_hub.make_split(blobs(60, 0), blobs(30, 1)),
        mia_hub.wrap_denoiser(never, np.linspace(0.99, 0.1, 30), sample_shape=(1, 16, 16)),
    )
    for rank, message in ((3, "there are 15"), (0, "integer ≥ 1")):
        with pytest.raises(MetricError, match=message):
            mia_hub.audit(model, mia_hub.get_attack("sima", timesteps=[5, 10]), split, rank=rank, progress=False)


def test_the_ranking_of_a_perfect_memory_lists_members_and_is_shown_and_stored():
    members = blobs(60, 0)
    split = mia_hub.make_split(members, blobs(400, 1))
    report = mia_hub.audit(perfect_memory(members), SIMA, split, rank=5, progress=False)
    ranking = report.ranking
    assert {image.id for image in ranking.images} <= {image.id for image in split.members}
    assert {image.p_value for image in ranking.images} == {1 / 201} and (ranking.n_ranked, ranking.n_held_back) == (30, 30)
    stored = AuditReport.from_dict(json.loads(report.to_json()))
    assert stored == report and "thumbnail" not in report.to_json() and stored.ranking.images[0].thumbnail == b""
    page = Text(report.to_html())
    shown = [value for tag, name, value in page.attributes if tag == "img" and name == "src"]
    assert shown == [image.thumbnail_url for image in ranking.images] and all(url.startswith("data:image/png;base64,") for url in shown)
    assert "This page holds small copies of 5 training images" in page.text
    assert "<img" not in stored.to_html() and all(
        image.id in stored.to_html() and image.id in report.to_markdown() for image in ranking.images
    )
    plain = mia_hub.audit(perfect_memory(members), SIMA, split, progress=False)
    assert plain.ranking is None and "ranking" not in plain.to_dict() and "most at risk" not in plain.to_html() + plain.to_markdown()


def test_the_command_ranks(capsys, tmp_path):
    settings = ("audit", "--limit", 60, "--set", "timesteps=80", "--no-shift-check", "--quiet", "--out", tmp_path)
    status, out, _ = run(capsys, *settings, "--rank", 4)
    assert status == 0 and "## Members most at risk" in out
    images = json.loads((tmp_path / "report.json").read_text())["ranking"]["images"]
    assert len(images) == 4 and (tmp_path / "report.html").read_text().count("<img") == 4
    split = mia_hub.load_split("demo", limit=60)
    assert {image["id"] for image in images} <= {image.id for image in split.members}
    assert run(capsys, *settings, "--rank", 0)[0] == 2
