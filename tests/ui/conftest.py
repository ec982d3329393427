"""What the tests of the tab "Check an image" share: pages, files to upload, models on the Hub, and the answers to expect."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def open_page(app, context):
    """``open_page(width, theme) -> Page``. When the test ends, no page may have failed or requested anything from another server."""
    from playwright.sync_api import expect
    from support.running_app import watched_pages

    with watched_pages(app, context) as open_:

        def open_check(width=1280, theme="light"):
            page = open_(width, theme)
            expect(page.locator(".mia-examples img")).to_have_count(12)
            return page

        yield open_check


@pytest.fixture
def page(open_page):
    return open_page()


@pytest.fixture(scope="module")
def _page_of_the_file(app, context):
    from playwright.sync_api import expect
    from support.running_app import watched_pages

    with watched_pages(app, context) as open_:
        page = open_()
        expect(page.locator(".mia-examples img")).to_have_count(12)
        yield page


@pytest.fixture
def cleared_page(_page_of_the_file):
    """A page without an image, which earlier tests of the file may have used: to open one takes longer than many a test."""
    from playwright.sync_api import expect
    from support.check_page import EMPTY, all_ended, remove_image

    page = _page_of_the_file
    all_ended(page)
    if page.get_by_label("Remove Image").count():
        remove_image(page)
        all_ended(page)
        expect(page.locator("#verdict")).to_have_text(EMPTY)
    return page


@pytest.fixture(scope="session")
def checker():
    """What the page should say, without the page."""
    from mia_hub.checking.checks import get_checker

    return get_checker("demo", progress=False)


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> SimpleNamespace:
    """Files to upload."""
    from mia_hub.splits.loading import load_split

    folder = tmp_path_factory.mktemp("images")
    nonmembers = load_split("demo").nonmembers
    files = SimpleNamespace(folder=folder, nonmembers=[folder / f"{i}.png" for i in range(28)])
    for path, image in zip(files.nonmembers, nonmembers):
        image.to_pil().save(path)
    y, x = np.mgrid[:240, :320] / 320
    noise = np.random.default_rng(0).normal(0, 0.04, (240, 320, 3))
    files.photo = folder / "photo.jpg"
    Image.fromarray((np.clip(np.stack([x, y, 1 - (x + y) / 2], -1) + noise, 0, 1) * 255).astype(np.uint8)).save(files.photo)
    files.cut = folder / "cut.png"
    files.cut.write_bytes(files.nonmembers[0].read_bytes()[:-120])
    return files


@pytest.fixture(scope="session")
def hub_models(loopback_hub, tiny_pixel_repo):
    """Small models, which the app finds on the Hub: two that are good, and one whose weights are pickled."""
    loopback_hub.add_repo("model", "app-tests/tiny", tiny_pixel_repo())
    loopback_hub.add_repo("model", "app-tests/other", tiny_pixel_repo(seed=1))
    loopback_hub.add_repo("model", "app-tests/pickled", tiny_pixel_repo(weights="bin"))
