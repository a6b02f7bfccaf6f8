"""Names of classes and files as text that every figure, page, stream and file takes.

Such names are other people's. They may hold bytes that are no UTF-8, which reach Python as lone surrogates, line breaks
and commands to the terminal. Files that are read again, such as labels.json, hold them as they are. What people look at
goes through here.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from itertools import accumulate

LONGEST_DRAWN, LONGEST_FILE = 30, 60
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines and paragraphs
# They turn around the text after them, so that a name can pose as another: `gnp.exe` as `exe.png`.
_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def shown(name: object) -> str:
    r"""Return a name on one line, with escapes such as `\n` and `\udce9` for what cannot be shown."""
    return "".join(map(_shown, str(name)))


def shown_lines(text: str, encoding: str | None = None) -> str:
    """Return text whose lines are shown, with escapes for what an encoding lacks; UTF-8 by default."""
    lines = "\n".join(map(shown, text.split("\n")))
    encoding = encoding or "utf-8"
    return lines.encode(encoding, "backslashreplace").decode(encoding)


def drawn(name: object, longest: int = LONGEST_DRAWN) -> str:
    """Return a name for matplotlib: shown, cut to a width, and without formulas between dollar signs.

    Args:
        name: of a class or a file.
        longest: the width in Latin letters; Chinese and the like are twice as wide.
    """
    text, ends = _measured(name)
    if ends and ends[-1] > longest:
        text = f"{text[: bisect_right(ends, longest - 1)]}…"
    return text.replace("$", r"\$")


def drawn_file(name: object, longest: int = LONGEST_FILE) -> str:
    """Return a file's name for matplotlib as `drawn` does, but cut in the middle: its end tells files apart, too."""
    text, ends = _measured(name)
    if ends and ends[-1] > longest:
        first = bisect_right(ends, (longest - 1) // 2)
        last = next(at for at in range(len(text) + 1) if ends[-1] - (ends[at - 1] if at else 0) <= (longest - 1) // 2)
        text = f"{text[:first]}…{text[last:]}"
    return text.replace("$", r"\$")


def _measured(name: object) -> tuple[str, list[int]]:
    """Return a name as it is shown, and where each character of it ends, in widths of Latin letters."""
    text = shown(name)
    widths = (2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
    return text, list(accumulate(widths))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN and ord(character) not in _TURNING:
        return character
    return character.encode("unicode_escape").decode("ascii")
