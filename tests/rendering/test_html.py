"""Templates escape what isn't HTML, whoever gives it."""

import subprocess
import sys

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from mia_hub.rendering.html import fragment, prose, render

NASTY = "<script>alert('x')</script> & \""


def test_a_fragment_escapes_text_and_keeps_html():
    assert fragment("pairs", [["<b>", NASTY]]).count("<script") == 0
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &#34;" in fragment("pairs", [["<b>", NASTY]])
    plots = fragment("plots", [(NASTY, Markup("<svg></svg>"))])
    assert "<figcaption>&lt;script" in plots and "<svg></svg>" in plots


def test_a_table_marks_the_chosen_row():
    table = fragment("table", ["t", "AUC"], [["1", "0.5"], ["2", "0.6"]], label="Figures", chosen="2")
    assert '<tr class="chosen"><th scope="row">2</th><td>0.6</td></tr>' in table and table.count('class="chosen"') == 1
    assert 'aria-label="Figures"' in table and '<th scope="col">AUC</th>' in table


def test_an_answer_names_its_verdict_once():
    answer = fragment("answer", "evidence", "Evidence", "Evidence: p = 0.01 < 0.05")
    assert '<p class="mia-verdict">Evidence.</p>' in answer and answer.count("Evidence") == 1
    assert "0.01 &lt; 0.05" in answer


def test_what_there_is_none_of_leaves_nothing():
    assert fragment("caveats", []) == "" and "mia-notes" not in fragment("figures", [["a", "b"]], [])


def test_a_page_needs_its_body_and_its_values(tmp_path):
    with pytest.raises(UndefinedError, match="is undefined"):
        render("mia_hub/auditing/templates/audit.html", title="x")


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("AUC 0.5 [0.4, 0.6] at t = 80", '<span class="number">AUC 0.5 [0.4, 0.6]</span> at t\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}80'),
        ("18.2 % [15.1, 21.6]", '<span class="number">18.2\N{NO-BREAK SPACE}% [15.1, 21.6]</span>'),
        ("<i>", "&lt;i&gt;"),
    ],
)
def test_prose_keeps_a_value_on_one_line(text, html):
    assert prose(text) == html


def test_jinja_is_imported_when_it_is_needed():
    code = "import sys, mia_hub.rendering.html, mia_hub.auditing.report_pages; print({'jinja2', 'markupsafe'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
