"""Reports and answers with made-up scores, and what a reader sees of a page."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from html.parser import HTMLParser

import numpy as np

from mia_hub.auditing.measurement import measure
from mia_hub.auditing.report import AuditReport, Cost
from mia_hub.checking.image_answers import Band, ImageCheck, Profile
from mia_hub.checking.verdict_texts import image_caveats, image_sentence
from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, NO_NULL, verdict_of
from mia_hub.flags import Flag, flag
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.p_values import MARGINAL, NullDistribution
from mia_hub.references.verdict_scores import VerdictScores
from mia_hub.scores import ScoreTable
from mia_hub.system.provenance import provenance

TIMESTEPS = tuple(range(0, 201, 20))
NASTY = "<script>alert('x')</script> & \"`|*_[a](http://evil.example/)"
ATTACK = "SimA(timesteps=(0, 20), p=4)"


@lru_cache
def scores(n: int = 400, gap: float = 1.0) -> ScoreTable:
    rng = np.random.default_rng(7)
    labels = np.repeat([1, 0], n)
    t = np.array(TIMESTEPS)
    bump = np.exp(-(((t - 80) / 50) ** 2))
    values = -6 + bump + rng.normal(size=(2 * n, 1)) * 0.3 + rng.normal(size=(2 * n, len(t))) * 0.3 + gap * 0.6 * labels[:, None] * bump
    model = {"id": "demo", "revision": "sha256:12ab", "family": "pixel", "sample_shape": [1, 32, 32], "num_train_timesteps": 1000}
    return ScoreTable([f"id{i}" for i in range(2 * n)], labels, t, values, ATTACK, model, queries=2 * n * len(t), seconds=3.5)


def a_report(*, gap: float = 1.0, blind: Estimate | None = None, flags: tuple[Flag, ...] = (), **options) -> AuditReport:
    table = scores(gap=gap)
    measured = measure(table, **{"fprs": (0.01,), **options})
    selected = measured.at_selected
    split = {"name": "demo", "revision": None, "hash": "sha256:77", "n_members": 400, "n_nonmembers": 400}
    return AuditReport(
        table.attack, table.model, split, measured.selection, selected.auc, selected.asr, selected.tpr_at_fpr, measured.rows, measured.roc,
        blind, (*measured.flags, *flags), Cost(11, table.queries, 3.5, len(table) / 3.5, None), provenance(seed=0, device="cpu"),
    )  # fmt: skip


@lru_cache
def fair() -> AuditReport:
    return a_report(blind=Estimate(0.507, 0.468, 0.546, 400, 400))


@lru_cache
def shifted() -> AuditReport:
    return a_report(
        blind=Estimate(0.713, 0.678, 0.748, 400, 400),
        flags=(flag("distribution-shift", "a blind classifier reaches AUC 0.713 [0.678, 0.748]; chance is 0.5"),),
    )


def a_check(row, *, name="image.png", verdict=None, bands=True, q_value=None, calibration=MARGINAL) -> ImageCheck:
    """The answer for one row of `scores`, as `Checker` makes it; with a verdict: one that needs no p-value."""
    table = scores()
    null = NullDistribution.from_table(table, 80)
    members, nonmembers = (Band.of(table.scores[table.is_member == label]) if bands else None for label in (1, 0))
    score, p, share, n, known = float(table.at(80)[row]), None, None, 0 if verdict == NO_NULL else 400, None
    kinds = {}
    if verdict is None:
        judged = replace(null.judge(score, table.ids[row]), calibration=calibration)
        p, share, n = judged.p_value, judged.share_below, judged.n
        kinds = {"calibration": calibration, "p_value_conditional": judged.p_conditional, "p_value_marginal": judged.p_marginal}
        verdict = verdict_of(p, q_value)
        known = VerdictScores.of(null.scores, table.at(80)[table.is_member == 1], null.critical and null.critical.score)
    asked = {"model": "demo", "source": None if verdict == NO_NULL else "the demo's non-members, greyscale images of clothing"}
    figures = {"p_value": p, "q_value": q_value, "share_below": share, "n_null": n}
    return ImageCheck(
        name=name,
        id=f"id{row}",
        **asked,
        attack="sima",
        verdict=verdict,
        sentence=image_sentence(verdict, **asked, **figures, calibration=kinds.get("calibration")),
        caveats=image_caveats(verdict, p, q_value, n, Estimate(0.18, 0.15, 0.21, 400, 400), calibration=kinds.get("calibration")),
        profile=Profile(TIMESTEPS, tuple(table.scores[row].tolist()), members, nonmembers),
        timestep=80,
        score=score,
        **figures,
        comparable=True,
        notes=("It was scaled from 640×480 to the model's 32×32 pixels, which changes its score.",),
        known_scores=known,
        **kinds,
    )


@lru_cache
def evidence(**options) -> ImageCheck:
    """The member of highest score."""
    check = a_check(int(np.argmax(scores().at(80)[:400])), **options)
    assert check.verdict == EVIDENCE
    return check


@lru_cache
def doubtful(**options) -> ImageCheck:
    """The median non-member."""
    check = a_check(400 + int(np.argsort(scores().at(80)[400:])[200]), **options)
    assert check.verdict == CANNOT_TELL
    return check


def hostile() -> AuditReport:
    report = fair()
    return replace(
        report,
        attack=NASTY,
        model=report.model | {"id": NASTY, "family": NASTY},
        split=report.split | {"name": NASTY},
        selection=report.selection | {"description": NASTY},
        flags=(Flag(NASTY, NASTY, NASTY),),
        provenance=report.provenance | {NASTY: NASTY},
    )


class Text(HTMLParser):
    """Visible words, tags and attributes of a page."""

    VOID, INLINE = ("meta", "link", "br", "img"), ("span", "strong", "em", "code", "b")

    def __init__(self, page: str):
        super().__init__()
        self.words, self.tags, self.attributes, self.open = [], [], [], []
        self.feed(page)
        self.text = " ".join("".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._boundary(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        self._boundary(tag)

    def _boundary(self, tag):
        if tag not in self.INLINE:
            self.words.append(" ")

    def handle_data(self, data):
        if not {"style", "title"} & set(self.open):
            self.words.append(data)
