"""Draw the figures of the docs: `python docs/figures/draw.py`. What attends to what is asked of the code itself."""

from __future__ import annotations

import argparse
import html
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from eyetoy import create_attention_mask
from eyetoy.neighborhood.window import AxisRule

HERE = Path(__file__).parent
INK, PALE, GRID = "#1f2328", "#eef1f4", "#c9d1d9"
BLUE, ORANGE, GREEN, GREY = "#3b6fb6", "#d9822b", "#3a8f5c", "#8b949e"
SCALES = ((1, BLUE), (2, ORANGE), (4, GREEN))
"""Stride and colour of the head groups that are drawn."""


class Drawing:
    """An SVG picture, drawn from top left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="system-ui, sans-serif" font-size="14" role="img">',
            f"<title>{html.escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, lines: Sequence[str] = (), ink: str = INK
    ) -> None:
        """Draw a rectangle with lines of text in its middle."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{fill}" stroke="{GRID}"/>'
        )
        top = y + height / 2 + 5 - 9 * (len(lines) - 1)
        for place, line in enumerate(lines):
            self.text(x + width / 2, top + 18 * place, line, anchor="middle", ink=ink)

    def cell(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """Draw a token."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" stroke="#ffffff"/>'
        )

    def text(self, x: float, y: float, words: str, *, anchor: str = "start", ink: str = INK, size: int = 14) -> None:
        """Write a line."""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{ink}" font-size="{size}">'
            f"{html.escape(words)}</text>"
        )

    def arrow(self, *points: tuple[float, float]) -> None:
        """Draw a line through points, with a tip at the last."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.5" marker-end="url(#tip)"/>'
        )

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_text("\n".join([*self.parts, "</svg>"]) + "\n", encoding="utf-8")


def scales() -> Drawing:
    """Draw what one query sees at three scales, along one axis."""
    drawing = Drawing(800, 300, "What one token sees in each head group")
    tokens, window, query, left, side = 32, 7, 13, 130, 20
    drawing.text(left, 24, "input tokens; the query is dark")
    for i in range(tokens):
        drawing.cell(left + i * side, 36, side, 26, INK if i == query else GRID)
    for row, (stride, color) in enumerate(SCALES):
        top = 98 + 70 * row
        first, past = AxisRule(length=tokens // stride, window=window).bounds()
        place = query // stride
        for i in range(tokens // stride):
            seen = first[place] <= i < past[place]
            fill = INK if i == place else color if seen else PALE
            drawing.cell(left + i * side * stride, top, side * stride, 26, fill)
        drawing.text(left - 12, top + 18, f"scale {stride}", anchor="end")
        reach = f"{window} tokens of stride {stride}: {window * stride} input tokens wide"
        drawing.text(left, top + 44, reach, ink=color)
    return drawing


def block() -> Drawing:
    """Draw an MSNAT block."""
    drawing = Drawing(800, 450, "A block of multi-scale neighborhood attention")
    drawing.text(16, 230, "tokens")
    drawing.box(90, 200, 90, 50, PALE, ("rescale",))
    drawing.box(205, 200, 80, 50, PALE, ("norm",))
    drawing.arrow((65, 225), (88, 225))
    drawing.arrow((180, 225), (203, 225))
    for row, (stride, color) in enumerate(SCALES):
        top = 95 + 105 * row
        drawing.arrow((285, 225), (298, 225), (298, top + 25), (313, top + 25))
        tokenizer = "no merging" if stride == 1 else f"merge by {stride}"
        drawing.box(315, top, 100, 50, color, ("tokenizer", tokenizer), ink="#ffffff")
        drawing.box(425, top, 115, 50, color, ("neighborhood", "attention"), ink="#ffffff")
        drawing.box(550, top, 70, 50, color, ("back to", "the grid"), ink="#ffffff")
        drawing.arrow((620, top + 25), (635, top + 25), (635, 225), (648, 225))
    drawing.box(650, 200, 60, 50, PALE, ("concat,", "project"))
    drawing.text(467, 80, "head groups, in parallel", anchor="middle", ink=GREY)
    drawing.arrow((192, 225), (192, 40), (735, 40), (735, 213))
    drawing.text(205, 33, "residual", ink=GREY)
    drawing.arrow((710, 225), (723, 225))
    drawing.text(735, 231, "+", anchor="middle", size=20)
    drawing.arrow((747, 225), (760, 225), (760, 398), (722, 398))
    drawing.box(560, 375, 160, 46, PALE, ("norm, feed-forward",))
    drawing.text(640, 438, "with its own residual", anchor="middle", ink=GREY)
    drawing.arrow((560, 398), (510, 398))
    drawing.text(500, 403, "tokens", anchor="end")
    return drawing


def encoder() -> Drawing:
    """Draw an encoder from input to features and context."""
    drawing = Drawing(860, 250, "An encoder: stem, stages, global stack")
    drawing.text(60, 40, "input", anchor="middle")
    drawing.box(15, 50, 90, 150, PALE, ("[B, C,", "*grid]"))
    drawing.box(125, 65, 100, 120, GREY, ("stem:", "convolutions,", "positions"), ink="#ffffff")
    stages = ((245, 110, "stage 1"), (335, 88, "stage 2"), (425, 66, "stage 3"), (515, 50, "stage 4"))
    drawing.text(410, 34, "blocks of multi-scale neighborhood attention", anchor="middle")
    for place, (x, height, name) in enumerate(stages):
        drawing.box(x, 125 - height / 2, 70, height, BLUE, (name,), ink="#ffffff")
        drawing.text(x + 35, 205, f"{2**place} x width", anchor="middle", size=12, ink=GREY)
    drawing.text(410, 226, "from stage to stage the grid halves and the width doubles", anchor="middle", ink=GREY)
    drawing.box(615, 85, 70, 80, ORANGE, ("global", "stack"), ink="#ffffff")
    for start, end in ((105, 123), (225, 243), (315, 333), (405, 423), (495, 513), (585, 613)):
        drawing.arrow((start, 125), (end, 125))
    drawing.arrow((685, 110), (708, 110))
    drawing.arrow((685, 142), (708, 142))
    drawing.text(713, 114, "context [B, C']")
    drawing.text(713, 146, "features")
    drawing.text(713, 164, "[B, C', *grid']")
    return drawing


def matrix(drawing: Drawing, left: int, size: int, color: Callable[[int, int], str]) -> None:
    """Draw which of `size` keys each of as many queries sees."""
    side, top = 16, 56
    for query in range(size):
        for key in range(size):
            drawing.cell(left + key * side, top + query * side, side, side, color(query, key))
    drawing.text(left + size * side / 2, top - 8, "keys", anchor="middle", ink=GREY)
    drawing.text(left - 10, top + size * side / 2, "queries", anchor="end", ink=GREY)


def masks() -> Drawing:
    """Draw the windows along an axis, and the pattern of the global stack."""
    drawing = Drawing(800, 350, "Which token sees which")
    size, num_global = 16, 4
    first, past = AxisRule(length=size, window=5).bounds()
    seen = create_attention_mask(num_global, size - num_global).mask_mod
    zero = torch.tensor(0)

    def near(query: int, key: int) -> str:
        if not first[query] <= key < past[query]:
            return PALE
        return INK if query == key else BLUE

    def far(query: int, key: int) -> str:
        if not seen(zero, zero, torch.tensor(query), torch.tensor(key)):
            return PALE
        return ORANGE if min(query, key) < num_global else INK

    drawing.text(90, 24, "neighborhood attention, window 5")
    matrix(drawing, 90, size, near)
    drawing.text(90, 336, "shifted at the borders: every row has five", ink=GREY, size=13)
    drawing.text(480, 24, "global stack, 4 global tokens")
    matrix(drawing, 480, size, far)
    drawing.text(480, 336, "others see the global ones and themselves", ink=GREY, size=13)
    return drawing


FIGURES = {"scales": scales, "block": block, "encoder": encoder, "masks": masks}


def main() -> None:
    """Write all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to (default: beside this script)")
    options = parser.parse_args()
    for name, draw in FIGURES.items():
        draw().save(options.output / f"{name}.svg")


if __name__ == "__main__":
    main()
