"""The arithmetic of the tiled backend on a CPU: some tiles at a time, in memory that stays in the caches.

Blocks of tiles go through batched matrix products, forward and backward. The weights of small calls are kept for the
backward pass, which computes those of large ones again. Products and softmax are in float32, or in float64 for float64
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eyetoy.neighborhood.layout import Layout, tile_layouts
from eyetoy.neighborhood.tiling import Tiling
from eyetoy.sizes import ceil_div, volume

LOGITS_AT_ONCE = 1 << 19
"""Logits of a block of tiles: fewer cost more calls, more leave the second-level caches of two cores."""
KEYS_AT_ONCE = 1 << 20
"""Numbers of the keys of a block of rows, halos included."""
WEIGHTS_TO_KEEP = 1 << 24
"""Weights that a call may keep for its backward pass, 64 MB in float32."""

Rows = tuple[slice, slice]  # of batch and heads


@dataclass(frozen=True)
class Tiles:
    """Tokens of `dim` numbers in tiles, in flat memory."""

    layout: Layout
    dim: int
    memory: Tensor

    def block(self, tiles: range) -> Tensor:
        """View consecutive tiles as `[tiles, places, dim]`."""
        step = self.layout.step * self.dim
        shape, strides = (len(tiles), self.layout.tile_size, self.dim), (step, self.dim, 1)
        return self.memory.as_strided(shape, strides, self.memory.storage_offset() + tiles.start * step)

    def write(self, x: Tensor, scratch: Tensor) -> None:
        """Lay out `[batch, heads, outer, *inner, dim]`."""
        self.layout.write(x, self.memory[: self.layout.size(x.shape[0] * x.shape[1]) * self.dim], scratch)

    def read(self, x: Tensor, scratch: Tensor) -> None:
        """Undo `write`: fill `x`."""
        self.layout.read(self.memory, x, scratch)

    def add_product(self, tiles: range, a: Tensor, b: Tensor, factor: float, halos: Tensor) -> None:
        """Add `factor * a @ b` to the places of some tiles, which may share them."""
        block = self.block(tiles)
        if not self.layout.is_walked:
            product(a, b, block, factor)
            return
        values = product(a, b, _first(halos, block.shape), factor)
        overlap = ceil_div(self.layout.outer.span, self.layout.outer.step)
        for offset in range(min(overlap, len(tiles))):  # tiles that are `overlap` apart share nothing
            block[offset::overlap].add_(values[offset::overlap])


class Block(NamedTuple):
    """Tiles to compute at once: their masks' kinds, and which of them, counted in the block, are spare, if any."""

    tiles: range
    kinds: Tensor
    spare: Tensor | None


@dataclass
class Shelf:
    """Memory that is handed out in one order, when it is filled and when it is read."""

    memory: Tensor
    taken: int = 0

    def next(self, shape: tuple[int, ...]) -> Tensor:
        """Return the next piece."""
        start, self.taken = self.taken, self.taken + volume(shape)
        return self.memory[start : self.taken].view(shape)


class Memory(NamedTuple):
    """Flat working memory."""

    scratch: Tensor
    weights: Tensor
    d_weights: Tensor
    halos: Tensor


class TiledKernel:
    """Forward and backward pass under one tiling."""

    def __init__(self, tiling: Tiling, scale: float, dtype: torch.dtype) -> None:
        self.tiling, self.scale = tiling, scale
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.queries, self.keys = tile_layouts(tiling)
        masks, _ = tiling.masks
        self.bias = None  # [kinds, queries, keys]
        if not masks.all():
            hidden = torch.from_numpy(~masks)
            self.bias = torch.zeros(hidden.shape, dtype=self.dtype, device="cpu").masked_fill_(hidden, -torch.inf)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None, *, keep_weights: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return `[batch, *grid, heads, value_dim]` and the weights for `backward`; nothing, `[0]`, if not kept."""
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        kept = Shelf(query.new_empty(self._num_weights_to_keep(query) if keep_weights else 0, dtype=self.dtype))
        q, k, v, o = map(self._outer_first, (query, key, value, out))
        blocks = self._row_blocks(k)
        (q_tiles, o_tiles), (k_tiles, v_tiles), memory = self._allocate(blocks[0], [q, o], [k, v])
        for rows in blocks:
            for tiles, x in ((q_tiles, q), (k_tiles, k), (v_tiles, v)):
                tiles.write(x[rows], memory.scratch)
            valid = self._valid_keys(key_mask, rows, heads=q.shape[1])
            for block in self._tile_blocks(q[rows]):
                q_block, k_block, v_block = (tiles.block(block.tiles) for tiles in (q_tiles, k_tiles, v_tiles))
                shape = (len(block.tiles), q_block.shape[1], k_block.shape[1])
                weights = kept.next(shape) if len(kept.memory) else _first(memory.weights, shape)
                self._fill_weights(weights, q_block, k_block, valid, block)
                torch.bmm(weights, v_block, out=o_tiles.block(block.tiles))
            o_tiles.read(o[rows], memory.scratch)
        return out, kept.memory

    def backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None, kept: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, key and value; `kept` are the weights that `forward` returned."""
        grads = [x.new_empty(x.shape) for x in (query, key, value)]
        q, k, v, do, dq, dk, dv = map(self._outer_first, (query, key, value, grad, *grads))
        shelf, blocks = Shelf(kept), self._row_blocks(k)
        of_queries, of_keys, memory = self._allocate(blocks[0], [q, do, dq], [k, v, dk, dv])
        for rows in blocks:
            for tiles, x in zip((*of_queries[:2], *of_keys[:2]), (q, do, k, v), strict=True):
                tiles.write(x[rows], memory.scratch)
            for tiles in of_keys[2:]:
                if tiles.layout.is_walked:
                    tiles.memory.zero_()
            valid = self._valid_keys(key_mask, rows, heads=q.shape[1])
            for block in self._tile_blocks(q[rows]):
                self._backward_block(block, of_queries, of_keys, valid, shelf, memory)
            for tiles, x in zip((of_queries[2], *of_keys[2:]), (dq, dk, dv), strict=True):
                tiles.read(x[rows], memory.scratch)
        return grads[0], grads[1], grads[2]

    def _backward_block(
        self,
        block: Block,
        of_queries: list[Tiles],
        of_keys: list[Tiles],
        valid: Tiles | None,
        kept: Shelf,
        memory: Memory,
    ) -> None:
        q, do, dq = (tiles.block(block.tiles) for tiles in of_queries)
        k, v = (tiles.block(block.tiles) for tiles in of_keys[:2])
        shape = (len(block.tiles), q.shape[1], k.shape[1])
        if len(kept.memory):
            weights = kept.next(shape)
        else:
            weights = _first(memory.weights, shape)
            self._fill_weights(weights, q, k, valid, block)
        d_weights = torch.bmm(do, v.mT, out=_first(memory.d_weights, shape))
        if block.spare is not None:
            d_weights.index_fill_(0, block.spare, 0)
        of_keys[3].add_product(block.tiles, weights.mT, do, 1, memory.halos)
        torch.ops.aten._softmax_backward_data.out(d_weights, weights, -1, weights.dtype, grad_input=d_weights)
        product(d_weights, k, dq, self.scale)
        of_keys[2].add_product(block.tiles, d_weights.mT, q, self.scale, memory.halos)

    def _fill_weights(self, weights: Tensor, q: Tensor, k: Tensor, valid: Tiles | None, block: Block) -> None:
        """Write the softmax of `scale * q @ k.T` under the masks to `[tiles, queries, keys]`."""
        if self.bias is None:
            product(q, k.mT, weights, self.scale)
        else:
            torch.index_select(self.bias, 0, block.kinds, out=weights)
            torch.baddbmm(weights, q, k.mT, alpha=self.scale, out=weights)
        if valid is None:
            _softmax_(weights)
        else:
            weights.add_(valid.block(block.tiles).mT)
            blind = weights.amax(-1, keepdim=True) == -torch.inf
            _softmax_(weights).masked_fill_(blind, 0)
        if block.spare is not None:  # the halos of spare tiles may hold keys of another sample: nothing comes of them
            weights.index_fill_(0, block.spare, 0)

    def _num_weights_to_keep(self, query: Tensor) -> int:
        tiles = query.shape[0] * query.shape[-2] * self.tiling.num_tiles
        weights = tiles * self.tiling.num_queries * self.tiling.num_keys
        return weights if weights <= WEIGHTS_TO_KEEP else 0

    def _valid_keys(self, key_mask: Tensor | None, rows: Rows, *, heads: int) -> Tiles | None:
        """Lay out 0 for valid keys and -inf for others."""
        if key_mask is None:
            return None
        bias = torch.zeros_like(key_mask, dtype=self.dtype).masked_fill_(~key_mask, -torch.inf)
        x = self._outer_first(bias[..., None, None].expand(*bias.shape, heads, 1))[rows]
        num_rows = x.shape[0] * x.shape[1]
        tiles = Tiles(self.keys, 1, x.new_empty(self.keys.size(num_rows)))
        tiles.write(x, x.new_empty(self.keys.scratch_size(num_rows)))
        return tiles

    def _outer_first(self, x: Tensor) -> Tensor:
        """View `[batch, *grid, heads, dim]` as `[batch, heads, outer, *inner, dim]`."""
        axes = [1 + axis for axis in self.tiling.inner_axes]
        if self.tiling.outer_axis is None:
            return x.permute(0, -2, *axes, -1).unsqueeze(2)
        return x.permute(0, -2, 1 + self.tiling.outer_axis, *axes, -1)

    def _row_blocks(self, keys: Tensor) -> list[Rows]:
        """Cut batch and heads into blocks of bounded memory, the largest first."""
        batch, heads = keys.shape[:2]
        at_once = max(KEYS_AT_ONCE // (self.keys.size(1) * keys.shape[-1]), 1)
        if at_once >= heads:
            return [(slice(b.start, b.stop), slice(None)) for b in _blocks(batch, at_once // heads)]
        return [
            (slice(b, b + 1), slice(block.start, block.stop)) for b in range(batch) for block in _blocks(heads, at_once)
        ]

    @property
    def _tiles_at_once(self) -> int:
        return max(LOGITS_AT_ONCE // (self.tiling.num_queries * self.tiling.num_keys), 1)

    def _tile_blocks(self, queries: Tensor) -> tuple[Block, ...]:
        return _tile_blocks(self.tiling, queries.shape[0] * queries.shape[1], self._tiles_at_once)

    def _allocate(
        self, rows: Rows, queries: list[Tensor], keys: list[Tensor]
    ) -> tuple[list[Tiles], list[Tiles], Memory]:
        """Take all memory at once: the allocator returns many freed pieces to the system, to be asked for again."""
        num_rows = queries[0][rows].shape[0] * queries[0][rows].shape[1]
        tiles = min(self._tiles_at_once, num_rows * self.tiling.num_tiles)
        layouts = [(self.queries, x.shape[-1]) for x in queries] + [(self.keys, x.shape[-1]) for x in keys]
        widest = max(dim for _, dim in layouts)
        weights = tiles * self.tiling.num_queries * self.tiling.num_keys
        sizes = [
            widest * max(layout.scratch_size(num_rows) for layout in (self.queries, self.keys)),
            weights,
            weights,
            widest * tiles * self.tiling.num_keys,
            *(layout.size(num_rows) * dim for layout, dim in layouts),
        ]
        memory = torch.split(queries[0].new_empty(sum(sizes), dtype=self.dtype), sizes)
        parts = [Tiles(layout, dim, part) for (layout, dim), part in zip(layouts, memory[4:], strict=True)]
        return parts[: len(queries)], parts[len(queries) :], Memory(*memory[:4])


@lru_cache(maxsize=256)
def _tile_blocks(tiling: Tiling, num_rows: int, at_once: int) -> tuple[Block, ...]:
    """Cut the tiles of some rows into blocks; nothing follows the last row's spare tiles."""
    outer, (_, kinds) = tiling.outer, tiling.masks
    blocks = []
    for tiles in _blocks(num_rows * tiling.num_tiles - (outer.num_tiles - outer.num_real), at_once):
        tile = np.arange(tiles.start, tiles.stop)
        spare = np.flatnonzero(tile % outer.num_tiles >= outer.num_real)
        kind = torch.from_numpy(kinds[tile % len(kinds)])
        blocks.append(Block(tiles, kind, torch.from_numpy(spare) if len(spare) else None))
    return tuple(blocks)


def product(a: Tensor, b: Tensor, out: Tensor, factor: float = 1.0) -> Tensor:
    """Write `factor * a @ b` to `out`, `[tiles, n, m]`."""
    return torch.baddbmm(out, a, b, beta=0, alpha=factor, out=out)


def _softmax_(x: Tensor) -> Tensor:
    torch.ops.aten._softmax.out(x, -1, False, out=x)
    return x


def _first(memory: Tensor, shape: Sequence[int]) -> Tensor:
    return memory[: volume(shape)].view(shape)


def _blocks(total: int, size: int) -> list[range]:
    """Cut `range(total)` into even parts of at most `size`, the largest first."""
    even = ceil_div(total, ceil_div(total, size))
    return [range(start, min(start + even, total)) for start in range(0, total, even)]
