"""A tiny model and a split of noise on the loopback Hub, for tests of the leaderboard."""

from pathlib import Path

import datasets
import numpy as np
from PIL import Image

N = 30


def add_model_and_split(hub, owner: str, model: Path, folder: Path) -> dict[str, str]:
    """Puts ``owner/tiny`` and ``owner/split`` (30 members, 30 non-members) on the Hub; returns the commits that a request names."""
    rng = np.random.default_rng(0)
    for part in ("member", "nonmember"):
        rows = {"image": [Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(N)]}
        features = datasets.Features({"image": datasets.Image()})
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "data" / f"{part}-00000-of-00001.parquet")
    revision = hub.add_repo("model", f"{owner}/tiny", model)
    return {"revision": revision, "split_revision": hub.add_repo("dataset", f"{owner}/split", folder)}
