"""The plot of what a verdict is made of: whole, described in words, and safe whatever images are called."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from mia_hub.checking.verdict_plot import MOST_STRIPS, set_svg, verdict_svg
from mia_hub.checking.verdicts import CANNOT_TELL, verdict_of
from mia_hub.metrics.p_values import adjusted
from mia_hub.references.verdict_scores import VerdictScores

RNG = np.random.default_rng(0)
KNOWN = VerdictScores.of(RNG.normal(size=500), RNG.normal(4, 1, 100), 2.5)
# The texts that reach beyond the figure.
BEYOND_THE_FIGURE = """() => {
  const figure = document.querySelector("svg").getBoundingClientRect();
  return [...document.querySelectorAll("svg text")]
    .filter((text) => text.getBoundingClientRect().right > figure.right + 1 || text.getBoundingClientRect().left < figure.left - 1)
    .map((text) => text.textContent);
}"""
NASTY = "<script>alert('x')</script> & \"`|*_ $x$"


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(
    ("known", "entries"),
    [
        (KNOWN, ["this image", "100 known members", "500 known non-members", "p = 0.01: evidence begins here"]),
        (replace(KNOWN, members=None), ["this image", "500 known non-members", "p = 0.01: evidence begins here"]),
        (replace(KNOWN, members=None, critical=None), ["this image", "500 known non-members"]),
    ],
)
def test_the_legend_names_what_is_drawn(known, entries):
    svg = verdict_svg(known, [("cat.png", 3.0)], attack="sima-cn")
    shown = texts(svg)
    assert shown[-len(entries) :] == entries or [one for one in shown if one in entries] == entries
    assert "this image is 3" in svg and ("Evidence (p ≤ 0.01) begins above 2.5" in svg) == (known.critical is not None)
    assert ("known members lie between" in svg) == (known.members is not None)


@pytest.mark.parametrize("score", [-1e6, 0.0, 1e6])
def test_a_score_beyond_all_known_ones_is_drawn(score):
    assert "this image" in texts(verdict_svg(KNOWN, [("far.png", score)], attack="sima"))


def test_each_of_several_images_has_a_strip_the_highest_first():
    marks = [(f"image {row}.png", float(row)) for row in range(5)] + [(NASTY, 2.2)]
    shown = texts(verdict_svg(KNOWN, marks, attack="sima-cn", selected=marks[0]))
    names = [text for text in shown if text.endswith(".png") or text.startswith("<script>")]
    assert names == ["image 4.png", "image 3.png", NASTY, "image 2.png", "image 1.png", "image 0.png"]
    assert "the 6 images" in shown


def test_of_many_images_the_selected_one_is_never_left_out():
    marks = [(f"image {row}.png", float(row)) for row in range(3 * MOST_STRIPS)]
    shown = texts(verdict_svg(KNOWN, marks, attack="sima-cn", selected=marks[7]))
    names = [text for text in shown if text.endswith(".png")]
    assert len(names) == MOST_STRIPS and "image 7.png" in names and names[0] == f"image {len(marks) - 1}.png"
    assert f"{MOST_STRIPS} of {len(marks)} images: the highest, the selected one" in shown
    assert f"{MOST_STRIPS} of {len(marks)} images: the highest" in texts(verdict_svg(KNOWN, marks, attack="sima-cn"))


def test_no_line_of_text_is_cut_at_the_edge(browser):
    """However long the attack's name is, and however many images there are."""
    attack = "sima-mc given complexity, base, mirror+shift-right, shift-left, shift-right"
    marks = [(f"{row} {NASTY * 3}.png", float(row % 5)) for row in range(20 * MOST_STRIPS)]
    figures = [
        verdict_svg(KNOWN, marks, attack=attack, selected=marks[0]),
        verdict_svg(KNOWN, marks[:1], attack=attack, title=NASTY * 3),
        set_svg([score for _, score in marks], KNOWN, attack=attack),
    ]
    page = browser.new_page(viewport={"width": 390, "height": 800})
    for figure in figures:
        page.set_content(f"<body style='margin: 0'>{figure}</body>")
        assert page.evaluate(BEYOND_THE_FIGURE) == []
    page.close()


def test_of_several_images_no_line_is_said_to_be_enough_for_evidence():
    """With p = 0.006 one of ten images has q = 0.06, hence no evidence, though it lies beyond the line of p = 0.01."""
    assert verdict_of(0.006, adjusted([0.006, *[0.5] * 9])[0]) == CANNOT_TELL
    one, ten = (verdict_svg(KNOWN, [("image", 3.0)] * n, attack="sima-cn") for n in (1, 10))
    assert "p = 0.01: evidence begins here" in texts(one) and "Evidence (p ≤ 0.01) begins above 2.5." in one
    assert "p = 0.01: evidence takes q ≤ 0.05, too" in texts(ten) and "vidence begins" not in ten and "Evidence (p" not in ten


def test_a_set_is_drawn_among_the_non_members():
    svg = set_svg([*RNG.normal(1, 1, 40), 1e9], KNOWN, attack="sima-cn", title=NASTY)
    assert {"the 41 images of the set", "500 known non-members"} <= set(texts(svg)) and "<script>" not in svg
