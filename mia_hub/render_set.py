"""The answer for a set of pictures, as text and as a fragment for a page."""

from __future__ import annotations

from html import escape

from mia_hub.render import Rows, _items, _prose, _sentence, _wrapped
from mia_hub.set_inference import SET_VERDICTS, SetCheck, fraction_text, more_text
from mia_hub.wording import p_text


def set_rows(found: SetCheck) -> Rows:
    """Names and values of the answer's figures; what does not exist is left out."""
    rows = [["Model", found.model], ["Attack", f"{found.attack_name} at t = {found.timestep}"], ["Pictures in the set", f"{found.n:,}"]]
    if found.source is not None:
        rows.append(["Compared with", f"{found.n_null:,} of {found.source}"])
    if found.p_value is not None:
        rows += [
            ["p-value (permutation test)", p_text(found.p_value)],
            ["p-value (Welch's t-test)", p_text(max(found.p_welch, 1e-4)) if found.p_welch >= 1e-4 else "below 0.0001"],
            ["Estimated share of training images", fraction_text(found.fraction)],
            ["Further pictures needed for evidence", more_text(found.more_needed)],
        ]
    return rows


def set_text(found: SetCheck) -> str:
    """For a terminal."""
    rows = set_rows(found)
    width = max(len(name) for name, _ in rows)
    lines = [*_wrapped(found.sentence), ""]
    for name, value in rows:
        first, *rest = _wrapped(value, " " * (width + 4))
        lines += [f"  {name:<{width}}  {first.strip()}", *rest]
    lines += ["", "What this does not mean", *_items(found.caveats)]
    return "\n".join(lines + (["", "About these pictures", *_items(found.notes)] if found.notes else [])) + "\n"


def set_html(found: SetCheck) -> str:
    """Verdict and sentence, for a page; styled by ``ui/style.css``."""
    verdict = SET_VERDICTS[found.verdict]
    sentence = _sentence(found.sentence.removeprefix(f"{verdict}: "))
    return (
        f'<div class="mia-answer mia-{escape(found.verdict)}" role="status"><p class="mia-verdict">{verdict}.</p>'
        f'<p class="mia-sentence">{_prose(sentence)}</p></div>'
    )


def set_figures_html(found: SetCheck) -> str:
    """The table of figures, and what was left out."""
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in set_rows(found))
    notes = "".join(f"<p>{escape(note)}</p>" for note in found.notes)
    notes = f'<div class="mia-notes">{notes}</div>' if notes else ""
    return f'<div class="mia-figures"><table class="mia-table"><tbody>{rows}</tbody></table>{notes}</div>'
