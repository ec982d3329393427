"""Offer a result to the model that it is about: one pull request, with ``.eval_results`` and the ``model-index`` of its card.

An earlier pull request is looked up on the Hub, by the request's id in its title: a worker that was killed in between, or another one,
doesn't open a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leaderboard.requests.naming import ON_TOP, is_local, owner_of, target_of
from leaderboard.results.board_rows import is_shifted
from leaderboard.results.entry import COMPUTED
from leaderboard.worker.offer_files import card_with_results, description, eval_results
from mia_hub.errors import MiaHubError
from mia_hub.system.hub import HubTask, hub_errors

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Entry = Mapping[str, Any]
TITLE = "Add membership-inference results"


class OfferError(MiaHubError):
    """A result that is not offered, or could not be: the message says why."""


def reason_against(entry: Entry, owns: str) -> str | None:
    """Return why a result is not offered to its model; None if it may be. For ``owns`` see `offer`."""
    request = entry["request"]
    if entry["origin"] != COMPUTED:
        return "only results that are computed here are offered, never reported ones"
    if target_of(request["model"]) == "demo":
        return "the demo model is no repository on the Hub"
    if is_local(request["model"]):
        return "a local model is no repository on the Hub"
    if request["model"].count(ON_TOP) > 1:
        return "it is about several overlays together, and so about none of them alone"
    owner = owner_of(request["model"])
    if owns != owner:
        return (
            f"only {owner} may request that. Sign in as {owner}, or as a member who may write for it, with a token; a name in a pull "
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
    """Open the pull request, unless there is one already, in whatever state its owner has put it.

    Args:
        entry: as stored.
        owns: the owner of the model, if the submitter is that owner, or may write for it; see `leaderboard.requests.status.Status`.
        link: address of the entry.
        token: of whoever opens it; the one of this machine by default.

    Returns:
        The pull request's address.

    Raises:
        OfferError: if the result is not to be offered, or the Hub or the owner of the model doesn't accept it.
    """
    from huggingface_hub import HfApi

    reason = reason_against(entry, owns)
    if reason:
        raise OfferError(f"It is not offered to its model: {reason}.")
    api, repo_id = HfApi(token=token), target_of(entry["request"]["model"])
    failure = f"The result could not be offered to {repo_id}"
    with hub_errors(HubTask("model", repo_id, writing=True, failure=failure), OfferError):
        return _existing(api, repo_id, entry["id"]) or _open(api, repo_id, entry, link)


def _existing(api: HfApi, repo_id: str, id: str) -> str | None:
    """Return our pull request about this request, also one that was closed or merged; None if there is none.

    Raises:
        OfferError: if another one of ours is open: one at a time is enough for an owner.
    """
    discussions = api.get_repo_discussions(repo_id, author=api.whoami()["name"], discussion_type="pull_request")
    ours = [each for each in discussions if each.title.startswith(TITLE)]
    for each in ours:
        if f"({id})" in each.title:
            return str(each.url)
    for each in ours:
        if each.status in ("open", "draft"):
            raise OfferError(f"It is not offered to its model: an earlier pull request is still open there, {each.url}.")
    return None


def _open(api: HfApi, repo_id: str, entry: Entry, link: str | None) -> str:
    from huggingface_hub import CommitOperationAdd

    head = api.model_info(repo_id).sha
    files = eval_results(entry, link)
    card = card_with_results(api, repo_id, head, entry, link)
    if card is not None:
        files["README.md"] = card
    commit = api.create_commit(
        repo_id, [CommitOperationAdd(path, content) for path, content in files.items()], commit_message=pull_request_title(entry),
        commit_description=description(entry, link), create_pr=True, parent_commit=head,
    )  # fmt: skip
    return str(commit.pr_url)


def pull_request_title(entry: Entry) -> str:
    """Return the title of the pull request, with the id by which it is found again."""
    return f"{TITLE} ({entry['id']})"
