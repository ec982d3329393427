"""Splits of addresses: fetched on request, and what is missing is counted."""

from __future__ import annotations

import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub.constants import HF_HOME
from support.loopback_web import Web
from support.parquet_files import bitmaps, table

from mia_hub.errors import SplitError
from mia_hub.images.image import content_id
from mia_hub.splits import image_store
from mia_hub.splits.fetching import ON_BOTH_SIDES
from mia_hub.splits.loading import load_split
from mia_hub.system import web as web_module
from mia_hub.system.web import NOT_PUBLIC, fetch_all


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setattr(web_module, "ALLOWED_INSIDE", frozenset({"127.0.0.1"}))
    server = Web(bitmaps(64, 5)[1].to_pylist())
    yield server
    server.stop()


def by_address(hub, members, nonmembers) -> str:
    """LAION-mi's layout."""
    files = {
        f"data/{name}-00000-of-00001-{'ab' * 8}.parquet": table({"url": urls, "caption": [f"{name} {i}" for i in range(len(urls))]})
        for name, urls in (("members", members), ("nonmembers", nonmembers))
    }
    hub.add_repo("dataset", "alice/layout", files)
    return "alice/layout"


def test_addresses_are_fetched_on_request_and_the_missing_said(web, loopback_hub, forget):
    members = [f"{web.url}/{'gone' if i < 18 else 'good'}/{i}" for i in range(30)] + [f"{web.url}/good/60"]
    nonmembers = [f"{web.url}/good/{i}" for i in range(30, 56)] + [f"{web.url}/good/55?again", f"{web.url}/good/60?placeholder", None]
    name = by_address(loopback_hub, members, nonmembers)
    with pytest.raises(SplitError, match=r"holds no images, but their addresses \(in the column 'url'\).*fetch=True"):
        load_split(name)
    assert not web.requested, "nothing is fetched unasked"
    with pytest.warns(UserWarning) as said:
        split = load_split(name, fetch=True)
    assert (len(split.members), len(split.nonmembers)) == (12, 26)
    assert split.name == "alice/layout, with 12 of 31 members and 26 of 29 non-members that could be had"
    assert split.notes[0] == f"19 of the 31 members are missing: 18 HTTP 404, 1 {ON_BOTH_SIDES}."
    assert split.notes[1].startswith("3 of the 29 non-members are missing: 1 no web address, 1 the same image as another row, 1 ")
    assert split.notes[2].startswith("The share of missing images differs between members (61.3 %) and non-members (10.3 %)")
    assert [str(one.message) for one in said] == list(split.notes) and len(split.notes) == 3
    assert list(split.captions) == [f"members {i}" for i in range(18, 30)] + [f"nonmembers {i}" for i in range(26)]
    assert [p.id for p in split.members] == [content_id(pixels) for pixels in bitmaps(64, 5)[0][18:30]]
    # What was had is not asked for again, and a draw asks for what it draws alone.
    web.requested.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_split(name, fetch=True).hash == split.hash and not web.requested


def test_images_of_one_configuration_are_not_those_of_another(web, loopback_hub, forget):
    urls = [[f"{web.url}/good/{10 * k + i}" for i in range(3)] for k in range(4)]
    card, files = "---\nconfigs:\n", {}
    for k, config in enumerate("ab"):
        card += f"- config_name: {config}\n  data_files:\n"
        for j, side in enumerate(("member", "nonmember")):
            files[f"{config}/{side}.parquet"] = table({"url": urls[2 * k + j]})
            card += f"  - split: {side}\n    path: {config}/{side}.parquet\n"
    loopback_hub.add_repo("dataset", "alice/layout", files | {"README.md": f"{card}---\n"})
    pixels = bitmaps(64, 5)[0]
    for k, config in enumerate("ab"):
        split = load_split("alice/layout", config=config, fetch=True)
        assert [image.id for image in split.images] == [content_id(pixels[20 * k + 10 * j + i]) for j in (0, 1) for i in range(3)]
    web.requested.clear()
    load_split("alice/layout", config="a", fetch=True)
    assert not web.requested


def test_a_draw_fetches_what_it_draws(web, loopback_hub, forget):
    name = by_address(loopback_hub, [f"{web.url}/good/{i}" for i in range(20)], [f"{web.url}/good/{i}" for i in range(20, 40)])
    split = load_split(name, fetch=True, limit=4)
    assert len(web.requested) == 8 and len(split.members) == 4 and not split.notes
    whole = load_split(name, fetch=True)
    assert split.hash == whole.limited(4).hash


def test_what_is_fetched_is_written_before_it_fills_the_memory(web, monkeypatch, loopback_hub, forget):
    addresses = [f"{web.url}/good/{i % 64}?{i}" for i in range(200)]
    came = fetch_all(addresses)
    taken = [next(came) for _ in range(20)]
    # What was taken, and what may be on its way.
    assert len(web.requested) <= 20 + web_module.WORKERS
    taken += came
    assert sorted(place for place, _ in taken) == list(range(200)) and len(web.requested) == 200
    files = bitmaps(64, 5)[1].to_pylist()
    assert all(file.content == files[place % 64] for place, file in taken)
    size = len(files[0])
    monkeypatch.setattr(image_store, "BYTES_AT_ONCE", 10 * size)
    monkeypatch.setattr(image_store, "GROUP_BYTES", 3 * size)
    name = by_address(loopback_hub, addresses[:25], addresses[25:50])
    split = load_split(name, fetch=True)
    assert [image.id for image in split.images] == [content_id(pixels) for pixels in bitmaps(64, 5)[0][:50]]
    stored = sorted(Path(HF_HOME, "mia_hub", "fetched").glob("alice-layout-members/*/*.parquet"), key=lambda path: path.stat().st_mtime)[
        -3:
    ]
    footers = [pq.read_metadata(path) for path in stored]
    assert sorted([footer.row_group(i).num_rows for i in range(footer.num_row_groups)] for footer in footers) == [
        [3, 2], [3, 3, 3, 1], [3, 3, 3, 1],
    ]  # fmt: skip


def test_a_split_of_addresses_inside_is_refused(web, monkeypatch, loopback_hub, forget):
    """A data set from a stranger must not make this machine ask its own network."""
    monkeypatch.setattr(web_module, "ALLOWED_INSIDE", frozenset())
    name = by_address(loopback_hub, [f"{web.url}/good/1"] * 3, [f"{web.url}/good/2"] * 3)
    with pytest.raises(SplitError, match=f"None of the 3 images of the members of alice/layout is available: 3 {NOT_PUBLIC}"):
        load_split(name, fetch=True)
    assert not web.requested
