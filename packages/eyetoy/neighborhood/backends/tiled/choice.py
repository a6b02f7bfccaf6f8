"""Which tiles are fastest: a cost model, calibrated by `benchmarks/tiles.py`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache

from eyetoy.neighborhood.backends.tiled.tiling import Tiling, axis_tiling
from eyetoy.neighborhood.window import Axis, AxisRule
from eyetoy.sizes import ceil_div, volume

_UNIT = AxisRule(length=1, window=1)

COSTS = (0.95, 0.097, 1.06, 1.73, 46.0, 305.0)
"""Nanoseconds of each of `cost_features`, fitted by `benchmarks/tiles.py` on two cores of an AMD EPYC (Zen 4). There 9
of 13 choices were at most 6 % slower than the best of 24 tilings tried, and the worst one 39 %."""
VECTOR = 16
"""Numbers that a processor takes at once: a last vector of keys costs as much as a full one."""


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
