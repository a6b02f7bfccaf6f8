"""The arithmetic of the tiled backend on a CPU: some tiles at a time, in memory that stays in the caches.

Blocks of tiles go through batched matrix products, forward and backward. The tiles and weights of small calls are kept
for the backward pass, which makes those of large ones again. Products and softmax are in float32, or in float64 for
float64 tokens.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eyetoy.neighborhood.backends.tiled.layout import tile_layouts
from eyetoy.neighborhood.backends.tiled.tiling import Tiling
from eyetoy.neighborhood.backends.tiled.workspace import Rows, Shelf, Tiles, Tokens, borrow, product
from eyetoy.neighborhood.problem import Three
from eyetoy.sizes import ceil_div

LOGITS_AT_ONCE = 1 << 19
"""Logits of a block of tiles: fewer cost more calls, more leave the second-level caches of two cores."""
KEYS_AT_ONCE = 1 << 20
"""Numbers of the keys of a block of rows, halos included."""
NUMBERS_TO_KEEP = (1 << 23) - 1024
"""Weights, with tiles if both fit, that a call may keep for its backward pass: in float32 just below 32 MiB, from which
on allocators tend to ask the system for new pages at every call, which costs more than to compute again."""


class Block(NamedTuple):
    """Tiles to compute at once: their masks' kinds, and which of them, counted in the block, are spare, if any."""

    tiles: range
    kinds: Tensor
    spare: Tensor | None


class Memory(NamedTuple):
    """Flat working memory."""

    scratch: Tensor
    weights: Tensor
    d_weights: Tensor
    halos: Tensor
    tokens: Tensor


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

    def forward(self, tokens: Three, key_mask: Tensor | None, *, keep: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return `[batch, *grid, heads, value_dim]`, and tiles and weights for `backward`, `[0]` where not kept."""
        query, _, value = tokens
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        inputs, o = self._inputs(tokens), Tokens(self._outer_first(out), self.queries)
        blocks = self._row_blocks(inputs[1])
        kept_tiles, kept_weights = self._take_kept(inputs, blocks, keep)
        memory = self._take_memory(blocks[0], inputs, [*([] if kept_tiles else inputs), o], weights=not kept_weights)
        for rows in blocks:
            fresh = Shelf(memory.tokens)
            tiled = [(kept_tiles or fresh).next_tiles(x, rows) for x in inputs]
            for tiles in tiled:
                tiles.write(memory.scratch)
            o_tiles, valid = fresh.next_tiles(o, rows), self._valid_keys(key_mask, rows, heads=query.shape[-2])
            for block in self._tile_blocks(rows):
                weights = self._next_weights(kept_weights, memory, block)
                self._fill_weights(weights, tiled, valid, block)
                torch.bmm(weights, tiled[2].block(block.tiles), out=o_tiles.block(block.tiles))
            o_tiles.read(memory.scratch)
        return out, kept_tiles.memory, kept_weights.memory

    def backward(self, grad: Tensor, tokens: Three, key_mask: Tensor | None, kept: tuple[Tensor, Tensor]) -> Three:
        """Return the gradients of query, key and value; `kept` are the tiles and weights that `forward` returned."""
        query, key, value = tokens
        grads = query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)
        inputs, d_inputs = self._inputs(tokens), self._inputs(grads)
        do = Tokens(self._outer_first(grad), self.queries)
        kept_tiles, kept_weights, blocks = Shelf(kept[0]), Shelf(kept[1]), self._row_blocks(inputs[1])
        taken = [*([] if kept_tiles else inputs), do, *d_inputs]
        memory = self._take_memory(blocks[0], inputs, taken, weights=not kept_weights, gradients=True)
        for rows in blocks:
            fresh = Shelf(memory.tokens)
            tiled = [(kept_tiles or fresh).next_tiles(x, rows) for x in inputs]
            do_tiles, *d_tiled = (fresh.next_tiles(x, rows) for x in (do, *d_inputs))
            for written in (do_tiles, *([] if kept_tiles else tiled)):
                written.write(memory.scratch)
            for cleared in d_tiled:
                cleared.clear()
            valid = None if kept_weights else self._valid_keys(key_mask, rows, heads=query.shape[-2])
            for block in self._tile_blocks(rows):
                weights = self._next_weights(kept_weights, memory, block)
                if not kept_weights:
                    self._fill_weights(weights, tiled, valid, block)
                self._backward_block(block, weights, tiled, do_tiles, d_tiled, memory)
            for read in d_tiled:
                read.read(memory.scratch)
        return grads

    def _backward_block(
        self,
        block: Block,
        weights: Tensor,
        tiled: list[Tiles],
        do_tiles: Tiles,
        d_tiled: list[Tiles],
        memory: Memory,
    ) -> None:
        q, k, v, do, dq = (tiles.block(block.tiles) for tiles in (*tiled, do_tiles, d_tiled[0]))
        d_weights = torch.bmm(do, v.mT, out=Shelf(memory.d_weights).next(weights.shape))
        if block.spare is not None:
            d_weights.index_fill_(0, block.spare, 0)
        d_tiled[2].add_product(block.tiles, weights.mT, do, 1, memory.halos)
        torch.ops.aten._softmax_backward_data.out(d_weights, weights, -1, weights.dtype, grad_input=d_weights)
        product(d_weights, k, dq, self.scale)
        d_tiled[1].add_product(block.tiles, d_weights.mT, q, self.scale, memory.halos)

    def _fill_weights(self, weights: Tensor, tiled: list[Tiles], valid: Tiles | None, block: Block) -> None:
        """Write the softmax of `scale * q @ k.T` under the masks to `[tiles, queries, keys]`."""
        q, k = (tiles.block(block.tiles) for tiles in tiled[:2])
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

    def _inputs(self, tokens: Three) -> list[Tokens]:
        layouts = self.queries, self.keys, self.keys
        return [Tokens(self._outer_first(x), layout) for x, layout in zip(tokens, layouts, strict=True)]

    def _valid_keys(self, key_mask: Tensor | None, rows: Rows, *, heads: int) -> Tiles | None:
        """Lay out 0 for valid keys and -inf for others."""
        if key_mask is None:
            return None
        bias = torch.zeros_like(key_mask, dtype=self.dtype).masked_fill_(~key_mask, -torch.inf)
        x = rows.of(self._outer_first(bias[..., None, None].expand(*bias.shape, heads, 1)))
        tiles = Tiles(x, self.keys, x.new_empty(self.keys.size(*x.shape[:2])))
        tiles.write(x.new_empty(self.keys.scratch_size(rows.count)))
        return tiles

    def _outer_first(self, x: Tensor) -> Tensor:
        """View `[batch, *grid, heads, dim]` as `[batch, heads, outer, *inner, dim]`."""
        axes = [1 + axis for axis in self.tiling.inner_axes]
        if self.tiling.outer_axis is None:
            return x.permute(0, -2, *axes, -1).unsqueeze(2)
        return x.permute(0, -2, 1 + self.tiling.outer_axis, *axes, -1)

    def _row_blocks(self, keys: Tokens) -> list[Rows]:
        """Cut batch and heads into blocks of bounded memory, the largest first."""
        batch, heads = keys.x.shape[:2]
        at_once = max(KEYS_AT_ONCE // (self.keys.size(1, 1) * keys.x.shape[-1]), 1)
        if at_once >= heads:
            samples = _blocks(batch, at_once // heads)
            return [Rows(block, range(heads), are_all=len(samples) == 1) for block in samples]
        return [Rows(range(b, b + 1), block, are_all=False) for b in range(batch) for block in _blocks(heads, at_once)]

    def _tile_blocks(self, rows: Rows) -> tuple[Block, ...]:
        return _tile_blocks(self.tiling, len(rows.samples), len(rows.heads), self._tiles_at_once)

    @property
    def _tiles_at_once(self) -> int:
        return max(LOGITS_AT_ONCE // self._weights_per_tile, 1)

    @property
    def _weights_per_tile(self) -> int:
        return self.tiling.num_queries * self.tiling.num_keys

    def _next_weights(self, kept: Shelf, memory: Memory, block: Block) -> Tensor:
        shape = len(block.tiles), self.tiling.num_queries, self.tiling.num_keys
        return (kept or Shelf(memory.weights)).next(shape)

    def _take_kept(self, inputs: list[Tokens], blocks: list[Rows], keep: bool) -> tuple[Shelf, Shelf]:
        """Take memory for the tiles and for the weights of all rows, if it is little enough; weights come first."""
        num_tiles = sum(len(block.tiles) for rows in blocks for block in self._tile_blocks(rows))
        weights = num_tiles * self._weights_per_tile
        tiles = sum(tokens.num_places(rows) for tokens in inputs for rows in blocks)
        if not keep or weights > NUMBERS_TO_KEEP:
            weights = 0
        if not weights or weights + tiles > NUMBERS_TO_KEEP:
            tiles = 0
        kept_tiles, kept_weights = (Shelf(inputs[0].x.new_empty(size, dtype=self.dtype)) for size in (tiles, weights))
        return kept_tiles, kept_weights

    def _take_memory(
        self, rows: Rows, inputs: list[Tokens], tokens: list[Tokens], *, weights: bool, gradients: bool = False
    ) -> Memory:
        """Take all working memory at once.

        `inputs` are all that goes through the scratch memory, `tokens` what gets its tiles here.
        """
        tiles = min(self._tiles_at_once, sum(len(block.tiles) for block in self._tile_blocks(rows)))
        widest = max(token.x.shape[-1] for token in inputs)
        sizes = [
            widest * max(layout.scratch_size(rows.count) for layout in (self.queries, self.keys)),
            tiles * self._weights_per_tile * weights,
            tiles * self._weights_per_tile * gradients,
            widest * tiles * self.tiling.num_keys * (gradients and self.keys.is_walked),
            sum(token.num_places(rows) for token in tokens),
        ]
        return Memory(*torch.split(borrow(sum(sizes), self.dtype), sizes))


@lru_cache(maxsize=256)
def _tile_blocks(tiling: Tiling, samples: int, heads: int, at_once: int) -> tuple[Block, ...]:
    """Cut the tiles of some rows into blocks; those of the gap between two samples are spare."""
    outer, (_, kinds) = tiling.outer, tiling.masks
    own = heads * len(kinds)
    blocks = []
    for tiles in _blocks(samples * (own + outer.gap) - outer.gap, at_once):
        tile = np.arange(tiles.start, tiles.stop) % (own + outer.gap)
        spare = np.flatnonzero((tile >= own) | (tile % outer.num_tiles >= outer.num_real))
        kind = torch.from_numpy(kinds[tile % len(kinds)])
        blocks.append(Block(tiles, kind, torch.from_numpy(spare) if len(spare) else None))
    return tuple(blocks)


def _softmax_(x: Tensor) -> Tensor:
    torch.ops.aten._softmax.out(x, -1, False, out=x)
    return x


def _blocks(total: int, size: int) -> list[range]:
    """Cut `range(total)` into even parts of at most `size`, the largest first."""
    even = ceil_div(total, ceil_div(total, size))
    return [range(start, min(start + even, total)) for start in range(0, total, even)]
