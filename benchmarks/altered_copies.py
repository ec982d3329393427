"""Evidence on altered copies of the demo's known members and non-members: `python -m benchmarks.altered_copies`.

An answer holds for images that were treated like the reference images. This measures other treatments: how many training images the
verdict attack still recognises, and how many non-members it wrongly calls evidence.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mia_hub.checking.checker import Checker
from mia_hub.checking.checks import get_checker
from mia_hub.defaults import VERDICT_ATTACK
from mia_hub.images.sources import as_images
from mia_hub.metrics.intervals import clopper_pearson
from mia_hub.metrics.p_values import ALPHA
from mia_hub.references.demo_reference import demo_nonmembers
from mia_hub.rendering.numbers import percent_with_interval
from mia_hub.splits.loading import load_split
from mia_hub.system.streams import any_terminal

ENLARGED = 10


def _jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    def save(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return save


def _enlarged(image: Image.Image) -> Image.Image:
    return image.resize((image.width * ENLARGED, image.height * ENLARGED), Image.Resampling.BICUBIC)


def _shifted(image: Image.Image) -> Image.Image:
    """Shift by one pixel to the right; the empty column repeats its neighbour."""
    pixels = np.asarray(image)
    return Image.fromarray(np.concatenate([pixels[:, :1], pixels[:, :-1]], axis=1))


def _contrast_halved(image: Image.Image) -> Image.Image:
    """Halve each pixel's distance from the image's mean."""
    pixels = np.asarray(image, dtype=np.float64)
    return Image.fromarray(np.rint((pixels + pixels.mean()) / 2).astype(np.uint8))


# Name: function from a greyscale image to its altered copy.
ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as they are": lambda image: image,
    "JPEG, quality 95": _jpeg(95),
    "JPEG, quality 85": _jpeg(85),
    "JPEG, quality 50": _jpeg(50),
    f"enlarged {ENLARGED} times": _enlarged,
    "mirrored": ImageOps.mirror,
    "shifted by one pixel": _shifted,
    "pixel values halved": lambda image: image.point(lambda value: value // 2),
    "contrast halved": _contrast_halved,
}


def known_images(checker: Checker, members: int, nonmembers: int, seed: int = 0) -> dict[str, list[Image.Image]]:
    """Draw at most this many members and non-members, seeded, from the part of the demo's split on which nothing was chosen."""
    rng = np.random.default_rng(seed)
    known = {"members": load_split("demo").members, "non-members": demo_nonmembers()}
    reported = set(checker.reference.profiles.ids)
    samples = {}
    for (kind, images), count in zip(known.items(), (members, nonmembers)):
        shuffled = (images[int(row)] for row in rng.permutation(len(images)))
        part = [image.to_pil() for image in shuffled if image.id in reported]
        samples[kind] = part[:count]
    return samples


def evidence(checker: Checker, images: Sequence[Image.Image]) -> dict[str, int]:
    """Count the images, those with p ≤ `ALPHA` (each by itself), and those that are not comparable."""
    comparable = [checker.comparability(image) for image in as_images(list(images))]
    judged = checker.judge(images, progress=False)
    return {
        "n": len(judged),
        "evidence": sum(ok and one.p_value <= ALPHA for one, ok in zip(judged, comparable)),
        "not_comparable": len(comparable) - sum(comparable),
    }


def measure(checker: Checker, known: dict[str, list[Image.Image]]) -> dict[str, dict[str, dict[str, int]]]:
    """Return `evidence` by alteration and kind."""
    counts = {}
    for name, alter in ALTERATIONS.items():
        counts[name] = {kind: evidence(checker, [alter(image) for image in images]) for kind, images in known.items()}
        print(_row(name, counts[name]), flush=True)
    return counts


def _row(name: str, by_kind: dict[str, dict[str, int]]) -> str:
    cells = [name]
    for counts in by_kind.values():
        low, high = clopper_pearson(counts["evidence"], counts["n"])
        rate = counts["evidence"] / counts["n"]
        cells.append(f"{counts['evidence']} of {counts['n']}: {percent_with_interval(rate, low, high)}")
        cells.append(f"{counts['not_comparable'] / counts['n'] * 100:.1f} %")
    return f"| {' | '.join(cells)} |"


@any_terminal()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attack", default=VERDICT_ATTACK, help="verdict attack (default: %(default)s)")
    parser.add_argument("--members", type=int, default=256, metavar="N", help="at most (default: %(default)s)")
    parser.add_argument("--nonmembers", type=int, default=600, metavar="N", help="at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the counts there")
    args = parser.parse_args()

    checker = get_checker("demo", args.attack, progress=True)
    print(f"Demo, attack {checker.attack.name}, p ≤ {ALPHA:g}; 95 % intervals (Clopper–Pearson).\n")
    columns = (f"{kind} {what}" for kind in ("members", "non-members") for what in ("with evidence", "not comparable"))
    print(f"| copies | {' | '.join(columns)} |\n|---|---|---|---|---|")
    counts = measure(checker, known_images(checker, args.members, args.nonmembers, args.seed))
    if args.json:
        args.json.write_text(json.dumps({"attack": repr(checker.attack), "seed": args.seed, "counts": counts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
