"""The next batch is read while the model is asked about the one before it, by one thread at a time, and no further ahead."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

import mia_hub
from mia_hub.errors import ImageError
from mia_hub.images.image import content_id
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod

BATCH, IMAGES, PATIENCE = 4, 12, 60
PIXELS = np.random.default_rng(0).integers(0, 256, (IMAGES, 8, 8), dtype=np.uint8)
ATTACK = mia_hub.get_attack("sima", timesteps=(100,))


class Images(Sequence):
    """Images that know which of them were asked for, and refuse two who ask at once."""

    def __init__(self, broken: int | None = None):
        self.broken, self.asked, self._one, self.changed = broken, [], threading.Lock(), threading.Condition()

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, row: int) -> np.ndarray | bytes:
        assert self._one.acquire(blocking=False), "two threads read at once"
        try:
            with self.changed:
                self.asked.append(row)
                self.changed.notify_all()
            return b"no image" if row == self.broken else PIXELS[row]
        finally:
            self._one.release()

    def until(self, rows: int) -> bool:
        """Waits until so many were asked for."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.asked) >= rows, PATIENCE)


def model_of(denoise):
    return wrap_denoiser(denoise, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8))


def test_the_next_batch_is_read_while_the_model_is_asked():
    images, read = Images(), []

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        batches = len(read) + 1
        assert images.until(min(IMAGES, BATCH * (batches + 1)))
        read.append(len(images.asked))
        return x

    table = ATTACK.score(model_of(denoise), images, batch_size=BATCH, progress=False)
    assert read == [2 * BATCH, IMAGES, IMAGES]  # never further than a batch ahead
    assert images.asked == list(range(IMAGES))  # and each once, in order
    assert table.ids == [content_id(pixels) for pixels in PIXELS]
    norms = np.linalg.norm((PIXELS.reshape(IMAGES, -1) / 255 * 2 - 1), ord=4, axis=1)
    np.testing.assert_allclose(table.scores[:, 0], -norms, rtol=1e-6)


@pytest.mark.parametrize("broken", [0, BATCH, IMAGES - 1])
def test_a_image_that_cannot_be_read_is_named_after_what_came_before_it_is_done(broken):
    done = []
    with pytest.raises(ImageError, match=f"^image {broken + 1}: this is not an image file"):
        ATTACK.score(model_of(lambda x, t: x), Images(broken), batch_size=BATCH, progress=False, on_batch=lambda n, total: done.append(n))
    assert done == list(range(BATCH, broken + 1, BATCH))


def test_what_fails_ends_the_reading():
    images, threads = Images(), threading.active_count()

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ATTACK.score(model_of(lambda x, t: x), images, batch_size=BATCH, progress=False, on_batch=fail)
    assert len(images.asked) <= 2 * BATCH
    assert threading.active_count() <= threads + 1
    asked = len(images.asked)
    assert ATTACK.score(model_of(lambda x, t: x), images, batch_size=BATCH, progress=False).ids
    assert len(images.asked) == asked + IMAGES


def test_where_memory_runs_out_the_batch_is_read_again_by_halves():
    images = Images()

    def denoise(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if len(x) > BATCH // 2:
            images.until(BATCH + 1)  # while the next batch is being read
            raise torch.OutOfMemoryError("out of memory")
        return x

    table = ATTACK.score(model_of(denoise), images, batch_size=BATCH, progress=False)
    assert table.ids == [content_id(pixels) for pixels in PIXELS]
    assert table.queries == IMAGES


def test_images_may_keep_to_the_thread_that_made_them():
    images, own = Images(), threading.get_ident()
    there = type(images).__getitem__

    class Bound(Images):
        def __getitem__(self, row: int) -> np.ndarray:
            assert threading.get_ident() == own, "made in another thread"
            return there(self, row)

    assert ATTACK.score(model_of(lambda x, t: x), Bound(), batch_size=BATCH, progress=False).ids == [
        content_id(pixels) for pixels in PIXELS
    ]


def test_finished_batches_are_compared_without_two_reading_at_once(tmp_path):
    """The second batch was finished before, as in an audit by two processes; the first and the last were not."""
    model = model_of(lambda x, t: x)
    model.info = replace(model.info, revision="sha256:0")
    whole = ATTACK.score(model, Images(), batch_size=BATCH, progress=False, resume=tmp_path)
    first, _, last = sorted(tmp_path.rglob("*.npz"))
    first.unlink()
    last.unlink()
    again = ATTACK.score(model, Images(), batch_size=BATCH, progress=False, resume=tmp_path)
    assert again.ids == whole.ids
    assert again.scores.tobytes() == whole.scores.tobytes()
    assert sorted(tmp_path.rglob("*.npz"))[::2] == [first, last]
