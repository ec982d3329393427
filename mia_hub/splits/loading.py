"""Load members and non-members from any place that holds a split."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from mia_hub.defaults import DEMO_FOLDER
from mia_hub.errors import SplitError
from mia_hub.splits.member_split import MemberSplit


def load_split(
    id_or_path: Any = "demo",
    *,
    config: str | None = None,
    revision: str | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    class_column: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    fetch: bool = False,
) -> MemberSplit:
    """Load members and non-members. Images and captions are read when they are needed, so that a large split needs no more memory.

    Args:
        id_or_path: "demo"; a folder that holds ``member/`` and ``nonmember/`` folders of images, or Parquet files of such splits;
            a Parquet file; a data set on the Hub with splits ``member`` and ``nonmember`` (or ``members`` and ``nonmembers``), or one
            split with a label column that says which value means member; or a MemberSplit, which is returned as it is.
        config: configuration of the Hub data set.
        revision: branch, tag or commit of the Hub data set.
        image_column: the column of images, if it isn't called ``image``; or of their addresses, if it isn't called ``url``.
        caption_column: the column of captions, if it isn't called ``caption``, ``text`` or ``prompt``; captions of image files may also be
            text files beside them (see `mia_hub.images.captions`).
        class_column: the column of class indices, if it isn't called ``class``.
        limit: at most this many members and this many non-members, by a seeded draw.
        seed: of that draw.
        fetch: whether the images of a data set that has only their addresses may be fetched from there. Only public hosts are contacted;
            missing images are counted in the split's ``notes``, with a warning.

    Raises:
        SplitError: if it can't be found, has no images, or doesn't say which images are members.
    """
    hub_options = {"config": config, "revision": revision}
    columns = {"image_column": image_column, "caption_column": caption_column, "class_column": class_column}
    if isinstance(id_or_path, MemberSplit):
        _refuse_unused(hub_options | columns, id_or_path.name)
        return id_or_path.limited(limit, seed)
    name = str(id_or_path).strip()
    if name == "demo" or Path(name).exists():
        _refuse_unused(hub_options, name)
    split = _read(name, hub_options, columns, {"allowed": fetch, "limit": limit, "seed": seed})
    for part, images in (("members", split.members), ("non-members", split.nonmembers)):
        if not len(images):
            raise SplitError(f"The split {name!r} has no {part}; both members and non-members are needed.")
    for note in split.notes:
        warnings.warn(note, stacklevel=2)
    return split.limited(limit, seed)


def _read(name: str, hub_options: dict[str, str | None], columns: dict[str, str | None], fetching: dict[str, Any]) -> MemberSplit:
    from mia_hub.splits.reading import read_folder, read_hub, read_parquet
    from mia_hub.splits.split_part import ColumnNames, FetchOptions

    path, options = Path(name), (ColumnNames(**columns), FetchOptions(**fetching))
    if name == "demo":
        return read_parquet(DEMO_FOLDER, sorted(DEMO_FOLDER.glob("data/*.parquet")), "demo", *options)
    if path.is_dir():
        return read_folder(path, *options)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return read_parquet(path.parent, [path], name, *options)
    if name.count("/") == 1 and not path.exists():
        return read_hub(name, hub_options["config"], hub_options["revision"], *options)
    raise SplitError(
        f"There is no split {name!r}: it is neither 'demo', nor an existing folder or Parquet file, nor a data set on the Hub of the form "
        "'owner/name'."
    )


def _refuse_unused(options: dict[str, str | None], name: str) -> None:
    """Raise an error for an option that would be ignored."""
    for option, value in options.items():
        if value is not None:
            raise SplitError(f"{option}={value!r} is for data sets on the Hub, and {name} is not one; leave it out.")
