"""Threads that ask one model at the same time share its forward passes, and each gets what it would have got alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mia_hub.attacks import get_attack
from mia_hub.attacks.querying import full_precision
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.shared import SharedModel

SIDE = 8


class Slow:
    """A model that tells of the rows of its passes, and waits in each until it is let go on."""

    def __init__(self, most: int = 10**6, condition=None):
        self.passes, self.gate, self.at_once, self.most = [], threading.Event(), 0, most
        self.model = wrap_denoiser(self, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE), condition=condition)

    def __call__(self, x, t, cond=None):
        self.at_once += 1
        assert self.at_once == 1, "one thread at a time"
        self.passes.append(len(x))
        self.gate.wait(10)
        self.at_once -= 1
        if (x == 66).any():
            raise KeyboardInterrupt
        if len(x) > self.most or (x == 13).any():
            raise RuntimeError(f"{len(x)} rows are too many")
        told = cond["text"] if isinstance(cond, dict) else cond
        return x * t.reshape(-1, 1, 1, 1) + (0 if told is None else told.reshape(-1, 1, 1, 1))


def asking(shared, pool, numbers, cond=None, rows=2):
    """Threads that each ask about images of one shade, all of them in line before the first pass ends."""

    def ask(number):
        with torch.no_grad():
            x = torch.full((rows, 1, SIDE, SIDE), float(number))
            return shared.predict_noise(x, torch.full((rows,), 10), cond and cond(number))

    return [pool.submit(ask, number) for number in numbers]


def comes(condition, seconds: float = 10) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def test_what_waits_goes_through_together_and_each_gets_its_own():
    slow = Slow()
    shared = SharedModel(slow.model, rows=8)
    with ThreadPoolExecutor(10) as pool:
        first = asking(shared, pool, [0])
        assert comes(lambda: slow.passes)
        others = asking(shared, pool, range(1, 10))
        assert comes(lambda: len(shared._queue) == 9)
        slow.gate.set()
        for number, found in enumerate([*first, *others]):
            assert torch.equal(found.result(10), torch.full((2, 1, SIDE, SIDE), 10.0 * number))
    assert slow.passes == [2, 8, 8, 2]


@pytest.mark.parametrize("kind", ["tensor", "dict", "mixed"])
def test_conditions_go_along(kind):
    slow = Slow(condition=lambda captions: None)
    slow.gate.set()

    def cond(number):
        told = torch.full((2, 1), number / 8)
        return {"tensor": told, "dict": {"text": told}, "mixed": told if number % 2 else told.double()}[kind]

    shared = SharedModel(slow.model, rows=100)
    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(asking(shared, pool, range(8), cond)):
            assert torch.allclose(found.result(10).float(), torch.full((2, 1, SIDE, SIDE), 10.0 * number + number / 8))


def test_trouble_of_one_is_no_trouble_of_others():
    slow = Slow(most=4)
    shared = SharedModel(slow.model, rows=100)
    with ThreadPoolExecutor(20) as pool:
        found = asking(shared, pool, range(20))
        assert comes(lambda: len(shared._queue) == 19)
        slow.gate.set()
        for number, one in enumerate(found):
            if number == 13:
                with pytest.raises(RuntimeError, match="2 rows are too many"):
                    one.result(10)
            else:
                assert torch.equal(one.result(10), torch.full((2, 1, SIDE, SIDE), 10.0 * number))


def test_an_interrupted_pass_leaves_nobody_waiting():
    slow = Slow()
    shared = SharedModel(slow.model, rows=6)
    together, behind = [66, 1, 2], [3, 4, 5, 6]
    with ThreadPoolExecutor(10) as pool:
        [first] = asking(shared, pool, [0])
        assert comes(lambda: slow.passes)
        found = asking(shared, pool, together)
        assert comes(lambda: len(shared._queue) == 3)
        found += asking(shared, pool, behind)
        assert comes(lambda: len(shared._queue) == 7)
        slow.gate.set()
        errors = {number: one.exception(10) for number, one in zip(together + behind, found)}
    assert first.exception() is None
    # Whoever ran it is interrupted, in it or behind it.
    [runner] = [number for number, error in errors.items() if isinstance(error, KeyboardInterrupt)]
    for number in {*together, *behind} - {runner}:
        assert ("was interrupted" in str(errors[number])) if number in together else (errors[number] is None)
    with torch.no_grad():
        assert shared.predict_noise(torch.ones(1, 1, SIDE, SIDE), torch.full((1,), 3))[0, 0, 0, 0] == 3


def test_back_to_back_everybody_is_in_every_second_pass():
    """An answer that is ready waits for no further pass, so that during each pass all the others come to stand in line for the next."""
    threads, asks = 16, 20
    passes, ended, late = [], [], []

    def denoiser(x, t):
        passes.append(len(x))
        if not late and not comes(lambda: len(shared._queue) + len(x) + len(ended) == threads):
            late.append(len(passes))
        return x

    def ask(_):
        with torch.no_grad():
            for _ in range(asks):
                shared.predict_noise(torch.ones(1, 1, SIDE, SIDE), torch.full((1,), 1))
        ended.append(1)

    shared = SharedModel(wrap_denoiser(denoiser, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE)), rows=threads)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(threads)))
    assert not late and sum(passes) == threads * asks
    assert len(passes) <= 2 * asks


def test_a_long_question_holds_nobody_up():
    """Somebody with few rows waits for one pass of a large batch, and not for all of them."""
    slow = Slow()
    shared = SharedModel(slow.model, rows=8)
    long, ends = threading.Event(), []

    def many():
        with torch.no_grad():
            for _ in range(50):
                shared.predict_noise(torch.ones(8, 1, SIDE, SIDE), torch.full((8,), 1))
                long.set()
                time.sleep(0.002)
        ends.append("many")

    slow.gate.set()
    thread = threading.Thread(target=many)
    thread.start()
    long.wait(10)
    with torch.no_grad():
        shared.predict_noise(torch.ones(1, 1, SIDE, SIDE), torch.full((1,), 1))
    ends.append("one")
    thread.join(30)
    assert ends == ["one", "many"]


def test_an_attack_on_a_shared_model_finds_the_same():
    model = wrap_denoiser(lambda x, t: (x * 3).sin(), ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE))
    images = torch.rand((6, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).numpy()
    attack = get_attack("sima", timesteps=(50, 100))
    alone = attack.score(model, images, progress=False)
    shared = SharedModel(model, rows=64)
    with ThreadPoolExecutor(6) as pool:
        found = [pool.submit(attack.score, shared, images[i : i + 1], progress=False) for i in range(6)]
        assert [one.result(30).scores[0].tolist() for one in found] == [pytest.approx(row, rel=1e-6) for row in alone.scores.tolist()]
    assert alone.model == attack.score(shared, images, progress=False).model


def test_gradients_are_asked_for_alone():
    weight = torch.nn.Parameter(torch.tensor(2.0))
    model = wrap_denoiser(lambda x, t: weight * x, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE))
    SharedModel(model, rows=8).predict_noise(torch.ones(1, 1, SIDE, SIDE), torch.zeros(1, dtype=torch.long)).sum().backward()
    assert weight.grad == SIDE * SIDE


def test_full_precision_ends_with_the_last_thread(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with full_precision():
        first = full_precision()
        first.__enter__()
        assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.allow_tf32, "another thread is still inside"
    first.__exit__(None, None, None)
    assert torch.backends.cudnn.allow_tf32
