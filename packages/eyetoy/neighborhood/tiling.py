"""How the tiled backend cuts one axis: tiles of queries, each with the halo of keys that its windows reach."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from eyetoy.neighborhood.window import AxisRule
from eyetoy.sizes import ceil_div, volume


@dataclass(frozen=True, kw_only=True, eq=False)
class AxisTiling:
    """One axis, split into its dilation groups and each group into `num_tiles` tiles of `tile` queries.

    Tile `t` of a group needs the group's members from `t * tile - reach_left` on, `span` of them. Start and span are
    the same for every tile, so that halos are a strided view of the padded keys; members that a query may not see
    are masked. In one dimension, with tile 4 and window 3:

        queries    0 1 2 3 | 4 5 6 7       reach_left = 1, span = 6
        halos   -1 0 1 2 3 4
                         3 4 5 6 7 8       -1 and 8 are padding
    """

    length: int
    dilation: int
    tile: int
    num_tiles: int
    reach_left: int
    span: int
    mask: Tensor  # [dilation, num_tiles, tile, span]

    @cached_property
    def sees_all(self) -> bool:
        """Whether every query sees all keys of its halo, so that no mask is needed."""
        return bool(self.mask.all())

    @property
    def query_padding(self) -> tuple[int, int]:
        """How many tokens to add before and after the queries of this axis."""
        return 0, self.num_tiles * self.tile * self.dilation - self.length

    @property
    def key_padding(self) -> tuple[int, int]:
        """How many tokens to add before and after the keys; a negative number drops tokens that no tile reaches."""
        members = (self.num_tiles - 1) * self.tile + self.span
        before = self.reach_left * self.dilation
        return before, members * self.dilation - self.length - before


@lru_cache(maxsize=512)
def axis_tiling(rule: AxisRule, tile: int) -> AxisTiling:
    """Cut the axis that `rule` describes into tiles of at most `tile` queries."""
    members = ceil_div(rule.length, rule.dilation)
    num_tiles = ceil_div(members, tile)
    padded = num_tiles * tile * rule.dilation
    first, past = (_by_tile(bound, padded, num_tiles, rule.dilation) for bound in rule.bounds())
    start = torch.arange(num_tiles) * tile
    real = first >= 0
    reach_left = max(int((start[:, None] - first)[real].max()), 0)
    halo = (start - reach_left)[:, None]
    span = int((past - halo)[real].max())
    # A padded query sees the first place of its halo: any key will do, since its output is dropped.
    first, past = torch.where(real, first, halo), torch.where(real, past, halo + 1)
    place = halo[..., None] + torch.arange(span)
    mask = (place >= first[..., None]) & (place < past[..., None])
    return AxisTiling(
        length=rule.length,
        dilation=rule.dilation,
        tile=tile,
        num_tiles=num_tiles,
        reach_left=reach_left,
        span=span,
        mask=mask,
    )


def _by_tile(bound: Tensor, padded: int, num_tiles: int, dilation: int) -> Tensor:
    """Sort per-token bounds `[length]` into `[dilation, num_tiles, tile]`, with -1 for tokens that do not exist."""
    filled = torch.full((padded,), -1).index_copy(0, torch.arange(len(bound)), bound)
    return filled.reshape(num_tiles, -1, dilation).permute(2, 0, 1)


@lru_cache(maxsize=512)
def choose_tilings(rules: tuple[AxisRule, ...], head_dim: int) -> tuple[AxisTiling, ...]:
    """Return the tiles that `_cost` expects to be fastest, one tiling per axis."""
    candidates = [[axis_tiling(rule, tile) for tile in _tile_candidates(rule)] for rule in rules]
    return min(itertools.product(*candidates), key=lambda tilings: _cost(tilings, head_dim))


def _tile_candidates(rule: AxisRule) -> list[int]:
    """Even cuts of a dilation group: whole, and in tiles of about 4, 8, ... 128 members."""
    members = ceil_div(rule.length, rule.dilation)
    near = {ceil_div(members, ceil_div(members, tile)) for tile in (2, 4, 8, 16, 32, 64, 128)}
    return sorted(near | ({members} if members <= 256 else set()))


def _cost(tilings: tuple[AxisTiling, ...], head_dim: int) -> float:
    """Expected nanoseconds per head: products, softmax, copies of queries and halos, and a call's overhead."""
    tiles = volume([tiling.num_tiles * tiling.dilation for tiling in tilings])
    queries, keys = volume([tiling.tile for tiling in tilings]), volume([tiling.span for tiling in tilings])
    products = queries * keys * head_dim * 0.04
    softmax = queries * keys * 0.6
    copies = (queries + 2 * keys) * head_dim * 0.5
    return tiles * (products + softmax + copies + 2000)
