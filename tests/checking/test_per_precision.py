"""A model that overflows moves to a wider precision; no answer mixes what was computed in two precisions."""

from __future__ import annotations

import threading

import pytest
import torch
from support.blobs import SIMA, blobs

from mia_hub.checking.checker import Checker
from mia_hub.errors import MiaHubError
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod


def overflowing(on_pass=lambda model: None):
    """A model that overflows at one image until it is moved to a wider precision, in which its predictions differ."""

    def denoise(x, t):
        on_pass(model)
        narrow = not model.fallbacks
        return torch.where((x[:, :, :1, :1] == 1) & narrow, torch.nan, x.sin() * (1 if narrow else x.mean((1, 2, 3), keepdim=True)))

    def fall_back() -> bool:
        model.fallbacks = {"denoiser": "bfloat16"}
        return True

    model = wrap_denoiser(denoise, ddpm_alphas_cumprod(), sample_shape=(1, 12, 12))
    model.fallbacks, model.fall_back = {}, fall_back
    return model


@pytest.fixture(scope="module")
def dark_and_bright():
    """Images that overflow nowhere, an image that does, and the answers for the first of them in the wider precision."""
    dark, bright = blobs(40, 5) // 2, blobs(1, 6)
    bright[0, 0, 0] = 255
    wide = overflowing()
    wide.fall_back()
    expected = Checker(wide, SIMA, nonmembers=dark[5:], progress=False).check(dark[:2], progress=False)
    narrow = Checker(overflowing(), SIMA, nonmembers=dark[5:], progress=False).check(dark[:2], progress=False)
    assert [check.p_value for check in expected] != [check.p_value for check in narrow]
    return dark, bright, expected


@pytest.mark.parametrize("failure", [KeyboardInterrupt, torch.OutOfMemoryError])
def test_a_reference_that_could_not_be_computed_again_is_computed_by_the_next_check(dark_and_bright, failure):
    dark, bright, expected = dark_and_bright

    def fail(model):
        if fails and model.fallbacks and checker is not None:
            raise failure

    checker, fails = None, True
    checker = Checker(overflowing(fail), SIMA, nonmembers=dark[5:], batch_size=1, progress=False)
    for _ in range(2):
        with pytest.raises((KeyboardInterrupt, MiaHubError)):
            checker.check(bright, progress=False)
    fails = False
    assert [check.to_dict() for check in checker.check(dark[:2], progress=False)] == [
        check.to_dict() | {"model": checker.model.info.id} for check in expected
    ]


class WatchedLock:
    """A lock that signals when a thread waits for it."""

    def __init__(self):
        self.lock, self.waited_for = threading.Lock(), threading.Event()

    def __enter__(self):
        if not self.lock.acquire(blocking=False):
            self.waited_for.set()
            self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()


def test_two_checks_at_once_share_one_reference_in_the_present_precision(dark_and_bright):
    dark, bright, expected = dark_and_bright
    recomputing, lock, passes = threading.Event(), WatchedLock(), []

    def on_pass(model):
        if model.fallbacks:
            passes.append(threading.current_thread())
            if len(passes) == 8:  # by then the image that overflowed is scored, and the reference is being computed again
                recomputing.set()
                assert lock.waited_for.wait(60)

    checker = Checker(overflowing(on_pass), SIMA, nonmembers=dark[5:], batch_size=1, progress=False)
    checker._reference._computing = lock
    first = threading.Thread(target=checker.check, args=(bright,), kwargs={"progress": False})
    first.start()
    assert recomputing.wait(60)
    checks = checker.check(dark[:2], progress=False)
    first.join()
    assert [check.p_value for check in checks] == [check.p_value for check in expected]
    assert len(passes) == 3 * (2 * 1 + 35 + 1 + 2), "the reference was computed once"
