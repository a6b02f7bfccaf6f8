"""Where tokens lie in memory so that every tile, with its halo, is one strided view.

A slot is room for one token. A row is one head of one sample; its slots are ordered `[*inner tiles, outer, *inner]`.
For example in 2-D, with y as the outer axis and tiles along x:

    [batch, y, x, heads, dim] -> [batch, heads, x tiles, y, x slots, dim]

so that the tile at (y tile, x tile) is one run of memory: consecutive y, and for each of them all x of its halo.

    inner axis (x)   every tile has a copy of its halo      | a b c d | c d e f | e f g h |
    outer axis (y)   tiles are overlapping views of one     y0 y1 y2 y3 y4 y5 y6 y7
                     copy, `step` apart and `span` long     |--tile 0--|
                                                                  |--tile 1--|

The last halo of a row reaches into the next row. Those keys are masked, but they still enter a product with weight
zero, and 0 * NaN is NaN. Between the heads of one sample that is harmless; samples must not spoil each other, so a gap
keeps them apart:

    | lead | sample 0: head 0, head 1, ... | gap | sample 1: head 0, head 1, ... | gap - lead | tail |
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from itertools import repeat
from types import EllipsisType
from typing import NamedTuple

import torch
from torch import Tensor

from eyetoy.neighborhood.backends.tiled.tiling import AxisTiling, Tiling
from eyetoy.sizes import ceil_div, volume

Index = tuple[slice | EllipsisType, ...]


class Cut(NamedTuple):
    """Tiles of one axis: tile `t` has the `span` slots from `start + step * t` on; all tiles together cover `size`."""

    # A named tuple, as a compiler reads the properties of one that it holds as a constant, but not of a dataclass.

    length: int
    num_tiles: int
    start: int
    step: int
    span: int
    size: int

    @property
    def source(self) -> slice:
        """The tokens of the axis that some tile holds."""
        return slice(max(self.start, 0), min(self.start + self.size, self.length))

    @property
    def target(self) -> slice:
        """The slots of these tokens among `size`."""
        return slice(self.source.start - self.start, self.source.stop - self.start)

    @property
    def before(self) -> int:
        """Slots before `target`, which hold no token."""
        return max(-self.start, 0)

    @property
    def after(self) -> int:
        """Slots after `target`, which hold no token."""
        return max(self.start + self.size - self.length, 0)

    @property
    def is_exact(self) -> bool:
        """Whether slots and tokens are the same: no padding, and no token left out."""
        return self.start == 0 and self.size == self.length

    @property
    def covers_all(self) -> bool:
        """Whether every token lies in some tile."""
        return self.source == slice(0, self.length)


def query_cut(axis: AxisTiling) -> Cut:
    """Cut the queries of an axis: tiles lie side by side."""
    size = axis.num_tiles * axis.tile
    return Cut(length=axis.num_queries, num_tiles=axis.num_tiles, start=0, step=axis.tile, span=axis.tile, size=size)


def key_cut(axis: AxisTiling, *, is_outer: bool = False) -> Cut:
    """Cut the keys of an axis.

    On an inner axis halos overlap, and each tile gets a copy of its own. On the outer axis they lie side by side, and
    halos are views that reach into the next steps.
    """
    start, size = axis.start, axis.extent
    if is_outer:
        # start is 0 although the first halo begins before the axis: `lead` shifts all tiles at once, see `Layout`.
        start, size = 0, axis.num_tiles * axis.step
    return Cut(length=axis.num_keys, num_tiles=axis.num_tiles, start=start, step=axis.step, span=axis.span, size=size)


class View(NamedTuple):
    """Shape, strides and offset of a view of flat memory."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def of(self, memory: Tensor) -> Tensor:
        """View the memory."""
        return memory.as_strided(self.shape, self.strides, memory.storage_offset() + self.offset)


class Views(NamedTuple):
    """Views of the memory of the tiles (`tokens`, `padding`) and of the scratch memory (all others)."""

    tokens: View
    padding: tuple[View, ...]
    """Slots that hold no token: gaps, lead and tail."""
    padded: View
    content: View
    """The tokens within `padded`."""
    windows: View
    """`padded` as overlapping tiles; read only, since one slot appears in several of them."""
    disjoint: tuple[tuple[View, View], ...]
    """Tiles of `windows` and `tokens` in groups within which no two overlap, so that each group may be added to."""


class Layout:
    """Moves tokens `[batch, heads, outer, *inner, dim]` into tiles and back.

    Args:
        outer: the cut of the outer axis.
        inner: the cuts of the inner axes.
        lead: steps of the outer axis by which the first halo begins before the first token.
        gap: steps between two samples; see the top of this file.
    """

    def __init__(self, outer: Cut, inner: tuple[Cut, ...], *, lead: int, gap: int) -> None:
        self.outer, self.inner = outer, inner
        self.tiles, self.spans = tuple(cut.num_tiles for cut in inner), tuple(cut.span for cut in inner)
        inner_slots = volume(self.spans)
        # In slots: one tile, from one tile to the next, and one row.
        self.tile_size = outer.span * inner_slots
        self.step = outer.step * inner_slots
        self.row_size = volume(self.tiles) * outer.size * inner_slots
        self.lead, self.gap = lead * inner_slots, gap * self.step
        # Slots after the last sample that its last halo may reach.
        self.tail = max(outer.span - outer.step, 0) * inner_slots
        self.tiles_overlap = outer.span > outer.step
        self.is_padded = not all(cut.is_exact for cut in inner)
        self.halos_overlap = any(cut.span > cut.step for cut in inner)
        self.padded = tuple(cut.size for cut in inner)
        self.targets: Index = (..., *(cut.target for cut in inner), slice(None))
        self.sources: Index = (..., *(cut.source for cut in inner), slice(None))
        self.covers_all = all(cut.covers_all for cut in inner)

    def size(self, samples: int, heads: int) -> int:
        """Return the slots that so many samples take, tail included."""
        return samples * (heads * self.row_size + self.gap) + self.tail

    def scratch_size(self, rows: int) -> int:
        """Return the slots of scratch memory that `write` and `read` need."""
        return rows * self.outer.length * volume(self.padded)

    def write(self, x: Tensor, out: Tensor, scratch: Tensor) -> None:
        """Copy tokens into `out`, flat memory of `size(...) * dim` elements; slots without a token become zero."""
        views = _views(self, x.shape[0], x.shape[1], x.shape[-1])
        for padding in views.padding:
            padding.of(out).zero_()
        x = x if self.covers_all else x[self.sources]
        if not self.is_padded and not self.halos_overlap:
            views.tokens.of(out).copy_(self.windows(x))
            return
        # Two copies beat one: [.., heads, dim] becomes [heads, .., dim] first, and the second copy, which repeats the
        # halos, then moves long runs of memory instead of `dim` elements at a time.
        if self.is_padded:
            views.padded.of(scratch).zero_()
        views.content.of(scratch).copy_(x)
        views.tokens.of(out).copy_(views.windows.of(scratch))

    def read(self, memory: Tensor, x: Tensor, scratch: Tensor) -> None:
        """Copy tiles back to tokens: the sum over all halos that hold a token, zero where none does."""
        views = _views(self, x.shape[0], x.shape[1], x.shape[-1])
        if not self.covers_all:
            x.zero_()
            x = x[self.sources]
        if not self.is_padded and not self.halos_overlap:
            self.windows(x).copy_(views.tokens.of(memory))
            return
        if self.halos_overlap:
            views.padded.of(scratch).zero_()
            for windows, tokens in views.disjoint:
                windows.of(scratch).add_(tokens.of(memory))
        else:
            views.windows.of(scratch).copy_(views.tokens.of(memory))
        x.copy_(views.content.of(scratch))

    def windows(self, x: Tensor) -> Tensor:
        """View `[batch, heads, outer, *inner, dim]` as `[batch, heads, *inner tiles, outer, *inner slots, dim]`."""
        # For example with two inner axes: [B, H, Z, Y, X, D] -> [B, H, Z, Ty, Tx, D, sy, sx] by unfolding,
        # then -> [B, H, Ty, Tx, Z, sy, sx, D].
        for axis, cut in enumerate(self.inner, start=3):
            x = x.unfold(axis, cut.span, cut.step)
        dim = len(self.inner)
        return x.permute(0, 1, *range(3, 3 + dim), 2, *range(4 + dim, 4 + 2 * dim), 3 + dim) if dim else x


@lru_cache(maxsize=512)
def _views(layout: Layout, samples: int, heads: int, dim: int) -> Views:
    # Slicing a tensor on the meta device gives shapes, strides and offsets for free: no memory and no arithmetic of
    # our own. Each call of the kernel then needs a handful of `as_strided`.
    outer = layout.outer
    memory = torch.empty(layout.size(samples, heads) * dim, device="meta")
    body, tail = torch.split(memory, [len(memory) - layout.tail * dim, layout.tail * dim])
    used = heads * layout.row_size * dim
    parts = [layout.lead * dim, used, (layout.gap - layout.lead) * dim if layout.gap else 0]
    lead, rows, rest = torch.split(body.view(samples, sum(parts)), parts, dim=1)
    rows = rows.view(samples, heads, *layout.tiles, outer.size, *layout.spans, dim)
    tokens, unused = torch.split(rows, [outer.length, outer.size - outer.length], dim=2 + len(layout.inner))
    padded = torch.empty(samples, heads, outer.length, *layout.padded, dim, device="meta")
    windows = layout.windows(padded)
    return Views(
        tokens=_view(tokens),
        padding=tuple(_view(x) for x in (unused, lead, rest, tail) if x.numel()),
        padded=_view(padded),
        content=_view(padded[layout.targets]),
        windows=_view(windows),
        disjoint=tuple((_view(windows[index]), _view(tokens[index])) for index in _disjoint_groups(layout.inner)),
    )


def _disjoint_groups(cuts: tuple[Cut, ...]) -> list[Index]:
    """Return indices of `[batch, heads, *tiles]` that select every tile once, and never two that overlap."""
    # Along one axis, tiles `ceil(span / step)` apart share no slot. With span 6 and step 4: tiles 0, 2, 4 and 1, 3, 5.
    overlaps = [min(ceil_div(cut.span, cut.step), cut.num_tiles) for cut in cuts]
    offsets = itertools.product(*map(range, overlaps))
    return [(slice(None), slice(None), *map(slice, first, repeat(None), overlaps)) for first in offsets]


def _view(x: Tensor) -> View:
    return View(tuple(x.shape), x.stride(), int(x.storage_offset()))


def tile_layouts(tiling: Tiling) -> tuple[Layout, Layout]:
    """Return the layouts of queries and of keys."""
    outer = tiling.outer
    queries = Layout(query_cut(outer), tuple(map(query_cut, tiling.inner)), lead=0, gap=outer.gap)
    keys = Layout(key_cut(outer, is_outer=True), tuple(map(key_cut, tiling.inner)), lead=outer.lead, gap=outer.gap)
    return queries, keys
