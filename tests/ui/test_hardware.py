"""ZeroGPU: the function that queries a model runs in a process forked for it; elsewhere nothing is different."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest

from mia_hub import check_image, load_split
from mia_hub.ui.hardware import is_zero_gpu, on_gpu

ROOT = Path(__file__).parents[2]
# As ZeroGPU does it: arguments and result are pickled, the function runs in a forked process, and an error loses its message on the way.
SPACES = """
import multiprocessing, os, pickle

calls = []


def GPU(*, duration):
    def decorate(function):
        def handler(*arguments):
            context = multiprocessing.get_context("fork")
            results, given = context.SimpleQueue(), pickle.dumps(arguments)

            def run():
                try:
                    results.put((os.getpid(), pickle.dumps(function(*pickle.loads(given)))))
                except Exception as error:
                    results.put((os.getpid(), pickle.dumps(type(error).__name__)))

            process = context.Process(target=run)
            process.start()
            pid, result = results.get()
            process.join()
            calls.append([duration(*arguments), pid])
            return pickle.loads(result)

        return handler

    return decorate
"""
SCRIPT = """
import json, os, sys, threading
from mia_hub.splits.loading import load_split
from mia_hub.ui.check import answering, checkers
from mia_hub.ui.check.answering import Question
import spaces

load, in_main = checkers.load_model, []
in_main_thread = lambda: threading.current_thread() is threading.main_thread()
checkers.load_model = lambda name, **options: in_main.append(in_main_thread()) or load(name, **options)
answering.warm_up()
assert in_main[0], "only what the main thread puts onto the GPU is there later"
image = load_split("demo", limit=2).images[0]
one = answering.answer(Question([image]), None)[-1]
few = answering.answer(Question([image] * 3, as_set=True), None)[0].value
unknown = answering.answer(Question([image], "nobody/nothing"), None)[0].value
unreadable = answering.answer(Question([sys.argv[0]]), None)[0].value
print(json.dumps([one["images"][0]["p_value"], few, unknown, unreadable, spaces.calls, os.getpid()]))
"""


@pytest.mark.parametrize("value, zero", [(None, False), ("", False), ("0", False), ("false", False), ("1", True), ("true", True)])
def test_only_zero_gpu_is_zero_gpu(monkeypatch, value, zero):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    if value is not None:
        monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert is_zero_gpu() == zero


@pytest.mark.parametrize("zero", [False, True])
def test_without_zero_gpu_or_its_package_a_function_stays_itself(monkeypatch, zero):
    monkeypatch.setenv("SPACES_ZERO_GPU", "1" if zero else "")
    # None makes its import fail; without ZeroGPU it isn't even tried.
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert on_gpu(30)(len) is len


def test_what_is_queried_and_answered_can_be_pickled():
    from mia_hub.ui.check.answering import Question, _query_model, _seconds
    from mia_hub.ui.check.running import RunningCheck

    image = load_split("demo", limit=2).images[0]
    question, running = Question([image]), RunningCheck(gr.Progress(), "visitor", 1)
    given = pickle.loads(pickle.dumps((question, running)))
    answer, offer = pickle.loads(pickle.dumps(_query_model(*given)))
    assert offer is None and answer["images"][0]["p_value"] == check_image(image).p_value
    few = pickle.loads(pickle.dumps(_query_model(Question([image] * 3, as_set=True), None)))
    assert "One image is too few" in few[0]
    assert (_seconds(question), _seconds(Question([image], "nobody/nothing"))) == (30, 120)


@pytest.mark.slow
def test_the_page_queries_through_a_forked_process(tmp_path):
    (tmp_path / "spaces.py").write_text(SPACES)
    environment = os.environ | {"SPACES_ZERO_GPU": "true", "PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    p_value, few, unknown, unreadable, calls, page = json.loads(done.stdout.splitlines()[-1])
    assert p_value == check_image(load_split("demo", limit=2).images[0]).p_value
    assert "One image is too few" in few and "no model" in unknown and "nobody/nothing" in unknown
    assert "mia-problem" in unreadable
    assert [seconds for seconds, _ in calls] == [30, 30, 120], "no GPU is borrowed where nothing is queried"
    assert all(pid != page for _, pid in calls)
