"""Questions that the page answers at the same time: models are loaded one by one; what somebody asks who leaves is given up."""

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
from mia_hub.ui import build_app, check_tab


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
    real, lock, now = check_tab.load_model, threading.Lock(), []
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

    monkeypatch.setattr(check_tab, "load_model", load_model)
    monkeypatch.setattr(check_tab, "_hub_models", {})
    return loads


def scores(image, model) -> list[float]:
    """Of the page's answer."""
    *_, found = check_tab.check(image, None, model, None)
    return list(found["images"][0]["scores"].values())


def test_models_asked_at_the_same_time_are_loaded_once_and_one_after_the_other(loads, names, image, monkeypatch):
    monkeypatch.setattr(check_tab, "_demo", [])
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: scores(image, names[0]), range(6)))
        assert sorted(loads.names) == sorted(["demo", names[0]])
        asked = [*names, "demo"] * 2
        found += list(pool.map(lambda name: scores(image, name), asked))
    assert loads.at_once == 1 and loads.names.count("demo") == 1
    alone = {name: Checker(name).check([image], progress=False)[0].profile.scores for name in {*asked}}
    for name, its in zip([names[0]] * 6 + asked, found):
        assert its == pytest.approx(alone[name], rel=1e-4), name


def test_the_last_model_is_let_go_before_the_next_is_loaded(loads, names, image):
    check_tab.check(image, None, names[0], None)
    last, held = weakref.ref(check_tab._hub_models[names[0]]), []
    loads.before = lambda name: (gc.collect(), held.append(last() is not None))
    check_tab.check(image, None, names[1], None)
    assert held == [False]


def test_the_demo_answers_while_somebody_waits_for_a_model(loads, names, image):
    check_tab.check(image, None, "demo", None)
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
    visitor, said = SimpleNamespace(session_hash="visitor"), []

    def progress(*_, desc, **__):
        said.append(desc)
        check_tab.leave(visitor)

    answer, *_ = check_tab.check(image, None, names[0], None, progress=progress, request=visitor)
    assert "broke off" in answer.value
    assert said == [f"Loading {names[0]}"] and names[0] not in loads.names


def test_a_question_that_is_changed_is_given_up():
    functions = list(build_app().fns.values())
    forgetting, leaving = (
        {target for one in functions if is_it(one) for target in one.targets}
        for is_it in (lambda one: one.js == check_tab.FORGET_ALL, lambda one: one.fn is check_tab.drop)
    )
    stopping, asking = ({target for one in functions if one.js == js for target in one.targets} for js in (check_tab.STOP, check_tab.BEGIN))
    assert (len(forgetting), len(stopping), len(asking)) == (6, 1, 7) and stopping | asking == leaving


def test_a_dropped_question_shows_nothing(image):
    visitor, scored = SimpleNamespace(session_hash="visitor"), []

    def progress(seen, **_):
        scored.append(seen)
        check_tab.drop(visitor)

    shown = check_tab.check(None, [image] * 130, "demo", None, progress=progress, request=visitor)
    assert len(scored) == 1 and list(shown) == [gr.skip()] * 7


def test_who_leaves_gives_up_what_is_under_way_and_nothing_else(names, image):
    """Gradio says that a session ends whenever its connection does, and the page may be open still."""
    visitor, other = (SimpleNamespace(session_hash=name) for name in ("visitor", "other"))

    def ask(request, leaves) -> tuple[str, dict | None, int]:
        """The answer, all of it, and how often the progress of scoring was shown; somebody leaves at the first time."""
        scored = []

        def progress(seen, *, desc, **_):
            if desc == "Scoring":
                scored.append(seen)
                if len(scored) == 1:
                    check_tab.leave(leaves)

        answer, *_, found = check_tab.check(None, [image] * 130, names[0], None, progress=progress, request=request)
        return answer.value, found, len(scored)

    answer, found, given_up = ask(visitor, leaves=visitor)
    assert "broke off" in answer and found is None
    answer, found, whole = ask(visitor, leaves=other)
    assert len(found["images"]) == 130 and 1 == given_up < whole
    assert not check_tab._under_way
