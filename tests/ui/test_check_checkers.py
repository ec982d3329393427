"""Checks that run at the same time: models are loaded one by one, and a check is cancelled once nobody waits for its answer."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import gradio as gr
import pytest

from mia_hub.checking.checker import Checker
from mia_hub.splits.loading import load_split
from mia_hub.ui import build_app
from mia_hub.ui.check import checkers, running
from mia_hub.ui.check.answering import Question, answer_example, check
from mia_hub.ui.check.events import _numbered, _script
from mia_hub.ui.check.running import RunningCheck, disconnect, supersede


@pytest.fixture(scope="module")
def names(loopback_hub, tiny_pixel_repo):
    """Small models on the Hub."""
    names = [f"at-once/tiny{seed}" for seed in range(2)]
    for seed, name in enumerate(names):
        loopback_hub.add_repo("model", name, tiny_pixel_repo(seed=seed))
    return names


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("images") / "one.png"
    load_split("demo", limit=2).images[0].to_pil().save(path)
    return str(path)


@pytest.fixture
def loads(monkeypatch):
    """Models are loaded as ever, and it is written down: their ``names``, how many ``at_once`` at most, and ``before``, called first."""
    real, lock, now = checkers.load_model, threading.Lock(), []
    loads = SimpleNamespace(names=[], at_once=0, before=lambda name: None)

    def load_model(name, **options):
        with lock:
            now.append(name)
            loads.names.append(name)
            loads.at_once = max(loads.at_once, len(now))
        try:
            loads.before(name)
            return real(name, **options)
        finally:
            now.remove(name)

    monkeypatch.setattr(checkers, "load_model", load_model)
    monkeypatch.setattr(checkers, "_hub_models", {})
    return loads


def scores(image, model) -> list[float]:
    """Of the page's answer."""
    *_, results = check(image, None, model, None)
    return list(results["images"][0]["scores"].values())


def test_the_question_that_warms_the_page_up_has_an_answer():
    with gr.Blocks() as page:
        results = answer_example()
    assert [entry["model"] for entry in results["images"]] == ["demo"] and not page.blocks


def test_models_queried_at_the_same_time_are_loaded_once_and_one_after_the_other(loads, names, image):
    checkers._demo.clear()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: scores(image, names[0]), range(6)))
        assert sorted(loads.names) == sorted(["demo", names[0]])
        models = [*names, "demo"] * 2
        answers += list(pool.map(lambda name: scores(image, name), models))
    assert loads.at_once == 1 and loads.names.count("demo") == 1
    alone = {name: Checker(name).check([image], progress=False)[0].profile.scores for name in {*models}}
    for name, its in zip([names[0]] * 6 + models, answers):
        assert its == pytest.approx(alone[name], rel=1e-4), name


def test_the_last_model_is_let_go_before_the_next_is_loaded(loads, names, image):
    check(image, None, names[0], None)
    last, held = weakref.ref(checkers._hub_models[names[0]]), []
    loads.before = lambda name: held.append(last() is not None)
    check(image, None, names[1], None)
    assert held == [False]


@pytest.mark.parametrize("visited", [False, True])
def test_what_is_loaded_is_kept_but_for_a_visitors_model(visited, monkeypatch):
    monkeypatch.setattr(checkers, "_hub_models", {"owner/name": object()} if visited else {})
    gc.unfreeze()
    try:
        checkers.keep_what_is_loaded()
        assert bool(gc.get_freeze_count()) is not visited
    finally:
        gc.unfreeze()


def test_the_demo_answers_while_somebody_waits_for_a_model(loads, names, image):
    check(image, None, "demo", None)
    loading, go_on = threading.Event(), threading.Event()
    loads.before = lambda name: (loading.set(), go_on.wait(60))
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(scores, image, names[0])
        assert loading.wait(30)
        assert pool.submit(scores, image, "demo").result(30)
        assert not slow.done()
        go_on.set()
        assert slow.result(30)


def test_whoever_has_left_while_waiting_loads_no_model(loads, names, image):
    visitor, descriptions = SimpleNamespace(session_hash="visitor"), []

    def progress(*_, desc, **__):
        descriptions.append(desc)
        disconnect(visitor)

    answer, *_ = check(image, None, names[0], None, progress=progress, request=visitor)
    assert "broke off" in answer.value
    assert descriptions == [f"Loading {names[0]}"] and names[0] not in loads.names


def test_every_change_and_every_start_supersedes_earlier_checks():
    functions = list(build_app().fns.values())

    def targets(is_it):
        return {target for one in functions if is_it(one) for target in one.targets}

    starts, counts, changes = (targets(lambda one, name=name: one.js == _script(name)) for name in ("begin", "next", "change"))
    edits = targets(lambda one: one.js == _script("edit"))
    withdrawals = targets(lambda one: one.js in (_script("clear"), _script("stop")))
    [superseding] = [one for one in functions if one.fn is supersede]
    counted = {one.outputs[0] for one in functions if one.js in map(_script, ("next", "change", "edit", "clear", "stop"))}
    assert starts == counts and (len(starts), len(changes), len(edits), len(withdrawals)) == (9, 8, 2, 2)
    assert counted == {*superseding.inputs} and superseding.targets == [(superseding.inputs[0]._id, "change")]


def test_a_superseded_check_stops_and_shows_nothing(names, image):
    visitor, scored = SimpleNamespace(session_hash="visitor"), []

    def progress(batch, *, desc, **_):
        if desc == "Scoring":
            scored.append(batch)
            supersede(2, visitor)

    outputs = _numbered(Question([image] * 130, names[0]), RunningCheck(progress, "visitor", 1), None)
    assert len(scored) == 1 and list(outputs) == [gr.skip()] * 9


def test_the_higher_number_counts_in_whichever_order_checks_arrive():
    with RunningCheck(None, "visitor", 2) as second, RunningCheck(None, "visitor", 1) as first, RunningCheck(None, "other", 1) as other:
        assert first.superseded and not second.superseded and not other.superseded
        with RunningCheck(None, "visitor") as program:
            supersede(9, SimpleNamespace(session_hash="visitor"))
            assert second.superseded and not program.superseded
        with RunningCheck(None, "visitor", 8) as late:
            assert late.superseded
    disconnect(SimpleNamespace(session_hash="visitor"))
    with RunningCheck(None, "visitor", 1) as anew:
        assert not anew.superseded
    for session in ("visitor", "other"):
        disconnect(SimpleNamespace(session_hash=session))
    assert not running._latest


def test_who_leaves_gives_up_what_is_under_way_and_nothing_else(names, image):
    """Gradio says that a session ends whenever its connection does, and the page may be open still."""
    visitor, other = (SimpleNamespace(session_hash=name) for name in ("visitor", "other"))

    def check_while(request, leaves) -> tuple[str, dict | None, int]:
        """The answer, all of it, and how often the progress of scoring was shown; somebody leaves at the first time."""
        scored = []

        def progress(seen, *, desc, **_):
            if desc == "Scoring":
                scored.append(seen)
                if len(scored) == 1:
                    disconnect(leaves)

        answer, *_, results = check(None, [image] * 130, names[0], None, progress=progress, request=request)
        return answer.value, results, len(scored)

    answer, results, given_up = check_while(visitor, leaves=visitor)
    assert "broke off" in answer and results is None
    answer, results, whole = check_while(visitor, leaves=other)
    assert len(results["images"]) == 130 and 1 == given_up < whole
    assert not running._running
