"""The fast backend in plain PyTorch: tiles of queries against the halo of keys that their windows reach.

Every tile is one small dense attention under a mask, and all tiles are one call of `scaled_dot_product_attention`:
it runs and trains wherever PyTorch does. Halos are strided views, so nothing is gathered. Cost is linear in tokens.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from eyetoy.neighborhood.problem import Problem
from eyetoy.neighborhood.tiling import AxisTiling, choose_tilings
from eyetoy.sizes import volume

Tilings = tuple[AxisTiling, ...]


def tiled_attention(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
    """Neighborhood attention by tiles; shapes as in `neighborhood_attention`."""
    tilings = choose_tilings(problem.rules, query.shape[-1])
    q = _query_tiles(query, tilings)  # [tiles, batch * heads, queries, head_dim]
    k, v = _key_tiles(key, tilings), _key_tiles(value, tilings)  # [tiles, batch * heads, keys, head_dim]
    mask = _mask(tilings, query.device)
    if problem.key_mask is None:
        out = _attend(q, k, v, mask, problem.scale)
    else:
        out = _attend_valid(q, k, v, mask, _valid_keys(problem.key_mask, tilings, query.shape[-2]), problem.scale)
    return _join_tiles(out, tilings, batch=query.shape[0])


def _query_tiles(x: Tensor, tilings: Tilings) -> Tensor:
    """Cut `[batch, *grid, heads, head_dim]` into tiles of queries.

    In 2-D: [B, Y, X, H, D] -> [B, Ty, ty, dy, Tx, tx, dx, H, D] -> [dy dx Ty Tx, B H, ty tx, D].
    """
    dim = len(tilings)
    x = _pad(x, [tiling.query_padding for tiling in tilings])
    for axis in reversed(range(dim)):
        tiling = tilings[axis]
        x = torch.unflatten(x, axis + 1, (tiling.num_tiles, tiling.tile, tiling.dilation))
    tiles, places, groups = (range(1 + offset, 1 + 3 * dim, 3) for offset in range(3))
    x = x.permute(*groups, *tiles, 0, 3 * dim + 1, *places, 3 * dim + 2)
    return _merge(x, dim)


def _key_tiles(x: Tensor, tilings: Tilings) -> Tensor:
    """Cut `[batch, *grid, heads, head_dim]` into the overlapping halos of the tiles.

    In 2-D: [B, Y, X, H, D] -> [B, Ty, dy, Tx, dx, H, D, sx, sy] -> [dy dx Ty Tx, B H, sy sx, D].
    """
    dim = len(tilings)
    x = _pad(x, [tiling.key_padding for tiling in tilings])
    for axis in reversed(range(dim)):
        tiling = tilings[axis]
        x = torch.unflatten(x, axis + 1, (-1, tiling.dilation)).unfold(axis + 1, tiling.span, tiling.tile)
    tiles, groups = (range(1 + offset, 1 + 2 * dim, 2) for offset in range(2))
    heads = 2 * dim + 1
    spans = reversed(range(heads + 2, heads + 2 + dim))
    x = x.permute(*groups, *tiles, 0, heads, *spans, heads + 1)
    return _merge(x, dim)


def _merge(x: Tensor, dim: int) -> Tensor:
    """Merge `[*groups, *tiles, batch, heads, *places, head_dim]` into `[tiles, batch * heads, places, head_dim]`."""
    shape = x.shape
    tiles, rows, places = volume(shape[: 2 * dim]), volume(shape[2 * dim : 2 * dim + 2]), volume(shape[-dim - 1 : -1])
    return x.reshape(tiles, rows, places, shape[-1])


def _join_tiles(x: Tensor, tilings: Tilings, *, batch: int) -> Tensor:
    """Undo `_query_tiles`."""
    dim = len(tilings)
    groups, tiles, places = zip(*((tiling.dilation, tiling.num_tiles, tiling.tile) for tiling in tilings), strict=True)
    x = x.reshape(*groups, *tiles, batch, x.shape[1] // batch, *places, x.shape[-1])
    axes = [(dim + axis, 2 * dim + 2 + axis, axis) for axis in range(dim)]  # tile, place, group: the order of tokens
    x = x.permute(2 * dim, *(position for axis in axes for position in axis), 2 * dim + 1, 3 * dim + 2)
    for axis in range(dim):
        x = x.flatten(axis + 1, axis + 3)
    return x[(slice(None), *(slice(tiling.length) for tiling in tilings))]


def _mask(tilings: Tilings, device: torch.device) -> Tensor | None:
    """Return which keys each query of each tile sees, `[tiles, 1, queries, keys]`, or None if it is all of them."""
    if all(tiling.sees_all for tiling in tilings):
        return None
    dim = len(tilings)
    mask = torch.ones((), dtype=torch.bool, device=device)
    for axis, tiling in enumerate(tilings):
        shape = [1] * 4 * dim  # [*groups, *tiles, *queries, *keys]
        shape[axis::dim] = tiling.mask.shape
        mask = mask & tiling.mask.to(device).reshape(shape)
    queries, keys = volume([tiling.tile for tiling in tilings]), volume([tiling.span for tiling in tilings])
    return mask.reshape(-1, 1, queries, keys)


def _valid_keys(key_mask: Tensor, tilings: Tilings, heads: int) -> Tensor:
    """Cut a key mask `[batch, *grid]` into `[tiles, batch * heads, 1, keys]`."""
    keys = _key_tiles(key_mask[..., None, None], tilings)  # [tiles, batch, keys, 1]
    return keys.repeat_interleave(heads, dim=1).transpose(-2, -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    # Fused kernels have no second derivative. Double precision is for checks, so there the plain formula is worth it.
    kernels = sdpa_kernel(SDPBackend.MATH) if q.dtype == torch.float64 else nullcontext()
    with kernels:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def _attend_valid(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, valid: Tensor, scale: float) -> Tensor:
    seen = valid.expand(-1, -1, q.shape[2], -1) if mask is None else valid & mask
    some = seen.any(-1, keepdim=True)
    # A query without any valid key attends everything, which is finite, and is then replaced by zeros.
    return torch.where(some, _attend(q, k, v, seen | ~some, scale), 0.0)


def _pad(x: Tensor, paddings: list[tuple[int, int]]) -> Tensor:
    """Pad the grid axes of `[batch, *grid, heads, head_dim]` with zeros; a negative padding crops."""
    if not any(before or after for before, after in paddings):
        return x
    return F.pad(x, (0, 0, 0, 0, *(amount for padding in reversed(paddings) for amount in padding)))
