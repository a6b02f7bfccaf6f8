"""How axes are cut into tiles of queries, each with the halo of keys that its windows reach.

Every tile of an axis has as many queries and as many keys as every other, and halos start at even steps, so that all
tiles are strided views. In one dimension, with tile 4 and window 3:

    queries    0 1 2 3 | 4 5 6 7       start = -1, step = 4, span = 6
    halos   -1 0 1 2 3 4
                     3 4 5 6 7 8       -1 and 8 are padding

Plans are made with NumPy: they stay plain numbers under tracing, fake tensors and default devices.
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

COSTS = (0.95, 0.097, 1.06, 1.73, 46.0, 305.0)
"""Nanoseconds of each of `cost_features`, fitted by `benchmarks/tiles.py` on two cores of an AMD EPYC (Zen 4). There 9
of 13 choices were at most 6 % slower than the best of 24 tilings tried, and the worst one 39 %."""
VECTOR = 16
"""Numbers that a processor takes at once: a last vector of keys costs as much as a full one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AxisTiling:
    """One axis in `num_tiles` tiles of `tile` queries; tile `t` has `span` keys from `start + step * t` on.

    Tiles from `num_real` on are spare: they hold no query of the axis, and are there for its last keys.
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
        """How many places the halos cover together."""
        return (self.num_real - 1) * self.step + self.span

    @property
    def lead(self) -> int:
        """How many places the first halo starts before the axis."""
        return max(-self.start, 0)

    @property
    def gap(self) -> int:
        """How many steps from the end of one axis to the start of the next keep real halos of one off the other."""
        reach = self.start + self.extent - self.num_tiles * self.step
        return ceil_div(max(self.lead, reach), self.step)


@lru_cache(maxsize=1024)
def axis_tiling(rule: Axis, tile: int, *, with_spare: bool = False) -> AxisTiling:
    """Cut an axis without dilation into tiles of `tile` queries.

    `with_spare` adds the tiles that it takes for their steps to hold every key, one axis after the other in memory.
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

    The step is the tile for long axes; of two or three tiles the outer ones reach over one side only, and a shorter
    step with a shorter span serves them.
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
    """Return `[num_tiles, tile, span]`; a query beyond the axis sees the first key, since its output is dropped."""
    start, step, span = halos
    query = np.arange(num_tiles * tile)
    halo = start + step * (query // tile)
    real = query < len(first)
    index = np.minimum(query, len(first) - 1)
    low, high = np.where(real, first[index], halo), np.where(real, past[index], halo + 1)
    place = halo[:, None] + np.arange(span)
    seen: NDArray[np.bool_] = (place >= low[:, None]) & (place < high[:, None])
    return seen.reshape(num_tiles, tile, span)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiling:
    """All axes of a grid: `outer` is walked through strided halos, `inner` ones get copies of theirs.

    `outer_axis` is the grid axis of `outer`; it is None where every axis is an inner one, and `outer` has length 1.
    """

    outer_axis: int | None
    outer: AxisTiling
    inner: tuple[AxisTiling, ...]

    @cached_property
    def inner_axes(self) -> tuple[int, ...]:
        """Return the grid axes of `inner`."""
        axes = range(len(self.inner) + (self.outer_axis is not None))
        return tuple(axis for axis in axes if axis != self.outer_axis)

    @cached_property
    def num_tiles(self) -> int:
        """Return the tiles of one grid."""
        return volume([axis.num_tiles for axis in (*self.inner, self.outer)])

    @cached_property
    def num_queries(self) -> int:
        """Return the queries of a tile."""
        return volume([axis.tile for axis in (self.outer, *self.inner)])

    @cached_property
    def num_keys(self) -> int:
        """Return the keys of a tile."""
        return volume([axis.span for axis in (self.outer, *self.inner)])

    @cached_property
    def masks(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return the different masks `[kinds, queries, keys]` and which one each tile has, `[num_tiles]`.

        Tiles are in the order `[*inner, outer]`, queries and keys in the order `[outer, *inner]`. There are few kinds:
        tiles that touch no border share one.
        """
        table, kind = np.ones((1, 1, 1), dtype=np.bool_), np.zeros(1, dtype=np.int64)
        for axis in self.inner:
            table, kind = _product(table, kind, axis.mask, outer=False)
        return _product(table, kind, self.outer.mask, outer=True)


def _product(
    table: NDArray[np.bool_], kind: NDArray[np.int64], mask: NDArray[np.bool_], *, outer: bool
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Add an axis; its tiles come last, and its places too unless it is the outer one, whose places come first."""
    own, own_kind = np.unique(mask, axis=0, return_inverse=True)
    kinds = (kind[:, None] * len(own) + own_kind.reshape(1, -1)).reshape(-1)
    a, b = table[:, None, :, None, :, None], own[None, :, None, :, None, :]
    if outer:
        a, b = table[:, None, None, :, None, :], own[None, :, :, None, :, None]
    _, queries, keys = table.shape
    return (a & b).reshape(-1, queries * mask.shape[1], keys * mask.shape[2]), kinds


@lru_cache(maxsize=512)
def choose_tiling(rules: tuple[Axis, ...], head_dim: int, *, walk: bool = True) -> Tiling:
    """Return the tiling that `expected_cost` puts first; without `walk`, every axis is an inner one."""
    return min(tilings(rules, walk=walk), key=lambda tiling: expected_cost(tiling, head_dim))


def tilings(rules: tuple[Axis, ...], *, walk: bool) -> Iterator[Tiling]:
    """Return the tilings worth a thought: no axis or any axis walked, tiles of many sizes."""
    sizes = [_tile_sizes(rule) for rule in rules]
    for outer_axis in (None, *range(len(rules))) if walk else (None,):
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
    """Even cuts: whole, tiles of about 1 to 64 queries, and those that need whole vectors of keys."""
    sizes = {1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64}
    near = {ceil_div(rule.num_queries, ceil_div(rule.num_queries, tile)) for tile in sizes}
    full = {keys + 1 - rule.window for keys in range(VECTOR, 9 * VECTOR, VECTOR)}
    whole = {rule.num_queries} if rule.num_queries <= 128 else set()
    return sorted(near | whole | {tile for tile in full if 1 <= tile <= min(rule.num_queries, 64)})


def cost_features(tiling: Tiling, head_dim: int) -> tuple[float, ...]:
    """Return what the time of a row grows with: weights, their products, operands, copied keys, queries, tiles."""
    tiles, queries, keys = tiling.num_tiles, tiling.num_queries, tiling.num_keys
    weights = tiles * queries * ceil_div(keys, VECTOR) * VECTOR
    columns = volume([axis.num_tiles * axis.span for axis in tiling.inner])
    copied = tiling.outer.num_tiles * tiling.outer.step * columns
    return weights, weights * head_dim, tiles * (queries + keys) * head_dim, copied * head_dim, tiles * queries, tiles


def expected_cost(tiling: Tiling, head_dim: int) -> float:
    """Return the expected time of a row, forward and backward, in nanoseconds on two cores."""
    return sum(cost * feature for cost, feature in zip(COSTS, cost_features(tiling, head_dim), strict=True))
