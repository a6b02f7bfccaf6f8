"""Flat memory in which tiles of tokens lie: taken at once for a call, handed out piece by piece."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eyetoy.neighborhood.backends.tiled.layout import Layout
from eyetoy.sizes import ceil_div, volume


@dataclass(frozen=True)
class Rows:
    """Some samples and heads, or all of them."""

    samples: range
    heads: range
    are_all: bool

    def of(self, x: Tensor) -> Tensor:
        """View the rows of `[batch, heads, ...]`."""
        return x if self.are_all else x[self.samples.start : self.samples.stop, self.heads.start : self.heads.stop]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.samples) * len(self.heads)


@dataclass(frozen=True)
class Tokens:
    """Tokens `[batch, heads, outer, *inner, dim]` and how they are to lie."""

    x: Tensor
    layout: Layout

    def num_places(self, rows: Rows) -> int:
        """Return the numbers that the tiles of some rows hold."""
        return self.layout.size(len(rows.samples), len(rows.heads)) * self.x.shape[-1]


@dataclass(frozen=True)
class Tiles:
    """Some rows of tokens in tiles."""

    tokens: Tensor
    layout: Layout
    memory: Tensor

    def block(self, tiles: range) -> Tensor:
        """View consecutive tiles as `[tiles, places, dim]`."""
        dim = self.tokens.shape[-1]
        step = self.layout.step * dim
        shape, strides = (len(tiles), self.layout.tile_size, dim), (step, dim, 1)
        return self.memory.as_strided(shape, strides, self.memory.storage_offset() + tiles.start * step)

    def write(self, scratch: Tensor) -> None:
        """Copy the tokens into their tiles."""
        self.layout.write(self.tokens, self.memory, scratch)

    def read(self, scratch: Tensor) -> None:
        """Copy the tiles to the tokens, adding up what lies in several of them."""
        self.layout.read(self.memory, self.tokens, scratch)

    def clear(self) -> None:
        """Make zero what `add_product` would add to."""
        if self.layout.is_walked:
            self.memory.zero_()

    def add_product(self, tiles: range, a: Tensor, b: Tensor, factor: float, halos: Tensor) -> None:
        """Add `factor * a @ b` to the places of some tiles, which may share them."""
        block = self.block(tiles)
        if not self.layout.is_walked:
            product(a, b, block, factor)
            return
        values = Shelf(halos).next(block.shape)
        product(a, b, values, factor)
        overlap = ceil_div(self.layout.outer.span, self.layout.outer.step)
        for offset in range(min(overlap, len(tiles))):  # tiles that are `overlap` apart share nothing
            block[offset::overlap].add_(values[offset::overlap])


@dataclass
class Shelf:
    """Memory that is handed out in one order, when it is filled and when it is read; false if there is none."""

    memory: Tensor
    taken: int = 0

    def __bool__(self) -> bool:
        return len(self.memory) > 0

    def next(self, shape: Sequence[int]) -> Tensor:
        """Return the next piece."""
        start, self.taken = self.taken, self.taken + volume(shape)
        return self.memory.narrow(0, start, self.taken - start).view(shape)

    def next_tiles(self, tokens: Tokens, rows: Rows) -> Tiles:
        """Return tiles for some rows of tokens, not yet written."""
        return Tiles(rows.of(tokens.x), tokens.layout, self.next((tokens.num_places(rows),)))


BYTES_TO_HOLD = 1 << 26
"""Bytes of working memory that a thread holds on to; a call that needs more gets its own."""

_thread = threading.local()


def borrow(numbers: int, dtype: torch.dtype) -> Tensor:
    """Return flat memory of any content, this thread's until its next call.

    It is held on to: freed, it would go back to the system, and come back page by page in the next call.
    """
    size = numbers * dtype.itemsize
    if size > BYTES_TO_HOLD:
        return torch.empty(numbers, dtype=dtype, device="cpu")
    held: Tensor | None = getattr(_thread, "held", None)
    if held is None or len(held) < size:
        with torch.inference_mode(False):  # it may be written to outside of that mode later
            held = _thread.held = torch.empty(size, dtype=torch.uint8, device="cpu")
    return held[:size].view(dtype)


def product(a: Tensor, b: Tensor, out: Tensor, factor: float) -> None:
    """Write `factor * a @ b` to `out`, `[tiles, n, m]`."""
    torch.baddbmm(out, a, b, beta=0, alpha=factor, out=out)
