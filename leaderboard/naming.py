"""How requests name models and data sets: Hub ids, and what lies on top of a model, each at a commit."""

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
TOP = re.compile(rf"(?P<id>{_ID})(?P<path>(?:/{_PART})*)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?", re.ASCII)


def check_name(what: str, name: str) -> None:
    """Refuses what is neither "demo" nor a Hub id.

    Raises:
        SubmissionError: for such a name.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
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
    """A model and what lies on top of it, as `mia_hub.models.on_top.split_name` has them (which would load torch)."""
    return [part.strip() for part in re.split(r"\s\+(?:\s|$)", model.strip())]


def check_model(name: str) -> None:
    """Refuses a model whose name isn't that of one on the Hub, and what lies on top of it if that has no commit.

    Raises:
        SubmissionError: with the reason.
    """
    base, *tops = name.split(ON_TOP)
    check_name("model", base)
    for top in tops:
        if not COMMIT.fullmatch(parse_top(top)["revision"] or ""):
            raise SubmissionError(
                f"What lies on top of a model needs a commit hash after an @, so that what is audited can't change; got {top!r:.120}."
            )


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
