"""Well-known models, and where images are that are, or certainly aren't, in their training sets: a table, and one of one's own."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from mia_hub.defaults import PACKAGE_FOLDER
from mia_hub.errors import SplitError
from mia_hub.system.files import home_folder
from mia_hub.system.validation import FROM_LIST, Closed, InvalidData, Text, parsed

TABLE = PACKAGE_FOLDER / "auditing" / "known_models.json"
# In the home folder.
OWN_TABLE = "references.json"


class KnownModel(Closed):
    """References of some models that were trained on the same data, as far as they are known.

    Attributes:
        models: their ids on the Hub.
        nonmembers: where certain non-members are, in a form that ``--nonmembers`` takes; None where nobody knows any.
        members: where known members are, or None.
        limit: at most this many images of each, by a seeded draw.
        captions: whether the images are scored with their own captions or classes.
        published: the name of a ready reference on the Hub, or None.
        verified: whether somebody has run this; otherwise the ids are from public pages and papers.
        caveats: what the reader of an answer must know.
        note: what a person can do, where there are no certain non-members.
    """

    models: Annotated[tuple[Text, ...], FROM_LIST] = Field(min_length=1)
    nonmembers: Text | None = None
    members: Text | None = None
    limit: Annotated[int, Field(ge=20)] = 1000
    captions: bool = False
    published: Text | None = None
    verified: bool = False
    caveats: Annotated[tuple[Text, ...], FROM_LIST] = ()
    note: Text = ""

    @model_validator(mode="after")
    def _check(self) -> KnownModel:
        if self.members is not None and self.nonmembers is None:
            raise ValueError("members without nonmembers make no reference.")
        if self.nonmembers is None and self.published is None and not self.note:
            raise ValueError("an entry without nonmembers and without a published reference has a note that says what a person can do.")
        return self


class _Table(Closed):
    known: Annotated[tuple[KnownModel, ...], FROM_LIST]


def known_model(model_id: str) -> KnownModel | None:
    """Return what is known about references of a model; one's own table comes before that of the package.

    Args:
        model_id: id on the Hub, in any casing.

    Raises:
        SplitError: if one's own table can't be understood.
    """
    own = home_folder() / OWN_TABLE
    for table in ([read_table(own)] if own.exists() else []) + [_packaged()]:
        for entry in table:
            if model_id.lower() in (name.lower() for name in entry.models):
                return entry
    return None


@cache
def _packaged() -> tuple[KnownModel, ...]:
    return read_table(TABLE)


def read_table(path: Path) -> tuple[KnownModel, ...]:
    """Return the entries of a table.

    Raises:
        SplitError: if it can't be understood, with the field.
    """
    try:
        return parsed(_Table, json.loads(path.read_text(encoding="utf-8")), path.name).known
    except (OSError, ValueError, InvalidData) as error:
        raise SplitError(f"The table of references {path} can't be understood: {error}") from error
