"""Bounds on ε beside those of jax_privacy 2.0.0, which was written by others: its figures, and itself where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from mia_hub.metrics.epsilon import clopper_pearson_bound, gaussian_one_run_bound, one_run_bound
from mia_hub.metrics.roc import asr

# Images, guesses, right ones, δ; the figures of its one-run bound and of its bound for Gaussian mechanisms, each found to 1e-6.
FIGURES = [
    (10, 10, 10, 0.0, 1.051873215, None),
    (100, 100, 90, 0.0, 1.630823193, None),
    (1000, 60, 58, 0.0, 2.183567215, None),
    (1000, 60, 58, 1e-5, 2.170780475, 3.179338454),
    (500, 500, 330, 1e-5, 0.504228460, 1.014063299),
    (10_000, 1000, 900, 1e-5, 2.015194452, 2.802598208),
]
NEAR = 3e-6


@pytest.fixture(scope="module")
def library():
    """The module alone: the package imports jax at its beginning, and the module does not need it."""
    pytest.importorskip("dp_accounting", reason="compare with jax_privacy: pip install dp_accounting && pip install --no-deps jax_privacy")
    found = importlib.util.find_spec("jax_privacy")
    path = found and found.origin and Path(found.origin).with_name("auditing.py")
    if not path or not path.is_file():
        pytest.skip("compare with jax_privacy: pip install --no-deps 'jax_privacy>=2,<3'")
    spec = importlib.util.spec_from_file_location("jax_privacy_auditing", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("m", "guesses", "correct", "delta", "one_run", "gaussian"), FIGURES)
def test_the_figures_are_those_of_the_library(m, guesses, correct, delta, one_run, gaussian):
    assert one_run_bound(correct, guesses, m, delta=delta).bound == pytest.approx(one_run, abs=NEAR)
    if gaussian is not None:
        assert gaussian_one_run_bound(correct, guesses, m, delta=delta).bound == pytest.approx(gaussian, abs=NEAR)


@pytest.mark.parametrize("shift", [0.5, 1.5, 3.0])
def test_the_same_scores_give_the_same_figures(library, shift):
    rng = np.random.default_rng(3)
    members, nonmembers = rng.normal(shift, 1, 300), rng.normal(0, 1, 340)
    # Its AUC is that of the convex hull of the curve, and so another.
    theirs, scores = library.CanaryScoreAuditor(members, nonmembers), np.concatenate([members, nonmembers])
    labels, threshold = np.repeat([1, 0], [300, 340]), float(np.quantile(nonmembers, 0.98))
    assert asr(scores, labels) == pytest.approx(theirs.max_accuracy(prevalence=0.5), abs=1e-12)
    hits, alarms = int((members >= threshold).sum()), int((nonmembers >= threshold).sum())
    for delta in (0.0, 1e-5, 1e-2):
        at = {"threshold_strategy": library.Explicit(threshold)}
        rates = theirs.epsilon_clopper_pearson(0.05, delta, one_sided=False, **at)
        assert clopper_pearson_bound(hits, alarms, 300, 340, delta=delta).bound == pytest.approx(rates, abs=1e-9)
        if delta == 1e-5:
            for ours, its in ((one_run_bound, theirs.epsilon_one_run), (gaussian_one_run_bound, theirs.epsilon_one_run_fdp)):
                assert ours(hits, hits + alarms, 640, delta=delta).bound == pytest.approx(its(0.05, delta, **at), abs=NEAR)
