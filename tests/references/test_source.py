"""Every form that names known images, opened; and what is no such form."""

from __future__ import annotations

from datetime import date

import PIL.Image
import pytest
from support.known_blobs import folder_of, members, nonmembers, parquet_of, png

import mia_hub
from mia_hub.errors import ImageError, MiaHubError, SplitError
from mia_hub.images.sources import as_images
from mia_hub.references.preparing import TOO_OLD, prepare, stated_dates
from mia_hub.references.source import check_no_members, open_known_images


@pytest.fixture(scope="module")
def sources(loopback_hub, tmp_path_factory):
    """The same 24 non-members in every form, by name."""
    root, images, others = tmp_path_factory.mktemp("sources"), nonmembers(24), members(22)
    folder_of(images, root / "plain")
    folder_of(images, root / "split" / "nonmember")
    folder_of(others, root / "split" / "member")
    (root / "table.parquet").write_bytes(parquet_of(images))
    loopback_hub.add_repo("dataset", "known/pool", {"data/test-00000-of-00001.parquet": parquet_of(images)})
    several = {"data/test-00000-of-00001.parquet": parquet_of(images), "data/train-00000-of-00001.parquet": parquet_of(others)}
    loopback_hub.add_repo("dataset", "known/several", several)
    sides = {"data/member-00000-of-00001.parquet": parquet_of(others), "data/nonmember-00000-of-00001.parquet": parquet_of(images)}
    loopback_hub.add_repo("dataset", "known/split", sides)
    return {
        "a folder": str(root / "plain"),
        "a path": root / "plain",
        "a split in a folder": str(root / "split"),
        "a Parquet file": str(root / "table.parquet"),
        "a data set": "known/pool",
        "a split of a data set": "known/several:test",
        "a data set that is a split": "known/split",
        "one side of it by name": "known/split:nonmember",
        "arrays": list(images),
        "paths": sorted((root / "plain").iterdir()),
    }


FORMS = [
    "a folder", "a path", "a split in a folder", "a Parquet file", "a data set", "a split of a data set", "a data set that is a split",
    "one side of it by name", "arrays", "paths",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(sources, form):
    known = open_known_images(sources[form], progress=False)
    assert sorted(image.id for image in known.images) == sorted(image.id for image in as_images(nonmembers(24)))
    on_the_hub = isinstance(sources[form], str) and sources[form].startswith("known/")
    assert (known.origin.revision is not None) == on_the_hub
    drawn = open_known_images(sources[form], limit=5, seed=3, progress=False)
    again = open_known_images(sources[form], limit=5, seed=3, progress=False)
    other = open_known_images(sources[form], limit=5, seed=4, progress=False)
    ids = [[image.id for image in each.images] for each in (drawn, again, other)]
    assert len(ids[0]) == 5 and ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(("source", "side", "count"), [("demo", "nonmembers", 4000), ("benchmark:demo-fashion-mnist", "members", 1)])
def test_what_comes_with_the_package_is_opened_by_name(source, side, count):
    known = open_known_images(source, side, progress=False)
    assert len(known.images) >= count and f"{len(known.images):,} images of" in known.origin.description


def test_both_sides_of_a_split_are_told_apart(sources):
    known = open_known_images(sources["a data set that is a split"], "members", progress=False)
    assert sorted(image.id for image in known.images) == sorted(image.id for image in as_images(members(22)))
    assert known.origin.description == "22 images of the members of known/split"


WRONG = {
    "no such path": ("nowhere", "There are no known images in 'nowhere': it doesn't exist. Give a folder of images, a Parquet file"),
    "no such data set": ("known/nothing", "no data set 'known/nothing'"),
    "no such split of a data set": ("known/several:validation", "no split 'validation'; it has train, test"),
    "a data set of several splits": ("known/several:", "There are no known images"),
    "no such benchmark": ("benchmark:ddpm-cifar11", "There is no benchmark 'ddpm-cifar11'. Did you mean 'ddpm-cifar10'"),
    "a generator": ((pixels for pixels in nonmembers(3)), "can be read only once"),
    "nothing": ([], "No images were given"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_source_is_refused(sources, case):
    source, reason = WRONG[case]
    with pytest.raises(MiaHubError) as error:
        open_known_images(source, progress=False)
    assert reason in str(error.value)


def test_copies_unreadable_images_and_overlaps_are_counted_or_refused(tmp_path, tiny_pixel_repo):
    info = mia_hub.load_model(str(tiny_pixel_repo())).info
    folder = folder_of([*nonmembers(3), nonmembers(3)[0]], tmp_path / "known")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    prepared = prepare(info, open_known_images(folder, progress=False), progress=False)
    assert len(prepared.ids) == len(set(prepared.ids)) == 3 and prepared.origin.left_out == {"copies": 1, "that can't be read": 1}
    assert prepared.origin.description.endswith("1 copies and 1 that can't be read left out") and "broken.png" in prepared.problems[0]
    with pytest.raises(SplitError, match=r"3 images are both among the members .* and the non-members"):
        prepare(info, open_known_images(folder, progress=False), open_known_images(list(nonmembers(3)), "members"), progress=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "broken.png").write_bytes(b"no image")
    with pytest.raises(SplitError, match="No image is left of"):
        prepare(info, open_known_images(tmp_path / "empty", progress=False), progress=False)


def dated(folder, name, pixels, **tags):
    exif = PIL.Image.Exif()
    for tag, value in tags.items():
        if tag == "main":
            exif[0x0132] = value
        else:
            exif.get_ifd(0x8769)[{"original": 0x9003, "digitized": 0x9004}[tag]] = value
    PIL.Image.fromarray(pixels).save(folder / name, "JPEG", exif=exif)
    return (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"original": "2024:05:31 10:00:00"}, (date(2024, 5, 31), None)),
        ({"digitized": "2023:01:02 00:00:00"}, (date(2023, 1, 2), None)),
        ({"main": "2022:12:24 18:00:00"}, (None, date(2022, 12, 24))),
        ({"original": "2024:05:31 10:00:00", "main": "2025:01:01 00:00:00"}, (date(2024, 5, 31), date(2025, 1, 1))),
        ({"original": "0000:00:00 00:00:00", "digitized": "2025:01:01 00:00:00"}, (date(2025, 1, 1), None)),
        ({"original": "yesterday"}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_the_dates_of_an_image_are_read_from_its_metadata(tmp_path, tags, expected):
    assert stated_dates(dated(tmp_path, "a.jpg", nonmembers(1)[0], **tags)) == expected


def test_images_that_are_older_than_stated_are_left_out(tmp_path, tiny_pixel_repo):
    info = mia_hub.load_model(str(tiny_pixel_repo())).info
    tags = ({"original": "2024:05:31 10:00:00"}, {"original": "2024:06:01 10:00:00"}, {}, {"main": "2024:01:01 10:00:00"})
    for number, (pixels, stated) in enumerate(zip(nonmembers(5), (*tags, {"main": "2026:01:01 10:00:00"}))):
        dated(tmp_path, f"{number}.jpg", pixels, **stated)
    known = open_known_images(tmp_path, progress=False)
    prepared = prepare(info, known, made_after=date(2024, 5, 31), progress=False)
    assert (len(prepared.ids), prepared.origin.dated, prepared.origin.left_out) == (3, 1, {TOO_OLD: 2}), (
        "a change of the file is no proof of its age"
    )
    assert prepared.origin.clause().endswith("stated: made after 2024-05-31, which the files of 1 of them confirm")


@pytest.mark.parametrize("content", [None, b"", b"no image", png(nonmembers(1)[0])])
def test_a_file_without_a_date_states_none(content):
    assert stated_dates(content) == (None, None)


def test_a_folder_that_holds_members_somewhere_is_no_folder_of_nonmembers(tmp_path):
    folder_of(nonmembers(3), tmp_path / "all" / "setA" / "nonmembers")
    check_no_members(tmp_path / "all")
    folder_of(members(3), tmp_path / "all" / "setA" / "Members")
    with pytest.raises(SplitError, match="Members is a folder of members, and all of"):
        check_no_members(tmp_path / "all")


@pytest.mark.parametrize("form", ["a text", "a list of paths", "the images"])
def test_what_a_folder_holds_besides_is_noted_without_its_path(tmp_path, form):
    folder = folder_of(nonmembers(3), tmp_path / "known")
    (folder / "drawing.psd").write_bytes(b"8BPS")
    source = {"a text": str(folder), "a list of paths": sorted(folder.glob("*.png")), "the images": as_images(folder)}[form]
    notes = open_known_images(source, progress=False).origin.notes
    if form == "a list of paths":  # nothing but images was given
        assert not notes
    else:
        (note,) = notes
        assert "drawing.psd" in note and str(tmp_path) not in note


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ImageError, match="has no images"):
        open_known_images(tmp_path, progress=False)
