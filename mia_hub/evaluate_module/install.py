"""Install the metric where ``evaluate.load("sima")`` looks for it: evaluate has no plug-ins, but it has a module cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from mia_hub.errors import MiaHubError
from mia_hub.evaluate_module import PATH

# How evaluate names a module of the Hub's evaluate-metric/sima in its cache.
_FOLDER = Path("evaluate_modules", "metrics", "evaluate-metric--sima")
_SIGNATURE = b"mia_hub.evaluate_module"
_HASH_LENGTH = 64


def install(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Make ``evaluate.load("sima")`` find the metric. Installing again changes nothing, or replaces an older version.

    Args:
        cache_dir: evaluate's module cache; by default where evaluate looks: ``$HF_MODULES_CACHE``, else ``$HF_HOME/modules``, else
            ``~/.cache/huggingface/modules``.

    Returns:
        The installed file; `usage_text` says what to do with it.

    Raises:
        MiaHubError: if the folder can't be written.
    """
    cache = _modules_cache(cache_dir)
    script = Path(PATH).read_bytes()
    versions = cache / _FOLDER
    target = versions / hashlib.sha256(script).hexdigest()
    try:
        versions.mkdir(parents=True, exist_ok=True)
        for package in (cache, *(cache / parent for parent in reversed(_FOLDER.parents[:-1])), versions):
            (package / "__init__.py").touch()
        if not _is_complete(target, script):
            _install_version(target, script)
        (target / "sima.py").touch()  # of several versions evaluate takes the newest
        for other in _installed_versions(versions):
            if other != target:
                shutil.rmtree(other)
    except OSError as error:
        raise MiaHubError(
            f"The metric can't be installed into {error.filename or versions} ({error.strerror or error}). Make that folder writable, or "
            "set HF_MODULES_CACHE to a writable folder, for this command and for the scripts that load the metric."
        ) from error
    return target / "sima.py"


def uninstall(cache_dir: str | os.PathLike[str] | None = None) -> bool:
    """Remove what `install` put into the module cache, and nothing else.

    Returns:
        Whether there was anything to remove.

    Raises:
        MiaHubError: if it can't be removed.
    """
    versions = _modules_cache(cache_dir) / _FOLDER
    installed = _installed_versions(versions)
    try:
        for version in installed:
            shutil.rmtree(version)
        if installed and not [path for path in versions.iterdir() if path.name not in ("__init__.py", "__pycache__")]:
            shutil.rmtree(versions)
    except OSError as error:
        raise MiaHubError(
            f"The metric can't be removed from {versions} ({error.strerror or error}). Delete that folder yourself."
        ) from error
    return bool(installed)


def usage_text(installed: Path) -> str:
    """Return what to tell the user after `install`."""
    cache = installed.parents[len(_FOLDER.parts) + 1]
    lines = [
        f"The metric 'sima' is installed: {installed}",
        "Use it from any script on this machine, with or without a network:",
        "",
        "    import evaluate",
        '    sima = evaluate.load("sima")',
        '    sima.compute(predictions=images, references=is_member, model_id="demo")',
    ]
    if cache != _modules_cache(None):
        lines += ["", f"Scripts find it where HF_MODULES_CACHE is {cache}"]
    return "\n".join(lines)


def _modules_cache(cache_dir: str | os.PathLike[str] | None) -> Path:
    """Return where evaluate looks, as evaluate.config reads it (importing that takes seconds)."""
    if cache_dir is None:
        home = os.path.expanduser(os.getenv("HF_HOME", os.path.join(os.getenv("XDG_CACHE_HOME", "~/.cache"), "huggingface")))
        cache_dir = os.getenv("HF_MODULES_CACHE", os.path.join(home, "modules"))
    return Path(cache_dir).absolute()


def _is_complete(version: Path, script: bytes) -> bool:
    try:
        return (version / "__init__.py").is_file() and (version / "sima.py").read_bytes() == script
    except FileNotFoundError:
        return False


def _install_version(target: Path, script: bytes) -> None:
    # Written beside the target, under a name that evaluate ignores, then renamed: no script ever loads half a module.
    with tempfile.TemporaryDirectory(prefix="tmp", dir=target.parent) as temporary:
        new = Path(temporary, "new")
        new.mkdir()
        (new / "__init__.py").touch()
        (new / "sima.py").write_bytes(script)
        if target.exists():
            target.rename(Path(temporary, "broken"))
        try:
            new.rename(target)
        except OSError:
            if not _is_complete(target, script):  # else another process has installed it meanwhile
                raise


def _installed_versions(versions: Path) -> list[Path]:
    """Return the installed versions of this metric, without another's metric of the same name."""
    scripts = versions.glob("*/sima.py")
    return sorted(s.parent for s in scripts if len(s.parent.name) == _HASH_LENGTH and _SIGNATURE in s.read_bytes())
