"""`score_prompts`: which prompts has a text-to-image model memorised?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mia_hub.checking.verdicts import NO_NULL, verdict_of
from mia_hub.errors import PromptError, integer_at_least
from mia_hub.metrics.estimates import Estimate
from mia_hub.metrics.intervals import delong, tpr_at_fpr_interval
from mia_hub.metrics.p_values import ALPHA, ENOUGH_NULL, FALSE_DISCOVERY_RATE, FEWEST_NULL, CriticalScore, Judgement, adjusted
from mia_hub.metrics.roc import auc, tpr_at_fpr
from mia_hub.models.loading import load_model
from mia_hub.models.precision import precision_of
from mia_hub.models.protocol import DiffusionModel
from mia_hub.prompts import get_detector
from mia_hub.prompts.detector import PromptDetector
from mia_hub.prompts.observing import DrawnScores, observe
from mia_hub.prompts.reading import Prompts, check_apart
from mia_hub.prompts.report import PromptReport, PromptScore

Floats = npt.NDArray[np.float64]
RATES = (0.01, 0.001)
NONE = Prompts(())


def score_prompts(
    prompts: str | Iterable[str],
    model: str | DiffusionModel,
    *,
    unmemorised: str | Iterable[str] | None = None,
    memorised: str | Iterable[str] | None = None,
    detector: str | PromptDetector = "guidance-norm",
    batch_size: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    progress: bool = True,
) -> PromptReport:
    """Score prompts of a text-to-image model; a higher score means that a prompt is more likely memorised.

    Args:
        prompts: texts; see `mia_hub.prompts.reading.read_prompts` for those in a file.
        model: a folder, a Hub id, or a DiffusionModel; conditioned on text.
        unmemorised: prompts that the model has certainly not memorised, of the same kind, such as captions that were held out: with 20 or
            more, each prompt gets a p-value, and with 99 or more it can get evidence.
        memorised: prompts that the model is known to have memorised: with unmemorised ones, they measure the detector.
        detector: a name of `mia_hub.prompts.list_detectors`, also with parameters as in "curvature:form=exact,draws=8"; or a
            PromptDetector. Choose it before you see the scores.
        batch_size: rows per forward pass; by default as many as fit. Halved when memory runs out.
        seed: of the noise draws.
        device, dtype, revision: as for `mia_hub.load_model`.
        progress: shows a progress bar.

    Returns:
        A PromptReport: ``.prompts``, the highest score first, ``.auc``, ``.to_dict()``, ``.to_text()``.

    Raises:
        PromptError: for a model that takes no prompts or has no prediction without one; for prompts that can't be scored, or are of two
            kinds at once; with too few unmemorised prompts; for an unknown detector.
        ModelError: if the model can't be loaded, or fails while it is queried.
    """
    chosen = get_detector(detector)
    integer_at_least("seed", seed, 0, PromptError)
    candidates = Prompts.checked(prompts, "prompts")
    null_prompts = NONE if unmemorised is None else Prompts.checked(unmemorised, "unmemorised prompts")
    positive_prompts = NONE if memorised is None else Prompts.checked(memorised, "memorised prompts")
    _check_known(candidates, null_prompts, positive_prompts, given=(unmemorised is not None, memorised is not None))
    loaded = load_model(model, device=device, dtype=dtype, revision=revision)
    chosen.check(loaded)
    texts = [*candidates.texts, *null_prompts.texts, *positive_prompts.texts]
    drawn = observe(chosen, loaded, texts, batch_size=batch_size, seed=seed, progress=progress)
    own, null, positive = np.split(drawn.values, np.cumsum([len(candidates), len(null_prompts)]))
    answers = _answers(candidates.texts, own, null.mean(axis=1), _cut_off(loaded, candidates.texts))
    measured = _measured(positive.mean(axis=1), null.mean(axis=1), seed)
    critical = CriticalScore.of(null.mean(axis=1)) if len(null) else None
    return PromptReport(
        model=loaded.info.to_dict(),
        detector=repr(chosen),
        name=chosen.name,
        paper=chosen.paper,
        timestep=chosen.start(loaded),
        seed=seed,
        draws=chosen.draws,
        queries_per_prompt=chosen.queries_per_prompt,
        queries=drawn.queries,
        seconds=drawn.seconds,
        device=drawn.device,
        precision=precision_of(loaded),
        prompts=answers,
        unmemorised=tuple(null.mean(axis=1).tolist()),
        memorised=tuple(positive.mean(axis=1).tolist()),
        critical=None if critical is None else critical.score,
        auc=measured[0] if measured else None,
        tpr_at_fpr=measured[1] if measured else None,
        notes=tuple(_notes(candidates, null_prompts, positive_prompts, answers, drawn)),
    )


def _check_known(candidates: Prompts, null_prompts: Prompts, positive_prompts: Prompts, *, given: tuple[bool, bool]) -> None:
    """Refuse kinds of prompts that overlap, and too few known ones."""
    names = ("prompts", "unmemorised prompts", "memorised prompts")
    for one, other in ((0, 1), (0, 2), (2, 1)):
        kinds = (candidates, null_prompts, positive_prompts)
        check_apart(kinds[one], kinds[other], (names[one], names[other]))
    if given[0] and len(null_prompts) < FEWEST_NULL:
        raise PromptError(
            f"{len(null_prompts)} different unmemorised prompts are too few for a p-value: give at least {FEWEST_NULL}, better "
            f"{ENOUGH_NULL} or more, without which no prompt can get evidence (p ≤ {ALPHA:g})."
        )
    if given[1] and not given[0]:
        raise PromptError("Memorised prompts measure the detector together with unmemorised ones; give both kinds, or leave them out.")


def _answers(texts: Sequence[str], drawn: Floats, null: Floats, cut_off: Sequence[bool]) -> tuple[PromptScore, ...]:
    """Return the answers, the highest score first.

    Args:
        texts: N prompts.
        drawn: their statistics, ``[N, draws]``.
        null: scores of the unmemorised prompts, maybe of none.
        cut_off: whether the end of each prompt has no part in its score.
    """
    scores, draws = drawn.mean(axis=1), drawn.shape[1]
    errors = drawn.std(axis=1, ddof=1) / np.sqrt(draws) if draws > 1 else [None] * len(texts)
    p_values = [Judgement.among(float(score), null).p_value if len(null) else None for score in scores]
    judged = [p for p in p_values if p is not None]
    q_values = adjusted(judged).tolist() if len(judged) > 1 else [None] * len(texts)
    order = np.argsort(-scores, kind="stable")
    return tuple(
        PromptScore(
            prompt=texts[i],
            rank=1 + int((scores > scores[i]).sum()),
            score=float(scores[i]),
            standard_error=None if errors[i] is None else float(errors[i]),
            verdict=NO_NULL if (p := p_values[i]) is None else verdict_of(p, q_values[i]),
            p_value=p,
            q_value=q_values[i],
            cut_off=cut_off[i],
        )
        for i in order
    )


def _cut_off(model: DiffusionModel, texts: Sequence[str]) -> list[bool]:
    """Return whether each prompt is longer than the model's text encoders take."""
    count: Any = getattr(model, "truncated", None)
    return [bool(count is not None and count([text])) for text in texts]


def _measured(memorised: Floats, unmemorised: Floats, seed: int) -> tuple[Estimate, dict[float, Estimate]] | None:
    """Return the AUC, and the detected share by false-positive rate, of known prompts; None without memorised ones."""
    if not len(memorised):
        return None
    scores, labels = np.concatenate([memorised, unmemorised]), np.repeat([1, 0], [len(memorised), len(unmemorised)])
    counts = len(memorised), len(unmemorised)
    rates = [rate for rate in RATES if rate * len(unmemorised) >= 1]
    detected = {
        rate: Estimate(tpr_at_fpr(scores, labels, rate), *tpr_at_fpr_interval(scores, labels, rate, seed=seed), *counts) for rate in rates
    }
    return Estimate(auc(scores, labels), *delong(scores, labels), *counts), detected


def _notes(
    candidates: Prompts, null_prompts: Prompts, positive_prompts: Prompts, answers: Sequence[PromptScore], drawn: DrawnScores
) -> list[str]:
    """Return what the reader must know, in sentences."""
    notes = []
    for kind, prompts in (("prompts", candidates), ("unmemorised prompts", null_prompts), ("memorised prompts", positive_prompts)):
        if prompts.repeated:
            notes.append(f"{prompts.repeated:,} repeated {kind} count once.")
    cut_off = sum(answer.cut_off for answer in answers)
    if cut_off:
        notes.append(f"{cut_off:,} of the prompts {'are' if cut_off > 1 else 'is'} longer than the text encoder takes: the end is cut off.")
    if "precision-fallback" in drawn.remarks:
        notes.append(f"{drawn.remarks['precision-fallback'][0].upper()}{drawn.remarks['precision-fallback'][1:]}.")
    n, m = len(null_prompts), len(answers)
    if 0 < n < ENOUGH_NULL:
        notes.append(
            f"With {n} unmemorised prompts no p-value is below {1 / (n + 1):.3g}, so none is evidence: give {ENOUGH_NULL} or more."
        )
    elif n and (needed := round(m / FALSE_DISCOVERY_RATE) - 1) > n and m > 1:
        notes.append(
            f"If one of these {m:,} prompts alone is memorised, it takes {needed:,} unmemorised prompts to get evidence, and {n:,} are "
            "given; if several are memorised, fewer suffice."
        )
    return notes
