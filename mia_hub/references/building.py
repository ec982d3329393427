"""A reference before it is built: which images, at what cost, and under which name it is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Any

import torch

from mia_hub.attacks import Attack, get_attack
from mia_hub.attacks.checks import check_companions_used
from mia_hub.auditing.options import QueryOptions
from mia_hub.errors import SplitError
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel
from mia_hub.models.rows import default_rows
from mia_hub.references.kept import reference_id
from mia_hub.references.preparing import PreparedImages, prepare
from mia_hub.references.scoring import check_enough, queries_per_image
from mia_hub.references.source import open_known_images
from mia_hub.references.unseen_by_base import described
from mia_hub.references.verdict_attack import DefaultAttack, check_usable, default_verdict_attack, requested_attack
from mia_hub.rendering.numbers import duration
from mia_hub.splits.split_part import ColumnNames
from mia_hub.system.signatures import Default
from mia_hub.system.timing import measured_seconds

# Rows of the forward pass that the cost is estimated from.
MOST_PROBED = 8


class BuildOptions(QueryOptions, total=False):
    """Options of `mia_hub.Reference.build`, which documents them."""

    members: Annotated[Any, Default(None)]
    captions: Annotated[Any, Default(None)]
    limit: Annotated[int | None, Default(None)]
    stated: Annotated[str, Default("")]
    made_after: Annotated[str | date | None, Default(None)]
    columns: Annotated[ColumnNames | None, Default(None)]
    source_revision: Annotated[str | None, Default(None)]
    caveats: Annotated[tuple[str, ...], Default(())]


@dataclass(frozen=True)
class BuildPlan:
    """A reference that can be built.

    Attributes:
        model, attack: that are run.
        images: that are scored.
        seed: of the noise, and of the draw of images.
        id: under which it is kept; None if it can't be.
    """

    model: DiffusionModel
    attack: Attack
    images: PreparedImages
    seed: int
    id: str | None

    def cost(self) -> str:
        """Return what it costs, as `cost_text` words it."""
        known = self.images.known
        single = known.captions is None or isinstance(known.captions, (str, int))
        caption = known.captions if single else known.captions[0]
        return cost_text(self.model, self.attack, len(self.images.ids), has_members=self.images.members_origin is not None, caption=caption)


def plan_reference(
    model: str | DiffusionModel, nonmembers: Any, attack: str | Attack | DefaultAttack | None = None, **options: Any
) -> BuildPlan:
    """Load a model, read its known images, and refuse what can be refused before it is queried.

    Args:
        model, nonmembers, attack, options: as for `mia_hub.Reference.build`.

    Raises:
        MiaHubError: as `mia_hub.Reference.build`.
    """
    if isinstance(attack, (str, Attack)):
        attack = get_attack(attack)
        check_usable(attack)
        check_companions_used(options["base"], options["reference_models"], [attack])
    seed, progress = options["seed"], options["progress"]
    opening = {"columns": options["columns"], "limit": options["limit"], "seed": seed, "progress": progress}
    sides = [open_known_images(nonmembers, "nonmembers", revision=options["source_revision"], **opening)]
    if options["members"] is not None:
        sides.append(open_known_images(options["members"], "members", **opening))
    check_enough(len(sides[0].images))
    loading = {name: options[name] for name in ("device", "dtype", "revision", "base", "reference_models")}
    loaded = load_model(model, **loading)
    base_given = True if options["base"] is not None else None
    configured = requested_attack(attack, loaded, base_given=base_given) or default_verdict_attack(loaded, base_given=base_given)
    configured.check(loaded, None)
    sides[0] = replace(sides[0], origin=described(loaded, configured, sides[0].origin, sides[0].drawn_from))
    images = prepare(loaded.info, *sides, captions=options["captions"], made_after=_date(options["made_after"]), progress=progress)
    caveats = tuple(dict.fromkeys((*images.origin.caveats, *options["caveats"])))
    origin = images.origin.model_copy(update={"stated": " ".join(options["stated"].split()), "caveats": caveats})
    images = PreparedImages(images.known, images.ids, origin, images.members_origin, images.problems)
    check_enough(int((images.known.is_member == 0).sum()))
    id = reference_id(loaded, configured, images.known, images.ids, seed)
    return BuildPlan(loaded, configured, images, seed, id)


def _date(value: str | date | None) -> date | None:
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise SplitError(f"made_after must be a date such as 2024-05-31; got {value!r}.") from None


def cost_text(model: DiffusionModel, attack: Attack, images: int, *, has_members: bool, caption: Any = None) -> str:
    """Return what a reference costs, in words: "2,000 images × 26 queries, about 9 minutes here". It takes two forward passes to tell.

    Args:
        model, attack: that are run.
        images: number of images that are scored.
        has_members: whether there are known members among them.
        caption: a condition of the model; see `seconds_per_query`.
    """
    per_image = queries_per_image(attack, model, has_members=has_members)
    return f"{images:,} images × {per_image} queries, about {duration(images * per_image * seconds_per_query(model, caption))} here"


def seconds_per_query(model: DiffusionModel, caption: Any = None) -> float:
    """Return the seconds of one forward pass for one image, measured after one to warm up.

    Args:
        model: that is queried.
        caption: the condition; an empty one, or the first class, by default.
    """
    rows = min(MOST_PROBED, default_rows(model))
    x = torch.zeros(rows, *model.info.sample_shape, device=model.device, dtype=model.dtype)
    t = torch.full((rows,), model.info.num_train_timesteps // 10, device=model.device)
    if caption is None:
        caption = 0 if model.info.conditioning == "class" else ""
    condition = model.condition(None if model.info.conditioning == "none" else [caption] * rows)

    def query() -> None:
        with torch.no_grad():
            model.predict_noise(x, t, condition)

    query()
    return measured_seconds(query, model.device) / rows
