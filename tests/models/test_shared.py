"""Threads that query one model at the same time share its forward passes, and each has the result that it would have alone."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mia_hub.attacks import get_attack
from mia_hub.attacks.querying import full_precision
from mia_hub.models.denoiser import takes_resized_images, wrap_denoiser
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.loading import load_model
from mia_hub.models.shared import SharedModel

SIDE = 8
# Seconds; on a busy machine a thread may wait long for its turn.
PATIENCE = 60


class Gated:
    """A model that records the rows of its passes, and waits in each until its gate is open."""

    def __init__(self, most: int = 10**6, condition=None):
        self.passes, self.gate, self.at_once, self.most = [], threading.Event(), 0, most
        self.model = wrap_denoiser(self, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE), condition=condition)

    def __call__(self, x, t, cond=None):
        self.at_once += 1
        assert self.at_once == 1, "one thread at a time"
        self.passes.append(len(x))
        self.gate.wait(PATIENCE)
        self.at_once -= 1
        if (x == 66).any():
            raise KeyboardInterrupt
        if len(x) > self.most or (x == 13).any():
            raise RuntimeError(f"{len(x)} rows are too many")
        shift = cond["text"] if isinstance(cond, dict) else cond
        return x * t.reshape(-1, 1, 1, 1) + (0 if shift is None else shift.reshape(-1, 1, 1, 1))


def submit(shared, pool, numbers, cond=None, rows=2):
    """Threads that each query images of one shade."""

    def query(number):
        with torch.no_grad():
            x = torch.full((rows, 1, SIDE, SIDE), float(number))
            return shared.predict_noise(x, torch.full((rows,), 10), cond and cond(number))

    return [pool.submit(query, number) for number in numbers]


def holds(condition, seconds: float = PATIENCE) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def test_waiting_queries_share_a_pass_and_each_has_its_own_result():
    gated = Gated()
    shared = SharedModel(gated.model, rows=8)
    with ThreadPoolExecutor(10) as pool:
        first = submit(shared, pool, [0])
        assert holds(lambda: gated.passes)
        others = submit(shared, pool, range(1, 10))
        assert holds(lambda: len(shared._line.queue) == 9)
        gated.gate.set()
        for number, future in enumerate([*first, *others]):
            assert torch.equal(future.result(PATIENCE), torch.full((2, 1, SIDE, SIDE), 10.0 * number))
    assert gated.passes == [2, 8, 8, 2]


@pytest.mark.parametrize("kind", ["tensor", "dict", "mixed"])
def test_conditions_go_along(kind):
    gated = Gated(condition=lambda captions: None)
    gated.gate.set()

    def cond(number):
        shift = torch.full((2, 1), number / 8)
        return {"tensor": shift, "dict": {"text": shift}, "mixed": shift if number % 2 else shift.double()}[kind]

    shared = SharedModel(gated.model, rows=100)
    with ThreadPoolExecutor(8) as pool:
        for number, future in enumerate(submit(shared, pool, range(8), cond)):
            assert torch.allclose(future.result(PATIENCE).float(), torch.full((2, 1, SIDE, SIDE), 10.0 * number + number / 8))


def test_only_the_query_at_fault_fails():
    gated = Gated(most=4)
    shared = SharedModel(gated.model, rows=100)
    with ThreadPoolExecutor(20) as pool:
        futures = submit(shared, pool, [0])
        assert holds(lambda: gated.passes)
        futures += submit(shared, pool, range(1, 20))
        assert holds(lambda: len(shared._line.queue) == 19)
        gated.gate.set()
        for number, future in enumerate(futures):
            if number == 13:
                with pytest.raises(RuntimeError, match="2 rows are too many"):
                    future.result(PATIENCE)
            else:
                assert torch.equal(future.result(PATIENCE), torch.full((2, 1, SIDE, SIDE), 10.0 * number))


def test_an_interrupted_pass_leaves_no_thread_waiting():
    gated = Gated()
    shared = SharedModel(gated.model, rows=6)
    with ThreadPoolExecutor(10) as pool:
        futures = submit(shared, pool, [0])
        assert holds(lambda: gated.passes)
        futures += submit(shared, pool, [66, 1, 2, 3, 4, 5, 6])
        assert holds(lambda: len(shared._line.queue) == 7)
        gated.gate.set()
        errors = {number: future.exception(PATIENCE) for number, future in zip([0, 66, 1, 2, 3, 4, 5, 6], futures)}
    assert [number for number, error in errors.items() if error is not None] == [66]
    assert isinstance(errors[66], KeyboardInterrupt)


def test_all_passes_run_in_one_thread_which_ends_with_the_model():
    """Each thread that runs passes keeps working memory of its own."""
    ran_in = set()

    def denoiser(x, t):
        ran_in.add(threading.current_thread())
        return x

    shared = SharedModel(wrap_denoiser(denoiser, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE)), rows=4)
    with ThreadPoolExecutor(8) as pool:
        for future in submit(shared, pool, range(40)):
            future.result(PATIENCE)
    [thread] = ran_in
    del shared, future
    gc.collect()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("inference", [True, False])
def test_a_pass_runs_in_the_mode_of_the_thread_that_waits(inference):
    modes = []

    def denoiser(x, t):
        modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        return x

    shared = SharedModel(wrap_denoiser(denoiser, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE)), rows=4)
    with torch.inference_mode() if inference else torch.no_grad():
        shared.predict_noise(torch.ones(1, 1, SIDE, SIDE), torch.full((1,), 1))
    assert modes == [(inference, False)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_a_queue_of_its_own():
    """As on ZeroGPU, where each question is answered in a fork of the page; here while a pass runs and another query waits."""
    gated = Gated()
    shared = SharedModel(gated.model, rows=2)
    with ThreadPoolExecutor(2) as pool:
        futures = submit(shared, pool, [1, 2])
        assert holds(lambda: gated.passes and shared._line.queue)
        child = os.fork()
        if not child:
            code = 1
            try:
                # What another thread held during the fork stays locked here.
                gated.at_once, gated.gate = 0, threading.Event()
                gated.gate.set()
                with torch.no_grad():
                    answer = shared.predict_noise(torch.ones(1, 1, SIDE, SIDE), torch.full((1,), 3))
                code = 0 if answer[0, 0, 0, 0] == 3 and gated.passes == [2, 1] else 2
            finally:
                os._exit(code)
        ended: list[int] = []
        answered = holds(lambda: ended.extend(status for pid, status in [os.waitpid(child, os.WNOHANG)] if pid) or ended)
        gated.gate.set()
        if not answered:
            os.kill(child, signal.SIGKILL)
        assert [future.result(PATIENCE).mean() for future in futures] == [10, 20]
    assert [os.waitstatus_to_exitcode(status) for status in ended] == [0]


def test_a_process_ends_in_the_middle_of_a_pass():
    """Nobody waits for a page's passes when it is interrupted, and nothing is printed."""
    code = """
import threading, torch
from mia_hub.models.exact import ddpm_alphas_cumprod
from mia_hub.models.denoiser import wrap_denoiser
from mia_hub.models.shared import SharedModel

started = threading.Event()

def denoiser(x, t):
    started.set()
    threading.Event().wait(600)

shared = SharedModel(wrap_denoiser(denoiser, ddpm_alphas_cumprod(), sample_shape=(1, 8, 8)), rows=4)

def query():
    with torch.no_grad():
        shared.predict_noise(torch.ones(1, 1, 8, 8), torch.full((1,), 1))

for _ in range(3):
    threading.Thread(target=query, daemon=True).start()
started.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_back_to_back_every_thread_is_in_every_second_pass():
    """A result that is ready waits for no further pass, so that during each pass all other threads queue for the next."""
    threads, queries = 16, 20
    passes, ended, late = [], [], []

    def denoiser(x, t):
        passes.append(len(x))
        if not late and not holds(lambda: len(shared._line.queue) + len(x) + len(ended) == threads):
            late.append(len(passes))
        return x

    def query(_):
        with torch.no_grad():
            for _ in range(queries):
                shared.predict_noise(torch.ones(1, 1, SIDE, SIDE), torch.full((1,), 1))
        ended.append(1)

    shared = SharedModel(wrap_denoiser(denoiser, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE)), rows=threads)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(query, range(threads)))
    assert not late and sum(passes) == threads * queries
    assert len(passes) <= 2 * queries


def test_a_large_batch_holds_up_no_other_thread():
    """A thread with few rows waits for one pass of a large batch, and not for all of them."""
    gated = Gated()
    shared = SharedModel(gated.model, rows=8)
    started, ended = threading.Event(), []

    def many():
        with torch.no_grad():
            for _ in range(100_000):
                shared.predict_noise(torch.ones(8, 1, SIDE, SIDE), torch.full((8,), 1))
                started.set()
                if ended:
                    break
        ended.append("many")

    gated.gate.set()
    thread = threading.Thread(target=many)
    thread.start()
    started.wait(PATIENCE)
    with torch.no_grad():
        shared.predict_noise(torch.ones(1, 1, SIDE, SIDE), torch.full((1,), 1))
    ended.append("one")
    thread.join(PATIENCE)
    assert ended == ["one", "many"]


def test_an_attack_on_a_shared_model_has_the_same_scores():
    model = wrap_denoiser(lambda x, t: (x * 3).sin(), ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE))
    images = torch.rand((6, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).numpy()
    attack = get_attack("sima", timesteps=(50, 100))
    alone = attack.score(model, images, progress=False)
    shared = SharedModel(model, rows=64)
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(attack.score, shared, images[i : i + 1], progress=False) for i in range(6)]
        assert [future.result(PATIENCE).scores[0].tolist() for future in futures] == [
            pytest.approx(row, rel=1e-6) for row in alone.scores.tolist()
        ]
    assert alone.model == attack.score(shared, images, progress=False).model


def test_a_shared_model_takes_resized_images_if_its_model_does():
    class Own:
        def pixels(self, images):
            raise NotImplementedError

    assert [takes_resized_images(SharedModel(model, 8)) for model in (load_model("demo"), Own())] == [True, False]
    assert not takes_resized_images(object())


def test_queries_with_gradients_are_not_shared():
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


def test_a_model_and_those_that_it_is_compared_with_take_turns():
    """They may be one network, in which a LoRA is switched on and off; no pass is shared between them."""
    running, most, passes = [], [], []

    def denoiser(name, factor):
        def query(x, t):
            running.append(name)
            most.append(len(running))
            # Another thread may run meanwhile.
            torch.ones(200, 200) @ torch.ones(200, 200)
            running.remove(name)
            passes.append((name, len(x)))
            return factor * x

        return wrap_denoiser(query, ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE), name=name)

    own, base, given = denoiser("own", 2), denoiser("base", 3), denoiser("given", 5)
    own.base = base
    shared = SharedModel(own, rows=4)
    other = load_model(shared, base=given)
    assert shared.base.info.id == "base" and other.base.info.id == "given" and other.info is shared.info
    compared = load_model(shared, reference_models=[denoiser("reference model", 7)])
    models, factors = [shared, shared.base, other, other.base, compared.reference_models[0]], [2.0, 3.0, 2.0, 5.0, 7.0]
    with ThreadPoolExecutor(16) as pool:
        futures = [(number % 5, submit(models[number % 5], pool, [number], rows=1)[0]) for number in range(80)]
        for number, (which, future) in enumerate(futures):
            assert torch.equal(future.result(PATIENCE), torch.full((1, 1, SIDE, SIDE), factors[which] * number))
    assert max(most) == 1 and {name for name, _ in passes} == {"own", "base", "given", "reference model"}


@pytest.mark.parametrize("name", ["sima-b", "lira"])
def test_attacks_that_compare_models_score_alike_on_a_shared_model(name):
    own = wrap_denoiser(
        lambda x, t: torch.tanh(x) * (1 + t.reshape(-1, 1, 1, 1) / 1000), ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE)
    )
    base = wrap_denoiser(lambda x, t: torch.tanh(2 * x), ddpm_alphas_cumprod(), sample_shape=(1, SIDE, SIDE), name="base")
    images = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE), dtype=np.uint8)
    attack = get_attack(name, timesteps=(100,))
    given = {"base": base} if attack.uses_base else {"reference_models": [base]}
    plain, shared = load_model(own, **given), load_model(SharedModel(own, rows=4), **given)
    expected = attack.observe(plain, images, progress=False)
    assert np.array_equal(attack.observe(shared, images, progress=False).values, expected.values)
