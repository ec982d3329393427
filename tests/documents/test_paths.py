"""Every file that the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "examples/*.md", "benchmarks/*.md", "studies/*.md", "training/*.md")
    for path in ROOT.glob(pattern)
    if not path.name.endswith(".in.md")
)
# These name files of the project in backticks.
WITH_PATHS = [document for document in ("README.md", "CONTRIBUTING.md", "docs/architecture.md") if (ROOT / document).exists()]
PATH = re.compile(r"[\w.-]+(/[\w.*-]+)*(/|\.(py|md|toml|json|svg|html|css|js|yaml))")
PLACEHOLDER = re.compile(r"[A-Z]{2,}|…|<")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = {
        target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if not target.startswith(("http", "#", "mailto"))
    }
    assert [target for target in sorted(targets) if not ((ROOT / document).parent / target).exists()] == []


@pytest.mark.parametrize("document", WITH_PATHS)
def test_paths_in_backticks_exist(document):
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    paths = {path for path in re.findall(r"`([^`\s]+)`", text) if PATH.fullmatch(path) and not PLACEHOLDER.search(path)}
    assert [path for path in sorted(paths) if not list(ROOT.glob(path.rstrip("/")))] == []
