"""Figures with names of classes and files, which may be of any script."""

from __future__ import annotations

import unicodedata
import warnings
from functools import lru_cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties

DOTS_PER_INCH = 110
USUAL_FONT = "DejaVu Sans"
"""Which matplotlib ships."""
LAST_RESORT = "Last Resort"
"""In the name of the font that has a box for every letter."""


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a file, with `DOTS_PER_INCH`."""
    FigureCanvasAgg(figure)  # attaches itself: no pyplot, which opens windows, keeps figures and is not thread-safe
    with warnings.catch_warnings():
        # A letter that no installed font has is drawn as a box; a warning for each would hide the end of a run.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, dpi=DOTS_PER_INCH)


def families(text: str) -> list[str]:
    """Return families of fonts for a text: the usual one, and installed ones with the letters that it lacks."""
    chosen = [USUAL_FONT]
    missing = _seen(text) - _letters(USUAL_FONT)
    for family in _fonts() if missing else ():
        if found := missing & _letters(family):
            chosen.append(family)
            missing -= found
        if not missing:
            break
    return chosen


def font_file(text: str) -> str:
    """Return the file of the one font that has most letters of a text: the usual one, if it has them all."""
    # Not the font of last resort, which has a box for every letter, and would take the others' place.
    drawing = [family for family in families(text) if LAST_RESORT not in family]
    best = max(drawing, key=lambda family: len(_seen(text) & _letters(family)))
    return font_manager.findfont(FontProperties(family=best))  # by itself, a name with a hyphen would be a pattern


def _seen(text: str) -> frozenset[int]:
    """Return the letters of a text that a font draws."""
    return frozenset(ord(one) for one in text if not unicodedata.category(one).startswith("C"))


@lru_cache
def _fonts() -> dict[str, str]:
    """Return a file of every installed family: sans serif first, and last the one that has a box for every letter."""

    def unusual(font: FontEntry) -> tuple[bool, bool, bool, str]:
        return LAST_RESORT in font.name, "Sans" not in font.name, font.style != "normal", font.name

    files: dict[str, str] = {}
    for font in sorted(font_manager.fontManager.ttflist, key=unusual):
        files.setdefault(font.name, font.fname)
    return files


@lru_cache(maxsize=512)
def _letters(family: str) -> frozenset[int]:
    try:
        return frozenset(font_manager.get_font(_fonts()[family]).get_charmap())
    except (KeyError, OSError, RuntimeError):  # a font that is gone or broken since matplotlib listed it
        return frozenset()
