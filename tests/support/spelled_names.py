"""One model, one LoRA and one data set on the loopback Hub, which have been renamed, and the spellings of names that lead to them."""

from __future__ import annotations

import secrets
from pathlib import Path

SPELLINGS = ("recased owner", "recased name", "renamed", "renamed and recased")
PARTS = ("model", "overlay", "data set")
KINDS = {"model": "model", "overlay": "model", "data set": "dataset"}


class SpelledNames:
    """Repositories by their part, "model", "overlay" or "data set".

    Attributes:
        ids: as the Hub spells them.
        commits: of each.
    """

    def __init__(self, hub, model: Path, overlay: Path, split: Path):
        # Names of their own, so that no cache knows them.
        mark = secrets.token_hex(4)
        self.owners = f"Former-{mark}", f"Owner-{mark}"
        self.ids, self.commits = {}, {}
        for part, files in zip(PARTS, (model, overlay, split), strict=True):
            name = part.title().replace(" ", "-")
            self.commits[part] = hub.add_repo(KINDS[part], f"{self.owners[0]}/Old-{name}", files)
            self.ids[part] = f"{self.owners[1]}/{name}"
            hub.rename_repo(KINDS[part], f"{self.owners[0]}/Old-{name}", self.ids[part])

    def spelled(self, part: str, spelling: str) -> str:
        """A name that leads to a repository."""
        owner, name = self.ids[part].split("/")
        earlier = f"{self.owners[0]}/Old-{name}"
        spelled = {"recased owner": f"{owner.upper()}/{name}", "recased name": f"{owner}/{name.lower()}", "renamed": earlier}
        return (spelled | {"renamed and recased": earlier.upper(), "present": self.ids[part]})[spelling]

    def draft(self, part: str, spelling: str) -> dict:
        """A request with one name in this spelling, and the others as the Hub spells them."""
        names = self.ids | {part: self.spelled(part, spelling)}
        return {"model": f"{names['model']} + {names['overlay']}", "split": names["data set"], "attacks": "sima"}
