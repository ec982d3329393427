"""PDF from HTML, by WeasyPrint, which is an optional extra.

WeasyPrint is imported when the first page is converted. It fetches nothing: all that a document shows is in its HTML.
"""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stdout
from typing import Any

from mia_hub.errors import MiaHubError, first_line
from mia_hub.rendering.transliteration import READABLE

INSTALL_EXTRA = 'Install the extra pdf: pip install "mia_hub[pdf]" (in the clone: pip install ".[pdf]").'
INSTALL_LIBRARIES = (
    "Install Pango: apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 on Debian and Ubuntu; WeasyPrint's installation "
    "page names it for other systems."
)


class NoConverter(MiaHubError):
    """The converter is not installed, or can't load the libraries of the system that it needs."""


def to_pdf(html: str) -> bytes:
    """Return a page as a PDF for archives (PDF/A-3u): the same bytes for the same page, fonts and version of WeasyPrint.

    Args:
        html: the page, with its style and its images (as ``data:`` addresses) inside. Anything that it refers to elsewhere is left out.

    Raises:
        NoConverter: if WeasyPrint isn't installed or doesn't work; the message says what to install.
    """
    weasyprint = _weasyprint()
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols={"data"}, allow_redirects=False)
    # A lone surrogate, as in a file name that is no text, can't be encoded.
    document = weasyprint.HTML(string=html.encode("utf-8", READABLE).decode("utf-8"), url_fetcher=fetcher)
    # It warns of every property of a plot that is meant for browsers.
    level = weasyprint.LOGGER.level
    weasyprint.LOGGER.setLevel(logging.ERROR)
    try:
        content: bytes = document.write_pdf(pdf_variant="pdf/a-3u")
    finally:
        weasyprint.LOGGER.setLevel(level)
    return content


def _weasyprint() -> Any:
    from PIL import ImageFile

    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        # Where a library is missing, WeasyPrint prints advice among the results of a command.
        with redirect_stdout(io.StringIO()):
            import weasyprint
            import weasyprint.urls
    except ImportError as error:
        raise NoConverter(f"WeasyPrint, which makes PDFs, can't be imported ({first_line(error)}). {INSTALL_EXTRA}") from error
    except OSError as error:
        raise NoConverter(f"WeasyPrint can't load a library of the system ({first_line(error)}). {INSTALL_LIBRARIES}") from error
    finally:
        # WeasyPrint lets Pillow read damaged images, for all that runs in the process.
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated
    return weasyprint
