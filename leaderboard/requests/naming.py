"""How requests name models and data sets: Hub ids with what lies on top of a model, each at a commit; or local ones, each with a hash."""

from __future__ import annotations

import re

from leaderboard.errors import SubmissionError

LONGEST_NAME = 96
ON_TOP = " + "
COMMIT = re.compile(r"[0-9a-f]{40}")
# Two dots in a row, and anything that isn't printed, are in none of them.
_PART = r"[A-Za-z0-9_-][\w-]*(?:\.[\w-]+)*"
_ID = rf"[A-Za-z0-9][\w-]*(?:\.[\w-]+)*/{_PART}"
NAME = re.compile(rf"demo|{_ID}", re.ASCII)
LOCAL_PREFIX = "local:"
LOCAL = re.compile(rf"{LOCAL_PREFIX}({_PART})", re.ASCII)
HASH = r"sha256:[0-9a-f]{64}"
TOP = re.compile(rf"(?P<id>{_ID})(?P<path>(?:/{_PART})*)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?", re.ASCII)


def is_local(name: str) -> bool:
    """Whether a model, or any part of it, or a split is named as a local one; no Hub id has a colon in it."""
    return any(part.startswith(LOCAL_PREFIX) for part in parts_of(name))


def check_local(name: str) -> None:
    """Refuses what is no name of a local model or split.

    Raises:
        SubmissionError: for such a name.
    """
    if not LOCAL.fullmatch(name) or len(name) > LONGEST_NAME:
        raise SubmissionError(
            "A local model, what lies on top of it, or a local split is 'local:NAME', where NAME is the name of a folder: letters, digits, "
            f"'-', '_' and single dots; got {name!r:.120}."
        )


def check_name(what: str, name: str) -> None:
    """Refuses what is neither "demo" nor a Hub id nor the name of a local one.

    Raises:
        SubmissionError: for such a name.
    """
    if is_local(name):
        check_local(name)
    elif not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise SubmissionError(f"{what} must be 'demo' or a Hub id of the form 'owner/name'; got {name!r:.120}.")


def parse_top(name: str) -> re.Match[str]:
    """Id, path and revision of what lies on top of a model.

    Raises:
        SubmissionError: if it names nothing on the Hub.
    """
    found = TOP.fullmatch(name)
    if found is None or ".." in name or len(name) > 3 * LONGEST_NAME:
        raise SubmissionError(
            f"What lies on top of a model is 'owner/name', or a file or folder in it, 'owner/name/file.safetensors'; got {name!r:.120}."
        )
    return found


def parts_of(model: str) -> list[str]:
    """A model and what lies on top of it, as `mia_hub.models.overlays.names.base_and_overlays` returns them (which would load torch)."""
    return [part.strip() for part in re.split(r"\s\+(?:\s|$)", model.strip())]


def check_model(name: str) -> None:
    """Refuses a model whose name isn't that of one on the Hub, and what lies on top of it if that has no commit.

    Raises:
        SubmissionError: with the reason.
    """
    base, *tops = name.split(ON_TOP)
    if is_local(name):
        # Of all parts or of none: what is loaded from here is trusted, and what is on the Hub is not.
        for part in (base, *tops):
            check_local(part)
        return
    check_name("model", base)
    for top in tops:
        if not COMMIT.fullmatch(parse_top(top)["revision"] or ""):
            raise SubmissionError(
                f"What lies on top of a model needs a commit hash after an @, so that what is audited can't change; got {top!r:.120}."
            )


def check_revision(what: str, name: str, revision: object) -> None:
    """Refuses what doesn't pin a model or a split: of "demo" nothing, on the Hub a commit, of a local one a hash for each of its parts.

    Raises:
        SubmissionError: with what is needed.
    """
    base = name.split(ON_TOP)[0]
    if base == "demo":
        if revision is not None:
            raise SubmissionError(f"{what}: 'demo' has none; leave it out.")
        return
    pinned, needed = COMMIT, "a commit hash of 40 hexadecimal digits"
    if is_local(name):
        pinned, needed = re.compile(r" \+ ".join([HASH] * len(name.split(ON_TOP)))), "the hash of what is there, 'sha256:…' for each part"
    if not isinstance(revision, str) or not pinned.fullmatch(revision):
        raise SubmissionError(f"{what} must be {needed}, so that what is audited can't change; got {revision!r:.60}.")


def repositories_of(model: str) -> list[str]:
    """Hub ids of a model and of what lies on top of it."""
    base, *tops = model.split(ON_TOP)
    return [base, *(found["id"] if (found := TOP.fullmatch(top)) else top for top in tops)]


def target_of(model: str) -> str:
    """The repository that a result is offered to: the model's, or that of what lies on top of it; without its commit."""
    return repositories_of(model)[-1]


def owner_of(model: str) -> str:
    """The namespace of that repository; empty for "demo"."""
    return target_of(model).rpartition("/")[0]
