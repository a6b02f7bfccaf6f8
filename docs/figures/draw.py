"""Draw the figures of the docs: `python docs/figures/draw.py`. Sizes, windows and masks are read from the code."""

from __future__ import annotations

import argparse
import html
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from eyetoy import create_attention_mask, encoder_params
from eyetoy.neighborhood.window import AxisRule
from eyetoy.sizes import per_axis

HERE = Path(__file__).parent
INK, PALE, GRID = "#1f2328", "#eef1f4", "#c9d1d9"
BLUE, ORANGE, GREEN, GREY = "#3b6fb6", "#d9822b", "#3a8f5c", "#6e7781"
TIMES = "\N{MULTIPLICATION SIGN}"
NAVY, PURPLE, WASH = "#2f3e57", "#8250a8", "#f6f8fa"
SCALES = ((1, BLUE), (2, ORANGE), (4, GREEN))
"""Stride and colour of the head groups that are drawn."""


class Drawing:
    """An SVG image; the origin is at the top left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="system-ui, sans-serif" font-size="14" role="img">',
            f"<title>{html.escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>',
            # A background of its own: a page in dark mode would swallow the ink.
            f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>',
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

    def circle(self, x: float, y: float, radius: float, fill: str) -> None:
        """Draw a disk."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}" stroke="#ffffff"/>')

    def line(self, *points: tuple[float, float], color: str = GRID, dash: bool = False) -> None:
        """Draw a line through points, without a tip."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        style = ' stroke-dasharray="4 4"' if dash else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"{style}/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "start",
        ink: str = INK,
        size: int = 14,
        bold: bool = False,
    ) -> None:
        """Write a line."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{ink}" font-size="{size}"{weight}>'
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
    drawing.text(left, 24, "input tokens; the query is black")
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
        drawing.box(315, top, 100, 50, color, ("tokenizer", f"stride {stride}"), ink="#ffffff")
        drawing.box(425, top, 115, 50, color, ("neighborhood", "attention"), ink="#ffffff")
        drawing.box(550, top, 70, 50, color, ("up-", "sample"), ink="#ffffff")
        drawing.arrow((620, top + 25), (635, top + 25), (635, 225), (648, 225))
    drawing.box(650, 200, 60, 50, PALE, ("concat,", "project"))
    drawing.text(467, 80, "head groups, in parallel", anchor="middle", ink=GREY)
    drawing.arrow((192, 225), (192, 40), (735, 40), (735, 213))
    drawing.text(205, 33, "residual", ink=GREY)
    drawing.arrow((710, 225), (723, 225))
    drawing.text(735, 231, "+", anchor="middle", size=20)
    drawing.arrow((747, 225), (760, 225), (760, 398), (722, 398))
    drawing.box(560, 375, 160, 46, PALE, ("norm, feed-forward",))
    drawing.text(640, 438, "also with a residual", anchor="middle", ink=GREY)
    drawing.arrow((560, 398), (510, 398))
    drawing.text(500, 403, "tokens", anchor="end")
    return drawing


def inputs(drawing: Drawing, left: float, middle: float) -> None:
    """Draw a sound, an image and a clip, one above the other."""
    wave = [(left + 1.5 * i, middle - 62 + 13 * math.sin(1.3 * i) * math.sin(i / 9)) for i in range(29)]
    drawing.line(*wave, color=INK)
    for row, column in itertools.product(range(4), repeat=2):
        shade = (BLUE, GRID, ORANGE, GREEN)[(row * row + 3 * column) % 4]
        drawing.cell(left + 10 * column, middle - 22 + 10 * row, 10, 10, shade)
    for frame in range(4):
        drawing.box(left + 4 * frame, middle + 42 + 4 * frame, 34, 26, (GRID, PALE, GRID, PALE)[frame])
    for name, y in (("sound", -57), ("image", 3), ("video", 66)):
        drawing.text(left + 54, middle + y, name)


def lattice(drawing: Drawing, x: float, y: float, side: float, tokens: int, window: int, color: str) -> None:
    """Draw a square grid of tokens, and what the query in its middle sees."""
    cell, query = side / tokens, tokens // 2
    first, past = AxisRule(length=tokens, window=min(window, tokens)).bounds()
    for start, end, fill in ((0, tokens, GRID), (int(first[query]), int(past[query]), color), (query, query + 1, INK)):
        drawing.parts.append(
            f'<rect x="{x + start * cell:g}" y="{y + start * cell:g}" width="{(end - start) * cell:g}" '
            f'height="{(end - start) * cell:g}" fill="{fill}"/>'
        )
    lines = "".join(f"M{x + i * cell:g} {y:g}v{side:g}M{x:g} {y + i * cell:g}h{side:g}" for i in range(tokens + 1))
    drawing.parts.append(f'<path d="{lines}" stroke="#ffffff" stroke-width="{min(cell / 7, 1.2):g}"/>')


def head_groups(drawing: Drawing, left: float, top: float, grid: int, window: int) -> None:
    """Draw a block on `grid` × `grid` tokens; the grid of every group covers the whole image."""
    drawing.box(left, top, 650, 350, WASH)
    drawing.text(left + 18, top + 28, "A block: head groups at several scales, in parallel", bold=True)
    middle, side = top + 186, 76
    drawing.box(left + 18, middle - 22, 62, 44, "#ffffff", ("norm",))
    for row, (stride, color) in enumerate(SCALES):
        y, tokens = middle + 92 * (row - 1), grid // stride
        drawing.arrow((left + 80, middle), (left + 96, middle), (left + 96, y), (left + 112, y))
        drawing.box(left + 114, y - 24, 96, 48, color, ("tokenizer", f"stride {stride}"), ink="#ffffff")
        drawing.arrow((left + 210, y), (left + 228, y))
        lattice(drawing, left + 230, y - side / 2, side, tokens, window, color)
        drawing.arrow((left + 230 + side, y), (left + 322, y))
        words = ("neighborhood", "attention", f"window {window} {TIMES} {window}")
        drawing.box(left + 324, y - 34, 112, 68, color, words, ink="#ffffff")
        drawing.arrow((left + 436, y), (left + 452, y), (left + 452, middle), (left + 468, middle))
    drawing.box(left + 470, middle - 44, 82, 88, "#ffffff", ("upsample,", "concat,", "project"))
    drawing.arrow((left + 552, middle), (left + 568, middle))
    drawing.box(left + 570, middle - 44, 62, 88, "#ffffff", ("norm,", "feed-", "forward"))
    drawing.text(left + 551, middle + 70, "each half has a residual", anchor="middle", size=13, ink=GREY)


def global_tokens(drawing: Drawing, left: float, top: float, num_registers: int) -> None:
    """Draw the global stack: the tokens of a grid, and the few that see all of them."""
    drawing.box(left, top, 284, 350, WASH)
    drawing.text(left + 18, top + 28, "The global stack", bold=True)
    center, side, gap, globals_y = left + 142, 4, 34, top + 92
    columns = [center + 48 * (i - num_registers / 2) for i in range(num_registers + 1)]
    frame_x, frame_y, frame = center - side * gap / 2 - 6, top + 148, side * gap + 12
    for i, x in enumerate(columns):
        color = ORANGE if i == num_registers else PURPLE
        drawing.line((x, globals_y), (frame_x + frame * (i + 1) / (num_registers + 2), frame_y), color=color)
        drawing.circle(x, globals_y, 12, color)
    drawing.box(frame_x, frame_y, frame, frame, "#ffffff")
    for row, column in itertools.product(range(side), repeat=2):
        drawing.box(frame_x + 10 + column * gap, frame_y + 10 + row * gap, gap - 8, gap - 8, NAVY)
    drawing.text((columns[0] + columns[-2]) / 2, top + 68, f"{num_registers} registers", anchor="middle", ink=PURPLE)
    drawing.text(columns[-1], top + 68, "context", anchor="middle", ink=ORANGE)
    drawing.text(center, top + 320, "They see every token; every token sees", anchor="middle", size=13)
    drawing.text(center, top + 337, "them and itself: O(N), not O(N²).", anchor="middle", size=13)


def architecture() -> Drawing:
    """Draw an encoder, and the inside of a block and of the global stack; the numbers are those of `eyetoy2d_tiny`."""
    drawing = Drawing(1000, 630, "EyeToy: a stem, blocks of multi-scale neighborhood attention, a global stack")
    params = encoder_params("eyetoy2d_tiny")
    size, middle = 224, 112
    caption = f"eyetoy2d_tiny on an image of {size} {TIMES} {size}; each dot is a head group of the stage's blocks"
    drawing.text(478, 28, caption, anchor="middle", size=13)
    inputs(drawing, 24, middle)
    drawing.arrow((124, middle), (144, middle))
    drawing.box(146, middle - 64, 76, 128, GREY, ("stem:", "strided", "convs"), ink="#ffffff")
    shrink = math.prod(per_axis(conv.stride, 2, "stride")[0] for conv in params.initial_proj)
    size //= shrink
    drawing.text(184, 200, f"{shrink} {TIMES} smaller", anchor="middle", size=13)
    for place, (width, group) in enumerate(itertools.groupby(params.transformer, lambda block: block.out_channels)):
        blocks, x, height = list(group), 246 + 112 * place, 128 - 16 * place
        size = size // 2 if place else size
        count = f"{len(blocks)} block{'s' if len(blocks) > 1 else ''}"
        drawing.arrow((x - 24, middle), (x - 2, middle))
        drawing.box(x, middle - height / 2, 88, height, NAVY, (f"stage {place + 1}", count, ""), ink="#ffffff")
        scales = SCALES[: len(blocks[0].heads)]
        for i, (_, color) in enumerate(scales):
            drawing.circle(x + 44 + 20 * (i - (len(scales) - 1) / 2), middle + 22, 7, color)
        drawing.text(x + 44, 200, f"{size} {TIMES} {size}", anchor="middle", size=13)
        drawing.text(x + 44, 217, f"{width} channels", anchor="middle", size=13, ink=GREY)
    drawing.arrow((670, middle), (694, middle))
    drawing.box(696, middle - 40, 88, 80, PURPLE, ("global", "stack"), ink="#ffffff")
    drawing.arrow((784, middle - 18), (822, middle - 42))
    drawing.arrow((784, middle + 18), (822, middle + 42))
    drawing.text(828, middle - 44, "features", bold=True)
    drawing.text(828, middle - 26, f"{size} {TIMES} {size} {TIMES} {width}", size=13, ink=GREY)
    drawing.text(828, middle + 42, "context", bold=True)
    drawing.text(828, middle + 60, f"a vector of {width}", size=13, ink=GREY)
    for start, end in (
        ((358, 226), (24, 256)),
        ((446, 226), (674, 256)),
        ((696, 156), (692, 256)),
        ((784, 156), (976, 256)),
    ):
        drawing.line(start, end, dash=True)
    window = per_axis(params.transformer[1].heads[0].attn_params.attention_window, 2, "window")
    head_groups(drawing, 24, 256, grid=28, window=window[0])  # stage 2, where all three scales differ most
    global_tokens(drawing, 692, 256, params.global_attention.num_register_tokens)
    return drawing


def matrix(drawing: Drawing, left: int, size: int, color: Callable[[int, int], str]) -> None:
    """Draw a `size` × `size` attention mask in the given colors."""
    side, top = 16, 56
    for query in range(size):
        for key in range(size):
            drawing.cell(left + key * side, top + query * side, side, side, color(query, key))
    drawing.text(left + size * side / 2, top - 8, "keys", anchor="middle", ink=GREY)
    drawing.text(left - 10, top + size * side / 2, "queries", anchor="end", ink=GREY)


def masks() -> Drawing:
    """Draw the windows along an axis, and the mask of the global stack."""
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
    drawing.text(90, 336, "windows shift at the borders: every row has five keys", ink=GREY, size=13)
    drawing.text(480, 24, "global stack, 4 global tokens")
    matrix(drawing, 480, size, far)
    drawing.text(480, 336, "each other token sees them and itself", ink=GREY, size=13)
    return drawing


FIGURES = {"architecture": architecture, "block": block, "masks": masks, "scales": scales}


def main() -> None:
    """Write all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to (default: beside this script)")
    options = parser.parse_args()
    for name, draw in FIGURES.items():
        draw().save(options.output / f"{name}.svg")


if __name__ == "__main__":
    main()
