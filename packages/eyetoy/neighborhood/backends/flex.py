"""The backend on PyTorch's FlexAttention: on CUDA a kernel compiled for the mask; on a CPU dense, and forward only.

FlexAttention skips blocks of 128 queries by 128 keys that the mask hides entirely. In row-major order a block of a 2-D
grid would be a thin stripe, and its windows would touch many blocks. So tokens are ordered by tiles of 8 by 16 first:

    row-major            by tiles
    0  1  2  3  4  5     0  1  2 | 6  7  8
    6  7  8  9 10 11     3  4  5 | 9 10 11

The list of blocks follows from the rule, in time linear in tokens; `create_block_mask` would try all pairs of tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from eyetoy.neighborhood.backends.dilation import attend_groups
from eyetoy.neighborhood.problem import QKV, Call, Problem
from eyetoy.neighborhood.window import AxisRule
from eyetoy.sizes import ceil_div, volume
from eyetoy.tracing import constant_in_graphs, is_transformed

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

TILES = {1: (128,), 2: (8, 16), 3: (4, 4, 8)}
"""Tile by the number of grid axes; the product is 128, the block of FlexAttention."""


def attend(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
    """Neighborhood attention by FlexAttention; see `registry.Backend`."""
    return attend_groups(_attend, (query, key, value), problem)


def why_not(call: Call) -> str | None:
    """Return why FlexAttention cannot do a call, or None if it can."""
    if call.device not in ("cpu", "cuda"):
        return f"FlexAttention does not run on {call.device}"
    if call.device == "cpu":
        return "FlexAttention cannot train on a CPU" if call.requires_grad else None
    if call.dtype == torch.float64:
        return "FlexAttention's kernels do not take float64"
    if call.head_dim < 16 or call.value_dim < 16:
        return f"FlexAttention's kernels need a head_dim of at least 16; got {call.head_dim} and {call.value_dim}"
    return None


def _attend(tokens: QKV, problem: Problem) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention  # slow to import

    rules, tile = problem.rules, TILES[len(problem.rules)]
    q, k, v = (_in_tiles(x, tile) for x in tokens)  # [batch, heads, slots, dim]
    valid = None
    if problem.key_mask is not None:
        valid = _in_tiles(problem.key_mask[..., None, None], tile)[:, 0, :, 0]  # [batch, slots]
    mask = _block_mask(rules, tile, valid, batch=q.shape[0], device=q.device)
    if q.device.type == "cuda" and not torch.compiler.is_compiling():
        out: Tensor = _compiled()(q, k, v, block_mask=mask, scale=problem.scale)
    else:
        out = flex_attention(q, k, v, block_mask=mask, scale=problem.scale)
    return _from_tiles(out, problem.grid, tile)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Callable[..., Tensor] = torch.compile(flex_attention)
    return compiled


def _in_tiles(x: Tensor, tile: tuple[int, ...]) -> Tensor:
    """Pad `[batch, *grid, heads, dim]` to whole tiles and order it by them: `[batch, heads, slots, dim]`.

    In 2-D: [B, Y, X, H, D] -> [B, Ty, ty, Tx, tx, H, D] -> [B, H, Ty Tx ty tx, D].
    """
    dim = len(tile)
    padding = [-x.shape[1 + axis] % size for axis, size in enumerate(tile)]
    if any(padding):
        x = F.pad(x, (0, 0, 0, 0, *(amount for after in reversed(padding) for amount in (0, after))))
    for axis in reversed(range(dim)):
        x = torch.unflatten(x, 1 + axis, (-1, tile[axis]))
    x = x.permute(0, 2 * dim + 1, *range(1, 2 * dim, 2), *range(2, 2 * dim + 1, 2), 2 * dim + 2)
    return x.flatten(2, -2)


def _from_tiles(x: Tensor, grid: tuple[int, ...], tile: tuple[int, ...]) -> Tensor:
    """Undo `_in_tiles`."""
    dim = len(tile)
    tiles = [ceil_div(length, size) for length, size in zip(grid, tile, strict=True)]
    x = x.reshape(*x.shape[:2], *tiles, *tile, x.shape[-1])
    order = (at for axis in range(dim) for at in (2 + axis, 2 + dim + axis))
    x = x.permute(0, *order, 1, 2 + 2 * dim)
    for axis in range(dim):
        x = x.flatten(1 + axis, 2 + axis)
    return x[(slice(None), *map(slice, grid))]


def _block_mask(
    rules: tuple[AxisRule, ...], tile: tuple[int, ...], valid: Tensor | None, *, batch: int, device: torch.device
) -> BlockMask:
    from torch.nn.attention.flex_attention import BlockMask

    plan = _plan if torch.compiler.is_compiling() or is_transformed() else _cached_plan
    axes = tuple((rule.length, rule.window, rule.stride, rule.is_causal) for rule in rules)
    (counts, indices), (q_counts, q_indices), bounds = plan(axes, tile, str(device))

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        seen = q >= 0 if valid is None else valid[b, k]
        for position, first, past in bounds:  # one triple per axis
            seen = seen & (position[k] >= first[q]) & (position[k] < past[q])
        return seen

    num, length = batch if valid is not None else 1, len(counts) * volume(tile)
    # Not `BlockMask.from_kv_blocks`: in PyTorch 2.11 it takes the width of `kv_indices` for the number of key blocks.
    return BlockMask(
        seq_lengths=(length, length),
        kv_num_blocks=counts[None, None].expand(num, 1, -1),
        kv_indices=indices[None, None].expand(num, 1, -1, -1),
        full_kv_num_blocks=None,
        full_kv_indices=None,
        q_num_blocks=q_counts[None, None].expand(num, 1, -1),
        q_indices=q_indices[None, None].expand(num, 1, -1, -1),
        full_q_num_blocks=None,
        full_q_indices=None,
        BLOCK_SIZE=(volume(tile), volume(tile)),
        mask_mod=sees,
    )


Pair = tuple[Tensor, Tensor]


@constant_in_graphs
def _plan(
    axes: tuple[tuple[int, int, int, bool], ...], tile: tuple[int, ...], device: str
) -> tuple[Pair, Pair, list[tuple[Tensor, ...]]]:
    """Return the key blocks of each query block, the query blocks of each key block, and `_bounds`, on a device.

    Arguments and results are such that a compiler can hold them as constants, without following how a plan is made.
    """
    rules = tuple(AxisRule(length=n, window=w, stride=s, is_causal=c) for n, w, s, c in axes)
    blocks = _blocks(rules, tile)
    of_queries, of_keys = (
        (torch.from_numpy(counts).to(device), torch.from_numpy(indices).to(device))
        for counts, indices in (blocks, _transposed(*blocks))
    )
    bounds = [tuple(torch.from_numpy(x).to(device) for x in axis) for axis in _bounds(rules, tile)]
    return of_queries, of_keys, bounds


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _cached_plan(
    axes: tuple[tuple[int, int, int, bool], ...], tile: tuple[int, ...], device: str
) -> tuple[Pair, Pair, list[tuple[Tensor, ...]]]:
    plan: tuple[Pair, Pair, list[tuple[Tensor, ...]]] = _plan(axes, tile, device)
    return plan


def _bounds(
    rules: tuple[AxisRule, ...], tile: tuple[int, ...]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Return per axis, for the tokens in the order of tiles: their position, and the first and past position they see.

    No query sees padding, and a padded query sees nothing.
    """
    tiles = [ceil_div(rule.length, size) for rule, size in zip(rules, tile, strict=True)]
    bounds = []
    for axis, (rule, size) in enumerate(zip(rules, tile, strict=True)):
        first, past = (np.pad(x, (0, tiles[axis] * size - rule.length)) for x in rule.bounds())
        shape = [1] * 2 * len(rules)
        shape[axis], shape[len(rules) + axis] = tiles[axis], size
        full = (*tiles, *tile)
        position = np.arange(tiles[axis] * size)
        position, first, past = (np.broadcast_to(x.reshape(shape), full).flatten() for x in (position, first, past))
        bounds.append((position, first, past))
    return bounds


def _blocks(rules: tuple[AxisRule, ...], tile: tuple[int, ...]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the number of key blocks of each query block, `[blocks]`, and which, `[blocks, largest number]`."""
    ranges = [_tile_range(rule, size) for rule, size in zip(rules, tile, strict=True)]
    tiles = [len(first) for first, _ in ranges]
    needed = [
        list(itertools.product(*(range(first[t], past[t]) for t, (first, past) in zip(block, ranges, strict=True))))
        for block in itertools.product(*map(range, tiles))
    ]
    counts = np.array([len(blocks) for blocks in needed], dtype=np.int32)
    indices = np.zeros((len(needed), max(counts)), dtype=np.int32)
    for row, blocks in zip(indices, needed, strict=True):
        row[: len(blocks)] = np.ravel_multi_index(np.array(blocks).T, tiles)
    return counts, indices


def _transposed(counts: NDArray[np.int32], indices: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the same as `_blocks` with queries and keys in exchanged roles; the backward pass on CUDA reads it."""
    rows = np.repeat(np.arange(len(counts)), counts)
    columns = indices[np.arange(indices.shape[1]) < counts[:, None]]
    needed_by = np.bincount(columns, minlength=len(counts)).astype(np.int32)
    transposed = np.zeros((len(counts), max(needed_by)), dtype=np.int32)
    transposed[np.arange(transposed.shape[1]) < needed_by[:, None]] = rows[np.argsort(columns, kind="stable")]
    return needed_by, transposed


def _tile_range(rule: AxisRule, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for every tile of an axis the first tile of keys that it needs and one past the last."""
    first, past = rule.bounds()
    edges = np.arange(0, rule.length, size)
    return np.minimum.reduceat(first, edges) // size, -(-np.maximum.reduceat(past, edges) // size)
