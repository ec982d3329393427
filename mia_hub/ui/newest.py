"""Of several questions that a page asks, the answer to the newest one is shown, whichever answer comes last.

The page numbers its questions. An answer to an earlier question than the newest is dropped here; one to a question that has changed since,
with none asked after it, is dropped by the page itself, which alone knows of the change.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import gradio as gr

# Open pages that are remembered; of one forgotten, an early answer could be shown late.
MOST_PAGES = 10_000
# What the page remembers: the number of its newest question, what that asked of, and the last number that is answered no more.
PAGE = "const asks = (window.miaAsks ??= {asked: 0, changed: 0});"
# Once what was asked has changed.
CHANGED = f"() => {{ {PAGE} asks.changed = asks.asked; }}"


class Newest:
    """The number of the newest question of each page."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def answered(self, page: str, number: int, answer: Callable[[], Sequence]) -> tuple:
        """An answer and its number; or nothing to show, where another question was asked meanwhile.

        Args:
            page: its session.
            number: of the question.
            answer: gives the values of all outputs.
        """
        with self._lock:
            self._numbers[page] = max(number, self._numbers.get(page, 0))
            self._numbers.move_to_end(page)
            while len(self._numbers) > MOST_PAGES:
                self._numbers.popitem(last=False)
        found = (*answer(), number)
        return found if self._numbers.get(page, number) == number else tuple(gr.skip() for _ in found)


def numbered(inputs: Sequence, model, caption) -> str:
    """JavaScript that numbers a question before it is sent, as the last of its inputs, and remembers what it asks of.

    Args:
        inputs: those of the question, without the number.
        model, caption: the text boxes; a question without them is of the demo, and tells it nothing.
    """
    named, told = (next((i for i, box in enumerate(inputs) if box is asked), None) for asked in (model, caption))
    return f"""(...inputs) => {{
        {PAGE}
        asks.asked += 1;
        asks.model = {"'demo'" if named is None else f"inputs[{named}].trim() || 'demo'"};
        asks.caption = {"''" if told is None else f"inputs[{told}].trim()"};
        return [...inputs.slice(0, -1), asks.asked];
    }}"""


def changed_if(what: str, blank: str = "") -> str:
    """JavaScript for when the text of a box has changed: no answer is wanted any more to a question that had another text.

    Args:
        what: "model" or "caption".
        blank: what an empty text stands for.
    """
    return f"text => {{ {PAGE} if ((text.trim() || {blank!r}) !== asks.{what}) asks.changed = asks.asked; }}"


def unless_changed(forget: str) -> str:
    """JavaScript that forgets an answer that has come if what it answers has changed since; its last argument is the answer's number."""
    return f"""(image, several, number) => {{
        {PAGE}
        const late = 0 < number && number <= asks.changed;
        return late ? ({forget})(image, several) : Array(7).fill({{__type__: "update"}});
    }}"""
