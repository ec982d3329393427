"""Answers about images in words: as text for a terminal, as rows of a table, and as fragments for a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mia_hub.checking.image_answers import ImageCheck
from mia_hub.checking.set_answers import SetCheck
from mia_hub.checking.verdict_texts import P_VALUE_CAVEAT, P_VALUE_IN_GENERAL, VERDICTS, q_value_text
from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE, NO_NULL, NOT_COMPARABLE
from mia_hub.metrics.p_values import ALPHA, CONDITIONAL, MARGINAL
from mia_hub.rendering.html import fragment
from mia_hub.rendering.numbers import floored_percent, p_text
from mia_hub.rendering.terminal import bullets, columns, paragraph, table
from mia_hub.rendering.text import MISSING, Rows, shorten

if TYPE_CHECKING:
    from markupsafe import Markup

NAME_WIDTH, TABLE_NAME_WIDTH = 34, 24
# Images that a note names; of more it says how many they are.
MOST_NAMED = 3
SHORT_VERDICTS = {EVIDENCE: "evidence", NOT_COMPARABLE: "not comparable", NO_NULL: "no verdict"}
# By what the p-value that decides holds for, the name of the other one.
OTHER_P_VALUES = {
    CONDITIONAL: "p-value if it only had to hold on average over references",
    MARGINAL: "p-value that holds for this one reference, with 95 % confidence",
}
Q_VALUE = f"p, adjusted for the images checked together; p above {ALPHA:g} counts as 1"


def image_figures(check: ImageCheck) -> Rows:
    """Return names and values of one answer's figures, without those that it doesn't have."""
    rows = [["Model", check.model], ["Attack", check.attack]]
    if check.p_value is not None:
        rows.append(["Compared with", f"{check.n_null:,} of {check.source}"])
    rows += [["Timestep", f"t = {check.timestep}"], ["Membership score (higher = more like a training image)", _score_text(check.score)]]
    if check.share_below is not None:
        rows.append(["Known non-members with a lower score", f"{floored_percent(check.share_below):.1f} %"])
    if check.p_value is not None:
        rows.append(["p-value", p_text(check.p_value)])
        other = check.p_value_marginal if check.calibration == CONDITIONAL else check.p_value_conditional
        if check.calibration and other is not None:
            rows.append([OTHER_P_VALUES[check.calibration], p_text(other)])
    if check.candidate is not None:
        rows.append(["Most like a training image", check.candidate])
    if check.q_value is not None:
        rows.append([f"q-value ({Q_VALUE})", p_text(check.q_value)])
    return rows


def _score_text(score: float) -> str:
    return f"{score:.4g}".replace("-", "−")


# As text for a terminal.


def check_text(checks: Sequence[ImageCheck], *, model: str, attack: str, left_out: Sequence[str] = ()) -> str:
    """Return answers as text: one image in full, several as a table; then sentences on what was left out."""
    if not checks:
        lines = ["No images were checked."]
    elif len(checks) == 1:
        lines = _one_image_text(checks[0])
    else:
        lines = [*_several_images_text(checks), "", *paragraph(f"Model: {model}"), *paragraph(f"Attack: {attack}")]
    return "\n".join([*lines, *(["", "Left out", *bullets(left_out)] if left_out else [])]) + "\n"


def _one_image_text(check: ImageCheck) -> list[str]:
    lines = [*paragraph(check.name), "", *paragraph(check.sentence, "  ")]
    lines += ["", *columns(image_figures(check)), "", "What this does not mean", *bullets(check.caveats)]
    return lines + (["", "About this image", *bullets(check.notes)] if check.notes else [])


def _several_images_text(checks: Sequence[ImageCheck]) -> list[str]:
    rows = [
        [
            _short_name(c.name),
            short_verdict(c),
            *(MISSING if p is None else p_text(p) for p in (c.p_value, c.q_value)),
            _score_text(c.score),
        ]
        for c in checks
    ]
    lines = table([["image", "verdict", "p", "q", "score"], *rows], left=2)
    lines += ["", *paragraph(_tally_text(checks)), *paragraph(f"Scores: higher = more like a training image; at t = {checks[0].timestep}.")]
    lines += ["", "What this does not mean", *bullets(shared_caveats(checks))]
    counted = counted_notes(checks)
    return lines + (["", "About these images", *bullets(counted)] if counted else [])


def counted_notes(checks: Sequence[ImageCheck]) -> list[str]:
    """Return the notes on several images, each once, with the names of the images that have it, or their number if they are many."""
    named: dict[str, list[str]] = {}
    for check in checks:
        for note in check.notes:
            named.setdefault(note, []).append(_short_name(check.name))

    def those(names: list[str]) -> str:
        if 1 < len(names) == len(checks):
            return f"all {len(names):,} images"
        return ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names):,} images"

    return [f"{note} ({those(names)})" for note, names in named.items()]


def _tally_text(checks: Sequence[ImageCheck]) -> str:
    """Return how many images got which verdict, and what q-values are where there are any."""
    counts = Counter(map(short_verdict, checks))
    tally = f"{len(checks)} images: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}."
    n_judged = sum(check.q_value is not None for check in checks)
    return f"{tally} {q_value_text(n_judged)}" if n_judged else tally


def together_text(checks: Sequence[ImageCheck]) -> str:
    """Return the summary of several answers in a sentence."""
    evidence, judged = (sum(check.verdict in verdicts for check in checks) for verdicts in ((EVIDENCE,), (EVIDENCE, CANNOT_TELL)))
    together = f"{len(checks)} images checked together on the model {checks[0].model}: "
    if not judged:
        return f"{together}none could be judged."
    of = "" if judged == len(checks) else f" of the {judged} that could be judged"
    return f"{together}evidence of membership for {evidence or 'none'}{of}."


def shared_caveats(checks: Sequence[ImageCheck]) -> list[str]:
    """Return the caveats of several answers, each once; that of the p-value in general terms."""
    lines = (P_VALUE_IN_GENERAL if line.startswith(P_VALUE_CAVEAT) else line for check in checks for line in check.caveats)
    return list(dict.fromkeys(lines))


# As a table on screen.


def checks_table(checks: Sequence[ImageCheck]) -> tuple[list[str], list[list[Any]]]:
    """Return headers and rows, one per image, the smallest p first.

    What matters most stands leftmost, for narrow screens. The column "Image" begins with the image's number among ``checks``,
    from 1; `image_number` reads it. Figures are numbers, so that they sort; missing ones are "—".
    """
    headers = ["Verdict", "p", "q", "Image", "Score"]
    order = sorted(range(len(checks)), key=lambda i: (checks[i].p_value is None, checks[i].p_value or 0))
    rows = [
        [
            short_verdict(check),
            *(MISSING if value is None else float(p_text(value)) for value in (check.p_value, check.q_value)),
            f"{number + 1} · {_short_name(check.name, TABLE_NAME_WIDTH)}",
            float(f"{check.score:.4g}"),
        ]
        for number, check in ((i, checks[i]) for i in order)
    ]
    return headers, rows


def image_number(row: Sequence[Any]) -> int:
    """Return the number, from 0, of the image that a row of `checks_table` is of."""
    return int(row[3].split(" ", 1)[0]) - 1


def short_verdict(check: ImageCheck) -> str:
    """Return the verdict in a word or two, for a table."""
    return SHORT_VERDICTS.get(check.verdict, "cannot tell")


def _short_name(name: str, longest: int = NAME_WIDTH) -> str:
    return shorten(name, longest, end=longest // 3 + 1)


# As fragments for a page, styled by ``ui/style.css``.


def answer_html(check: ImageCheck) -> Markup:
    """Return verdict and sentence."""
    return fragment("answer", check.verdict, VERDICTS[check.verdict], check.sentence)


def figures_html(check: ImageCheck) -> Markup:
    """Return the table of figures, and the notes on how the image was read."""
    return fragment("figures", image_figures(check), check.notes)


def caveats_html(check: ImageCheck | SetCheck) -> Markup:
    """Return what the answer does not mean."""
    return fragment("caveats", check.caveats)
