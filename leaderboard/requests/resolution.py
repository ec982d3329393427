"""Names of models and data sets, resolved to the commits or hashes at which they are evaluated."""

from __future__ import annotations

from dataclasses import replace

from leaderboard.errors import SubmissionError
from leaderboard.requests.limits import Limits
from leaderboard.requests.local_folder import LocalFolder
from leaderboard.requests.naming import NAME, ON_TOP, check_model, check_name, is_local, parse_top, parts_of, repositories_of
from leaderboard.requests.request import Request
from leaderboard.requests.split_files import check_listing
from mia_hub.errors import MiaHubError
from mia_hub.system.hub import closed_repository

NOT_LOCAL = (
    "{name!r:.120} is local to this board. Only the person who runs the board can submit it, with 'mia-hub submit --local FOLDER', and not "
    "on the page, by its API, or by a pull request. Give 'demo' or a Hub id of the form 'owner/name'."
)
PUBLIC = "Check the spelling; what is audited here must be public, so that everyone can repeat it."


def check_still_there(request: Request, limits: Limits, local: LocalFolder | None = None) -> None:
    """Resolve the names of a request again, which may have come by an unchecked pull request, or name what has been deleted since.

    Raises:
        SubmissionError: with the reason.
    """
    model, revision = resolve_model(request.model, request.revision, limits, local)
    split, split_revision = resolve_split(request.split, request.split_revision, limits, local)
    check_bans((request.model, request.split), (model, split), limits)
    # A request that was stored with another spelling of a name is about the same repository.
    resolved = revision, _commits_on_top(model), split_revision
    if resolved != (request.revision, _commits_on_top(request.model), request.split_revision):
        names = (model, revision), (split, split_revision)
        raise SubmissionError(f"The request names other revisions than the Hub: {names}. Submit it again.")


def _commits_on_top(model: str) -> list[str]:
    """Return the commit of each overlay of a model."""
    return [top.rpartition("@")[2] for top in model.split(ON_TOP)[1:]]


def check_bans(given: tuple[str, str], resolved: tuple[str, str], limits: Limits) -> None:
    """Refuse what is banned by any of its names: the one that was given, the present one, or an earlier one.

    Args:
        given: names of the model and of the split, as somebody wrote them.
        resolved: both as `resolve_model` and `resolve_split` return them.
        limits: of the queue.

    Raises:
        SubmissionError: if it is.
    """
    names = [id for model, split in (given, resolved) for id in (*repositories_of(ON_TOP.join(parts_of(model))), split)]
    limits.check_names(*names)
    earlier = [name for name in limits.banned if NAME.fullmatch(name) and "/" in name]
    if earlier and any("/" in name for name in names):
        from mia_hub.system.spellings import present_ids

        present = present_ids(earlier, ("model", "dataset"), login=False)
        replace(limits, banned=tuple(present)).check_names(*names)


def resolve_model(name: str, revision: str | None, limits: Limits, local: LocalFolder | None = None) -> tuple[str, str | None]:
    """Return the model's name with its overlays at their commits, and the commit of its base; of a local one the hashes of its weights.

    Ids are spelled as the Hub spells them, whatever spelling led to the repository.

    Raises:
        SubmissionError: if it isn't public, or can't be audited here.
    """
    base, *tops = parts_of(name)
    if is_local(name):
        name = ON_TOP.join([base, *tops])
        check_model(name)
        return name, _unchanged(name, revision, required_folder(local, name).revision(name))
    check_name("model", base)
    for top in tops:
        parse_top(top)
    if base == "demo":
        if tops or revision is not None:
            raise SubmissionError("'demo' is the embedded model: it has no revision, and takes no overlays here. Leave those out.")
        return base, None
    from mia_hub.models.lookup import look_up_model

    try:
        model = look_up_model(ON_TOP.join([base, *tops]), revision, largest=int(limits.model_gib * 2**30))
    except MiaHubError as error:
        raise SubmissionError(_for_submitters(error, "model")) from error
    pinned = [f"{top}@{commit}" for top, commit in zip(model.overlays, model.overlay_revisions)]
    return ON_TOP.join([model.base, *pinned]), model.revision


def resolve_split(name: str, revision: str | None, limits: Limits, local: LocalFolder | None = None) -> tuple[str, str | None]:
    """Return the data set, spelled as the Hub spells it, and its commit; of a local one the hash of its files.

    Raises:
        SubmissionError: if it isn't public, is too large, or has no Parquet files.
    """
    check_name("split", name)
    if is_local(name):
        split = required_folder(local, name).load_split(name)
        limits.check_images(len(split.images))
        return name, _unchanged(name, revision, split.revision)
    if name == "demo":
        if revision is not None:
            raise SubmissionError("'demo' is the embedded split, and has no revision. Leave it out.")
        return name, None
    from mia_hub.splits.hub_rows import look_up_dataset

    try:
        dataset = look_up_dataset(name, revision)
    except MiaHubError as error:
        raise SubmissionError(_for_submitters(error, "data set")) from error
    check_listing(dataset.name, dataset.sizes, limits)
    return dataset.name, dataset.commit


def required_folder(local: LocalFolder | None, name: str) -> LocalFolder:
    """Return the folder of local models and splits.

    Raises:
        SubmissionError: if there is none, so that ``name`` can't be found.
    """
    if local is None:
        raise SubmissionError(NOT_LOCAL.format(name=name))
    return local


def _unchanged(name: str, requested: str | None, present: str | None) -> str | None:
    """Return the hash of the present files, unless another one was requested."""
    if requested not in (None, present):
        raise SubmissionError(f"{name} has changed since it was requested: it is now {present}, and not {requested}. Submit it again.")
    return present


def _for_submitters(error: MiaHubError, kind: str) -> str:
    """Return the library's message without its advice to log in, which is of no use here."""
    closed = closed_repository(error)
    if closed is None:
        return str(error)
    if closed.gated:
        return f"The {kind} {closed.repo_id!r} is gated, so that not everyone can repeat the results. Name one that is open."
    return f"The Hub has no public {kind} {closed.repo_id!r}. {PUBLIC}"
