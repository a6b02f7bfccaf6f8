"""How a grid is cut into tiles of queries, each with the halo of keys that its windows reach; and which cut is fastest.

All tiles of an axis have the same number of queries and of keys, and their halos begin at even steps, so that tiles are
strided views and one batched matrix product serves them all. The beginning of a long axis, with tiles of 4 and a window
of 3:

    queries    0 1 2 3 | 4 5 6 7 | ...       start = -1, step = 4, span = 6
    halos   -1 0 1 2 3 4
                     3 4 5 6 7 8             -1 is padding

Each query sees 3 of the 6 keys of its halo; the mask hides the others:

               keys    -1 0 1 2 3 4
    query 0             . x x x . .          (shifted at the border: 0 1 2)
    query 1             . x x x . .
    query 2             . . x x x .
    query 3             . . . x x x

A large tile wastes arithmetic on hidden keys; small tiles copy more halo per query and make more, smaller products.
`choose_tiling` weighs this with a cost model.

Plans are made with NumPy and not with PyTorch: they stay plain numbers under tracing, fake tensors and default devices.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from eyetoy.neighborhood.window import Axis, AxisRule
from eyetoy.sizes import ceil_div, volume

_UNIT = AxisRule(length=1, window=1)

# Measured, not derived: nanoseconds per unit of each of `cost_features`, fitted by `benchmarks/tiles.py` on two cores
# of an AMD EPYC (Zen 4). There, 9 of 13 choices were at most 6 % slower than the best of 24 tilings tried, the worst
# 39 %. They decide how fast a call is, never which keys a query sees.
COSTS = (0.95, 0.097, 1.06, 1.73, 46.0, 305.0)

# float32 lanes of a 512-bit vector: a last vector of keys that is only partly filled costs as much as a full one.
VECTOR = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class AxisTiling:
    """One axis in `num_tiles` tiles of `tile` queries; tile `t` has `span` keys from `start + step * t` on.

    Tiles from `num_real` on are spare: they hold no query, and only make room for the last keys of the axis.
    """

    num_queries: int
    num_keys: int
    tile: int
    num_tiles: int
    num_real: int
    start: int
    step: int
    span: int
    mask: NDArray[np.bool_]  # [num_tiles, tile, span]: which keys of its halo a query sees

    @property
    def extent(self) -> int:
        """Length of the stretch that all halos cover together."""
        return (self.num_real - 1) * self.step + self.span

    @property
    def lead(self) -> int:
        """By how much the first halo begins before the axis."""
        return max(-self.start, 0)

    @property
    def gap(self) -> int:
        """Steps of padding between two axes in memory so that no real halo of one reaches the tokens of the other."""
        reach = self.start + self.extent - self.num_tiles * self.step
        return ceil_div(max(self.lead, reach), self.step)


@lru_cache(maxsize=1024)
def axis_tiling(rule: Axis, tile: int, *, with_spare: bool = False) -> AxisTiling:
    """Cut an axis without dilation into tiles of `tile` queries.

    `with_spare` appends spare tiles until the steps of all tiles together hold every key, so that several axes can lie
    one after the other in memory.
    """
    num_real = ceil_div(rule.num_queries, tile)
    first, past = rule.bounds()
    edges = np.arange(num_real) * tile
    lowest, highest = np.minimum.reduceat(first, edges), np.maximum.reduceat(past, edges)
    start, step, span = _even_halos(lowest, highest, tile, rule.window)
    num_tiles = max(num_real, ceil_div(rule.num_keys, step)) if with_spare else num_real
    return AxisTiling(
        num_queries=rule.num_queries,
        num_keys=rule.num_keys,
        tile=tile,
        num_tiles=num_tiles,
        num_real=num_real,
        start=start,
        step=step,
        span=span,
        mask=_mask(first, past, num_tiles=num_tiles, tile=tile, halos=(start, step, span)),
    )


def _even_halos(lowest: NDArray[np.int64], highest: NDArray[np.int64], tile: int, window: int) -> tuple[int, int, int]:
    """Return start, step and the smallest span such that halo `t` holds the keys `lowest[t]` to `highest[t]`.

    On a long axis the step is the tile. With only two or three tiles, windows are shifted inwards at both ends, halos
    crowd in the middle, and a shorter step gives a shorter span. For example length 8, window 5, tiles of 4: the halos
    are 0-5 and 2-7, so step 2 and span 6 instead of step 4 and span 8.
    """
    if len(lowest) == 1:
        span = int(highest[0] - lowest[0])
        return int(lowest[0]), span, span
    tiles = np.arange(len(lowest))
    best = None
    for step in range(tile, max(tile - window, 0), -1):
        start = int((lowest - step * tiles).min())
        span = int((highest - start - step * tiles).max())
        if best is None or span < best[2]:
            best = start, step, span
    assert best is not None
    return best


def _mask(
    first: NDArray[np.int64], past: NDArray[np.int64], *, num_tiles: int, tile: int, halos: tuple[int, int, int]
) -> NDArray[np.bool_]:
    """Return which keys of its halo a query sees, `[num_tiles, tile, span]`."""
    start, step, span = halos
    query = np.arange(num_tiles * tile)
    halo = start + step * (query // tile)
    real = query < len(first)
    # Queries that pad the last tile see the first key of the halo. Their output is dropped, but a row without any key
    # would be a softmax over nothing, and its NaN would reach the gradients of real keys.
    index = np.minimum(query, len(first) - 1)
    low, high = np.where(real, first[index], halo), np.where(real, past[index], halo + 1)
    key = halo[:, None] + np.arange(span)
    seen: NDArray[np.bool_] = (key >= low[:, None]) & (key < high[:, None])
    return seen.reshape(num_tiles, tile, span)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiling:
    """The cuts of all axes of a grid.

    Halos along the `outer` axis are overlapping views of one copy of the keys; halos along `inner` axes are copied.
    `outer_axis` is the grid axis of `outer`. It is None if all axes are inner ones, and `outer` then has length 1.
    """

    outer_axis: int | None
    outer: AxisTiling
    inner: tuple[AxisTiling, ...]

    @cached_property
    def inner_axes(self) -> tuple[int, ...]:
        """The grid axes of `inner`."""
        axes = range(len(self.inner) + (self.outer_axis is not None))
        return tuple(axis for axis in axes if axis != self.outer_axis)

    @cached_property
    def num_tiles(self) -> int:
        """Tiles of one grid."""
        return volume([axis.num_tiles for axis in (*self.inner, self.outer)])

    @cached_property
    def num_queries(self) -> int:
        """Queries of a tile."""
        return volume([axis.tile for axis in (self.outer, *self.inner)])

    @cached_property
    def num_keys(self) -> int:
        """Keys of a tile, its halo."""
        return volume([axis.span for axis in (self.outer, *self.inner)])

    @cached_property
    def masks(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """The different masks, `[kinds, queries, keys]`, and the kind of each tile, `[num_tiles]`.

        Tiles are in the order `[*inner, outer]`, queries and keys in the order `[outer, *inner]`. There are few kinds
        whatever the size of the grid, since all tiles away from a border share one.
        """
        table, kind = np.ones((1, 1, 1), dtype=np.bool_), np.zeros(1, dtype=np.int64)
        for axis in self.inner:
            table, kind = _product(table, kind, axis.mask, outer=False)
        return _product(table, kind, self.outer.mask, outer=True)


def _product(
    table: NDArray[np.bool_], kind: NDArray[np.int64], mask: NDArray[np.bool_], *, outer: bool
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Combine the masks of the axes so far with those of one more axis.

    Its tiles come last. So do its queries and keys, except for the outer axis, where they come first.
    """
    own, own_kind = np.unique(mask, axis=0, return_inverse=True)
    kinds = (kind[:, None] * len(own) + own_kind.reshape(1, -1)).reshape(-1)
    a, b = table[:, None, :, None, :, None], own[None, :, None, :, None, :]
    if outer:
        a, b = table[:, None, None, :, None, :], own[None, :, :, None, :, None]
    _, queries, keys = table.shape
    return (a & b).reshape(-1, queries * mask.shape[1], keys * mask.shape[2]), kinds


@lru_cache(maxsize=512)
def choose_tiling(rules: tuple[Axis, ...], head_dim: int, *, with_outer: bool = True) -> Tiling:
    """Return the tiling of the lowest expected cost; without `with_outer`, all axes are inner ones."""
    return min(tilings(rules, with_outer=with_outer), key=lambda tiling: expected_cost(tiling, head_dim))


def tilings(rules: tuple[Axis, ...], *, with_outer: bool) -> Iterator[Tiling]:
    """Yield the candidates: no outer axis or any one of them, and tiles of many sizes along every axis."""
    sizes = [_tile_sizes(rule) for rule in rules]
    for outer_axis in (None, *range(len(rules))) if with_outer else (None,):
        for tiles in itertools.product(*sizes):
            yield make_tiling(rules, tiles, outer_axis)


def make_tiling(rules: tuple[Axis, ...], tiles: tuple[int, ...], outer_axis: int | None) -> Tiling:
    """Cut every axis into tiles of the given sizes."""
    outer, inner = axis_tiling(_UNIT, 1), []
    for axis, (rule, tile) in enumerate(zip(rules, tiles, strict=True)):
        if axis == outer_axis:
            outer = axis_tiling(rule, tile, with_spare=True)
        else:
            inner.append(axis_tiling(rule, tile))
    return Tiling(outer_axis=outer_axis, outer=outer, inner=tuple(inner))


def _tile_sizes(rule: Axis) -> list[int]:
    """Return the tile sizes to try along an axis: about 1 to 64 queries, evenly cut, or the whole axis."""
    sizes = {1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64}
    near = {ceil_div(rule.num_queries, ceil_div(rule.num_queries, tile)) for tile in sizes}
    # Tiles whose halo, tile + window - 1 keys, fills whole vectors.
    full = {keys + 1 - rule.window for keys in range(VECTOR, 9 * VECTOR, VECTOR)}
    whole = {rule.num_queries} if rule.num_queries <= 128 else set()
    return sorted(near | whole | {tile for tile in full if 1 <= tile <= min(rule.num_queries, 64)})


def cost_features(tiling: Tiling, head_dim: int) -> tuple[float, ...]:
    """Return the quantities that the time of a row grows with, in the order of `COSTS`.

    These are: attention weights, multiplications with them, elements of the operands, elements copied into halos,
    queries (sums of the softmax), and tiles (each is a small product of its own).
    """
    tiles, queries, keys = tiling.num_tiles, tiling.num_queries, tiling.num_keys
    weights = tiles * queries * ceil_div(keys, VECTOR) * VECTOR
    columns = volume([axis.num_tiles * axis.span for axis in tiling.inner])
    copied = tiling.outer.num_tiles * tiling.outer.step * columns
    return weights, weights * head_dim, tiles * (queries + keys) * head_dim, copied * head_dim, tiles * queries, tiles


def expected_cost(tiling: Tiling, head_dim: int) -> float:
    """Return the expected time of a row, forward and backward, in nanoseconds."""
    return sum(cost * feature for cost, feature in zip(COSTS, cost_features(tiling, head_dim), strict=True))
