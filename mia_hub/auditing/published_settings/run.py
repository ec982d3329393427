"""One command, one row: a benchmark's images, its model and its attacks through `mia_hub.compare`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mia_hub.auditing.compare import compare
from mia_hub.auditing.comparison import Comparison
from mia_hub.auditing.published_settings.reading import BenchmarkError
from mia_hub.auditing.published_settings.setting import Benchmark, load_benchmark
from mia_hub.auditing.published_settings.sources import Drawn, Opened
from mia_hub.models.loading import load_model
from mia_hub.models.protocol import DiffusionModel, ModelInfo
from mia_hub.system.files import write_output


@dataclass(frozen=True)
class BenchmarkRun:
    """What a run of a benchmark found, and what it was run on.

    Attributes:
        benchmark: the setting.
        comparison: its figures.
        drawn: the images.
        limit: at most so many of each side, or None for all of the setting.
        model_given: whether another model than the setting's own was named; that it was trained on just these members is taken on trust.
    """

    benchmark: Benchmark
    comparison: Comparison
    drawn: Drawn
    limit: int | None
    model_given: bool

    @property
    def complete(self) -> bool:
        """Whether all of the setting was run: every image that it asks for, or as many as its addresses still give."""
        return self.limit is None or self.limit >= max(self.benchmark.members.count, self.benchmark.nonmembers.count)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values: what was run on what; the figures are those of the comparison."""
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


def run_benchmark(benchmark: str | Path | Benchmark, **options) -> Comparison:
    """Computes a benchmark's row; the arguments are those of `run_and_tell`, which also says what it was computed on."""
    return run_and_tell(benchmark, **options).comparison


def run_and_tell(
    benchmark: str | Path | Benchmark,
    *,
    model: str | DiffusionModel | None = None,
    revision: str | None = None,
    limit: int | None = None,
    folder: str | Path | None = None,
    cache: str | Path | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    device=None,
    dtype=None,
    progress: bool = True,
) -> BenchmarkRun:
    """Computes a benchmark's row: timesteps and thresholds are chosen on the calibration part, captions and classes are the data set's.

    Args:
        benchmark: a name of `list_benchmarks`, a .json file of one's own, or a Benchmark.
        model: in place of the setting's own; needed where that isn't public. It must have been trained on just the setting's members.
        revision: of the model; by default the setting's.
        limit: at most so many members and non-members, the first of each draw. It is then not the setting's row, and says so.
        folder: where `mia_hub.compare` keeps what is finished, and ``benchmark.json`` says what it was computed on.
        cache: folder for the drawn images, see `mia_hub.auditing.published_settings.sources.Opened`.
        batch_size, seed, device, dtype, progress: as for `mia_hub.compare`; the draw has a seed of its own, in the setting.

    Raises:
        BenchmarkError: if the setting isn't there, needs a model, or got one that doesn't fit it.
        MiaHubError: as `mia_hub.compare`, and for data sets that can't be read.
    """
    benchmark = benchmark if isinstance(benchmark, Benchmark) else load_benchmark(benchmark)
    attacks = [planned.build() for planned in benchmark.attacks]
    named = getattr(getattr(model, "info", None), "id", model)
    given = model is not None and named != benchmark.model.id
    if model is None and benchmark.model.id is None:
        raise BenchmarkError(_why_a_model_is_needed(benchmark))
    opened = Opened(benchmark, limit=limit, cache=cache)
    if revision is None and named in (None, benchmark.model.id) and not hasattr(model, "info"):
        revision = benchmark.model.revision
    model = load_model(benchmark.model.id if model is None else model, device=device, dtype=dtype, revision=revision)
    check_fit(benchmark, model.info)
    drawn = opened.draw(progress=progress)
    comparison = compare(
        model, drawn.split, attacks, selection="calibration", captions="split", batch_size=batch_size, seed=seed, folder=folder,
        progress=progress,
    )  # fmt: skip
    run = BenchmarkRun(benchmark, comparison, drawn, limit, given)
    if folder is not None:
        write_output(Path(folder) / "benchmark.json", json.dumps(run.to_dict(), indent=2))
    return run


def check_fit(benchmark: Benchmark, info: ModelInfo) -> None:
    """Refuses a model that the setting can't be about.

    Raises:
        BenchmarkError: for another conditioning or resolution.
    """
    asked = benchmark.model.conditioning
    if info.conditioning != asked:
        raise BenchmarkError(
            f"The benchmark {benchmark.name} is of a model conditioned on {asked!r}, and {info.id} is conditioned on "
            f"{info.conditioning!r}. Name the model that was trained for it."
        )
    height, width = info.picture_shape[1:]
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
