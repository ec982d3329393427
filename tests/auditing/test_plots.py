"""Plots: what they show, safe in threads, legible on a phone."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from functools import lru_cache
from xml.etree import ElementTree

from support.made_reports import doubtful, evidence, fair

from mia_hub.auditing.plots import roc_svg, timesteps_svg
from mia_hub.checking.image_answers import Band, Profile
from mia_hub.checking.profile_plot import profile_svg
from mia_hub.metrics.estimates import Estimate


def draw() -> dict[str, str]:
    report = fair()
    one = Profile((50,), (-3.0,), Band((-4.0,), (-3.5,), (-3.0,), 30), None)
    return {
        "profile": profile_svg(evidence().profile, 80, title="member.png"),
        "profile without bands": profile_svg(doubtful(bands=False).profile, 80),
        "profile without verdict": profile_svg(evidence().profile, 80, judged=False),
        "profile of one timestep": profile_svg(one, 50),
        "roc": roc_svg(report.roc, auc=report.auc, tpr_at_fpr=report.tpr_at_fpr),
        "roc of five": roc_svg({"fpr": [0, 0, 1], "tpr": [0, 0.4, 1]}, auc=Estimate(0.7, 0.3, 0.9, 5, 5), tpr_at_fpr={}),
        "timesteps": timesteps_svg(report),
        "timesteps of one": timesteps_svg(replace(report, per_timestep=report.per_timestep[4:5])),
    }


drawn = lru_cache(draw)


def svg_text(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_every_figure_is_one_scalable_described_element():
    for name, svg in drawn().items():
        root = ElementTree.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg", name
        assert root.get("viewBox").startswith("0 0 360 ") and root.get("width") == "100%" and root.get("height") is None, name
        assert root.get("role") == "img" and len(root.get("aria-label")) > 60, name
        assert root[0].tag.endswith("title") and root[0].text == root.get("aria-label"), name
        assert not re.search(r"\bnan\b|\bNone\b|inf\b|<style|<!DOCTYPE|<\?xml", svg), name


def test_figures_say_what_they_show():
    texts = {name: svg_text(svg) for name, svg in drawn().items()}
    assert "Diffusion timestep t" in texts["profile"] and "Membership score (higher = more like a training image)" in texts["profile"]
    assert "t = 80: verdict made here" in texts["profile"] and "member.png" in texts["profile"]
    assert "400 known members: median, 5–95 %" in texts["profile"] and "400 known non-members: median, 5–95 %" in texts["profile"]
    assert not any("known" in text for text in texts["profile without bands"])
    for name in ("profile without bands", "profile without verdict"):
        assert "t = 80: score given here" in texts[name] and not any("verdict" in text for text in texts[name]), name
    assert "30 known members: median, 5–95 %" in texts["profile of one timestep"] and "50" in texts["profile of one timestep"]
    report = fair()
    assert f"the attack: AUC {report.auc}" in texts["roc"] and "less than 1 of 200 non-members: unmeasured" in texts["roc"]
    assert sum("at 1 % false positives" in text for text in texts["roc"]) == 1
    assert "t = 80: selected" in texts["timesteps"] and "blind classifier, without the model: 0.507" in texts["timesteps"]


def test_a_hostile_title_is_only_text():
    svg = profile_svg(doubtful().profile, 80, title="<script>$x^2$ $\\broken{")
    assert "<script>$x^2$ $\\broken{" in svg_text(svg) and "<script" not in svg


def test_text_of_a_figure_is_legible_on_a_phone_and_inside_the_figure():
    for name, svg in drawn().items():
        sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]
        assert sizes and min(sizes) >= 10, name  # the viewBox is 360 wide: so many pixels at 360
        height = float(ElementTree.fromstring(svg).get("viewBox").split()[3])
        places = [(float(e.get("x")), float(e.get("y"))) for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
        assert all(0 <= x <= 360 and 8 <= y <= height for x, y in places), name


def test_figures_are_the_same_in_every_thread_and_leave_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    expected, results = drawn(), []
    threads = [threading.Thread(target=lambda: results.append(draw())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 2
    assert dict(matplotlib.rcParams) == before


def test_two_figures_on_a_page_share_no_id():
    found = [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in drawn().values()]
    assert all(found) and len(set.union(*found)) == sum(map(len, found))


def test_text_of_the_figures_is_not_cut_off(browser):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.set_content("".join(f"<div style='width:360px'>{svg}</div>" for svg in drawn().values()))
    outside = page.evaluate(
        """() => [...document.querySelectorAll('svg')].flatMap(svg => {
            const frame = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.left < frame.left || box.right > frame.right || box.top < frame.top || box.bottom > frame.bottom;
            }).map(text => text.textContent);
        })"""
    )
    assert outside == []
    page.close()
