"""PDF from HTML: what it holds, what it never fetches, and what is said where the converter is missing."""

from __future__ import annotations

import io
import socket
import sys

import pypdf
import pytest
from PIL import ImageFile

from mia_hub.rendering.pdf import NoConverter, to_pdf


def text_of(pdf: bytes) -> list[str]:
    """The words of each page."""
    return [" ".join(page.extract_text().split()) for page in pypdf.PdfReader(io.BytesIO(pdf)).pages]


def test_a_page_becomes_the_same_pdf_again_and_fetches_nothing(tmp_path, monkeypatch):
    elsewhere = tmp_path / "leak.css"
    elsewhere.write_text("p::after { content: ' LEAK' }")
    address = elsewhere.as_uri()
    html = (
        f"<style>@import url({address}); @import url(http://127.0.0.1:9/a.css);</style><link rel=stylesheet href={address}>"
        f"<img src=http://127.0.0.1:9/a.png><img src={address}><p>Read \udce9 ≤ here</p><p style='break-before: page'>and there</p>"
    )

    def refuse(*arguments):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    pdf = to_pdf(html)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES, "the converter lets Pillow read damaged images, everywhere"
    assert text_of(pdf) == ["Read \\xe9 ≤ here", "and there"]
    assert to_pdf(html) == pdf


class Unloadable:
    """Finds WeasyPrint, and fails like it on a machine without Pango."""

    def find_spec(self, name, path=None, target=None):
        if name == "weasyprint":
            print("WeasyPrint could not import some external libraries.")
            raise OSError("cannot load library 'libpango-1.0-0'")
        return None


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("package", 'pip install "mia_hub[pdf]"'),
        ("library", "apt-get install libpango-1.0-0"),
    ],
)
def test_a_missing_converter_says_what_to_install(missing, says, monkeypatch, capsys):
    if missing == "package":
        monkeypatch.setitem(sys.modules, "weasyprint", None)
    else:
        monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Unloadable(), *sys.meta_path])
    with pytest.raises(NoConverter) as error:
        to_pdf("<p>text</p>")
    assert says in str(error.value) and "\n" not in str(error.value)
    assert capsys.readouterr().out == ""
