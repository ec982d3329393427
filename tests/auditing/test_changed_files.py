"""Files that change between the first reading, which checks and describes them, and scoring."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image
from support.blobs import SIMA, blobs, perfect_memory

import mia_hub
from mia_hub.errors import SplitError
from mia_hub.images import kept_images

COUNT = 30


@pytest.fixture
def folders(tmp_path):
    for side, seed in (("members", 0), ("nonmembers", 1)):
        (tmp_path / side).mkdir()
        for row, image in enumerate(blobs(COUNT, seed)):
            Image.fromarray(image).save(tmp_path / side / f"{row:03}.png")
    return tmp_path


@pytest.fixture
def overwritten(folders):
    """A model whose first query overwrites a file with another image, and the split; its images are read in batches of ten."""
    memory, done = perfect_memory(blobs(COUNT, 0)), []

    def query(x, t):
        if not done:
            shutil.copy(folders / "nonmembers" / "020.png", folders / "nonmembers" / "021.png")
            done.append(True)
        return memory.predict_noise(x, t)

    model = mia_hub.wrap_denoiser(query, memory.schedule.signals**2, sample_shape=memory.info.sample_shape)
    return model, mia_hub.make_split(folders / "members", folders / "nonmembers")


CALLS = {
    "audit": lambda model, split: mia_hub.audit(model, SIMA, split, progress=False, batch_size=10),
    "compare": lambda model, split: mia_hub.compare(model, split, [SIMA], progress=False, batch_size=10),
    "monitor": lambda model, split: mia_hub.TrainingMonitor(split, attack=SIMA, shift_check=False, batch_size=10)(1, model),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_file_that_changes_before_it_is_scored_is_named(overwritten, call, monkeypatch):
    """Of more images than stay in memory."""
    monkeypatch.setattr(kept_images, "MOST_BYTES", 0)
    with pytest.raises(SplitError, match=r"1 image changed after the first reading, .*021\.png first, .* Run it again on files that stay"):
        call(*overwritten)


def test_what_was_read_first_is_what_is_scored(overwritten, folders):
    model, split = overwritten
    before = split.hash
    report = mia_hub.audit(model, SIMA, split, progress=False, batch_size=10)
    assert report.split["hash"] == before != mia_hub.make_split(folders / "members", folders / "nonmembers").hash
    assert len(set(report.scores.ids)) == 2 * COUNT


def test_files_that_are_written_again_alike_are_no_change(folders):
    split = mia_hub.make_split(folders / "members", folders / "nonmembers")
    memory, model = [], perfect_memory(blobs(COUNT, 0))

    def query(x, t):
        if not memory:
            Image.open(folders / "members" / "029.png").save(folders / "members" / "029.png", compress_level=1)
            memory.append(True)
        return model.predict_noise(x, t)

    again = mia_hub.wrap_denoiser(query, model.schedule.signals**2, sample_shape=model.info.sample_shape)
    assert mia_hub.audit(again, SIMA, split, progress=False, batch_size=10).auc.n_members == COUNT // 2
