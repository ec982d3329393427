"""Text in the characters of an encoding."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mia_hub.rendering.transliteration import spelled, transliterated

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "in_ascii"),
    [
        ("plain text, 50 %", "plain text, 50 %"),
        ("p ≤ 0.05 and n ≥ 2, “as a set” – 1 × 3 ± 2 …", 'p <= 0.05 and n >= 2, "as a set" - 1 x 3 +/- 2 ...'),
        ("‖ε‖₂² = √ᾱ_t·x0 + √(1-ᾱ_t)·ε(x0, t)", "||epsilon||_2^2 = sqrt alpha_bar_t*x0 + sqrt(1-alpha_bar_t)*epsilon(x0, t)"),
        ("x̃_t → x̂_t, Σ_k σ, λ", "x~_t -> x^_t, Sigma_k sigma, lambda"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE} Pok\N{LATIN SMALL LETTER E WITH ACUTE}mon Å ½", "cafe Pokemon A 1/2"),
        ("█▌ ─│┼", "## -|+"),
        ("1\N{NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}µs", "1 000 us"),
        ("漢.png 😀", "\\u6f22.png \\U0001f600"),
        ("bad\udce9.png \ud800", "bad\\xe9.png \\ud800"),
        ("", ""),
    ],
)
def test_a_text_is_readable_in_ascii(text, in_ascii):
    assert transliterated(text, "ascii") == in_ascii


@pytest.mark.parametrize(
    ("encoding", "kept", "replaced", "by"),
    [
        ("cp1252", "“é” – … × ± · ½ ²", "≤ ε ₂", "<= epsilon _2"),
        ("latin-1", "é × ± · ½ ²", "“≤” …", '"<=" ...'),
        ("cp437", "≤ ≥ √ ε █ ─", "‖ “”", '|| ""'),
        ("utf-8", "‖ε‖ ≤ 漢 😀", "\udce9", "\\xe9"),
        ("utf-16", "‖ε‖ ≤ 漢 😀", "\udce9", "\\xe9"),
    ],
)
def test_what_an_encoding_has_is_left_alone(encoding, kept, replaced, by):
    assert transliterated(kept, encoding) == kept
    assert transliterated(f"{kept} {replaced}", encoding) == f"{kept} {by}"


def test_every_character_has_a_form_in_ascii():
    shown = [spelled(chr(code)) for code in range(0x20000)]
    assert all(map(str.isascii, shown))


def test_no_character_of_the_project_is_shown_as_an_escape():
    texts = {
        node.value
        for package in ("mia_hub", "leaderboard", "training", "studies", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    used = set("".join(texts))
    assert {character for character in used if not character.isascii() and "\\" in spelled(character)} == set()
