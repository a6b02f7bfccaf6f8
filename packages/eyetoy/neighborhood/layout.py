"""Where tokens lie in a workspace so that every tile is a strided view: `[rows, *inner tiles, outer, *inner, dim]`.

A row is one head of one sample. In 2-D, walking over y, with tiles along x:

    [batch, y, x, heads, dim] -> [batch, heads, x tiles, y, x places, dim]

so that the tile at (y tile, x tile) is one block of memory: consecutive y, all x places of its halo.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor

from eyetoy.neighborhood.tiling import AxisTiling, Tiling
from eyetoy.sizes import ceil_div, volume


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


def key_cut(axis: AxisTiling, *, is_outer: bool) -> Cut:
    """Keys lie in halos that overlap; the outer axis keeps one copy of each key and ends on a whole step."""
    size = axis.num_tiles * axis.step if is_outer else axis.extent
    return Cut(
        length=axis.length, num_tiles=axis.num_tiles, start=axis.start, step=axis.step, span=axis.span, size=size
    )


class Layout:
    """Moves tokens `[batch, heads, outer, *inner, dim]` into tiles and back."""

    def __init__(self, outer: Cut, inner: tuple[Cut, ...]) -> None:
        self.outer, self.inner = outer, inner
        self.places = volume([cut.span for cut in inner])
        self.is_padded = not all(cut.is_exact for cut in inner)
        self.is_shared = any(cut.span > cut.step for cut in inner)
        self.is_walked = outer.span > outer.step
        self.step = outer.step * self.places
        """Places from one tile to the next."""

        self.tile_size = outer.span * self.places
        """Places of a tile."""

    def size(self, rows: int) -> int:
        """Return the places of so many rows, and of the reach of the last halo over their end."""
        columns = rows * volume([cut.num_tiles for cut in self.inner])
        return (columns * self.outer.size + max(self.outer.span - self.outer.step, 0)) * self.places

    def scratch_size(self, rows: int) -> int:
        """Return the places of the scratch memory that `write` and `read` ask for."""
        return rows * self.outer.length * volume([cut.size for cut in self.inner])

    def write(self, x: Tensor, out: Tensor, scratch: Tensor) -> None:
        """Copy tokens into the flat memory `out`, of `size(rows) * dim`; places that hold no token become zero."""
        rows = self._rows(out, x)
        before, tokens, after = rows.split(self._outer_parts(), dim=2 + len(self.inner))
        before.zero_()
        after.zero_()
        out[rows.numel() :].zero_()
        x = x[:, :, self.outer.source]
        if self.is_padded or self.is_shared:  # one pass to the heads' order first, so that halos are long runs
            x = self._pad(x, scratch)
        tokens.copy_(self._windows(x))

    def _outer_parts(self) -> list[int]:
        target = self.outer.target
        return [target.start, target.stop - target.start, self.outer.size - target.stop]

    def _pad(self, x: Tensor, scratch: Tensor) -> Tensor:
        padded = self._scratch(x, scratch)
        if self.is_padded:
            padded.zero_()
        padded[self._targets()].copy_(x[(..., *(cut.source for cut in self.inner), slice(None))])
        return padded

    def read(self, memory: Tensor, x: Tensor, scratch: Tensor) -> None:
        """Copy tiles back to tokens; a token that lies in several halos gets their sum, one in none zero."""
        rows = self._rows(memory, x)
        _, rows, _ = rows.split(self._outer_parts(), dim=2 + len(self.inner))
        source = self.outer.source
        if source != slice(0, self.outer.length):
            x.zero_()
            x = x[:, :, source]
        if not self.is_padded and not self.is_shared:
            self._windows(x).copy_(rows)
            return
        padded = self._scratch(x, scratch)
        if self.is_shared:
            add_windows(self._windows(padded.zero_()), rows, [ceil_div(cut.span, cut.step) for cut in self.inner])
        else:
            self._windows(padded).copy_(rows)
        sources = tuple(cut.source for cut in self.inner)
        if any(source != slice(0, cut.length) for source, cut in zip(sources, self.inner, strict=True)):
            x.zero_()
        x[(..., *sources, slice(None))] = padded[self._targets()]

    def _rows(self, memory: Tensor, x: Tensor) -> Tensor:
        shape = (*x.shape[:2], *(cut.num_tiles for cut in self.inner), self.outer.size)
        shape = (*shape, *(cut.span for cut in self.inner), x.shape[-1])
        return memory[: volume(shape)].view(shape)

    def _scratch(self, x: Tensor, scratch: Tensor) -> Tensor:
        shape = (*x.shape[:3], *(cut.size for cut in self.inner), x.shape[-1])
        return scratch[: volume(shape)].view(shape)

    def _targets(self) -> tuple[object, ...]:
        return (..., *(cut.target for cut in self.inner), slice(None))

    def _windows(self, x: Tensor) -> Tensor:
        """View `[batch, heads, outer, *inner, dim]` as `[batch, heads, *inner tiles, outer, *inner places, dim]`."""
        dim = len(self.inner)
        for axis, cut in enumerate(self.inner):
            x = x.unfold(3 + axis, cut.span, cut.step)
        return x.permute(0, 1, *range(3, 3 + dim), 2, *range(4 + dim, 4 + 2 * dim), 3 + dim)


def add_windows(windows: Tensor, values: Tensor, overlaps: list[int]) -> None:
    """Add to windows that share memory; those `overlap` tiles apart on every axis do not, so they are added at once.

    Both are `[batch, heads, *tiles, ...]`.
    """
    for offsets in itertools.product(*map(range, overlaps)):
        apart = (..., *(slice(offset, None, overlap) for offset, overlap in zip(offsets, overlaps, strict=True)))
        apart = (slice(None), slice(None), *apart[1:])
        windows[apart].add_(values[apart])


def tile_layouts(tiling: Tiling) -> tuple[Layout, Layout]:
    """Return the layouts of queries and of keys."""
    queries = Layout(query_cut(tiling.outer), tuple(map(query_cut, tiling.inner)))
    keys = Layout(key_cut(tiling.outer, is_outer=True), tuple(key_cut(axis, is_outer=False) for axis in tiling.inner))
    return queries, keys
