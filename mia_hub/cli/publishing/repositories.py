"""The four repositories of this project on the Hub, with the files of each. Nothing here sends a request."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal

from mia_hub.defaults import DEMO_FOLDER, PACKAGE_FOLDER
from mia_hub.errors import MiaHubError

Kind = Literal["space", "model", "dataset"]
CHECKOUT = PACKAGE_FOLDER.parent
CARDS = Path(__file__).parent / "cards"
# Where git can't say what belongs to the project: these files, and the packages that pyproject.toml names.
KNOWN_FILES = ("README.md", "CHANGELOG.md", "LICENSE", "app.py", "pyproject.toml", "requirements.txt")
DEMO_REPORTS = ("audit.json", "audit_sima-cn.json", "audit_sima-lp.json", "held_out_audit.json")


class PublishError(MiaHubError):
    """Something can't be published: the message says what, why, and the next step."""


@dataclass(frozen=True)
class PublishedRepository:
    """One repository on the Hub, as it is published.

    Attributes:
        kind: "space", "model" or "dataset".
        repo_id: ``owner/name``.
        files: by path in the repository, their content, or the local file that holds it.
        what: one line for people.
        sdk: of a Space.
        remarks: warnings for whoever publishes.
    """

    kind: Kind
    repo_id: str
    files: Mapping[str, bytes | Path]
    what: str
    sdk: str | None = None
    remarks: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {path: len(file) if isinstance(file, bytes) else file.stat().st_size for path, file in sorted(self.files.items())}


@dataclass(frozen=True)
class Names:
    """The owner, and the name of each repository; the cards link to one another by these."""

    owner: str
    space: str = "mia_hub"
    metric: str = "sima"
    demo_model: str = "mia_hub-demo"
    demo_split: str = "mia_hub-demo"

    def id(self, part: str) -> str:
        """Return ``owner/name`` of a part, such as "demo-model"."""
        return f"{self.owner}/{getattr(self, part.replace('-', '_'))}"


def space_repository(names: Names, root: Path = CHECKOUT) -> PublishedRepository:
    """Return the page: this checkout as a Gradio Space, whose configuration is the front matter of its README.

    Raises:
        PublishError: if the package is installed without its checkout.
    """
    if not all((root / name).is_file() for name in ("app.py", "README.md", "requirements.txt", "pyproject.toml")):
        raise PublishError(
            f"Publishing the Space needs a clone of the repository, and {root} is not one: clone it, run 'pip install -e .' in it, and "
            "publish from there."
        )
    tracked = _tracked(root)
    remarks: tuple[str, ...] = ()
    if tracked is None:
        paths = known_paths(root)
        remarks = ("git can't say here which files belong to the project; its packages and their configuration are listed.",)
    else:
        paths, changed = tracked
        if changed:
            few = ", ".join(changed[:3]) + (", …" if len(changed) > 3 else "")
            remarks = (f"{len(changed)} of these files have changes that are not committed ({few}); they are published as they are.",)
    files = {path: root / path for path in paths}
    return PublishedRepository("space", names.id("space"), files, "the page, as a Gradio Space", sdk="gradio", remarks=remarks)


def _tracked(root: Path) -> tuple[list[str], list[str]] | None:
    """Tracked files that exist, and those among them with changes that are not committed; None without git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True, text=True).stdout

    try:
        if Path(git("rev-parse", "--show-toplevel").strip()).resolve() != root.resolve():
            return None
        paths = [path for path in git("ls-files", "-z").split("\0") if path and (root / path).is_file()]
        changed = set(git("diff", "HEAD", "--name-only", "-z").split("\0"))
    except (OSError, subprocess.CalledProcessError):
        return None
    return paths, [path for path in paths if path in changed]


def known_paths(root: Path) -> list[str]:
    """Files of the project where git can't say: known ones, and the packages by the patterns of pyproject.toml."""
    patterns = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = [
        path for path in root.iterdir() if (path / "__init__.py").is_file() and any(fnmatch.fnmatch(path.name, p) for p in patterns)
    ]
    files = [path.relative_to(root) for package in packages for path in package.rglob("*") if path.is_file()]
    own = [path for path in files if path.suffix != ".pyc" and not any(part[0] == "." or part == "__pycache__" for part in path.parts)]
    return sorted([path.as_posix() for path in own] + [name for name in KNOWN_FILES if (root / name).is_file()])


def metric_repository(names: Names, endpoint: str) -> PublishedRepository:
    """Return the metric: the shim that ``evaluate.load("owner/sima")`` fetches, on a Space that shows how it is used."""
    source = f"git+{endpoint}/spaces/{names.id('space')}"
    shim = (PACKAGE_FOLDER / "evaluate_module" / "sima.py").read_text(encoding="utf-8")
    # Where the package is missing, evaluate reads this comment and says what to install.
    shim, replaced = re.subn(r"(?m)^(from mia_hub\.evaluate_module\.metric import Sima)$", rf"\1  # From: {source}", shim)
    assert replaced == 1, "the shim's import has changed"
    files: dict[str, bytes | Path] = {
        "sima.py": shim.encode(),
        "README.md": _card("metric", names, source=source),
        "index.html": _card("metric.html", names, source=source),
        "requirements.txt": f"evaluate>=0.4.6,<0.5\nmia_hub @ {source}\n".encode(),
    }
    what = f'the metric, for evaluate.load("{names.id("metric")}")'
    return PublishedRepository("space", names.id("metric"), files, what, sdk="static")


def demo_model_repository(names: Names, endpoint: str) -> PublishedRepository:
    """Return the demo's diffusers folder as a model repository."""
    folder = DEMO_FOLDER / "model"
    files: dict[str, bytes | Path] = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files |= {name: DEMO_FOLDER / name for name in DEMO_REPORTS}
    files["README.md"] = _card("demo-model", names, measured=_section("What was measured"), again=_section("How to make it again"))
    return PublishedRepository("model", names.id("demo-model"), files, "the demo model, with its card and its audits")


def demo_split_repository(names: Names, endpoint: str) -> PublishedRepository:
    """Return the demo's members and non-members as a data set."""
    files: dict[str, bytes | Path] = {f"data/{path.name}": path for path in sorted((DEMO_FOLDER / "data").glob("*.parquet"))}
    files["README.md"] = _card("demo-split", names)
    return PublishedRepository("dataset", names.id("demo-split"), files, "the demo's members and non-members")


# Each links only to those before it, so that no link is dead while they are published.
REPOSITORIES: dict[str, Callable[[Names, str], PublishedRepository]] = {
    "demo-split": demo_split_repository,
    "demo-model": demo_model_repository,
    "space": lambda names, endpoint: space_repository(names),
    "metric": metric_repository,
}


def _card(name: str, names: Names, **further: str) -> bytes:
    """A card, with the names of the repositories filled in."""
    text = (CARDS / (name if "." in name else f"{name}.md")).read_text(encoding="utf-8")
    links = {part.replace("-", "_"): names.id(part) for part in REPOSITORIES}
    return Template(text).substitute(links | further).encode()


def _section(title: str) -> str:
    """A section of the demo's own card, so that figures stand in one place."""
    match = re.search(rf"(?ms)^## {re.escape(title)}\n(.*?)(?=^## |\Z)", (DEMO_FOLDER / "README.md").read_text(encoding="utf-8"))
    assert match, f"the demo's card has no section {title!r}"
    return match[1].strip()
