"""Where tokens lie in a workspace so that every tile is a strided view: `[rows, *inner tiles, outer, *inner, dim]`.

A row is one head of one sample. In 2-D, walking over y, with tiles along x:

    [batch, y, x, heads, dim] -> [batch, heads, x tiles, y, x places, dim]

so that the tile at (y tile, x tile) is one block of memory: consecutive y, all x places of its halo.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from types import EllipsisType
from typing import NamedTuple

import torch
from torch import Tensor

from eyetoy.neighborhood.backends.tiled.tiling import AxisTiling, Tiling
from eyetoy.sizes import ceil_div, volume

Index = tuple[slice | EllipsisType, ...]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Tiles of one axis: tile `t` has the places from `start + step * t` on, `span` of them; `size` in all."""

    length: int
    num_tiles: int
    start: int
    step: int
    span: int
    size: int

    @property
    def source(self) -> slice:
        """The tokens that some tile holds."""
        return slice(max(self.start, 0), min(self.start + self.size, self.length))

    @property
    def target(self) -> slice:
        """Their places among `size`."""
        return slice(self.source.start - self.start, self.source.stop - self.start)

    @property
    def is_exact(self) -> bool:
        """Whether the places are the tokens, without padding and with none left out."""
        return self.start == 0 and self.size == self.length

    @property
    def holds_all(self) -> bool:
        """Whether every token lies in some tile."""
        return self.source == slice(0, self.length)


def query_cut(axis: AxisTiling) -> Cut:
    """Queries lie side by side."""
    return Cut(
        length=axis.num_queries,
        num_tiles=axis.num_tiles,
        start=0,
        step=axis.tile,
        span=axis.tile,
        size=axis.num_tiles * axis.tile,
    )


def key_cut(axis: AxisTiling) -> Cut:
    """Keys lie in halos, which overlap."""
    return Cut(
        length=axis.num_keys,
        num_tiles=axis.num_tiles,
        start=axis.start,
        step=axis.step,
        span=axis.span,
        size=axis.extent,
    )


def walked_cut(axis: AxisTiling) -> Cut:
    """Keys lie side by side, in steps; halos reach from one into the next ones."""
    size = axis.num_tiles * axis.step
    return Cut(length=axis.num_keys, num_tiles=axis.num_tiles, start=0, step=axis.step, span=axis.span, size=size)


class View(NamedTuple):
    """A strided view of flat memory, planned once."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def of(self, memory: Tensor) -> Tensor:
        """View the memory."""
        return memory.as_strided(self.shape, self.strides, memory.storage_offset() + self.offset)


class Views(NamedTuple):
    """Where the tokens of some samples lie in the memory of their tiles and in the scratch memory."""

    tokens: View
    padding: tuple[View, ...]
    """What holds no token."""
    padded: View
    held: View
    """The tokens within `padded`."""
    windows: View
    """The halos within `padded`, as they lie in `tokens`."""
    apart: tuple[tuple[View, View], ...]
    """Parts of `windows` that share no memory, each with its part of `tokens`: one after the other, they may be
    added to."""


class Layout:
    """Moves tokens `[batch, heads, outer, *inner, dim]` into tiles and back.

    All rows of a sample lie one after the other. Halos reach into neighboring rows, whose keys are masked; they do not
    reach other samples, of which nothing may be seen, not even a NaN: there are `gap` steps between samples, the first
    one starting after `lead` places.
    """

    def __init__(self, outer: Cut, inner: tuple[Cut, ...], *, lead: int, gap: int) -> None:
        self.outer, self.inner = outer, inner
        self.tiles, self.spans = tuple(cut.num_tiles for cut in inner), tuple(cut.span for cut in inner)
        places = volume(self.spans)
        self.tile_size = outer.span * places
        """Places of a tile."""
        self.step = outer.step * places
        """Places from one tile to the next."""
        self.row_size = volume(self.tiles) * outer.size * places
        """Places of a row."""
        self.lead, self.gap = lead * places, gap * self.step
        self.tail = max(outer.span - outer.step, 0) * places
        """Places after the last sample, into which its last halo may reach."""
        self.is_walked = outer.span > outer.step
        self.is_padded = not all(cut.is_exact for cut in inner)
        self.is_shared = any(cut.span > cut.step for cut in inner)
        self.padded = tuple(cut.size for cut in inner)
        self.targets: Index = (..., *(cut.target for cut in inner), slice(None))
        self.sources: Index = (..., *(cut.source for cut in inner), slice(None))
        self.holds_all = all(cut.holds_all for cut in inner)

    def size(self, samples: int, heads: int) -> int:
        """Return the places of so many samples with their tail."""
        return samples * (heads * self.row_size + self.gap) + self.tail

    def scratch_size(self, rows: int) -> int:
        """Return the places of the scratch memory that `write` and `read` ask for."""
        return rows * self.outer.length * volume(self.padded)

    def write(self, x: Tensor, out: Tensor, scratch: Tensor) -> None:
        """Copy tokens into the flat memory `out`, of `size(...) * dim`; places that hold no token become zero."""
        views = _views(self, x.shape[0], x.shape[1], x.shape[-1])
        for padding in views.padding:
            padding.of(out).zero_()
        x = x if self.holds_all else x[self.sources]
        if not self.is_padded and not self.is_shared:
            views.tokens.of(out).copy_(self.windows(x))
            return
        if self.is_padded:
            views.padded.of(scratch).zero_()
        views.held.of(scratch).copy_(x)  # to the heads' order first, so that halos are long runs
        views.tokens.of(out).copy_(views.windows.of(scratch))

    def read(self, memory: Tensor, x: Tensor, scratch: Tensor) -> None:
        """Copy tiles back to tokens; a token that lies in several halos gets their sum, one in none zero."""
        views = _views(self, x.shape[0], x.shape[1], x.shape[-1])
        if not self.holds_all:
            x.zero_()
            x = x[self.sources]
        if not self.is_padded and not self.is_shared:
            self.windows(x).copy_(views.tokens.of(memory))
            return
        if self.is_shared:
            views.padded.of(scratch).zero_()
            for windows, tokens in views.apart:
                windows.of(scratch).add_(tokens.of(memory))
        else:
            views.windows.of(scratch).copy_(views.tokens.of(memory))
        x.copy_(views.held.of(scratch))

    def windows(self, x: Tensor) -> Tensor:
        """View `[batch, heads, outer, *inner, dim]` as `[batch, heads, *inner tiles, outer, *inner places, dim]`."""
        for axis, cut in enumerate(self.inner, start=3):
            x = x.unfold(axis, cut.span, cut.step)
        dim = len(self.inner)
        return x.permute(0, 1, *range(3, 3 + dim), 2, *range(4 + dim, 4 + 2 * dim), 3 + dim) if dim else x


@lru_cache(maxsize=512)
def _views(layout: Layout, samples: int, heads: int, dim: int) -> Views:
    outer = layout.outer
    memory = torch.empty(layout.size(samples, heads) * dim, device="meta")
    each = torch.split(memory, [len(memory) - layout.tail * dim, layout.tail * dim])
    used = heads * layout.row_size * dim
    parts = [layout.lead * dim, used, (layout.gap - layout.lead) * dim if layout.gap else 0]
    lead, rows, rest = torch.split(each[0].view(samples, sum(parts)), parts, dim=1)
    rows = rows.view(samples, heads, *layout.tiles, outer.size, *layout.spans, dim)
    tokens, unused = torch.split(rows, [outer.length, outer.size - outer.length], dim=2 + len(layout.inner))
    padded = torch.empty(samples, heads, outer.length, *layout.padded, dim, device="meta")
    windows = layout.windows(padded)
    return Views(
        tokens=_view(tokens),
        padding=tuple(_view(x) for x in (unused, lead, rest, each[1]) if x.numel()),
        padded=_view(padded),
        held=_view(padded[layout.targets]),
        windows=_view(windows),
        apart=tuple((_view(windows[index]), _view(tokens[index])) for index in _apart(layout.inner)),
    )


def _apart(cuts: tuple[Cut, ...]) -> list[Index]:
    """Return indices of `[batch, heads, *tiles]` that take every tile once, and none together with one it overlaps."""
    overlaps = [min(ceil_div(cut.span, cut.step), cut.num_tiles) for cut in cuts]
    offsets = itertools.product(*map(range, overlaps))
    return [(slice(None), slice(None), *map(slice, first, repeat(None), overlaps)) for first in offsets]


def _view(x: Tensor) -> View:
    return View(tuple(x.shape), x.stride(), int(x.storage_offset()))


def tile_layouts(tiling: Tiling) -> tuple[Layout, Layout]:
    """Return the layouts of queries and of keys."""
    outer = tiling.outer
    queries = Layout(query_cut(outer), tuple(map(query_cut, tiling.inner)), lead=0, gap=outer.gap)
    keys = Layout(walked_cut(outer), tuple(map(key_cut, tiling.inner)), lead=outer.lead, gap=outer.gap)
    return queries, keys
