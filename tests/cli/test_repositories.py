"""The files of the repositories that are published."""

import subprocess

import pytest

from mia_hub.cli.publishing.repositories import Names, PublishError, space_repository


@pytest.fixture
def checkout(tmp_path):
    """A small checkout under git, with files that git ignores, doesn't track, or that were changed or removed since."""
    (tmp_path / "pyproject.toml").write_text('[tool.setuptools.packages.find]\ninclude = ["tool*"]\n')
    for path in ("app.py", "README.md", "requirements.txt", "tool/__init__.py", "tool/data/weights.bin", "gone.py", "notes/__init__.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / ".gitignore").write_text("/runs/\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    for path in ("runs/secret.txt", "untracked.txt", "tool/__pycache__/a.pyc", "tool/.env"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("secret")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "app.py").write_text("changed")
    return tmp_path


def test_only_tracked_files_are_published(checkout):
    space = space_repository(Names("alice"), checkout)
    tracked = {"app.py", "README.md", "requirements.txt", "pyproject.toml", ".gitignore", "tool/__init__.py", "tool/data/weights.bin"}
    assert set(space.files) == tracked | {"notes/__init__.py"}
    assert "1 of these files have changes that are not committed (app.py)" in space.remarks[0]


def test_without_git_the_projects_packages_are_published(checkout):
    (checkout / ".git").rename(checkout / "elsewhere")
    space = space_repository(Names("alice"), checkout)
    known = {"app.py", "README.md", "requirements.txt", "pyproject.toml", "tool/__init__.py", "tool/data/weights.bin"}
    assert set(space.files) == known and "git can't say" in space.remarks[0]


def test_an_installed_package_is_no_checkout(tmp_path):
    with pytest.raises(PublishError, match="needs a clone of the repository"):
        space_repository(Names("alice"), tmp_path)
