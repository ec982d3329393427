"""Text in the characters that an encoding has: "≤" becomes "<=" where a terminal can't show it."""

from __future__ import annotations

import codecs
import unicodedata

# What Unicode's own decompositions don't give.
_SPELLED = {
    "…": "...", "–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "‒": "-", "·": "*", "×": "x", "÷": "/", "±": "+/-", "∓": "-/+", "⁄": "/",
    "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "∼": "~", "∝": "~", "≪": "<<", "≫": ">>", "∞": "infinity", "√": "sqrt", "∑": "sum",
    "∏": "product", "∂": "d", "∇": "grad", "∈": "in", "∉": "not in", "‖": "||", "∣": "|", "→": "->", "←": "<-", "↔": "<->", "⇒": "=>",
    "⇐": "<=", "↦": "|->", "↑": "^", "↓": "v", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "‚": "'", "‹": "'",
    "›": "'", "′": "'", "″": '"', "•": "*", "‣": "*", "▪": "*", "✓": "yes", "✔": "yes", "✗": "no", "✘": "no", "ᾱ": "alpha_bar",
    "µ": "u", "°": " degrees", "§": "section ", "©": "(c)", "®": "(R)", "£": "GBP", "€": "EUR", "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe",
    "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "þ": "th", "ı": "i", "\N{COMBINING TILDE}": "~",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^", "\N{COMBINING MACRON}": "_bar", "\N{ZERO WIDTH SPACE}": "", "\N{WORD JOINER}": "",
    "∅": "nothing", "⌊": "floor(", "⌋": ")", "∗": "*", "\N{SOFT HYPHEN}": "", "\N{BYTE ORDER MARK}": "",
}  # fmt: skip
_SCRIPTS = {"<super>": "^", "<sub>": "_"}


def spelled(character: str) -> str:
    """Return one character in ASCII: "≤" as "<=", "é" as "e", "ε" as "epsilon", "²" as "^2".

    A character that has no such form is returned as its escape, such as "\\u6f22", and a byte of a file name that is no text as "\\xe9".
    """
    if character.isascii():
        return character
    if (short := _SPELLED.get(character)) is not None:
        return short
    name = unicodedata.name(character, "")
    if name.startswith(("GREEK SMALL LETTER ", "GREEK CAPITAL LETTER ")) and name.count(" ") == 3:
        letter = name.rpartition(" ")[2].lower().replace("lamda", "lambda")
        return letter.capitalize() if "CAPITAL" in name else letter
    if name.startswith("BOX DRAWINGS"):
        return "|" if "VERTICAL" in name and "HORIZONTAL" not in name else "-" if "VERTICAL" not in name and "HORIZONTAL" in name else "+"
    if 0x2580 <= ord(character) <= 0x259F:  # blocks, of which bars are made
        return "#"
    return _decomposed(character)


def _decomposed(character: str) -> str:
    tag, *codes = unicodedata.decomposition(character).split() or [""]
    if tag and not tag.startswith("<"):
        tag, codes = "", [tag, *codes]
    parts = [chr(int(code, 16)) for code in codes]
    if parts and not tag:  # a letter and its accents
        parts = [part for part in parts if not unicodedata.combining(part)]
    if not parts:
        escape = 0xDC80 <= ord(character) <= 0xDCFF and f"\\x{ord(character) - 0xDC00:02x}"
        return escape or character.encode("ascii", "backslashreplace").decode("ascii")
    return _SCRIPTS.get(tag, "") + "".join(map(spelled, parts))


def transliterated(text: str, encoding: str) -> str:
    """Return a text in which every character that an encoding lacks is replaced by ASCII; the text itself where it lacks none.

    Args:
        text: any text, also with lone surrogates, as in the names of files that are no text.
        encoding: one that Python knows and that contains ASCII.
    """
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.encode(encoding, READABLE).decode(encoding)
    return text


def _replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text, end = error.object, error.end
    pieces = ""
    for place in range(error.start, end):
        word = spelled(text[place])
        before = pieces[-1:] or text[place - 1 : place]
        # Two words, or a word and a letter, would run into one: "√ᾱ" is "sqrt alpha_bar".
        apart = len(word) > 2 and word[0].isalpha() and before.isalpha()
        pieces += " " * apart + word
    if len(word) > 2 and word[-1].isalpha() and text[end : end + 1].isalpha():
        pieces += " "
    return pieces, end


# An error handler of `str.encode`.
READABLE = "mia_hub.readable"
codecs.register_error(READABLE, _replacement)
