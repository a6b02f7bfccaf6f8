"""Which tiles are fastest: a cost model, calibrated by `benchmarks/tiles.py`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache

from eyetoy.neighborhood.tiling import Tiling, axis_tiling
from eyetoy.neighborhood.window import AxisRule
from eyetoy.sizes import ceil_div

_UNIT = AxisRule(length=1, window=1)


@lru_cache(maxsize=512)
def choose_tiling(rules: tuple[AxisRule, ...], head_dim: int, *, walk: bool = True) -> Tiling:
    """Return the tiling that `expected_cost` puts first; without `walk`, every axis is an inner one."""
    return min(tilings(rules, walk=walk), key=lambda tiling: expected_cost(tiling, head_dim))


def tilings(rules: tuple[AxisRule, ...], *, walk: bool) -> Iterator[Tiling]:
    """Return the tilings worth a thought: no axis or any axis walked, tiles of many sizes."""
    sizes = [_tile_sizes(rule) for rule in rules]
    for outer_axis in (None, *range(len(rules))) if walk else (None,):
        for tiles in itertools.product(*sizes):
            yield make_tiling(rules, tiles, outer_axis)


def make_tiling(rules: tuple[AxisRule, ...], tiles: tuple[int, ...], outer_axis: int | None) -> Tiling:
    """Cut every axis into tiles of the given sizes."""
    outer, inner = axis_tiling(_UNIT, 1), []
    for axis, (rule, tile) in enumerate(zip(rules, tiles, strict=True)):
        if axis == outer_axis:
            outer = axis_tiling(rule, tile, with_spare=True)
        else:
            inner.append(axis_tiling(rule, tile))
    return Tiling(outer_axis=outer_axis, outer=outer, inner=tuple(inner))


def _tile_sizes(rule: AxisRule) -> list[int]:
    """Even cuts: whole, and tiles of about 1 to 64 queries."""
    near = {ceil_div(rule.length, ceil_div(rule.length, tile)) for tile in (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64)}
    return sorted(near | ({rule.length} if rule.length <= 128 else set()))


def expected_cost(tiling: Tiling, head_dim: int) -> float:
    """Return the expected time of a row, forward and backward, on two cores, in nanoseconds."""
    queries, keys = tiling.num_queries, tiling.num_keys
    weights = queries * keys * (1.5 + 0.1 * head_dim)
    moved = (4 * queries + 8 * keys) * head_dim * 0.1
    return tiling.num_tiles * (weights + moved + 500)
