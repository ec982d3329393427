"""A benchmark as its file states it: images, model, attacks, what was published, what was computed, and what is not known."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mia_hub.auditing.published_settings.image_source import DEMO, ImageSource
from mia_hub.auditing.published_settings.validation import BenchmarkError, Stated, read_json, validate
from mia_hub.defaults import PACKAGE_FOLDER
from mia_hub.rendering.suggestions import did_you_mean
from mia_hub.system.validation import FROM_LIST

if TYPE_CHECKING:
    from mia_hub.attacks import Attack

SETTINGS = Path(__file__).parent / "settings"
# Before the name of a setting, where it stands for its images.
BENCHMARK = "benchmark:"


class TargetModel(Stated):
    """The model that is attacked.

    Attributes:
        name: what it is called in tables.
        available: "package" (comes with mia_hub), "hub", "elsewhere" (public, in a form that has to be converted first), or "train" (its
            owners trained it on just these members and didn't publish it: it has to be trained by the recipe).
        family, conditioning: as `mia_hub.ModelInfo` calls them; a model used in its place must have this conditioning.
        id: id on the Hub, or "demo"; None where there is none.
        revision: branch, ref, tag or commit; the newest commit of main where None. Resolved when run, and recorded.
        recipe: hyperparameters of its training, with their source; None where they aren't known.
        note: what else there is to know.
    """

    name: str
    available: Literal["package", "hub", "elsewhere", "train"]
    family: Literal["pixel", "latent", "text-to-image", "flow"]
    conditioning: Literal["none", "class", "text"]
    id: str | None = None
    revision: str | None = None
    recipe: dict[str, Any] | None = None
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> TargetModel:
        has_id = self.available in ("package", "hub")
        if has_id != (self.id is not None):
            raise ValueError(f"a model that is available as {self.available!r} has {'an' if has_id else 'no'} id; got {self.id!r}.")
        if self.available == "train" and self.recipe is None and not self.note:
            raise ValueError("a model that has to be trained has a recipe, or a note that says why there is none.")
        if self.recipe is not None and not self.recipe.get("source"):
            raise ValueError("a recipe has a 'source'.")
        return self


class PlannedAttack(Stated):
    """An attack that is run.

    Attributes:
        name: as registered.
        parameters: where they differ from the attack's defaults; a grid of timesteps may be written as ``{"from", "to", "step"}``.
    """

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @field_validator("parameters")
    @classmethod
    def _expand_grids(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        return {name: _grid(name, value) for name, value in parameters.items()}

    def build(self) -> Attack:
        """Return the attack.

        Raises:
            AttackError: if there is no such attack, or it takes no such parameters.
        """
        from mia_hub.attacks import get_attack

        return get_attack(self.name, **self.parameters)


def _grid(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return tuple(value) if isinstance(value, list) else value
    if set(value) != {"from", "to", "step"} or not all(isinstance(v, int) for v in value.values()) or value["step"] < 1:
        raise ValueError(f'{name} must be a list, or a grid {{"from": 0, "to": 200, "step": 10}}; got {value!r}.')
    return tuple(range(value["from"], value["to"] + 1, value["step"]))


class KnownShift(Stated):
    """Whether members and non-members are known to differ by themselves.

    Attributes:
        known: True or False; None where nobody has said.
        note: how, or why not.
    """

    known: bool | None
    note: str


class PublishedFigure(Stated):
    """A figure that somebody published.

    Attributes:
        attack: as registered here.
        metric: "auc", "asr", or "tpr_at_1_fpr".
        value: in [0, 1].
        source: where it stands.
        positive: the class that its source counts as positive: "members", "nonmembers", or "not stated". An AUC is the same for both if
            the score is turned with the class; a TPR at a low FPR is not.
        selection: where its timestep was chosen: "reported images" (optimistic), "calibration", or "not stated".
        note: what makes it doubtful.
    """

    attack: str
    metric: Literal["auc", "asr", "tpr_at_1_fpr"]
    value: float
    source: str
    positive: Literal["members", "nonmembers", "not stated"]
    selection: Literal["reported images", "calibration", "not stated"]
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> PublishedFigure:
        if not 0 <= self.value <= 1:
            raise ValueError(f"value must lie in [0, 1]; got {self.value}.")
        if not self.source:
            raise ValueError("a published figure has a source.")
        return self


class ComputedReport(Stated):
    """An audit of ours that is among the repository's files.

    Attributes:
        attack: as registered.
        file: its report, from the package's folder on.
    """

    attack: str
    file: str


class Benchmark(Stated):
    """One published setting.

    Attributes:
        name: of its file, without the ending.
        title: for people.
        model: what is attacked.
        members, nonmembers: the images.
        resolution: side of the images in pixels, as the model gets them.
        preprocessing: what happens to an image before it reaches the model.
        condition: what a conditioned model is conditioned on.
        attacks: what is run.
        shift: whether members and non-members differ by themselves.
        centre_crop: side of the square that is cut out of an image's middle before it is resized; None for no such cut.
        published: figures of others.
        results: what we computed; see `computed`.
        notes: what is not verified, and what else there is to know.
    """

    name: str
    title: str
    model: TargetModel
    members: ImageSource
    nonmembers: ImageSource
    resolution: int
    preprocessing: str
    condition: str = Field(alias="told")
    attacks: Annotated[tuple[PlannedAttack, ...], FROM_LIST]
    shift: KnownShift
    centre_crop: int | None = None
    published: Annotated[tuple[PublishedFigure, ...], FROM_LIST] = ()
    results: Annotated[tuple[ComputedReport, ...], FROM_LIST] = ()
    notes: Annotated[tuple[str, ...], FROM_LIST] = ()

    @model_validator(mode="after")
    def _check(self) -> Benchmark:
        if not self.attacks:
            raise ValueError("attacks must name one at least.")
        names = [planned.name for planned in self.attacks]
        if len(set(names)) < len(names):
            raise ValueError(f"attacks name each attack once; got {', '.join(names)}.")
        self.members.check_disjoint(self.nonmembers)
        needed = {"text": "caption_column", "class": "class_column"}.get(self.model.conditioning)
        for part in (self.members, self.nonmembers):
            if needed and part.dataset != DEMO and not getattr(part, needed):
                raise ValueError(f"a model conditioned on {self.model.conditioning} needs a {needed} in members and nonmembers.")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; what is empty or the default is left out, but for revisions."""
        values: dict[str, Any] = _without_empty(self.model_dump(mode="json", by_alias=True, exclude={"name"}))
        return values

    @cached_property
    def computed(self) -> dict[str, dict[str, Any]]:
        """The audit reports that are there, by their attack; empty where nothing was computed."""
        files = {result.attack: PACKAGE_FOLDER / result.file for result in self.results}
        return {attack: read_json(file) for attack, file in files.items() if file.is_file()}

    @property
    def sizes(self) -> str:
        """Numbers of members and non-members, as text."""
        return f"{self.members.count:,} / {self.nonmembers.count:,}"


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        items = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if key == "revision" or item not in (None, [], {}, "")}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def list_benchmarks() -> list[str]:
    """Return the names of all published settings, sorted."""
    return sorted(path.stem for path in SETTINGS.glob("*.json"))


def load_benchmark(name: str | Path) -> Benchmark:
    """Return a benchmark by its name, or from a file of one's own.

    Raises:
        BenchmarkError: if there is none (the nearest name is suggested), or its file is wrong.
    """
    own = Path(name).suffix == ".json"
    path = Path(name) if own else SETTINGS / f"{name}.json"
    if not own and str(name) not in list_benchmarks():
        hint = did_you_mean(name, list_benchmarks())
        raise BenchmarkError(f"There is no benchmark {str(name)!r}.{hint} There are: {', '.join(list_benchmarks())}; or give a .json file.")
    return validate(Benchmark, path, name=path.stem)
