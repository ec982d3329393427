"""The way of a search for copies: images are generated and embedded, each is compared with the training images, and a report is made."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mia_hub.copying.embedders import Embedder, embedder
from mia_hub.copying.embedding import EmbeddedImages, embed
from mia_hub.copying.generating import CAPTIONS, Sampling, choose_guidance, choose_prompts, generate_images
from mia_hub.copying.options import CopyOptions, check_options
from mia_hub.copying.report import CopyReport
from mia_hub.copying.search import search
from mia_hub.errors import AttackError, MiaHubError, ModelError, SplitError
from mia_hub.images.image import InputImage
from mia_hub.references.source import KnownImages, open_known_images
from mia_hub.splits.member_split import MemberSplit
from mia_hub.splits.split_part import ColumnNames
from mia_hub.system.files import make_output_folder
from mia_hub.system.signatures import with_options

if TYPE_CHECKING:
    from mia_hub.models.protocol import DiffusionModel

DEMO = "demo"
# What is needed only until the report is there.
WORK = ".mia_hub_copies"


@with_options
def find_copies(
    model: str | DiffusionModel = DEMO, training: Any = None, nonmembers: Any = None, **options: Unpack[CopyOptions]
) -> CopyReport:
    """Find generated images that are copies of training images: does the model give its training images back?

    Each generated image is compared with its nearest training image, by the ratio of Carlini et al. 2023 (arXiv 2301.13188). It is called
    a copy if the ratio is lower than that of images that were certainly not trained on, with control of the false-discovery rate. The
    p-values hold if generated images that are no copies lie, by that ratio, at most as near to training images as the non-members do;
    a control searches for copies of some of the non-members, of which there can be none.

    Args:
        model: "demo", a folder, a Hub id, or a DiffusionModel. It is not loaded where images were generated elsewhere.
        training: the training images: a folder, a data set on the Hub, or any other form of
            `mia_hub.references.source.open_known_images`; of a split, its members. For the demo, those of its split by default.
        nonmembers: images that were certainly not trained on, of the same kind; the same forms. By default the non-members of the split
            that the training images come from; without any, the nearest pairs are reported, and nothing is called a copy.
        n: number of images to generate.
        generated: images that were generated elsewhere: a folder, or anything `mia_hub.images.sources.as_images` takes; all are used.
        embedder: in which distances are Euclidean: "pixels", "features", "denoiser", "transformers:ID" for a vision model of transformers
            with safetensors, or an object with the two members of `mia_hub.copying.embedders.Embedder`.
        neighbours: number of nearest training images in the ratio's mean; fewer where there are fewer.
        rate: of false discoveries among what is called a copy, in (0, 1).
        steps: of deterministic DDIM sampling.
        guidance: weight of classifier-free guidance; by default 7.5 for text-to-image models of the Stable Diffusion kind, otherwise 1.
        prompts: "captions" of the training images in random order (for a class-conditional model, their classes), "empty", or a list.
        limit: at most this many training images, and non-members, by a seeded draw. Copies of other training images are missed.
        image_column, caption_column, class_column: of a data set, where they don't have the usual names.
        seed: of noise, prompts, and draws.
        batch_size: images that are generated at once; halved by itself when memory runs out.
        device, dtype, revision: as for `mia_hub.load_model`.
        folder: where generated images are stored, and vectors until the report is there. A search that was interrupted resumes there.
        progress: shows progress bars.

    Returns:
        A CopyReport: ``.verdict``, ``.copies``, ``.pairs``, ``.copied``, ``.control``, ``.to_dict()``.

    Raises:
        MiaHubError: with a message for the user; what can be refused is refused before an image is generated.
    """
    check_options(options)
    inputs = _Inputs.open(model, training, nonmembers, options)
    with _work_folder(options["folder"]) as folder:
        embedded = {
            "training": embed(inputs.training.images, inputs.embedder, folder / WORK, "training", progress=options["progress"]).distinct()
        }
        if inputs.nonmembers is not None:
            unseen = embed(inputs.nonmembers.images, inputs.embedder, folder / WORK, "nonmembers", progress=options["progress"])
            embedded["nonmembers"] = unseen.distinct()
        _check(embedded)
        images = inputs.generate(folder)
        embedded["generated"] = embed(images, inputs.embedder, folder / WORK, "generated", progress=options["progress"])
        return search(
            embedded["generated"],
            embedded["training"],
            embedded.get("nonmembers"),
            images=(images, inputs.training.images),
            embedder=inputs.embedder.identity,
            options=options,
            described=inputs.described(),
        )


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What a search is made of, all checked.

    Attributes:
        training, nonmembers: the images, the latter None where none are known.
        model: None where images were generated elsewhere.
        sampling: how the model generates; None where it doesn't.
        embedder: maps images to vectors.
        options: of the search.
    """

    training: KnownImages
    nonmembers: KnownImages | None
    model: DiffusionModel | None
    sampling: Sampling | None
    embedder: Embedder
    options: CopyOptions

    @classmethod
    def open(cls, model: Any, training: Any, nonmembers: Any, options: CopyOptions) -> _Inputs:
        """Open images and model, and refuse what doesn't fit."""
        if training is None and (model != DEMO or options["generated"] is not None):
            raise SplitError("The training images are missing: give their folder or data set as --training (training=…).")
        known, unseen = _known_images(DEMO if training is None else training, nonmembers, options)
        loaded = _loaded(model, options)
        sampling = None
        if options["generated"] is None:
            assert loaded is not None
            sampling = _sampling(loaded, known, options)
        elif not isinstance(options["prompts"], str) or options["prompts"] != CAPTIONS:
            raise AttackError("prompts are for images that are generated here; leave them out for images that were generated elsewhere.")
        chosen = options["embedder"]
        if isinstance(chosen, str):
            shape = loaded.info.picture_shape if loaded is not None else _shape(known.images[0])
            chosen = embedder(chosen, model=loaded, shape=shape, device=options["device"])
        elif not (isinstance(getattr(chosen, "identity", None), str) and callable(getattr(chosen, "vectors", None))):
            raise ModelError(f"An embedder is a name, or an object with an identity and vectors(images); got {chosen!r:.80}.")
        return cls(known, unseen, loaded, sampling, chosen, options)

    def generate(self, folder: Path) -> Sequence[InputImage]:
        """Return the generated images."""
        from mia_hub.images.sources import as_images, find_images

        given = self.options["generated"]
        if given is not None:
            return as_images(find_images(given) if isinstance(given, (str, Path)) else given)
        assert self.model is not None and self.sampling is not None
        batch_size, progress = self.options["batch_size"], self.options["progress"]
        return as_images(generate_images(self.model, self.sampling, self.options["n"], folder, batch_size=batch_size, progress=progress))

    def described(self) -> dict[str, Any]:
        """Return what the report records of the inputs."""
        from mia_hub.models.precision import precision_of

        model, sampling = self.model, self.sampling
        sampled: dict[str, Any] = {} if sampling is None else {"steps": sampling.steps, "guidance": sampling.guidance}
        if sampling is not None and model is not None and model.info.conditioning != "none":
            sampled["prompts"] = (
                "empty" if sampling.prompts is None or not any(p != "" for p in sampling.prompts) else len(sampling.prompts)
            )
        return {
            "model": None if model is None else model.info.to_dict(),
            "precision": None if model is None else precision_of(model),
            "sampling": sampled,
            "training": self.training.origin,
            "nonmembers": None if self.nonmembers is None else self.nonmembers.origin,
        }


def _loaded(model: Any, options: CopyOptions) -> DiffusionModel | None:
    """Return the model, if it generates the images or embeds them."""
    from mia_hub.models.loading import load_model

    if options["generated"] is not None:
        if options["embedder"] != "denoiser":
            return None
        if isinstance(model, str) and model == DEMO:
            raise ModelError(
                "The embedder 'denoiser' needs the model that made the images, and none is named: give it as --model (model=…), or choose "
                "another embedder."
            )
    if hasattr(model, "predict_noise"):
        return load_model(model)
    return load_model(model, device=options["device"], dtype=options["dtype"], revision=options["revision"])


def _sampling(model: DiffusionModel, training: KnownImages, options: CopyOptions) -> Sampling:
    from mia_hub.attacks.nearest_generated import check_steps

    check_steps(options["steps"], model)
    captions = training.conditions(model.info.conditioning)
    prompts = choose_prompts(model, options["prompts"], captions, options["seed"])
    return Sampling(options["steps"], choose_guidance(model, options["guidance"], prompts), options["seed"], prompts)


def _known_images(training: Any, nonmembers: Any, options: CopyOptions) -> tuple[KnownImages, KnownImages | None]:
    """Return the training images, and the non-members, if any are known."""
    columns = ColumnNames(options["image_column"], options["caption_column"], options["class_column"])
    opening: dict[str, Any] = {"limit": options["limit"], "seed": options["seed"], "progress": options["progress"]}
    known = open_known_images(training, "members", columns=columns, **opening)
    if nonmembers is not None:
        return known, open_known_images(nonmembers, "nonmembers", columns=columns, **opening)
    if not isinstance(training, (str, Path, MemberSplit)):
        return known, None
    unseen = open_known_images(training, "nonmembers", columns=columns, **opening)
    # A source that doesn't tell members from non-members is described, and read, in the same way for both.
    is_split = known.origin.description.partition(" of ")[2] != unseen.origin.description.partition(" of ")[2]
    return known, unseen if is_split else None


def _check(embedded: dict[str, EmbeddedImages]) -> None:
    """Refuse training images that can't be searched, and non-members that are among them."""
    training, nonmembers = embedded["training"], embedded.get("nonmembers")
    if len(training) < 2:
        raise SplitError(
            f"A search for copies needs at least 2 different training images; to the embedder there is {len(training)}. Give more images, "
            "or choose another embedder."
        )
    known = set(training.all_ids)
    shared = [name for sample, name in zip(nonmembers.ids, nonmembers.names) if sample in known] if nonmembers is not None else []
    if shared:
        raise SplitError(
            f"{len(shared):,} of the non-members are among the training images (the first: {shared[0]}), and nothing could be told from "
            "them. Give images that were certainly not in the training set."
        )


def _shape(image: InputImage) -> tuple[int, int, int]:
    return image.pixels.shape[2], image.height, image.width


@contextmanager
def _work_folder(folder: str | Path | None) -> Iterator[Path]:
    """The folder of a search; what only the search needs is removed once it is done, and all of it where no folder was named."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="mia_hub_copies_") as temporary:
            yield Path(temporary)
        return
    make_output_folder(Path(folder))
    yield Path(folder)
    try:
        shutil.rmtree(Path(folder) / WORK)
    except OSError as error:
        raise MiaHubError(f"{Path(folder) / WORK} can't be removed ({error.strerror}); remove it by hand.") from error
