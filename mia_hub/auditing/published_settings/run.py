"""One command, one row: a benchmark's images, its model and its attacks through `mia_hub.compare`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Unpack

from mia_hub.auditing.compare import compare
from mia_hub.auditing.comparison import Comparison
from mia_hub.auditing.options import QueryOptions
from mia_hub.auditing.published_settings.drawing import DrawnSplit, OpenBenchmark
from mia_hub.auditing.published_settings.setting import Benchmark, load_benchmark
from mia_hub.auditing.published_settings.validation import BenchmarkError
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel, ModelInfo
from mia_hub.models.repository import is_hub_id
from mia_hub.system.files import write_output
from mia_hub.system.signatures import Default, with_options
from mia_hub.system.spellings import present_ids


class BenchmarkOptions(QueryOptions, total=False):
    """Options of a benchmark's run; see `run_benchmark`."""

    model: Annotated[str | DiffusionModel | None, Default(None)]
    limit: Annotated[int | None, Default(None)]
    folder: Annotated[str | Path | None, Default(None)]
    cache: Annotated[str | Path | None, Default(None)]


@dataclass(frozen=True)
class BenchmarkRun:
    """The result of a benchmark, and what it was computed on.

    Attributes:
        benchmark: the setting.
        comparison: its figures.
        drawn: the images.
        limit: at most this many of each side, or None for all of the setting.
        model_given: whether another model than the setting's own was given; that it was trained on just these members is taken on trust.
    """

    benchmark: Benchmark
    comparison: Comparison
    drawn: DrawnSplit
    limit: int | None
    model_given: bool

    @property
    def complete(self) -> bool:
        """Whether all of the setting was run: every image that it asks for, or as many as its addresses still give."""
        return self.limit is None or self.limit >= max(self.benchmark.members.count, self.benchmark.nonmembers.count)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values: what was run on what; the figures are those of the comparison."""
        return {
            "benchmark": self.benchmark.name,
            "complete": self.complete,
            "limit": self.limit,
            "members": self.drawn.members.to_dict(),
            "nonmembers": self.drawn.nonmembers.to_dict(),
            "model": self.comparison.model,
            "model_given": self.model_given,
            "split": self.comparison.split,
            "setting": self.benchmark.to_dict(),
        }


@with_options
def run_benchmark(benchmark: str | Path | Benchmark, **options: Unpack[BenchmarkOptions]) -> Comparison:
    """Compute a benchmark's row: timesteps and thresholds are chosen on the calibration part, captions and classes are the data set's.

    Args:
        benchmark: a name of `list_benchmarks`, a .json file of one's own, or a Benchmark.
        model: in place of the setting's own; needed where that isn't public. It must have been trained on just the setting's members.
        revision: of the model; by default the setting's.
        limit: at most this many members and this many non-members, the first of each draw. The result is then not the setting's row, and
            says so.
        folder: where `mia_hub.compare` stores what is finished, and ``benchmark.json`` says what it was computed on.
        cache: folder for the drawn images, see `mia_hub.auditing.published_settings.drawing.OpenBenchmark`.
        batch_size, seed, device, dtype, progress: as for `mia_hub.compare`; the draw has a seed of its own, in the setting.

    Raises:
        BenchmarkError: if the setting doesn't exist, needs a model, or got one that doesn't fit it.
        MiaHubError: as `mia_hub.compare`, and for data sets that can't be read.
    """
    return benchmark_run(benchmark, **options).comparison


@with_options
def benchmark_run(benchmark: str | Path | Benchmark, **options: Unpack[BenchmarkOptions]) -> BenchmarkRun:
    """Compute a benchmark's row like `run_benchmark`, and return what it was computed on, too."""
    setting = benchmark if isinstance(benchmark, Benchmark) else load_benchmark(benchmark)
    attacks = [planned.build() for planned in setting.attacks]
    model, revision = options["model"], options["revision"]
    model_id = model if model is None or isinstance(model, str) else model.info.id
    if model is None and setting.model.id is None:
        raise BenchmarkError(_why_a_model_is_needed(setting))
    opened = OpenBenchmark(setting, limit=options["limit"], cache=options["cache"])
    is_own = model_id is None or is_same_model(model_id, setting.model.id)
    if model is None or isinstance(model, str):
        if revision is None and is_own:
            revision = setting.model.revision
        model = setting.model.id if model is None else model
    loaded = load_model(model, device=options["device"], dtype=options["dtype"], revision=revision)
    check_fit(setting, loaded.info)
    drawn = opened.draw(progress=options["progress"])
    comparison = compare(
        loaded, drawn.split, attacks, batch_size=options["batch_size"], seed=options["seed"], folder=options["folder"],
        progress=options["progress"],
    )  # fmt: skip
    run = BenchmarkRun(setting, comparison, drawn, options["limit"], not is_own)
    if options["folder"] is not None:
        write_output(Path(options["folder"]) / "benchmark.json", json.dumps(run.to_dict(), indent=2))
    return run


def is_same_model(given: str, own: str | None) -> bool:
    """Whether a model is a setting's own: by its name, also in another case or as it was before the model was renamed.

    Args:
        given: name of the model.
        own: that of the setting; None for one that isn't public.
    """
    if own is None or given == own or not is_hub_id(given) or not is_hub_id(own):
        return given == own
    return given.lower() == own.lower() or len(present_ids([given, own], ("model",))) == 1


def check_fit(benchmark: Benchmark, info: ModelInfo) -> None:
    """Refuse a model that the setting can't be about.

    Raises:
        BenchmarkError: for another conditioning or resolution.
    """
    conditioning = benchmark.model.conditioning
    if info.conditioning != conditioning:
        raise BenchmarkError(
            f"The benchmark {benchmark.name} is of a model conditioned on {conditioning!r}, and {info.id} is conditioned on "
            f"{info.conditioning!r}. Name the model that was trained for it."
        )
    height, width = (info.picture_shape or info.sample_shape)[1:]
    if (height, width) != (benchmark.resolution, benchmark.resolution):
        raise BenchmarkError(
            f"The benchmark {benchmark.name} is of images of {benchmark.resolution} x {benchmark.resolution}, and {info.id} takes "
            f"{height} x {width}. Name the model that was trained for it."
        )


def _why_a_model_is_needed(benchmark: Benchmark) -> str:
    target = benchmark.model
    if target.available == "train":
        return (
            f"The model of {benchmark.name} isn't public: {target.name} was trained on just these {benchmark.members.count:,} members. "
            f"Train one on exactly them and give it with --model; 'mia-hub benchmark show {benchmark.name}' has the recipe, and says which "
            "rows they are."
        )
    return (
        f"The model of {benchmark.name}, {target.name}, is public, but in no form that can be loaded by name. Convert it to diffusers' "
        f"layout with safetensors weights and give the folder with --model; 'mia-hub benchmark show {benchmark.name}' says where it is."
    )
