"""Published settings, one declarative file each, and one command that computes the row of any of them."""

from mia_hub.auditing.published_settings.setting import Benchmark, list_benchmarks, load_benchmark
from mia_hub.auditing.published_settings.validation import BenchmarkError

__all__ = ["Benchmark", "BenchmarkError", "list_benchmarks", "load_benchmark"]
