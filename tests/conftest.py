"""What all tests share: a Hub of our own, so that no test reaches the real one, and tiny models."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from support.loopback_hub import LoopbackHub

# huggingface_hub, datasets and evaluate read the environment when they are imported, so it is set before any test module is.
# What a test starts as another process inherits it.
if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads of several processes that wait for one another on few cores take longer than one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
_home = tempfile.TemporaryDirectory(prefix="mia_hub_tests_")
_hub = LoopbackHub().start()
for _name in [_name for _name in os.environ if _name.startswith(("HF_", "HUGGING"))]:
    del os.environ[_name]
os.environ |= {
    "HF_HOME": _home.name,
    "HF_ENDPOINT": _hub.url,
    "MIA_HUB_HOME": os.path.join(_home.name, "mia_hub"),
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "MPLBACKEND": "Agg",
    "GRADIO_ANALYTICS_ENABLED": "False",
}


def pytest_collection_modifyitems(items):
    """Give each file to one process, and all that drive a browser to the same, which then starts the app and the browser once.

    Those come first: they take the longest, and one process would wait for another that begins them last.
    """
    in_browser = {item.path for item in items if {"browser", "app"} & set(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: item.path not in in_browser)
    for item in items:
        item.add_marker(pytest.mark.xdist_group("browser" if item.path in in_browser else item.nodeid.partition("::")[0]))


def pytest_unconfigure():
    _hub.stop()
    _home.cleanup()


@pytest.fixture(scope="session")
def loopback_hub() -> LoopbackHub:
    """The Hub that HF_ENDPOINT names in all tests and in the processes they start."""
    from huggingface_hub import constants

    assert _hub.url == constants.ENDPOINT, "huggingface_hub was imported before the tests chose its endpoint"
    return _hub


@pytest.fixture(scope="session")
def tiny_pixel_repo(tmp_path_factory):
    """``tiny_pixel_repo(**options) -> Path``: a random UNet2DModel and a scheduler in a folder, as diffusers saves a pipeline."""

    def make(
        *,
        channels=1,
        size=8,
        out_channels=None,
        scheduler=None,
        prediction_type="epsilon",
        weights="safetensors",
        layout="folders",
        seed=0,
        **unet,
    ) -> Path:
        """Saves a tiny model.

        Args:
            channels, size, out_channels: of the network; ``size`` may be ``(height, width)``.
            scheduler: any diffusers scheduler; by default a DDPMScheduler of 1000 steps with this ``prediction_type``.
            weights: "safetensors", "fp16" (only that variant), "sharded", or "bin" (pickled).
            layout: "folders" (unet/, scheduler/) or "root" (all in one folder, as in early repositories).
            seed: of the weights.
            unet: further arguments of UNet2DModel.
        """
        import torch
        from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

        network = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1} | unet
        network |= {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = UNet2DModel(sample_size=size, in_channels=channels, out_channels=out_channels or channels, **network)
        saving = {
            "safetensors": {},
            "fp16": {"variant": "fp16"},
            "sharded": {"max_shard_size": "40KB"},
            "bin": {"safe_serialization": False},
        }[weights]
        folder = tmp_path_factory.mktemp("tiny_pixel")
        pipeline = DDPMPipeline(model.half() if weights == "fp16" else model, scheduler or DDPMScheduler(prediction_type=prediction_type))
        pipeline.save_pretrained(folder, **saving)
        if layout == "root":
            for file in [*folder.glob("unet/*"), *folder.glob("scheduler/*")]:
                file.rename(folder / file.name)
            (folder / "unet").rmdir()
            (folder / "scheduler").rmdir()
        return folder

    return make


# Chromium's own traffic is none of the page's.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


@pytest.fixture(scope="session")
def browser():
    """Chromium, without a screen."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None)
    assert path, "These tests drive Chromium, which is missing here: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *QUIET])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser):
    """One browser's storage for all pages, so that its cache serves all but the first."""
    from support.running_app import PATIENCE

    context = browser.new_context(accept_downloads=True, has_touch=True)
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture(scope="session")
def app(loopback_hub, tmp_path_factory):
    """The app that most tests of the page share: ``url``; ``log()``, its output; and its folders ``results``, ``requests`` and ``home``.

    Its board has the entries of `support.made_entries.board_entries` from the beginning: a store is read again after some seconds only.
    """
    from support.made_entries import board_entries
    from support.running_app import running_app

    folder = tmp_path_factory.mktemp("app")
    board_entries(folder / "results")
    stores = {"MIA_HUB_RESULTS": str(folder / "results"), "MIA_HUB_REQUESTS": str(folder / "requests")}
    with running_app(folder, LOGNAME="local-user", **stores) as running:
        running.results, running.requests, running.home = folder / "results", folder / "requests", folder / "home"
        yield running


@pytest.fixture(autouse=True)
def pdf_stand_in(monkeypatch):
    """Spare the many commands that write a report the second that a PDF takes; tests of PDFs import `to_pdf` themselves."""
    monkeypatch.setattr("mia_hub.rendering.pdf.to_pdf", lambda html: b"%PDF-1.7 in place of a converted page")
