"""From embedded images to the report: nearest training images, what is called a copy, the control, and what the reader must know."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from mia_hub.copying.contact_sheet import SHOWN, contact_sheet
from mia_hub.copying.embedding import PROGRESS_DELAY_SECONDS, EmbeddedImages
from mia_hub.copying.known_figures import known_figures
from mia_hub.copying.nearest import Neighbours, Vectors, nearest
from mia_hub.copying.options import CopyOptions, smallest_null
from mia_hub.copying.report import CopiedImage, CopyPair, CopyReport, Verdict
from mia_hub.copying.statistic import Control, Share, copy_p_values, fewest_copies, measure_control, null_needed, q_values, ratios
from mia_hub.images.image import InputImage
from mia_hub.references.record import SourceRecord
from mia_hub.system.provenance import provenance


@dataclass(frozen=True, eq=False)
class Search:
    """The comparison of generated images with training images.

    Attributes:
        generated, training, nonmembers: the images; training images and non-members without repetitions, the latter None where none are
            known.
        neighbours: number of training images in the mean of the statistic.
        rate: of false discoveries.
        seed: of the draw of the control's images.
        progress: shows progress bars.
    """

    generated: EmbeddedImages
    training: EmbeddedImages
    nonmembers: EmbeddedImages | None
    neighbours: int
    rate: float
    seed: int
    progress: bool

    def among(self, images: EmbeddedImages, training: EmbeddedImages, what: str) -> Neighbours:
        """Return the nearest of some training images, or of what stands for them: as many as the statistic takes."""
        return nearest(self._shown(images, what), training, min(self.neighbours, len(training)))

    def control(self, largest_called: float) -> Control | None:
        """Return the control; None where there are too few non-members for one.

        Args:
            largest_called: the largest p-value that was called a copy; 0 if none was.
        """
        unseen = self.nonmembers
        if unseen is None or len(unseen) < smallest_null(self.rate):
            return None
        # As many in the place of the training images as there are of these, if half of the non-members is enough.
        order = np.random.default_rng(self.seed).permutation(len(unseen))
        count = min(len(self.training), len(unseen) // 2)
        stand_ins, null = (unseen.select(np.sort(part)) for part in (order[:count], order[count:]))
        statistics, of_null = (ratios(self.among(part, stand_ins, "the control").distances) for part in (self.generated, null))
        return measure_control(statistics, of_null, count, rate=self.rate, largest_called=largest_called)

    def _shown(self, images: EmbeddedImages, what: str) -> Iterator[Vectors]:
        with tqdm(total=len(images), unit="image", desc=what, delay=PROGRESS_DELAY_SECONDS, disable=not self.progress) as bar:
            for block in images.queries():
                yield block
                bar.update(len(block))


def search(
    generated: EmbeddedImages,
    training: EmbeddedImages,
    nonmembers: EmbeddedImages | None,
    *,
    images: tuple[Sequence[InputImage], Sequence[InputImage]],
    embedder: str,
    options: CopyOptions,
    described: dict[str, Any],
) -> CopyReport:
    """Search for copies, and return the report.

    Args:
        generated, training, nonmembers: as of `Search`.
        images: the generated and the training images, for the contact sheet.
        embedder: identity of the embedder.
        options: of the search.
        described: what is recorded of model, sampling and sources; see `mia_hub.copying.finding`.
    """
    rate, seed = options["rate"], options["seed"]
    comparison = Search(generated, training, nonmembers, options["neighbours"], rate, seed, options["progress"])
    own = comparison.among(generated, training, "nearest training images")
    of_null = None if nonmembers is None else comparison.among(nonmembers, training, "those of the non-members")
    statistics = ratios(own.distances)
    p_values = None if of_null is None else copy_p_values(statistics, ratios(of_null.distances))
    adjusted = None if p_values is None else q_values(p_values)
    called = np.zeros(len(generated), bool) if adjusted is None else adjusted <= rate
    control = comparison.control(float(p_values[called].max()) if p_values is not None and called.any() else 0.0)
    pairs = _pairs(generated, training, own, statistics, p_values, adjusted, called)
    verdict, reason = _verdict(called, p_values, 0 if nonmembers is None else len(nonmembers), control, rate)
    origins: dict[str, SourceRecord | None] = {name: described[name] for name in ("training", "nonmembers")}
    sampled = described["sampling"] | ({"precision": described["precision"]} if described["precision"] else {})
    shown = [(images[0][pair.rows[0]], images[1][int(training.rows[pair.rows[1]])], pair) for pair in pairs[:SHOWN]]
    return CopyReport(
        verdict=verdict,
        reason=reason,
        copies=Share.of(int(called.sum()), len(generated)),
        pairs=pairs,
        copied=_copied(training, own.rows[called, 0]),
        control=control,
        figures=known_figures(training, generated, own, of_null),
        rate=rate,
        fewest=None if nonmembers is None else fewest_copies(len(generated), len(nonmembers), rate),
        null_needed=max(smallest_null(rate), null_needed(len(generated), rate, 1)),
        neighbours=own.rows.shape[1],
        embedder=embedder,
        generated={"n": len(generated), "given": described["model"] is None or options["generated"] is not None},
        training=_side(training, origins["training"]),
        nonmembers=_side(nonmembers, origins["nonmembers"]),
        model=described["model"],
        notes=_notes(comparison, of_null, described),
        provenance=provenance(seed=seed, **sampled),
        sheet=contact_sheet([(left, right, pair.ratio, pair.q_value, pair.is_copy) for left, right, pair in shown]),
    )


def _pairs(
    generated: EmbeddedImages,
    training: EmbeddedImages,
    own: Neighbours,
    statistics: npt.NDArray[np.float64],
    p_values: npt.NDArray[np.float64] | None,
    adjusted: npt.NDArray[np.float64] | None,
    called: npt.NDArray[np.bool_],
) -> tuple[CopyPair, ...]:
    """Return all pairs, those most like copies first."""
    order = np.lexsort((own.distances[:, 0], statistics)).tolist()
    return tuple(
        CopyPair(
            generated=generated.names[row],
            training=training.names[place],
            training_id=training.ids[place],
            distance=float(own.distances[row, 0]),
            ratio=float(statistics[row]),
            p_value=None if p_values is None else float(p_values[row]),
            q_value=None if adjusted is None else float(adjusted[row]),
            is_copy=bool(called[row]),
            rows=(row, place),
        )
        for row in order
        for place in [int(own.rows[row, 0])]
    )


def _copied(training: EmbeddedImages, places: npt.NDArray[np.int64]) -> tuple[CopiedImage, ...]:
    """Return the training images at some places, with the number of times that each place is there."""
    counts = sorted(Counter(places.tolist()).items(), key=lambda item: (-item[1], item[0]))
    return tuple(CopiedImage(training.names[place], training.ids[place], count, int(training.repeats[place])) for place, count in counts)


def _verdict(
    called: npt.NDArray[np.bool_], p_values: npt.NDArray[np.float64] | None, null: int, control: Control | None, rate: float
) -> tuple[Verdict, str]:
    """Return the verdict, and the reason where nothing can be told."""
    needed = smallest_null(rate)
    if null == 0:
        reason = f"no images are known that the model was certainly not trained on; give {needed} or more of the same kind as --nonmembers"
        return "cannot tell", reason
    if control is None:
        return "cannot tell", f"{null} non-members are too few to call anything a copy and to control it; give {needed} or more"
    if not control.fits:
        return "cannot tell", (
            f"the control fails: the generated images are also nearer to {control.n_training:,} images that the model has never seen than "
            "other such images are, so nearness to the training images is no sign of copying. Images that are blander than real ones can "
            "be the cause; try more steps, another embedder, or non-members that are more like the training images"
        )
    if called.any():
        return "copies", ""
    # Images nearer than the whole null set may be copies that are too few to be told from chance.
    nearer = 0 if p_values is None else int(np.sum(p_values == 1 / (null + 1)))
    fewest = fewest_copies(len(called), null, rate)
    if nearer and fewest > 1:
        return "cannot tell", (
            f"{nearer:,} of them are nearer than all {null:,} non-members, and it takes {fewest:,} to tell copies from chance; give more "
            f"non-members ({null_needed(len(called), rate, 1):,} for a single copy)"
        )
    return "no copies found", ""


def _side(images: EmbeddedImages | None, origin: SourceRecord | None) -> dict[str, Any]:
    """Return what the report says of the training images, or of the non-members."""
    if images is None or origin is None:
        return {"description": "none", "n": 0, "n_distinct": 0}
    record = {"description": origin.description, "n": len(images.all_ids), "n_distinct": len(images)}
    return record | ({"revision": origin.revision} if origin.revision else {})


def _notes(comparison: Search, of_null: Neighbours | None, described: dict[str, Any]) -> tuple[str, ...]:
    """Return what the reader must know of this search, one sentence each."""
    training, generated = comparison.training, len(comparison.generated)
    notes = [note for name in ("training", "nonmembers") if described[name] is not None for note in described[name].notes]
    if len(training) < len(training.all_ids):
        notes.append(
            f"{len(training.all_ids) - len(training):,} of the {len(training.all_ids):,} training images repeat another one; each image "
            "was searched once."
        )
    if described["sampling"].get("prompts") == "empty":
        notes.append("The model was sampled with empty prompts; with the captions of training images it may copy more.")
    if of_null is not None:
        same = int((of_null.distances[:, 0] == 0).sum())
        if same:
            notes.append(f"{same:,} non-members lie at distance 0 from a training image; are they certainly not in the training set?")
        fewest = fewest_copies(generated, len(of_null.rows), comparison.rate)
        if fewest > 1:
            n, m, most = generated, len(of_null.rows), math.floor((len(of_null.rows) + 1) * comparison.rate)
            notes.append(
                f"With {m:,} non-members, fewer than {fewest:,} copies among {n:,} images can't be told from chance. A single copy can "
                f"with {null_needed(n, comparison.rate, 1):,} non-members" + (f", or among at most {most:,} images." if most else ".")
            )
    return tuple(notes)
