"""Text about benchmarks: the list, the page of one, and a run's figures beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mia_hub.auditing.published_settings.image_source import DEMO, ImageSource
from mia_hub.auditing.published_settings.setting import Benchmark, PlannedAttack, PublishedFigure
from mia_hub.metrics.estimates import Estimate
from mia_hub.rendering.markdown import markdown_table
from mia_hub.rendering.text import MISSING, Rows

if TYPE_CHECKING:
    from mia_hub.auditing.published_settings.run import BenchmarkRun

NOT_COMPUTED = "not computed"
METRICS = {"auc": "AUC", "asr": "ASR", "tpr_at_1_fpr": "TPR@1%FPR"}
RUNS = {"package": "yes", "hub": "with the Hub", "elsewhere": "with the Hub and --model", "train": "with the Hub and --model"}
AVAILABLE = {
    "package": "comes with the package",
    "hub": "public on the Hub",
    "elsewhere": "public, in a form that has to be converted first",
    "train": "not public: it was trained on just these members, and has to be trained again",
}
POSITIVE = {"members": "members", "nonmembers": "**non-members**", "not stated": "not stated"}


def list_text(benchmarks: Sequence[Benchmark]) -> str:
    """Return a table of benchmarks for a terminal."""
    headers = ("name", "model", "members / others", "runs here?", "computed?")
    rows = [(b.name, b.model.name, b.sizes, RUNS[b.model.available], computed_attacks(b)) for b in benchmarks]
    widths = [max(map(len, column)) for column in zip(headers, *rows)]
    rule = tuple("-" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (headers, rule, *rows)]
    return "\n".join([*lines, "", "'mia-hub benchmark show NAME' says what each is, what was published, and what is not verified."])


def computed_attacks(benchmark: Benchmark) -> str:
    """Return the names of the attacks whose figures are in the repository."""
    return ", ".join(benchmark.computed) or NOT_COMPUTED


def show_markdown(benchmark: Benchmark) -> str:
    """Return the page of one benchmark."""
    b = benchmark
    parts = [f"# {b.title}", "", _status(b), ""]
    facts = [
        ["Name", f"`{b.name}`"],
        ["Model", f"{b.model.name} ({b.model.family}); {AVAILABLE[b.model.available]}"],
        ["Hub id, revision", f"{_id(b.model.id)}, {_revision(b.model.revision)}" if b.model.available == "hub" else "none"],
        ["Condition", f"{b.model.conditioning}: {b.condition}"],
        ["Images", f"{b.resolution} x {b.resolution}. {b.preprocessing}"],
        ["Members / non-members", b.sizes],
        ["Distribution shift", f"{ {True: 'known', False: 'none expected', None: 'not known'}[b.shift.known] }. {b.shift.note}"],
    ]
    parts += [markdown_table(("", ""), facts, raw=True), ""]
    for title, source in (("Members", b.members), ("Non-members", b.nonmembers)):
        parts += [f"## {title}", "", *_source(source), ""]
    parts += _model(b)
    parts += ["## Attacks", "", *(f"- {_attack(planned)}" for planned in b.attacks), ""]
    parts += ["The timestep and the threshold are chosen on one half of the images, and everything is reported on the other half.", ""]
    parts += ["## What was published", "", *_published(b.published), ""]
    parts += ["## What we computed", "", *_computed(b), ""]
    if b.notes:
        parts += ["## What is not verified, and what else to know", "", *(f"- {note}" for note in b.notes), ""]
    parts += ["## Run it", "", "```", _command(b), "```"]
    return "\n".join(parts)


def _status(b: Benchmark) -> str:
    done = f"Computed here: {computed_attacks(b)}." if b.computed else "**Not computed here.**"
    runs = {
        "package": "It runs as it is, without network or GPU.",
        "hub": "It runs on a machine that reaches the Hub; a GPU makes it bearable.",
        "elsewhere": "It runs with access to the Hub's data sets and a converted model (`--model`).",
        "train": "It runs with access to the Hub's data sets and a model trained on exactly these members (`--model`).",
    }[b.model.available]
    return f"{done} {runs}"


def _id(name: str | None) -> str:
    return f"`{name}`"


def _revision(revision: str | None) -> str:
    return f"revision `{revision}`" if revision else "revision not pinned: the newest commit is resolved when run, and recorded"


def _source(source: ImageSource) -> list[str]:
    if source.dataset == DEMO:
        return [f"The {source.count:,} images of the split `{source.split}` that come with the package."]
    config = f", configuration `{source.config}`" if source.config else ""
    lines = [f"- Data set {_id(source.dataset)}{config}, split `{source.split}`; {_revision(source.revision)}."]
    if source.files:
        lines.append(f"- Files: {', '.join(map(_id, source.files))}.")
    columns = {
        "images": source.image_column,
        "addresses": source.url_column,
        "captions": source.caption_column,
        "classes": source.class_column,
    }
    parts = [f"{what} in {' or '.join(map(_id, names))}" for what, names in columns.items() if names]
    if source.class_pattern:
        parts[-1] += f", by the pattern `{source.class_pattern}`"
    lines.append(f"- Columns: {', '.join(parts)}.")
    n = f"{source.pool:_}" if source.pool else f"{source.rows:_}" if source.rows else "number_of_rows"
    order, part = f"numpy.random.default_rng({source.seed}).permutation({n})", f"[{source.first}:{source.first + source.count}]"
    taken_out = [f"rows without {condition}" for condition in source.where]
    if source.per_class:
        taken_out.append(f"all beyond the first {source.per_class} of a class")
    drawn = f"`{part}` of `{order}`, once {', then '.join(taken_out)} are taken out of it" if taken_out else f"`{order}{part}`"
    lines.append(f"- Rows: {drawn}." + (f" Only the first {source.pool:,} rows are drawn from." if source.pool else ""))
    if source.url_column:
        size = f" Files below {source.min_bytes:,} bytes count as missing." if source.min_bytes else ""
        how = "replaced by the next of the draw" if source.replace_missing else "missing from the count"
        lines.append(f"- The images are fetched by their addresses. Those that can't be had are counted by reason, and {how}.{size}")
    return lines


def _model(b: Benchmark) -> list[str]:
    parts = ["## Model", ""]
    if b.model.note:
        parts += [b.model.note, ""]
    if b.model.recipe:
        parts += ["Recipe:", "", *(f"- {name.replace('_', ' ')}: {value}" for name, value in b.model.recipe.items()), ""]
    elif b.model.available == "train":
        parts += ["No recipe is known.", ""]
    return parts if len(parts) > 2 else []


def _attack(planned: PlannedAttack) -> str:
    settings = [f"{name} {_values(value)}" for name, value in planned.parameters.items()]
    attack = planned.build()
    if "timesteps" not in planned.parameters:
        settings.append(f"timesteps {_values(attack.timesteps)} (its default)")
    return f"`{planned.name}`: {', '.join(settings)}; {attack.queries_per_image} queries per image"


def _values(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    evenly = all(isinstance(v, int) for v in value) and len({later - earlier for earlier, later in pairwise(value)}) == 1
    if len(value) > 3 and evenly:
        return f"{value[0]}, {value[1]}, …, {value[-1]}"
    return ", ".join(map(str, value))


def _published(published: Sequence[PublishedFigure]) -> list[str]:
    if not published:
        return ["No figures are known to us."]
    rows: Rows = [
        [f"`{p.attack}`", METRICS[p.metric], _digits(p.value), POSITIVE[p.positive], p.selection, p.source, p.note] for p in published
    ]
    table = markdown_table(("attack", "figure", "value", "positive class", "timestep chosen on", "source", "caution"), rows, raw=True)
    caution = (
        "None of these was computed by us. An AUC doesn't depend on which class counts as positive, if the score is turned with it; a TPR "
        "at a low FPR does. A timestep chosen on the reported images makes a figure optimistic."
    )
    return [table, "", caution]


def _digits(value: float) -> str:
    """Return a figure as published: with three decimals, or four where there are four."""
    return f"{value:.4f}".removesuffix("0")


def _computed(b: Benchmark) -> list[str]:
    if not b.computed:
        return ["Nothing yet: no result of this setting is in the repository."]
    rows = []
    for attack, report in b.computed.items():
        size = f"{report['auc']['n_members']:,} / {report['auc']['n_nonmembers']:,}"
        figures = [_estimate(values) for values in (report["auc"], report["tpr_at_fpr"].get("0.01"), report["blind_auc"])]
        rows.append([f"`{attack}`", str(report["selection"]["timestep"]), size, *figures])
    table = markdown_table(("attack", "t", "reported on", "AUC", "TPR@1%FPR", "blind AUC"), rows, raw=True)
    return [table, "", "95 % intervals in brackets; members are positive. The blind classifier never sees the model."]


def _estimate(values: dict[str, Any] | None) -> str:
    return MISSING if values is None else str(Estimate(**values))


def _command(b: Benchmark) -> str:
    model = "" if b.model.id else " --model YOUR_MODEL"
    return f"mia-hub benchmark run {b.name}{model} --out runs/{b.name}"


def run_markdown(run: BenchmarkRun) -> str:
    """Return a run's figures beside the published ones, and what it was computed on."""
    b, comparison = run.benchmark, run.comparison
    parts = [f"# Benchmark {b.name}: {b.title}", ""]
    if not run.complete:
        parts += [f"**Not the setting's row:** at most {run.limit:,} members and non-members were used, of {b.sizes}.", ""]
    if run.model_given:
        parts += [
            f"The model `{comparison.model['id']}` was given. That it was trained on just these members is taken on trust.",
            "",
        ]
    for title, draw in (("Members", run.drawn.members), ("Non-members", run.drawn.nonmembers)):
        at = f" at commit `{draw.commit}`" if draw.commit else ""
        parts.append(f"- {title}: {draw.source}{at}: {draw}.")
    rows = []
    for row in comparison.rows:
        name = row.label.partition(":")[0]
        others = [_digits(p.value) + (f" ({p.note})" if p.note else "") for p in b.published if p.attack == name and p.metric == "auc"]
        tpr = row.report.tpr_at_fpr.get(0.01)
        rows.append([f"`{row.label}`", str(row.report.auc), str(tpr or MISSING), "; ".join(others) or MISSING])
    blind = comparison.blind_auc
    parts += ["", markdown_table(("attack", "AUC", "TPR@1%FPR", "published AUC"), rows, raw=True), ""]
    parts.append(f"A blind classifier, which never sees the model, has AUC {blind}." if blind else "The blind classifier was not run.")
    return "\n".join(parts)
