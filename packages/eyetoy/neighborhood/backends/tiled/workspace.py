"""Working memory of the CPU kernel: one flat tensor per call, cut into pieces in a fixed order.

    take_workspace(n) -> | scratch | weights | d_weights | halos | q tiles | k tiles | v tiles | out tiles |
                                                                 ^
                                                                 Arena: hands out one piece after the other

One allocation instead of a dozen matters more than it looks. The pieces have a few MiB each, and a freed piece of that
size usually goes back to the operating system, which has to map and clear new pages for the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eyetoy.neighborhood.backends.tiled.layout import Layout
from eyetoy.sizes import ceil_div, volume

MAX_HELD_BYTES = 1 << 26
"""Most bytes of working memory that a thread keeps between calls; a call that needs more allocates its own."""

_thread = threading.local()


def take_workspace(num_elements: int, dtype: torch.dtype) -> Tensor:
    """Return flat, uninitialised memory. It belongs to the calling thread until that thread's next call."""
    size = num_elements * dtype.itemsize
    if size > MAX_HELD_BYTES:
        return torch.empty(num_elements, dtype=dtype, device="cpu")
    held: Tensor | None = getattr(_thread, "held", None)
    if held is None or len(held) < size:
        # A tensor made in inference mode could not be written to by a later call outside of it.
        with torch.inference_mode(False):
            held = _thread.held = torch.empty(size, dtype=torch.uint8, device="cpu")
    return held[:size].view(dtype)


@dataclass(frozen=True)
class Rows:
    """A block of rows; a row is one head of one sample."""

    samples: range
    heads: range
    are_all: bool

    def of(self, x: Tensor) -> Tensor:
        """View these rows of `[batch, heads, ...]`."""
        return x if self.are_all else x[self.samples.start : self.samples.stop, self.heads.start : self.heads.stop]

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.samples) * len(self.heads)


@dataclass(frozen=True)
class Tokens:
    """Tokens `[batch, heads, outer, *inner, dim]` and the layout of their tiles."""

    x: Tensor
    layout: Layout

    def num_elements(self, rows: Rows) -> int:
        """Return how many elements the tiles of some rows take."""
        return self.layout.size(len(rows.samples), len(rows.heads)) * self.x.shape[-1]


@dataclass(frozen=True)
class Tiles:
    """The tiles of some rows of tokens, in flat memory."""

    tokens: Tensor
    layout: Layout
    memory: Tensor

    def block(self, tiles: range) -> Tensor:
        """View consecutive tiles as `[tiles, slots, dim]`; neighbors may share memory."""
        dim = self.tokens.shape[-1]
        step = self.layout.step * dim
        shape, strides = (len(tiles), self.layout.tile_size, dim), (step, dim, 1)
        return self.memory.as_strided(shape, strides, self.memory.storage_offset() + tiles.start * step)

    def write(self, scratch: Tensor) -> None:
        """Copy the tokens into their tiles."""
        self.layout.write(self.tokens, self.memory, scratch)

    def read(self, scratch: Tensor) -> None:
        """Copy the tiles back to the tokens; a token gets the sum over the tiles that hold it."""
        self.layout.read(self.memory, self.tokens, scratch)

    def clear(self) -> None:
        """Zero the memory if `add_product` accumulates into it instead of overwriting it."""
        if self.layout.tiles_overlap:
            self.memory.zero_()

    def add_product(self, tiles: range, a: Tensor, b: Tensor, factor: float, halos: Tensor) -> None:
        """Add `factor * a @ b` to some tiles."""
        block = self.block(tiles)
        if not self.layout.tiles_overlap:
            product(a, b, block, factor)
            return
        values = Arena(halos).next(block.shape)
        product(a, b, values, factor)
        # Overlapping tiles write to the same memory, and one vectorised `add_` over all of them would lose sums.
        # Tiles that are `overlap` apart share nothing, so every `overlap`-th tile can be added at once:
        #
        #     tile 0  |-------|          first  add_: tiles 0, 2, 4
        #     tile 1      |-------|      second add_: tiles 1, 3, 5
        #     tile 2          |-------|
        overlap = ceil_div(self.layout.outer.span, self.layout.outer.step)
        for offset in range(min(overlap, len(tiles))):
            block[offset::overlap].add_(values[offset::overlap])


@dataclass
class Arena:
    """Flat memory handed out piece by piece. Falsy if it is empty.

    What is saved for the backward pass is written and later read in the same order, so that no offsets are stored.
    """

    memory: Tensor
    taken: int = 0

    def __bool__(self) -> bool:
        return len(self.memory) > 0

    def next(self, shape: Sequence[int]) -> Tensor:
        """Return the next piece, in this shape."""
        start, self.taken = self.taken, self.taken + volume(shape)
        return self.memory.narrow(0, start, self.taken - start).view(shape)

    def take_tiles(self, tokens: Tokens, rows: Rows) -> Tiles:
        """Return memory for the tiles of some rows, not yet written."""
        return Tiles(rows.of(tokens.x), tokens.layout, self.next((tokens.num_elements(rows),)))


def product(a: Tensor, b: Tensor, out: Tensor, factor: float) -> None:
    """Write `factor * a @ b` to `out`, `[tiles, n, m]`."""
    # With beta=0 `baddbmm` scales inside the matrix product and never reads its first argument.
    torch.baddbmm(out, a, b, beta=0, alpha=factor, out=out)
