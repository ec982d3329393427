"""The card of a published split: metadata for the Hub's viewer, and what a reader must know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mia_hub.errors import SplitError
from mia_hub.flags import Flag
from mia_hub.metrics.estimates import Estimate
from mia_hub.rendering.markdown import code_span, escape_markdown
from mia_hub.splits.origins import Origin

# 1 is member.
LABELS = ("nonmember", "member")
TAGS = ["membership-inference", "privacy", "diffusion", "mia_hub"]
# The Hub's names of sizes, each with the number of rows that it stays below.
SIZES = (
    (1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)  # fmt: skip
LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")
HUB_ID = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}")
MODEL = re.compile(r"[\w][\w.-]{0,95}(/[\w][\w.-]{0,95})?")

# What each kind of draw is good for.
COINS = (
    " Each image's side was decided by a coin of its own: a bit of SHA-256 of the seed and the image's content, which anyone can toss "
    "again. The numbers on the two sides are therefore left to chance. Such a split is good for all that a draw of fixed numbers is good "
    "for, and also for a lower bound on the ε of differential privacy from this one training run (`mia-hub audit`). For that, use it "
    "whole: a part of it with chosen numbers on its sides is no longer one of independent coins."
)
FIXED = (
    " The numbers on the two sides were fixed, so the sides of two images are not quite independent. Such a draw is good for AUC, "
    "true-positive rates and set tests, and gives exactly the numbers wanted. A lower bound on the ε of differential privacy from one "
    "training run needs independent coins (`mia-hub make-split --coin-flip`)."
)


@dataclass(frozen=True)
class SplitRecord:
    """The record of a published split, from which its card and ``split.json`` are made.

    Attributes:
        hash: of the split by content, see `mia_hub.MemberSplit.hash`.
        n_members, n_nonmembers: rows of each.
        origins: of the images: one source, or that of the members and that of the non-members.
        seed: of the draw; None if nothing was drawn.
        coins: whether each image was in or out by its own fair coin of this seed, see `mia_hub.splits.coins`.
        license: of the images, as the Hub names it, or "unknown".
        model: the model trained on the members, or None.
        has_captions, has_classes: whether each row has one.
        left_out: numbers of images of the source that were left out, by reason.
        copies: images that occur again on their own side.
        notes: see `mia_hub.MemberSplit.notes`.
        blind_auc: of the blind classifier; None with too few images, or if the check was switched off.
        flags: raised by the shift check.
        provenance: versions and time.
    """

    hash: str
    n_members: int
    n_nonmembers: int
    origins: tuple[Origin, ...] = ()
    seed: int | None = None
    coins: bool = False
    license: str = "unknown"
    model: str | None = None
    has_captions: bool = False
    has_classes: bool = False
    left_out: dict[str, int] = field(default_factory=dict)
    copies: int = 0
    notes: tuple[str, ...] = ()
    blind_auc: Estimate | None = None
    flags: tuple[Flag, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_license_name(self.license)
        check_model_name(self.model)


def check_license_name(license: str | None) -> None:
    """Refuse a licence that can't be a name on the Hub.

    Raises:
        SplitError: if it can't.
    """
    if license is not None and not LICENSE.fullmatch(license):
        raise SplitError(f"A licence is named as on the Hub, such as cc-by-4.0, mit or other; got {license!r:.80}.")


def check_model_name(model: str | None) -> None:
    """Refuse a model that can't be a name on the Hub.

    Raises:
        SplitError: if it can't.
    """
    if model is not None and not MODEL.fullmatch(model):
        raise SplitError(f"A model is named by its id on the Hub, such as owner/name; got {model!r:.120}.")


def card_text(record: SplitRecord, bytes_of: Mapping[str, int] | None = None, *, name: str | None = None) -> str:
    """Return README.md: metadata for the Hub, then the card.

    Args:
        record: of the split.
        bytes_of: bytes of the rows of each split, by its name, if they are written.
        name: id on the Hub, if it is known.
    """
    return f"---\n{_front_matter(record, bytes_of or {})}\n---\n\n{_body(record, name or 'owner/name')}\n"


def _front_matter(record: SplitRecord, bytes_of: Mapping[str, int]) -> str:
    import datasets
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCardData

    rows = record.n_members + record.n_nonmembers
    size = next((name for most, name in SIZES if rows < most), "n>100M")
    title = f"Members and non-members of {record.model or 'a model'}"
    card = DatasetCardData(
        license=record.license,
        size_categories=[size],
        tags=list(TAGS),
        pretty_name=title,
    )
    files = [{"split": split, "path": f"data/{split}-*"} for split in ("member", "nonmember")]
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(card)
    counts = {"member": record.n_members, "nonmember": record.n_nonmembers}
    splits = datasets.SplitDict.from_split_dict(
        [{"name": name, "num_bytes": bytes_of.get(name, 0), "num_examples": count} for name, count in counts.items()]
    )
    info = datasets.DatasetInfo(features=split_features(captions=record.has_captions, classes=record.has_classes), splits=splits)
    info.dataset_size = info.download_size = sum(bytes_of.values())
    DatasetInfosDict({"default": info}).to_dataset_card_data(card)
    return card.to_yaml()


def split_features(*, captions: bool, classes: bool) -> Any:
    """Return the columns of a published split, as a `datasets.Features`."""
    import datasets

    columns = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(LABELS))}
    columns |= {"caption": datasets.Value("string")} if captions else {}
    columns |= {"class": datasets.Value("int64")} if classes else {}
    return datasets.Features(columns)


def _body(record: SplitRecord, name: str) -> str:
    model = f"the model {_model(record.model)}" if record.model else "a model, which this card doesn't name"
    parts = [
        f"# Members and non-members of {_model(record.model) if record.model else 'a model'}",
        f"**Members** are images in the training set of {model}; **non-members** are images that are certainly not in it. With both, "
        "`mia_hub` measures how well an attack tells training images from others: how much the model gives away of its training set.",
        _facts(record),
        "## How to load it",
        f'```python\nimport mia_hub\n\nsplit = mia_hub.load_split("{name}")\nprint(split.hash)  # {record.hash}\n```',
        f"On the command line: `mia-hub audit --model {record.model or 'owner/model'} --split {name}`. With the library `datasets`, the "
        "splits are `member` and `nonmember`; the column `label` says the same: 1 is member, 0 is nonmember.",
        "## Do the two differ by themselves?",
        shift_text(record),
        "## What this split means",
        _caution(record),
    ]
    return "\n\n".join(parts)


def _model(model: str) -> str:
    return f"[{escape_markdown(model)}](https://huggingface.co/{model})" if "/" in model else code_span(model)


def _facts(record: SplitRecord) -> str:
    lines = [
        f"- **Rows:** {record.n_members:,} members and {record.n_nonmembers:,} non-members, {_drawn(record)}.",
        *_sources(record),
        f"- **Hash of the split, by content:** `{record.hash}`",
        f"- **Licence of the images:** {_license(record)}",
        f"- **Columns:** image, label{', caption' if record.has_captions else ''}{', class' if record.has_classes else ''}",
    ]
    if record.left_out:
        counts = ", ".join(f"{count:,} {escape_markdown(reason)}" for reason, count in record.left_out.items())
        lines.append(f"- **Left out:** of the images of the source that were read, {counts}.")
    if record.copies:
        lines.append(f"- **Copies:** {record.copies:,} images occur more than once on their side, and count repeatedly in every figure.")
    lines += [f"- **Note:** {escape_markdown(note)}" for note in record.notes]
    versions = record.provenance.get("versions", {})
    if versions:
        lines.append(f"- **Made by:** mia_hub {escape_markdown(versions.get('mia_hub'))}, {record.provenance.get('created')}")
    return "\n".join(lines)


def _drawn(record: SplitRecord) -> str:
    if record.seed is None:
        return "as in the source"
    how = "each image in or out by its own fair coin" if record.coins else "these numbers drawn at random"
    return f"{how}, with seed {record.seed}"


def _sources(record: SplitRecord) -> list[str]:
    names = ("Source",) if len(record.origins) == 1 else ("Source of the members", "Source of the non-members")
    return [f"- **{name}:** {_origin(origin)}" for name, origin in zip(names, record.origins)]


def _origin(origin: Origin) -> str:
    if origin.revision is None or not HUB_ID.fullmatch(origin.name):
        where = f"files of {code_span(origin.name)}, which are not on the Hub"
    else:
        where = f"[{escape_markdown(origin.name)}](https://huggingface.co/datasets/{origin.name}) at commit {code_span(origin.revision)}"
    where += f", configuration {code_span(origin.config)}" if origin.config else ""
    return where + (f", split {code_span(origin.split)}" if origin.split else "") + "."


def _license(record: SplitRecord) -> str:
    stated = sorted({origin.license for origin in record.origins if origin.license})
    text = "unknown: nobody stated it. Ask the holder of the rights before you use the images."
    text = text if record.license == "unknown" else f"{escape_markdown(record.license)}."
    return text + (f" The source's own card states {escape_markdown(', '.join(stated))}." if stated else "")


def shift_text(record: SplitRecord) -> str:
    """Return the result of the shift check, as Markdown."""
    blind = record.blind_auc
    if blind is None:
        return (
            "This was not checked: there are fewer than 25 readable images on a side, or the check was switched off. Until it is checked, "
            "an attack's figures on this split may only show that the two kinds of images differ."
        )
    result = (
        f"A classifier that sees the images and never a model tells members from non-members with an AUC of **{blind}** (95 % interval; "
        f"0.5 is chance), on {blind.n_members:,} members and {blind.n_nonmembers:,} non-members."
    )
    if record.flags:
        return (
            f"**Yes.** {result} The two differ by themselves, so an attack's AUC on this split is not evidence that the model remembers "
            "anything; compare it with this one, and better still, draw both from one source."
        )
    return f"**No difference was found.** {result} It is no proof that there is none."


def _caution(record: SplitRecord) -> str:
    text = (
        "A split is a statement about one model: the same images are no members of another, and of a model that was trained on more, the "
        "non-members may be members. Nothing here can check that the model was trained on the members, nor that it wasn't trained on the "
        "non-members."
    )
    if record.seed is not None:
        text += (
            " The members were drawn before training: they are members of a model once it is trained on them, and on none of the "
            "non-members, nor on near copies of them."
        )
        text += COINS if record.coins else FIXED
    return text + " Captions and images are copied unchanged from the source, and nobody has reviewed them."
