"""The tab "How it works" in a real browser: its numbers are those of the closed form, and mouse, finger and keyboard reach them all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import expect
from support.running_app import loaded, watched_pages

from mia_hub.attacks import get_attack
from mia_hub.metrics import auc
from mia_hub.models.exact import training_set_denoiser
from mia_hub.ui.how.tab import MATHS, scene

TOLERANCE = 1e-6
SCENE = scene()
MEMBERS = torch.tensor(SCENE["members"], dtype=torch.float64)


@pytest.fixture
def open_tab(app, context):
    with watched_pages(app, context) as open_:

        def open_how(width=1280, theme="light"):
            page = open_(width, theme)
            # On a phone, too, no tab hides behind a menu.
            page.get_by_role("tab", name="How it works").click()
            expect(page.locator(".mia-how-stage")).to_be_visible()
            loaded(page)
            return page

        yield open_how


def exactly(points, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ε, the local mean and the score of points, by the package: ``[N, 2]``, ``[N, 2]``, ``[N]``."""
    x = torch.tensor(points, dtype=torch.float64).reshape(-1, 2)
    model = training_set_denoiser(MEMBERS[:, None, None])
    epsilon = model.predict_noise(x[:, None, None], torch.full((len(x),), t))
    mean = model.schedule.predict_x0(x[:, None, None], epsilon, t)
    score = -get_attack("sima", timesteps=(t,)).statistic(_Queried(model), x[:, None, None], None, None)[:, 0]
    return epsilon.flatten(1).numpy(), mean.flatten(1).numpy(), score.numpy()


class _Queried:
    """A model as an attack queries it, without batches."""

    def __init__(self, model):
        self.model, self.schedule = model, model.schedule

    def epsilons(self, timesteps, x, cond):
        for query, t in enumerate(timesteps):
            given = x(query, t)
            yield self.model.predict_noise(given, torch.full((len(given),), t))


def shown(page) -> dict:
    """What the figure shows now, with all digits."""
    data = page.evaluate("({...document.querySelector('[data-epsilon]').dataset})")
    return {name: json.loads(value) for name, value in data.items()}


def expect_exact(page, x=None, t=None):
    now = shown(page)
    epsilon, mean, score = exactly(now["x"], now["t"])
    assert now["epsilon"] == pytest.approx(epsilon[0], abs=TOLERANCE)
    assert now["mean"] == pytest.approx(mean[0], abs=TOLERANCE)
    assert now["score"] == pytest.approx(score[0], abs=TOLERANCE)
    others, own = exactly(SCENE["others"], now["t"])[2], exactly(SCENE["members"], now["t"])[2]
    # A held-out point that is x itself has x's score but for rounding.
    high = int((others >= score[0] - 1e-12).sum())
    assert now["p"] == pytest.approx((1 + high) / (len(others) + 1))
    assert now["auc"] == pytest.approx(auc([*own, *others], [1] * len(own) + [0] * len(others)))
    expect(page.locator(".mia-how-verdict")).to_have_text("Evidence." if now["p"] <= 0.01 else "Cannot tell.")
    expect(page.locator(".mia-how-why")).to_contain_text(f"{high} of {len(others)} held-out points")
    expect(page.locator(".mia-how-t-shown")).to_have_text(f"t = {now['t']}")
    if x is not None:
        assert now["x"] == pytest.approx(x, abs=0.01)
    if t is not None:
        assert now["t"] == t
    return now


def on_screen(page, x) -> tuple[float, float]:
    """Where a point of the plane is seen, in pixels."""
    page.locator(".mia-how-stage").scroll_into_view_if_needed()
    box = page.locator(".mia-how-stage svg").bounding_box()
    return box["x"] + (x[0] + 1) / 2 * box["width"], box["y"] + (1 - x[1]) / 2 * box["height"]


def test_the_browser_computes_what_the_package_does(context):
    page = context.new_page()
    grid = [[a, b] for a in np.linspace(-1, 1, 9).tolist() for b in np.linspace(-1, 1, 9).tolist()]
    points = [*grid, *SCENE["members"], *SCENE["shown"]]
    of_each = "[...epsilon(x, members, t), ...localMean(x, members, t), simaScore(x, members, t)]"
    script = f"([points, members, t]) => {{ {MATHS}; return points.map((x) => {of_each}); }}"
    try:
        for t in (0, 1, 20, 150, 500, 999):
            values = np.array(page.evaluate(script, [points, SCENE["members"], t]))
            epsilon, mean, score = exactly(points, t)
            np.testing.assert_allclose(values, np.hstack([epsilon, mean, score[:, None]]), rtol=TOLERANCE, atol=TOLERANCE)
    finally:
        page.close()


def test_it_opens_on_a_training_point_that_stands_out_and_the_places_show_where_it_works_and_where_it_fails(open_tab):
    page = open_tab()
    now = expect_exact(page)
    assert now["x"] in SCENE["members"] and now["p"] <= 0.01
    seen = {}
    for place in ("member", "held-out", "crowd", "late"):
        page.locator(f"[data-place={place}]").click()
        seen[place] = expect_exact(page)
        kind = "x is a training point." if place in ("member", "late") else "x is a held-out point."
        expect(page.locator(".mia-how-kind")).to_have_text(kind)
    assert seen["member"]["x"] in SCENE["members"] and seen["held-out"]["x"] in SCENE["shown"]
    assert seen["held-out"]["score"] < seen["crowd"]["score"] < 0
    # A crowd hides its members, and late nothing can be told apart.
    assert seen["crowd"]["p"] < 0.1 < seen["late"]["p"] and seen["late"]["t"] > 500
    assert abs(seen["late"]["auc"] - 0.5) < 0.1 < seen["member"]["auc"] - 0.5
    # A second press goes on to another point.
    page.locator("[data-place=member]").click()
    assert expect_exact(page)["x"] not in (seen["member"]["x"], seen["crowd"]["x"])


def test_the_mouse_drags_x_anywhere_and_a_click_catches_a_point(open_tab):
    page = open_tab()
    page.mouse.move(*on_screen(page, shown(page)["x"]))
    page.mouse.down()
    page.mouse.move(*on_screen(page, (0.1, 0.2)), steps=5)
    expect_exact(page, x=(0.1, 0.2))
    # Beyond the edge it stays inside.
    page.mouse.move(*on_screen(page, (1.3, -0.5)), steps=5)
    expect_exact(page, x=(0.98, -0.5))
    page.mouse.up()
    page.mouse.move(*on_screen(page, (0, 0)))
    expect_exact(page, x=(0.98, -0.5))
    alone = max(SCENE["shown"], key=lambda point: min(np.hypot(*np.subtract(point, other)) for other in SCENE["members"]))
    left, top = on_screen(page, alone)
    page.mouse.click(left + 3, top - 3)
    assert expect_exact(page)["x"] == alone
    expect(page.locator(".mia-how-kind")).to_have_text("x is a held-out point.")


@pytest.mark.slow
def test_the_keyboard_moves_x_and_the_noise_level(open_tab):
    page = open_tab()
    handle, slider = page.get_by_role("slider", name="The image x"), page.get_by_role("slider", name="Noise level")
    x, y = shown(page)["x"]
    handle.focus()
    for key in ("ArrowLeft", "ArrowUp", "ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    now = expect_exact(page, x=(x - 0.12, y + 0.04))
    assert f"{now['x'][0]:.2f}".replace("-", "−") in handle.get_attribute("aria-valuetext")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect_exact(page, x=now["x"], t=now["t"] + 1)
    for end, t in (("End", 999), ("Home", 0)):
        page.keyboard.press(end)
        expect_exact(page, t=t)
    page.locator("[data-place=crowd]").focus()
    page.keyboard.press("Enter")
    assert expect_exact(page)["x"] in SCENE["shown"]


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_a_finger_drags_x_and_nothing_scrolls_sideways(open_tab, theme):
    page = open_tab(width=390, theme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    finger = page.context.new_cdp_session(page)

    def touch(kind, *points):
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [dict(zip("xy", on)) for on in points]})

    start, end = on_screen(page, shown(page)["x"]), on_screen(page, (-0.2, 0.1))
    touch("touchStart", start)
    for part in (0.3, 0.6, 1):
        touch("touchMove", [a + part * (b - a) for a, b in zip(start, end)])
    touch("touchEnd")
    before = page.evaluate("window.scrollY")
    expect_exact(page, x=(-0.2, 0.1))
    assert page.evaluate("window.scrollY") == before
    # Elsewhere a tap moves x, and all of the figure is in view.
    page.touchscreen.tap(*on_screen(page, (0.1, 0.85)))
    expect(page.get_by_role("slider", name="The image x")).to_have_attribute("aria-valuetext", re.compile(r"^0\.(09|10|11) across"))
    expect_exact(page, x=(0.1, 0.85))
    for part in (".mia-how-stage", ".mia-how-strip", ".mia-how-t", ".mia-how-places"):
        box = page.locator(part).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.locator("[data-place=late]").tap()
    expect_exact(page, t=700)


def test_all_that_the_page_needs_is_in_the_package():
    import tomllib

    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mia_hub"]
    packaged = {path for pattern in patterns for path in (root / "mia_hub").glob(pattern)}
    files = {path for path in (root / "mia_hub" / "ui").rglob("*") if path.suffix in (".css", ".html", ".js")}
    assert len(files) >= 5 and files <= packaged
