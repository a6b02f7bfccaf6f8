"""All tiles in one call of `scaled_dot_product_attention`, in operations that trace, export and differentiate.

The tiles take the place of the heads:

    q [batch * heads, tiles, queries, dim]    k, v [batch * heads, tiles, keys, dim]    mask [tiles, queries, keys]

On a CPU it is slower than `kernel.py`, which keeps a block of tiles in the caches: see docs/neighborhood.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import index

import torch
import torch.nn.functional as F
from torch import Tensor

from eyetoy.neighborhood.backends.tiled.layout import Cut, Index, key_cut, query_cut
from eyetoy.neighborhood.backends.tiled.tiling import choose_tiling
from eyetoy.neighborhood.problem import QKV, Problem
from eyetoy.neighborhood.window import AxisRule
from eyetoy.second_order import fused_attention, plain_attention
from eyetoy.sizes import volume
from eyetoy.tracing import constant_in_graphs, fixed_sizes, is_jit_tracing, is_transformed


def attend_dense(tokens: QKV, problem: Problem) -> Tensor:
    """Attend from every token to every valid one of `[batch, *grid, heads, dim]`."""
    query, key, value = (x.flatten(1, -3).transpose(1, 2) for x in tokens)  # [batch, heads, tokens, dim]
    seen = None
    if problem.key_mask is not None:
        valid = problem.key_mask.flatten(1)[:, None, None]  # [batch, 1, 1, tokens]
        # A sample without any valid key attends them all. Its values are zeros, and so is its output.
        seen = valid | ~valid.any(-1, keepdim=True)
    # In float64, which is for checks such as `gradcheck`, without fused kernels: they refuse forward-mode derivatives.
    attend = plain_attention if query.dtype == torch.float64 else fused_attention
    out = attend(query, key, value, mask=seen, scale=problem.scale).transpose(1, 2)
    return torch.unflatten(out, 1, tokens[2].shape[1:-2])


def attend_tiles(tokens: QKV, problem: Problem, *, plain: bool = False) -> Tensor:
    """Attend in tiles among tokens without dilation.

    Args:
        tokens: query, key and value, `[batch, *grid, heads, dim]`.
        problem: its rules have no dilation.
        plain: avoid fused kernels, which have no second derivative.

    Returns:
        `[batch, *grid, heads, value_dim]`.
    """
    query, key, value = tokens
    # No real tensors to cache, or those of a trace, or wrapped for a transform, which would outlive it.
    is_traced = torch.compiler.is_compiling() or is_jit_tracing() or is_transformed() or type(query) is not Tensor
    query_cuts, key_cuts, seen = (_plan if is_traced else _cached_plan)(
        # `index`, because a plan is for one grid: a compiler that leaves sizes open compiles again for the next one.
        tuple((index(rule.length), index(rule.window), index(rule.stride), rule.is_causal) for rule in problem.rules),
        index(fixed_sizes(query.shape)[-1]),
        str(query.device),
    )
    q = _tiles(query, query_cuts)  # [batch, heads, tiles, queries, dim]
    k, v = _tiles(key, key_cuts), _tiles(value, key_cuts)
    if problem.key_mask is None:
        out = _attend(q, k, v, seen, problem.scale, plain)
    else:
        valid = _tiles(problem.key_mask[..., None, None], key_cuts).mT  # [batch, 1, tiles, 1, keys]
        seen = (valid if seen is None else valid & seen).expand(-1, -1, -1, q.shape[-2], -1)
        some = seen.any(-1, keepdim=True)
        # A query without any valid key attends everything, which is finite, and is then replaced by zeros.
        out = torch.where(some, _attend(q, k, v, seen | ~some, problem.scale, plain), 0.0)
    return _join(out, query_cuts)


@constant_in_graphs
def _plan(
    rules: tuple[tuple[int, int, int, bool], ...], head_dim: int, device: str
) -> tuple[list[Cut], list[Cut], Tensor | None]:
    """Return how queries and keys are cut, and the mask `[tiles, queries, keys]`, or None if it hides nothing.

    Arguments and results are such that a compiler can hold them as constants, without following how a plan is made.
    """
    axes = tuple(AxisRule(length=n, window=w, stride=s, is_causal=c) for n, w, s, c in rules)
    tiling = choose_tiling(axes, head_dim, with_outer=False)
    masks, kinds = tiling.masks
    seen = None if masks.all() else torch.from_numpy(masks[kinds]).to(device)
    return [query_cut(axis) for axis in tiling.inner], [key_cut(axis) for axis in tiling.inner], seen


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is made here may be saved for a backward pass later
def _cached_plan(
    rules: tuple[tuple[int, int, int, bool], ...], head_dim: int, device: str
) -> tuple[list[Cut], list[Cut], Tensor | None]:
    plan: tuple[list[Cut], list[Cut], Tensor | None] = _plan(rules, head_dim, device)
    return plan


def _tiles(x: Tensor, cuts: Sequence[Cut]) -> Tensor:
    """Cut `[batch, *grid, heads, dim]` into `[batch, heads, tiles, slots, dim]`.

    In 2-D: [B, Y, X, H, D] -> [B, H, Y, X, D] -> [B, H, Ty, Tx, D, sy, sx] -> [B, H, Ty Tx, sy sx, D].
    """
    dim = len(cuts)
    content: Index = (..., *(cut.source for cut in cuts), slice(None))
    x = x.movedim(-2, 1)[content]
    padding = [amount for cut in reversed(cuts) for amount in (cut.before, cut.after)]
    if any(padding):
        x = F.pad(x, (0, 0, *padding))
    for axis, cut in enumerate(cuts):
        x = x.unfold(2 + axis, cut.span, cut.step)
    x = x.permute(0, 1, *range(2, 2 + dim), *range(3 + dim, 3 + 2 * dim), 2 + dim)
    return x.reshape(*x.shape[:2], volume([cut.num_tiles for cut in cuts]), -1, x.shape[-1])


def _join(x: Tensor, cuts: Sequence[Cut]) -> Tensor:
    """Put `[batch, heads, tiles, queries, dim]` back on the grid: `[batch, *grid, heads, dim]`.

    In 2-D: [B, H, Ty Tx, qy qx, D] -> [B, H, Ty, Tx, qy, qx, D] -> [B, Ty, qy, Tx, qx, H, D] -> [B, Y, X, H, D].
    """
    dim = len(cuts)
    x = x.reshape(*x.shape[:2], *(cut.num_tiles for cut in cuts), *(cut.span for cut in cuts), x.shape[-1])
    order = (at for axis in range(dim) for at in (2 + axis, 2 + dim + axis))
    x = x.permute(0, *order, 1, 2 + 2 * dim)
    x = x.reshape(x.shape[0], *(cut.size for cut in cuts), *x.shape[-2:])
    return x[(slice(None), *(slice(cut.length) for cut in cuts))]


def _attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, scale: float, plain: bool) -> Tensor:
    # [batch * heads, tiles, slots, dim]: tiles take the place of heads.
    query, key, value = (x.flatten(0, 1) for x in (q, k, v))
    if seen is not None and seen.ndim == 5:
        seen = seen.expand(-1, q.shape[1], -1, -1, -1).flatten(0, 1)
    attend = plain_attention if plain else fused_attention
    return torch.unflatten(attend(query, key, value, mask=seen, scale=scale), 0, q.shape[:2])
