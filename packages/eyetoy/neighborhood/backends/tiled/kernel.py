"""The CPU kernel: neighborhood attention as batched matrix products over blocks of tiles that stay in the caches.

    rows (heads of samples)      in blocks whose keys, halos included, fit a buffer
      write q, k, v into tiles   see `layout.py`
      tiles                      in blocks whose attention weights fit the second-level cache
        logits = bias + scale * q @ k.T      [tiles, queries, keys]; the bias is -inf where the mask hides a key
        weights = softmax(logits)            in place
        out tiles = weights @ v
      read the out tiles back

Like FlashAttention it needs no memory for all weights at once. It does without an online softmax: all keys of a query
lie in one halo.

It is here because it pays. The same attention through one call of `scaled_dot_product_attention` (`sdpa.py`) copies all
halos and goes through all tiles at once. On one core of an AMD EPYC, over seven shapes, this kernel is 1.7 to 3.1 times
as fast forward and 1.6 to 2.8 times with gradients (docs/neighborhood.md; `benchmarks/neighborhood.py --kernel`).

The backward pass follows the usual formulas, with `dO` the gradient of the output `O`:

    dV = P.T @ dO,   dP = dO @ V.T,   dS = P * (dP - sum(dP * P)),   dQ = scale * dS @ K,   dK = scale * dS.T @ Q

Small calls save their tiles and weights `P` for it; large ones compute them again. Products and softmax are in float32,
or in float64 for float64 tokens; only what goes in and comes out is rounded to bfloat16 or float16.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eyetoy.neighborhood.backends.tiled.layout import tile_layouts
from eyetoy.neighborhood.backends.tiled.tiling import Tiling
from eyetoy.neighborhood.backends.tiled.workspace import Arena, Rows, Tiles, Tokens, product, take_workspace
from eyetoy.neighborhood.problem import QKV
from eyetoy.sizes import ceil_div

# Measured trade-offs, in elements. None of them changes which keys a query sees, only how much is done at once.

# Logits of a block of tiles: smaller blocks make more calls, larger ones leave the second-level caches of two cores.
LOGITS_PER_BLOCK = 1 << 19

# Keys of a block of rows, halos included.
KEY_ELEMENTS_PER_BLOCK = 1 << 20

# Weights, and tiles if both fit, that a call may save for its backward pass: just below 32 MiB in float32, the largest
# mmap threshold of glibc. Beyond it malloc maps and clears new pages at every call, which costs more than to compute
# the weights again.
MAX_SAVED_ELEMENTS = (1 << 23) - 1024


class Block(NamedTuple):
    """Tiles to compute at once, the kind of mask of each, and the positions in the block of spare tiles, if any."""

    tiles: range
    kinds: Tensor
    spare: Tensor | None


class Memory(NamedTuple):
    """The pieces of a call's working memory, all flat."""

    scratch: Tensor
    weights: Tensor
    d_weights: Tensor
    halos: Tensor
    tokens: Tensor


class TiledKernel:
    """Forward and backward pass under one tiling.

    Args:
        tiling: how the grid is cut.
        scale: factor of the logits.
        dtype: of the tokens; the arithmetic is in float64 for float64, else in float32.
    """

    def __init__(self, tiling: Tiling, scale: float, dtype: torch.dtype) -> None:
        self.tiling, self.scale = tiling, scale
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.queries, self.keys = tile_layouts(tiling)
        masks, _ = tiling.masks
        self.bias = None  # [kinds, queries, keys]
        if not masks.all():
            hidden = torch.from_numpy(~masks)
            self.bias = torch.zeros(hidden.shape, dtype=self.dtype, device="cpu").masked_fill_(hidden, -torch.inf)

    def forward(self, tokens: QKV, key_mask: Tensor | None, *, save: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Attend.

        Args:
            tokens: query, key and value, `[batch, *grid, heads, dim]`.
            key_mask: bool `[batch, *grid]`, true where a token is valid.
            save: keep tiles and weights for `backward`, if they are few enough.

        Returns:
            The output `[batch, *grid, heads, value_dim]`, and flat memory with tiles and weights; empty if not saved.
        """
        query, _, value = tokens
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        inputs, o = self._inputs(tokens), Tokens(self._outer_first(out), self.queries)
        blocks = self._row_blocks(inputs[1])
        saved_tiles, saved_weights = self._take_saved(inputs, blocks, save)
        memory = self._take_memory(blocks[0], inputs, [*([] if saved_tiles else inputs), o], weights=not saved_weights)
        for rows in blocks:
            # What is saved goes into memory of its own, block after block; the workspace is reused for every block.
            fresh = Arena(memory.tokens)
            tiled = [(saved_tiles or fresh).take_tiles(x, rows) for x in inputs]
            for tiles in tiled:
                tiles.write(memory.scratch)
            o_tiles, valid = fresh.take_tiles(o, rows), self._valid_keys(key_mask, rows, heads=query.shape[-2])
            for block in self._tile_blocks(rows):
                weights = self._next_weights(saved_weights, memory, block)
                self._fill_weights(weights, tiled, valid, block)
                torch.bmm(weights, tiled[2].block(block.tiles), out=o_tiles.block(block.tiles))
            o_tiles.read(memory.scratch)
        return out, saved_tiles.memory, saved_weights.memory

    def backward(self, grad: Tensor, tokens: QKV, key_mask: Tensor | None, saved: tuple[Tensor, Tensor]) -> QKV:
        """Return the gradients of query, key and value.

        Args:
            grad: gradient of the output, `[batch, *grid, heads, value_dim]`.
            tokens: the same as in `forward`.
            key_mask: the same as in `forward`.
            saved: tiles and weights as `forward` returned them; an empty one is computed again.
        """
        query, key, value = tokens
        grads = query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)
        inputs, d_inputs = self._inputs(tokens), self._inputs(grads)
        do = Tokens(self._outer_first(grad), self.queries)
        saved_tiles, saved_weights, blocks = Arena(saved[0]), Arena(saved[1]), self._row_blocks(inputs[1])
        taken = [*([] if saved_tiles else inputs), do, *d_inputs]
        memory = self._take_memory(blocks[0], inputs, taken, weights=not saved_weights, gradients=True)
        for rows in blocks:
            # `forward` took its pieces in this order, so the same calls find what it saved.
            fresh = Arena(memory.tokens)
            tiled = [(saved_tiles or fresh).take_tiles(x, rows) for x in inputs]
            do_tiles, *d_tiled = (fresh.take_tiles(x, rows) for x in (do, *d_inputs))
            for written in (do_tiles, *([] if saved_tiles else tiled)):
                written.write(memory.scratch)
            for cleared in d_tiled:
                cleared.clear()  # halos of neighboring tiles overlap, so the gradients of keys are added up
            # Saved weights are zero already where a key is masked.
            valid = None if saved_weights else self._valid_keys(key_mask, rows, heads=query.shape[-2])
            for block in self._tile_blocks(rows):
                weights = self._next_weights(saved_weights, memory, block)
                if not saved_weights:
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
        """Add the gradients of a block of tiles to `d_tiled`; for the formulas see the top of this file."""
        q, k, v, do, dq = (tiles.block(block.tiles) for tiles in (*tiled, do_tiles, d_tiled[0]))
        d_weights = torch.bmm(do, v.mT, out=Arena(memory.d_weights).next(weights.shape))
        if block.spare is not None:  # their halos may hold NaN of another sample, and 0 * NaN would be NaN
            d_weights.index_fill_(0, block.spare, 0)
        d_tiled[2].add_product(block.tiles, weights.mT, do, 1, memory.halos)
        # The operator behind the backward pass of `softmax`: only its `out` overload writes into memory that is there.
        torch.ops.aten._softmax_backward_data.out(d_weights, weights, -1, weights.dtype, grad_input=d_weights)
        product(d_weights, k, dq, self.scale)
        d_tiled[1].add_product(block.tiles, d_weights.mT, q, self.scale, memory.halos)

    def _fill_weights(self, weights: Tensor, tiled: list[Tiles], valid: Tiles | None, block: Block) -> None:
        """Write the softmax of `scale * q @ k.T` under the masks to `[tiles, queries, keys]`."""
        q, k = (tiles.block(block.tiles) for tiles in tiled[:2])
        if self.bias is None:
            product(q, k.mT, weights, self.scale)
        else:
            # The product is added to the masks in place of zeros: one pass over the logits less than a `masked_fill_`.
            torch.index_select(self.bias, 0, block.kinds, out=weights)
            torch.baddbmm(weights, q, k.mT, alpha=self.scale, out=weights)
        if valid is None:
            torch.softmax(weights, -1, out=weights)
        else:
            weights.add_(valid.block(block.tiles).mT)
            # A query whose keys are all invalid would be a softmax over -inf only, which is NaN; it gets zeros.
            has_no_key = weights.amax(-1, keepdim=True) == -torch.inf
            torch.softmax(weights, -1, out=weights).masked_fill_(has_no_key, 0)
        if block.spare is not None:  # halos of spare tiles may hold keys of another sample: give them no weight
            weights.index_fill_(0, block.spare, 0)

    def _inputs(self, tokens: QKV) -> list[Tokens]:
        layouts = self.queries, self.keys, self.keys
        return [Tokens(self._outer_first(x), layout) for x, layout in zip(tokens, layouts, strict=True)]

    def _valid_keys(self, key_mask: Tensor | None, rows: Rows, *, heads: int) -> Tiles | None:
        """Return a bias in the layout of the keys, as tokens of dim 1: 0 for valid keys, -inf for others."""
        if key_mask is None:
            return None
        bias = torch.zeros_like(key_mask, dtype=self.dtype).masked_fill_(~key_mask, -torch.inf)
        x = rows.of(self._outer_first(bias[..., None, None].expand(*bias.shape, heads, 1)))
        tiles = Tiles(x, self.keys, x.new_empty(self.keys.size(*x.shape[:2])))
        tiles.write(x.new_empty(self.keys.scratch_size(rows.count)))
        return tiles

    def _outer_first(self, x: Tensor) -> Tensor:
        """View `[batch, *grid, heads, dim]` as `[batch, heads, outer, *inner, dim]`; `outer` is 1 if there is none."""
        axes = [1 + axis for axis in self.tiling.inner_axes]
        if self.tiling.outer_axis is None:
            return x.permute(0, -2, *axes, -1).unsqueeze(2)
        return x.permute(0, -2, 1 + self.tiling.outer_axis, *axes, -1)

    def _row_blocks(self, keys: Tokens) -> list[Rows]:
        """Cut batch and heads into blocks of bounded memory; the first is the largest and decides the workspace."""
        batch, heads = keys.x.shape[:2]
        at_once = max(KEY_ELEMENTS_PER_BLOCK // (self.keys.size(1, 1) * keys.x.shape[-1]), 1)
        if at_once >= heads:
            samples = _blocks(batch, at_once // heads)
            return [Rows(block, range(heads), are_all=len(samples) == 1) for block in samples]
        return [Rows(range(b, b + 1), block, are_all=False) for b in range(batch) for block in _blocks(heads, at_once)]

    def _tile_blocks(self, rows: Rows) -> tuple[Block, ...]:
        return _tile_blocks(self.tiling, len(rows.samples), len(rows.heads), self._tiles_at_once)

    @property
    def _tiles_at_once(self) -> int:
        return max(LOGITS_PER_BLOCK // self._weights_per_tile, 1)

    @property
    def _weights_per_tile(self) -> int:
        return self.tiling.num_queries * self.tiling.num_keys

    def _next_weights(self, saved: Arena, memory: Memory, block: Block) -> Tensor:
        shape = len(block.tiles), self.tiling.num_queries, self.tiling.num_keys
        return (saved or Arena(memory.weights)).next(shape)

    def _take_saved(self, inputs: list[Tokens], blocks: list[Rows], save: bool) -> tuple[Arena, Arena]:
        """Allocate what is saved for the backward pass: weights if they fit, tiles if they fit too.

        Weights come first: it takes a product and a softmax to compute them again, tiles only a copy.
        """
        num_tiles = sum(len(block.tiles) for rows in blocks for block in self._tile_blocks(rows))
        weights = num_tiles * self._weights_per_tile
        tiles = sum(tokens.num_elements(rows) for tokens in inputs for rows in blocks)
        if not save or weights > MAX_SAVED_ELEMENTS:
            weights = 0
        if not weights or weights + tiles > MAX_SAVED_ELEMENTS:
            tiles = 0
        saved_tiles, saved_weights = (Arena(inputs[0].x.new_empty(size, dtype=self.dtype)) for size in (tiles, weights))
        return saved_tiles, saved_weights

    def _take_memory(
        self, rows: Rows, inputs: list[Tokens], tokens: list[Tokens], *, weights: bool, gradients: bool = False
    ) -> Memory:
        """Take all working memory of a call at once.

        Args:
            rows: the largest block of rows.
            inputs: query, key and value, of which the widest decides the scratch memory.
            tokens: those whose tiles are not saved and so need working memory.
            weights: whether weights need it too.
            gradients: whether this is for the backward pass.
        """
        tiles = min(self._tiles_at_once, sum(len(block.tiles) for block in self._tile_blocks(rows)))
        widest = max(token.x.shape[-1] for token in inputs)
        sizes = [
            widest * max(layout.scratch_size(rows.count) for layout in (self.queries, self.keys)),
            tiles * self._weights_per_tile * weights,
            tiles * self._weights_per_tile * gradients,
            widest * tiles * self.tiling.num_keys * (gradients and self.keys.tiles_overlap),
            sum(token.num_elements(rows) for token in tokens),
        ]
        return Memory(*torch.split(take_workspace(sum(sizes), self.dtype), sizes))


@lru_cache(maxsize=256)
def _tile_blocks(tiling: Tiling, samples: int, heads: int, at_once: int) -> tuple[Block, ...]:
    """Cut the tiles of some rows into blocks.

    Tiles that fall into the gap between two samples are spare, as are those that `axis_tiling` appends to a row. They
    are computed like all others, so that a block stays one batched product, and then zeroed.
    """
    outer, (_, kinds) = tiling.outer, tiling.masks
    own = heads * len(kinds)
    blocks = []
    for tiles in _blocks(samples * (own + outer.gap) - outer.gap, at_once):
        tile = np.arange(tiles.start, tiles.stop) % (own + outer.gap)
        spare = np.flatnonzero((tile >= own) | (tile % outer.num_tiles >= outer.num_real))
        kind = torch.from_numpy(kinds[tile % len(kinds)])
        blocks.append(Block(tiles, kind, torch.from_numpy(spare) if len(spare) else None))
    return tuple(blocks)


def _blocks(total: int, size: int) -> list[range]:
    """Cut `range(total)` into even parts of at most `size`, the largest first."""
    even = ceil_div(total, ceil_div(total, size))
    return [range(start, min(start + even, total)) for start in range(0, total, even)]
