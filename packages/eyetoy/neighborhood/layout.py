"""Where tokens lie in a workspace so that every tile is a strided view: `[rows, *inner tiles, outer, *inner, dim]`.

A row is one head of one sample. In 2-D, walking over y, with tiles along x:

    [batch, y, x, heads, dim] -> [batch, heads, x tiles, y, x places, dim]

so that the tile at (y tile, x tile) is one block of memory: consecutive y, all x places of its halo.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor

from eyetoy.neighborhood.tiling import AxisTiling, Tiling
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
        length=axis.length,
        num_tiles=axis.num_tiles,
        start=0,
        step=axis.tile,
        span=axis.tile,
        size=axis.num_tiles * axis.tile,
    )


def key_cut(axis: AxisTiling) -> Cut:
    """Keys lie in halos, which overlap."""
    return Cut(
        length=axis.length,
        num_tiles=axis.num_tiles,
        start=axis.start,
        step=axis.step,
        span=axis.span,
        size=axis.extent,
    )


def walked_cut(axis: AxisTiling) -> Cut:
    """Keys lie side by side, in steps; halos reach from one into the next ones."""
    size = axis.num_tiles * axis.step
    return Cut(length=axis.length, num_tiles=axis.num_tiles, start=0, step=axis.step, span=axis.span, size=size)


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
        self.outer_dim = 2 + len(inner)
        self.padded = tuple(cut.size for cut in inner)
        self.targets: Index = (..., *(cut.target for cut in inner), slice(None))
        self.sources: Index = (..., *(cut.source for cut in inner), slice(None))
        self.holds_all = all(cut.holds_all for cut in inner)
        dim = len(inner)
        self.order = (0, 1, *range(3, 3 + dim), 2, *range(4 + dim, 4 + 2 * dim), 3 + dim)

    def size(self, samples: int, heads: int) -> int:
        """Return the places of so many samples with their tail."""
        return samples * (heads * self.row_size + self.gap) + self.tail

    def scratch_size(self, rows: int) -> int:
        """Return the places of the scratch memory that `write` and `read` ask for."""
        return rows * self.outer.length * volume(self.padded)

    def write(self, x: Tensor, out: Tensor, scratch: Tensor) -> None:
        """Copy tokens into the flat memory `out`, of `size(...) * dim`; places that hold no token become zero."""
        rows = self._rows(out, x)
        padding = self.outer.size - self.outer.length
        if padding:
            rows.narrow(self.outer_dim, self.outer.length, padding).zero_()
        self._clear_gaps(out, x)
        x = x if self.holds_all else x[self.sources]
        if self.is_padded or self.is_shared:  # one pass to the heads' order first, so that halos are long runs
            x = self._pad(x, scratch)
        self._tokens(rows).copy_(self._windows(x))

    def _clear_gaps(self, out: Tensor, x: Tensor) -> None:
        dim = x.shape[-1]
        tail, lead, gap = self.tail * dim, self.lead * dim, self.gap * dim
        if tail:
            out.narrow(0, len(out) - tail, tail).zero_()
        if gap:
            samples = self._samples(out, x)
            samples.narrow(1, 0, lead).zero_()
            samples.narrow(1, samples.shape[1] - gap + lead, gap - lead).zero_()

    def _pad(self, x: Tensor, scratch: Tensor) -> Tensor:
        padded = self._scratch(x, scratch)
        if not self.is_padded:
            return padded.copy_(x)
        padded.zero_()
        padded[self.targets].copy_(x)
        return padded

    def read(self, memory: Tensor, x: Tensor, scratch: Tensor) -> None:
        """Copy tiles back to tokens; a token that lies in several halos gets their sum, one in none zero."""
        tokens = self._tokens(self._rows(memory, x))
        if not self.holds_all:
            x.zero_()
            x = x[self.sources]
        if not self.is_padded and not self.is_shared:
            self._windows(x).copy_(tokens)
            return
        padded = self._scratch(x, scratch)
        if self.is_shared:
            add_windows(self._windows(padded.zero_()), tokens, [ceil_div(cut.span, cut.step) for cut in self.inner])
        else:
            self._windows(padded).copy_(tokens)
        x.copy_(padded[self.targets] if self.is_padded else padded)

    def _rows(self, memory: Tensor, x: Tensor) -> Tensor:
        batch, heads, dim = x.shape[0], x.shape[1], x.shape[-1]
        if self.gap:
            memory = self._samples(memory, x).narrow(1, self.lead * dim, heads * self.row_size * dim)
        elif self.tail:
            memory = memory.narrow(0, 0, batch * heads * self.row_size * dim)
        return memory.view(batch, heads, *self.tiles, self.outer.size, *self.spans, dim)

    def _samples(self, memory: Tensor, x: Tensor) -> Tensor:
        sample = (x.shape[1] * self.row_size + self.gap) * x.shape[-1]
        return memory.narrow(0, 0, x.shape[0] * sample).view(x.shape[0], sample)

    def _tokens(self, rows: Tensor) -> Tensor:
        return rows if self.outer.is_exact else rows.narrow(self.outer_dim, 0, self.outer.length)

    def _scratch(self, x: Tensor, scratch: Tensor) -> Tensor:
        shape = (*x.shape[:3], *self.padded, x.shape[-1])
        return scratch.narrow(0, 0, volume(shape)).view(shape)

    def _windows(self, x: Tensor) -> Tensor:
        """View `[batch, heads, outer, *inner, dim]` as `[batch, heads, *inner tiles, outer, *inner places, dim]`."""
        for axis, cut in enumerate(self.inner, start=3):
            x = x.unfold(axis, cut.span, cut.step)
        return x.permute(self.order) if self.inner else x


def add_windows(windows: Tensor, values: Tensor, overlaps: list[int]) -> None:
    """Add to windows that share memory; those `overlap` tiles apart on every axis do not, so they are added at once.

    Both are `[batch, heads, *tiles, ...]`.
    """
    for offsets in itertools.product(*map(range, overlaps)):
        steps = (slice(offset, None, overlap) for offset, overlap in zip(offsets, overlaps, strict=True))
        apart = (slice(None), slice(None), *steps)
        windows[apart].add_(values[apart])


def tile_layouts(tiling: Tiling) -> tuple[Layout, Layout]:
    """Return the layouts of queries and of keys."""
    outer = tiling.outer
    queries = Layout(query_cut(outer), tuple(map(query_cut, tiling.inner)), lead=0, gap=outer.gap)
    keys = Layout(walked_cut(outer), tuple(map(key_cut, tiling.inner)), lead=outer.lead, gap=outer.gap)
    return queries, keys
