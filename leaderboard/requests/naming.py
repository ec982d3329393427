"""Names of models and data sets in requests: Hub ids, also of a model's overlays, each at a commit; or local ones, each with a hash."""

from __future__ import annotations

import re

from leaderboard.errors import SubmissionError

LONGEST_NAME = 96
ON_TOP = " + "
COMMIT = re.compile(r"[0-9a-f]{40}")
# None allows two dots in a row, or anything that isn't printable.
_PART = r"[A-Za-z0-9_-][\w-]*(?:\.[\w-]+)*"
_ID = rf"[A-Za-z0-9][\w-]*(?:\.[\w-]+)*/{_PART}"
NAME = re.compile(rf"demo|{_ID}", re.ASCII)
LOCAL_PREFIX = "local:"
LOCAL = re.compile(rf"{LOCAL_PREFIX}({_PART})", re.ASCII)
HASH = r"sha256:[0-9a-f]{64}"
TOP = re.compile(rf"(?P<id>{_ID})(?P<path>(?:/{_PART})*)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?", re.ASCII)


def is_local(name: str) -> bool:
    """Whether a model, any part of it, or a split has a local name; no Hub id has a colon in it."""
    return any(part.startswith(LOCAL_PREFIX) for part in parts_of(name))


def check_local(name: str) -> None:
    """Refuse a name that no local model or split can have.

    Raises:
        SubmissionError: for such a name.
    """
    if not LOCAL.fullmatch(name) or len(name) > LONGEST_NAME:
        raise SubmissionError(
            "A local model, overlay or split must be 'local:NAME', where NAME is the name of a folder: letters, digits, '-', '_' and "
            f"single dots; got {name!r:.120}."
        )


def check_name(what: str, name: str) -> None:
    """Refuse a name that is neither "demo" nor a Hub id nor a local name.

    Raises:
        SubmissionError: for such a name.
    """
    if is_local(name):
        check_local(name)
    elif not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise SubmissionError(f"{what} must be 'demo' or a Hub id of the form 'owner/name'; got {name!r:.120}.")


def parse_top(name: str) -> re.Match[str]:
    """Return a match with the id, path and revision of an overlay on top of a model.

    Raises:
        SubmissionError: if it is no name of anything on the Hub.
    """
    match = TOP.fullmatch(name)
    if match is None or ".." in name or len(name) > 3 * LONGEST_NAME:
        raise SubmissionError(
            f"A model's overlay must be 'owner/name', or a file or folder in it, 'owner/name/file.safetensors'; got {name!r:.120}."
        )
    return match


def parts_of(model: str) -> list[str]:
    """Split a name into the model and its overlays, as `mia_hub.models.overlays.names.base_and_overlays` does (which would load torch)."""
    return [part.strip() for part in re.split(r"\s\+(?:\s|$)", model.strip())]


def check_model(name: str) -> None:
    """Refuse a name that no model on the Hub or in a local folder can have, and an overlay without its commit.

    Raises:
        SubmissionError: with the reason.
    """
    base, *tops = name.split(ON_TOP)
    if is_local(name):
        # All parts are local or none is: local files are trusted, and those on the Hub are not.
        for part in (base, *tops):
            check_local(part)
        return
    check_name("model", base)
    for top in tops:
        if not COMMIT.fullmatch(parse_top(top)["revision"] or ""):
            raise SubmissionError(
                f"A model's overlay needs a commit hash after an @, so that what is audited can't change; got {top!r:.120}."
            )


def check_revision(what: str, name: str, revision: object) -> None:
    """Refuse a revision that doesn't pin a model or a split: "demo" has none, the Hub has commits, local names a hash for each part.

    Raises:
        SubmissionError: with the form that is needed.
    """
    base = name.split(ON_TOP)[0]
    if base == "demo":
        if revision is not None:
            raise SubmissionError(f"{what}: 'demo' has none; leave it out.")
        return
    pinned, needed = COMMIT, "a commit hash of 40 hexadecimal digits"
    if is_local(name):
        pinned, needed = re.compile(r" \+ ".join([HASH] * len(name.split(ON_TOP)))), "the hash of its files, 'sha256:…' for each part"
    if not isinstance(revision, str) or not pinned.fullmatch(revision):
        raise SubmissionError(f"{what} must be {needed}, so that what is audited can't change; got {revision!r:.60}.")


def repositories_of(model: str) -> list[str]:
    """Return the Hub ids of a model and of its overlays."""
    base, *tops = model.split(ON_TOP)
    return [base, *(match["id"] if (match := TOP.fullmatch(top)) else top for top in tops)]


def target_of(model: str) -> str:
    """Return the repository that a result is offered to, without its commit: the model's, or that of the last overlay."""
    return repositories_of(model)[-1]


def owner_of(model: str) -> str:
    """Return the namespace of that repository; "" for "demo"."""
    return target_of(model).rpartition("/")[0]
