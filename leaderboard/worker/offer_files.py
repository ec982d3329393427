"""The content of the pull request by which a result is offered: evaluation results, the model's card, and a description for its owner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboard.requests.naming import ON_TOP
from leaderboard.results.board_rows import RATE, estimate_text

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Entry = Mapping[str, Any]
TASK = "membership-inference"
SOURCE = "mia_hub leaderboard"
LARGEST_CARD = 2**20


def eval_results(entry: Entry, link: str | None) -> dict[str, bytes]:
    """Return the files of ``.eval_results``, one per attack, since the Hub reads one figure of a benchmark from each."""
    import yaml  # type: ignore[import-untyped]  # ships no types
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    request, files = entry["request"], {}
    source = {"source_url": link, "source_name": SOURCE} if link else {}
    for number, row in enumerate(entry["rows"]):
        result = EvalResultEntry(
            dataset_id=request["split"], task_id=TASK, value=row["auc"]["value"], dataset_revision=request["split_revision"],
            date=str(entry["provenance"].get("created", "")) or None, notes=_notes(entry, row), **source,
        )  # fmt: skip
        content = yaml.safe_dump(eval_result_entries_to_yaml([result]), sort_keys=False, allow_unicode=True, width=1000)
        files[f".eval_results/mia_hub_{entry['id']}_{number:02d}.yaml"] = content.encode()
    return files


def _notes(entry: Entry, row: Mapping[str, Any]) -> str:
    tpr = row["tpr_at_fpr"].get(RATE)
    further = f"; TPR at 1 % FPR {estimate_text(tpr)}" if tpr else ""
    return (
        f"AUC of the attack {row['attack']}, {estimate_text(row['auc'])}{further}. A high value means that the model leaks which images it "
        f"was trained on; members are the positive class; 95 % intervals; timestep {row['timestep']}, chosen on one half of the images and "
        f"reported on the other. Model: {entry['request']['model']} at {entry['request']['revision']}."
    )


def model_index(entry: Entry, link: str | None) -> list[dict[str, Any]]:
    """Return the results of a ``model-index``: AUC, and TPR at 1 % FPR where it was measured, of each attack."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    request = entry["request"]
    about = {
        "task_type": TASK,
        "task_name": "Membership inference (higher = leaks more)",
        "dataset_type": request["split"],
        "dataset_name": request["split"],
        "dataset_revision": request["split_revision"],
    } | ({"source_name": SOURCE, "source_url": link} if link else {})
    results = []
    for row in entry["rows"]:
        for kind, name, figure in (("roc_auc", "AUC", row["auc"]), ("tpr", "TPR at 1 % FPR", row["tpr_at_fpr"].get(RATE))):
            if figure is not None:
                metric = {"metric_type": kind, "metric_name": f"{name} of {row['attack']}", "metric_value": figure["value"]}
                results.append(EvalResult(**about, **metric, metric_args={"low_95": figure["low"], "high_95": figure["high"]}))
    index: list[dict[str, Any]] = eval_results_to_model_index("", results)[0]["results"]
    return index


def card_with_results(api: HfApi, repo_id: str, revision: str | None, entry: Entry, link: str | None) -> bytes | None:
    """Return the model's card with our results in its metadata; None for one that can't be changed without doing harm."""
    import yaml
    from huggingface_hub import RepoCard
    from huggingface_hub.errors import EntryNotFoundError

    try:
        content = Path(api.hf_hub_download(repo_id, "README.md", revision=revision)).read_bytes()
    except EntryNotFoundError:
        content = f"# {repo_id.split('/')[1]}\n".encode()
    if len(content) > LARGEST_CARD:
        return None
    try:
        # Not ModelCard, which reads other people's results into its own form, and loses what has no place there.
        card = RepoCard(content.decode("utf-8"))
        card.data["model-index"] = merged_index(card.data.get("model-index"), model_index(entry, link), repo_id)
        card.validate(repo_type="model")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return None
    return str(card).encode()


def merged_index(present: Any, ours: list[dict[str, Any]], repo_id: str) -> list[dict[str, Any]]:
    """Return a ``model-index`` with our results, which replace older ones about the same data set and attacks; the rest stays as it is.

    Raises:
        ValueError: if the present one is no model-index.
    """
    if not present:
        return [{"name": repo_id.split("/")[1], "results": ours}]
    first = present[0] if isinstance(present, list) else None
    if not isinstance(first, dict) or not isinstance(first.get("results"), list):
        raise ValueError("the card's model-index has another form")
    new = {_identity(result) for result in ours}
    others = [result for result in first["results"] if _identity(result) not in new]
    return [first | {"results": others + ours}, *present[1:]]


def _identity(result: dict[str, Any]) -> tuple[Any, ...]:
    dataset = result["dataset"]
    metrics = tuple(str(metric.get("name")) for metric in result["metrics"])
    return result["task"].get("type"), dataset.get("type"), dataset.get("revision"), metrics


def description(entry: Entry, link: str | None) -> str:
    """Return what the owner of the model should know, as Markdown."""
    request, split = entry["request"], entry["split"]
    rows = "\n".join(
        f"| `{row['attack']}` | {row['access']} | {'' if row['queries'] is None else row['queries']} | {row['timestep']} | "
        f"{estimate_text(row['auc'])} | {estimate_text(row['tpr_at_fpr'].get(RATE))} |"
        for row in entry["rows"]
    )
    flags = sorted({flag["name"] for flag in entry["flags"]} | {name for row in entry["rows"] for name in row["flags"]})
    model = f"`{request['model']}`, the first of them" if ON_TOP in request["model"] else "this one,"
    return f"""How well membership-inference attacks tell images that this model was trained on from other images.
**A high value means leakage**: the model gives away which images it was trained on. An AUC of 0.5 is chance.
Members are the positive class.

| attack | access | queries per image | timestep | AUC | TPR at 1 % FPR |
|---|---|---|---|---|---|
{rows}

- Model: {model} at commit `{request["revision"]}`.
- Split: [{request["split"]}](https://huggingface.co/datasets/{request["split"]}) at commit `{request["split_revision"]}`,
  {split["n_members"]:,} members and {split["n_nonmembers"]:,} non-members. A classifier that sees the images and never the model gets an
  AUC of {estimate_text(entry["blind_auc"])}: the split passed the shift check.
- The timestep and all thresholds were chosen on one half of the images; the figures are of the other half, with their 95 % intervals.
- Flags: {", ".join(f"`{name}`" for name in flags) or "none"}.
- To reproduce it: `{entry["command"]}`{f". The whole result, with every score: {link}" if link else ""}.

It was requested by whoever submitted the request `{entry["id"]}` to a leaderboard of mia_hub. Whether to merge it is yours to decide; the
leaderboard doesn't depend on it.
"""
