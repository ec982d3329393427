"""The effect of a shift between members and non-members on an attack's AUC, and whether the shift check notices.

python -m studies.validity            # measures: about ten minutes of an idle CPU core, resumable
python -m studies.validity --render   # writes the page again from docs/studies/validity.json
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.cached_model import CachedModel
from mia_hub.metrics.estimates import Estimate
from mia_hub.rendering.markdown import markdown_table
from mia_hub.rendering.numbers import with_interval
from mia_hub.rendering.svg import COLOURS, GREY, add_legend, new_figure, to_svg
from studies.page import run_study

NAME = "validity"
MEMBERS, NONMEMBERS, SEED = 256, 400, 0
# One setting each, known from earlier work on the demo: none is chosen by the figures of this study.
ATTACKS = {
    "sima": "sima:timesteps=70",
    "sima-cn": "sima-cn:timesteps=70,given=complexity,shift-left,shift-right",
    "loss": "loss:timesteps=100",
    "pia": "pia:timesteps=200",
}
SHOWN = "sima"
FLAG, RATE = "distribution-shift", 0.01
TRAINED, UNTRAINED = "members", "held-out"
HONEST = "none"
# Sandals, sneakers and ankle boots; three of ten equally frequent classes.
FOOTWEAR = (5, 7, 9)

Images = list[np.ndarray]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Return the image after it was saved as JPEG once."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def blur(image: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def darken(image: np.ndarray, factor: float) -> np.ndarray:
    return (image * factor).round().astype(np.uint8)


# Alterations of the non-members alone, weakest first: name, text of a strength, strengths, function.
ALTERED: tuple[tuple[str, str, tuple[float, ...], Callable], ...] = (
    ("JPEG", "saved as JPEG once, quality {}", (95, 80, 60, 30), jpeg),
    ("blur", "blurred, radius {} pixels", (0.3, 0.4, 0.6), blur),
    ("brightness", "brightness × {}", (0.99, 0.97, 0.9), darken),
)
SHARES = (0.35, 0.45, 0.6, 0.9)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Every attack on every split: members, then images that nothing was trained on, against honest and shifted non-members."""
    from mia_hub.attacks.spelling import parse_attack
    from mia_hub.auditing.compare import compare
    from mia_hub.models.loading import load_model
    from mia_hub.splits.member_split import make_split

    model = CachedModel(load_model("demo", device="cpu"))
    members, held_out, nonmembers = images()
    splits = []
    for kind, own in ((UNTRAINED, held_out), (TRAINED, members)):
        for shift, text, others in nonmembers:
            split = make_split(own, others, name=f"{kind} against {text}")
            folder = args.runs / NAME / re.sub(r"\W+", "-", f"{kind} {text}")
            compared = compare(model, split, [parse_attack(text) for text in ATTACKS.values()], seed=SEED, folder=folder)
            figures = {
                name: {"auc": asdict(row.report.auc), "tpr": asdict(row.report.tpr_at_fpr[RATE])}
                for name, row in zip(ATTACKS, compared.rows)
            }
            flagged = any(flag.name == FLAG for flag in compared.flags)
            description = {"own": kind, "shift": shift, "nonmembers": text, "hash": compared.split["hash"]}
            splits.append(description | {"blind_auc": asdict(compared.blind_auc), "flagged": flagged, "attacks": figures})
    return {
        "model": compared.model,
        "attacks": ATTACKS,
        "seed": SEED,
        "splits": splits,
        "provenance": compared.rows[0].report.provenance,
    }


def images() -> tuple[Images, Images, list[tuple[str, str, Images]]]:
    """Members; images held out; and non-members, apart from these, as they are and shifted: the kind of shift, in words, the images."""
    from mia_hub.splits.loading import load_split

    demo, rng = load_split("demo"), np.random.default_rng(SEED)
    members = _arrays(demo.members, rng.permutation(len(demo.members))[:MEMBERS])
    order = rng.permutation(len(demo.nonmembers))
    held_out, rest = _arrays(demo.nonmembers, order[:MEMBERS]), order[MEMBERS:]
    honest = _arrays(demo.nonmembers, rest[:NONMEMBERS])
    nonmembers = [(HONEST, "as they are", honest)]
    for name, text, strengths, alter in ALTERED:
        nonmembers += [(name, text.format(strength), [alter(image, strength) for image in honest]) for strength in strengths]
    worn = np.isin(_classes([demo.nonmembers[row].id for row in rest]), FOOTWEAR)
    for share in SHARES:
        count = round(share * NONMEMBERS)
        rows = np.concatenate([rest[worn][:count], rest[~worn][: NONMEMBERS - count]])
        nonmembers.append(("class mix", f"{share:.0%} shoes".replace("%", " %"), _arrays(demo.nonmembers, rows)))
    return members, held_out, nonmembers


def _arrays(part: Sequence, rows: Iterable[int]) -> Images:
    return [np.asarray(part[row].to_pil().convert("L")) for row in rows]


def _classes(ids: Sequence[str]) -> np.ndarray:
    """The classes of images of Fashion-MNIST's training set, by their content."""
    from mia_hub.images.image import content_id
    from training.fashion_mnist import load_train_images, load_train_labels

    labels = {content_id(image): label for image, label in zip(load_train_images(), load_train_labels())}
    return np.array([labels[sample] for sample in ids])


def render(results: dict[str, Any]) -> dict[str, str]:
    """The parts of the page, and its figure."""
    splits = results["splits"]
    untrained = [split for split in splits if split["own"] == UNTRAINED]
    trained = [split for split in splits if split["own"] == TRAINED]
    shifted = [split for split in untrained if split["shift"] != HONEST]
    false = [split for split in shifted if _off_chance(split, above=True)]
    unnoticed = [split for split in shifted if not split["flagged"]]
    both = [split for split in splits if split["shift"] != HONEST]
    honest = _one(trained, HONEST)
    return {
        f"{NAME}.svg": figure(splits),
        "table": table(results),
        "attacks": ", ".join(f"`{text}`" for text in results["attacks"].values()),
        "images": f"{_images(splits)[0]:,} members (or held-out images) and {_images(splits)[1]:,} non-members",
        "reported": "{n_members:,} and {n_nonmembers:,}".format(**splits[0]["attacks"][SHOWN]["auc"]),
        "seed": str(results["seed"]),
        "revision": str(results["model"]["revision"]).removeprefix("sha256:")[:8],
        "version": str(results["provenance"]["versions"]["mia_hub"]),
        "honest": f"{_auc(honest, SHOWN)} with a blind AUC of {Estimate(**honest['blind_auc'])}",
        "control": f"{_auc(_one(untrained, HONEST), SHOWN)} with a blind AUC of {Estimate(**_one(untrained, HONEST)['blind_auc'])}",
        "false": _listed(false) or "none",
        "n_false": f"{len(false)} of {len(shifted)}",
        "caught": f"{sum(split['flagged'] for split in false)} of these {len(false)}",
        "raised": f"{sum(split['flagged'] for split in both)} of the {len(both)} shifted splits",
        "false_alarms": f"{sum(split['flagged'] for split in splits if split['shift'] == HONEST)} of these two",
        "unnoticed": _listed(unnoticed) or "none",
        "unnoticed_harm": _harm(unnoticed),
        "inflated": _inflated(trained),
        "hidden": _hidden(trained),
    }


def _auc(split: dict[str, Any], attack: str) -> str:
    return str(Estimate(**split["attacks"][attack]["auc"]))


def _value(attack: str, split: dict[str, Any]) -> float:
    return split["attacks"][attack]["auc"]["value"]


def _one(splits: Iterable[dict[str, Any]], shift: str) -> dict[str, Any]:
    return next(split for split in splits if split["shift"] == shift)


def _images(splits: Sequence[dict[str, Any]]) -> tuple[int, int]:
    blind = splits[0]["blind_auc"]
    return blind["n_members"], blind["n_nonmembers"]


def _off_chance(split: dict[str, Any], *, above: bool) -> list[str]:
    """The attacks whose interval lies above one half (or below it)."""
    figures = {name: row["auc"] for name, row in split["attacks"].items()}
    return [name for name, auc in figures.items() if (auc["low"] > 0.5 if above else auc["high"] < 0.5)]


def _listed(splits: Sequence[dict[str, Any]]) -> str:
    return "; ".join(split["nonmembers"] for split in splits)


def _harm(unnoticed: Sequence[dict[str, Any]]) -> str:
    """Return the attacks whose intervals exclude 0.5 on unflagged splits of held-out images."""
    wrong = [(split, name) for split in unnoticed for above in (True, False) for name in _off_chance(split, above=above)]
    if not wrong:
        return "no attack's interval excludes 0.5"
    return "some attack's interval excludes 0.5: " + "; ".join(
        f"`{name}` on “{split['nonmembers']}”, {_auc(split, name)}" for split, name in wrong
    )


def _hidden(trained: Sequence[dict[str, Any]]) -> str:
    """Where a shift hides what the model does remember: the lowest AUC of any attack, beside that attack on the honest split."""
    name, split = min(((name, split) for split in trained for name in split["attacks"]), key=lambda each: _value(*each))
    return f"“{split['nonmembers']}” takes `{name}` from {_auc(_one(trained, HONEST), name)} to {_auc(split, name)}"


def _inflated(trained: Sequence[dict[str, Any]]) -> str:
    """Where a shift adds most to the AUC of an attack on training images."""
    honest = _one(trained, HONEST)
    pairs = [(name, split) for split in trained for name in split["attacks"]]
    name, split = max(pairs, key=lambda pair: _value(*pair) - _value(pair[0], honest))
    return f"“{split['nonmembers']}” takes `{name}` from {_auc(honest, name)} to {_auc(split, name)}"


def _percent(split: dict[str, Any], attack: str) -> str:
    value, low, high = (100 * split["attacks"][attack]["tpr"][part] for part in ("value", "low", "high"))
    return with_interval(value, low, high, decimals=0, unit=" %")


def table(results: dict[str, Any]) -> str:
    """One row a split: the blind AUC, the flag, and each attack's AUC and TPR at 1 % FPR, with their intervals."""
    rows = []
    for split in results["splits"]:
        cells = []
        for name in results["attacks"]:
            cells.append(f"{_auc(split, name)}; {_percent(split, name)}")
        flag = "raised" if split["flagged"] else "—"
        rows.append([split["own"], split["nonmembers"], str(Estimate(**split["blind_auc"])), flag, *cells])
    headers = ["Called members", "Non-members", "Blind AUC", "Flag", *(f"{name}: AUC; TPR at 1 % FPR" for name in results["attacks"])]
    return markdown_table(headers, rows)


def figure(splits: Sequence[dict[str, Any]]) -> str:
    """Attack AUC against blind AUC, a mark for each split, filled where the flag is raised."""
    plot, axes = new_figure(300, f"AUC of {SHOWN}, with its 95 % interval")
    legend = []
    named = {TRAINED: "members against non-members", UNTRAINED: "held-out against held-out"}
    for (own, label), colour, mark in zip(named.items(), (COLOURS[1], COLOURS[0]), "os"):
        for flagged in (True, False):
            points = [split for split in splits if split["own"] == own and split["flagged"] == flagged]
            blind, auc = ([Estimate(**pair) for pair in pairs] for pairs in _pairs(points))
            x, y = [each.value for each in blind], [each.value for each in auc]
            axes.hlines(y, [each.low for each in blind], [each.high for each in blind], color=colour, linewidth=0.8, alpha=0.35, zorder=2)
            axes.vlines(x, [each.low for each in auc], [each.high for each in auc], color=colour, linewidth=0.8, alpha=0.35, zorder=2)
            style = {"color": colour, "marker": mark, "markersize": 5, "markerfacecolor": colour if flagged else "white"}
            (drawn,) = axes.plot(x, y, linestyle="none", zorder=4, **style)
            legend.append((drawn, f"{label}; {'flag raised' if flagged else 'no flag'}"))
    legend.append((axes.axhline(0.5, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1), "chance: 0.5"))
    axes.axvline(0.5, color=GREY, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlabel("Blind AUC, of a classifier that never sees the model")
    add_legend(plot, legend)
    return to_svg(plot, f"The AUC of {SHOWN} against the blind AUC, for honest splits and for splits whose non-members were shifted.")


def _pairs(points: Sequence[dict[str, Any]]) -> tuple[list, list]:
    return [split["blind_auc"] for split in points], [split["attacks"][SHOWN]["auc"] for split in points]


if __name__ == "__main__":
    run_study(NAME, __doc__.splitlines()[0], measure, render)
