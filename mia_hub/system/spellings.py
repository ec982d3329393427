"""Spellings of names on the Hub. The Hub answers for a name in any case, and for the earlier name of a renamed repository.

The Hub's cache knows a repository by one name only. So the other spellings that were used are written down beside it: they lead to the same
files without a network, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mia_hub.errors import MiaHubError
from mia_hub.system.files import write_text
from mia_hub.system.hub import HUB_TIMEOUT, HubTask, Kind, hub_errors

LOOK_UPS_AT_ONCE = 8


def remember_spelling(kind: Kind, spelling: str, name: str) -> None:
    """Write down that a spelling leads to the repository of a name. It is a convenience: where nothing can be written, nothing is."""
    path = _path(kind, spelling)
    try:
        if spelling == name:
            # The name of a renamed repository may have been given to another one.
            path.unlink(missing_ok=True)
        elif present_spelling(kind, spelling) != name:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps({"name": name}))
    except OSError:
        return


def present_spelling(kind: Kind, spelling: str) -> str:
    """Return the name of the repository that a spelling led to when it was last used here; the spelling itself if none is known."""
    try:
        name = json.loads(_path(kind, spelling).read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return spelling
    return name if isinstance(name, str) and name.count("/") == 1 else spelling


def present_ids(names: Sequence[str], kinds: Sequence[Kind], *, login: bool = True) -> set[str]:
    """Return the ids of repositories as the Hub spells them now, by names that may be earlier ones, or spelled otherwise.

    Args:
        names: ``owner/name``. A name that the Hub doesn't know, or that can't be looked up, stands for itself.
        kinds: of the repositories; a name may be that of one of each kind.
        login: whether the login of this machine is used, so that private ones are found, too.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=None if login else False)

    def look_up(kind: Kind, name: str) -> str:
        try:
            with hub_errors(HubTask(kind, name), MiaHubError):
                return str(api.repo_info(name, repo_type=kind, timeout=HUB_TIMEOUT).id)
        except MiaHubError:
            return present_spelling(kind, name) if login else name

    with ThreadPoolExecutor(LOOK_UPS_AT_ONCE) as workers:
        return set(workers.map(look_up, *zip(*((kind, name) for kind in kinds for name in names))))


def _path(kind: Kind, spelling: str) -> Path:
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "mia_hub" / "spellings" / f"{kind}--{spelling.replace('/', '--')}.json"
