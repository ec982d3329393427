"""Offers a result to the model that it is about: one pull request, with ``.eval_results`` and the ``model-index`` of its card.

Whether there is one already is looked up on the Hub, by the request's id in its title: a worker that was killed in between, or another one,
doesn't open a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from leaderboard.requests.naming import ON_TOP, is_local, owner_of, target_of
from leaderboard.results.board import RATE, is_shifted, shown
from leaderboard.results.entry import COMPUTED
from mia_hub.errors import MiaHubError
from mia_hub.system.hub import HubTask, hub_errors

Entry = Mapping[str, Any]
TASK = "membership-inference"
SOURCE = "mia_hub leaderboard"
TITLE = "Add membership-inference results"
LARGEST_CARD = 2**20


class OfferError(MiaHubError):
    """A result that is not offered, or could not be: the message says why."""


def why_not(entry: Entry, owns: str) -> str | None:
    """Why a result is not offered to its model; None if it may be. For ``owns`` see `offer`."""
    request = entry["request"]
    if entry["origin"] != COMPUTED:
        return "only what is computed here is offered, never what others report"
    if target_of(request["model"]) == "demo":
        return "the demo model is no repository on the Hub"
    if is_local(request["model"]):
        return "a local model is no repository on the Hub"
    if request["model"].count(ON_TOP) > 1:
        return "it is of several things on top of a model together, and so of none of them alone"
    owner = owner_of(request["model"])
    if owns != owner:
        return (
            f"only {owner} may ask for that. Sign in as {owner}, or as a member who may write for it, with a token; a name in a pull "
            "request is not checked"
        )
    if request["split"] == "demo" or is_local(request["split"]):
        return "its split is no data set on the Hub"
    if entry["blind_auc"] is None:
        return "its split was not checked for a shift between members and non-members"
    if is_shifted(entry):
        return "its split fails the shift check: members and non-members differ by themselves, and the figures say nothing about the model"
    return None


def offer(entry: Entry, *, owns: str, link: str | None = None, token: str | None = None) -> str:
    """Opens the pull request, unless there is one already, in whatever state its owner has put it.

    Args:
        entry: as stored.
        owns: the owner of the model, if the submitter is that owner, or may write for it; see `leaderboard.requests.status.Status`.
        link: where the entry can be read.
        token: of whoever opens it; the one that is set here by default.

    Returns:
        The pull request's address.

    Raises:
        OfferError: if the result is none to be offered, or the Hub or the owner of the model doesn't take it.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    reason = why_not(entry, owns)
    if reason:
        raise OfferError(f"It is not offered to its model: {reason}.")
    api, repo_id = HfApi(token=token), target_of(entry["request"]["model"])
    failure = f"The result could not be offered to {repo_id}"
    with hub_errors(HubTask("model", repo_id, writing=True, failure=failure), OfferError):
        present = _present(api, repo_id, entry["id"])
        if present:
            return present
        head = api.model_info(repo_id).sha
        files = eval_results(entry, link)
        card = _card_with(api, repo_id, head, entry, link)
        if card is not None:
            files["README.md"] = card
        done = api.create_commit(
            repo_id, [CommitOperationAdd(path, content) for path, content in files.items()], commit_message=title(entry),
            commit_description=description(entry, link), create_pr=True, parent_commit=head,
        )  # fmt: skip
    return done.pr_url


def _present(api, repo_id: str, id: str) -> str | None:
    """Our pull request about this request, also one that was closed or merged; None if there is none.

    Raises:
        OfferError: if another one of ours is open: one at a time is enough to deal with.
    """
    found = list(api.get_repo_discussions(repo_id, author=api.whoami()["name"], discussion_type="pull_request"))
    ours = [each for each in found if each.title.startswith(TITLE)]
    for each in ours:
        if f"({id})" in each.title:
            return each.url
    for each in ours:
        if each.status in ("open", "draft"):
            raise OfferError(f"It is not offered to its model: an earlier pull request is still open there, {each.url}.")
    return None


def title(entry: Entry) -> str:
    """Of the pull request; by the id in it it is found again."""
    return f"{TITLE} ({entry['id']})"


def eval_results(entry: Entry, link: str | None) -> dict[str, bytes]:
    """The files of ``.eval_results``, one per attack, since the Hub reads one figure of a benchmark from each."""
    import yaml
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
    further = f"; TPR at 1 % FPR {shown(tpr)}" if tpr else ""
    return (
        f"AUC of the attack {row['attack']}, {shown(row['auc'])}{further}. A high value means that the model leaks which images it was "
        f"trained on; members are the positive class; 95 % intervals; timestep {row['timestep']}, chosen on one half of the images and "
        f"reported on the other. Asked: {entry['request']['model']} at {entry['request']['revision']}."
    )


def model_index(entry: Entry, link: str | None) -> list[dict[str, Any]]:
    """The results of a ``model-index``: AUC, and TPR at 1 % FPR where it was measured, of each attack."""
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
    found = []
    for row in entry["rows"]:
        for kind, name, figure in (("roc_auc", "AUC", row["auc"]), ("tpr", "TPR at 1 % FPR", row["tpr_at_fpr"].get(RATE))):
            if figure is not None:
                said = {"metric_type": kind, "metric_name": f"{name} of {row['attack']}", "metric_value": figure["value"]}
                found.append(EvalResult(**about, **said, metric_args={"low_95": figure["low"], "high_95": figure["high"]}))
    return eval_results_to_model_index("", found)[0]["results"]


def _card_with(api, repo_id: str, revision: str, entry: Entry, link: str | None) -> bytes | None:
    """The model's card with our results in its metadata; None for one that can't be changed without doing harm."""
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
        card.data["model-index"] = merged(card.data.get("model-index"), model_index(entry, link), repo_id)
        card.validate(repo_type="model")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return None
    return str(card).encode()


def merged(present: Any, ours: list[dict[str, Any]], repo_id: str) -> list[dict[str, Any]]:
    """A ``model-index`` with our results in it, in place of older ones of ours about the same data set and attacks; the rest as it was.

    Raises:
        ValueError: if what is there is no model-index.
    """
    if not present:
        return [{"name": repo_id.split("/")[1], "results": ours}]
    first = present[0] if isinstance(present, list) else None
    if not isinstance(first, dict) or not isinstance(first.get("results"), list):
        raise ValueError("the card's model-index has another form")
    new = {_identity(result) for result in ours}
    kept = [result for result in first["results"] if _identity(result) not in new]
    return [first | {"results": kept + ours}, *present[1:]]


def _identity(result: dict[str, Any]) -> tuple:
    dataset = result["dataset"]
    metrics = tuple(str(metric.get("name")) for metric in result["metrics"])
    return result["task"].get("type"), dataset.get("type"), dataset.get("revision"), metrics


def description(entry: Entry, link: str | None) -> str:
    """What the owner of the model should know, as Markdown."""
    request, split = entry["request"], entry["split"]
    rows = "\n".join(
        f"| `{row['attack']}` | {row['access']} | {'' if row['queries'] is None else row['queries']} | {row['timestep']} | "
        f"{shown(row['auc'])} | {shown(row['tpr_at_fpr'].get(RATE))} |"
        for row in entry["rows"]
    )
    flags = sorted({flag["name"] for flag in entry["flags"]} | {name for row in entry["rows"] for name in row["flags"]})
    whose = f"`{request['model']}`, the first of them" if ON_TOP in request["model"] else "this one,"
    return f"""How well membership-inference attacks tell images that this model was trained on from images that it was not.
**A high value means leakage**: the model gives away which images it was trained on. An AUC of 0.5 is chance.
Members are the positive class.

| attack | access | queries per image | timestep | AUC | TPR at 1 % FPR |
|---|---|---|---|---|---|
{rows}

- Model: {whose} at commit `{request["revision"]}`.
- Split: [{request["split"]}](https://huggingface.co/datasets/{request["split"]}) at commit `{request["split_revision"]}`,
  {split["n_members"]:,} members and {split["n_nonmembers"]:,} non-members. A classifier that sees the images and never the model gets an
  AUC of {shown(entry["blind_auc"])}: the split passed the shift check.
- The timestep and all thresholds were chosen on one half of the images; the figures are of the other half, with their 95 % intervals.
- Flags: {", ".join(f"`{name}`" for name in flags) or "none"}.
- To make it again: `{entry["command"]}`{f". The whole result, with every score: {link}" if link else ""}.

It was asked for by whoever submitted the request `{entry["id"]}` to a leaderboard of mia_hub. Whether to merge it is yours to decide; what
the leaderboard shows doesn't depend on it.
"""
