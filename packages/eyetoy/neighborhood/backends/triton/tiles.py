"""How much a program of the kernels takes: the tile of tokens, the block of its box at a time, and the warps.

    . . . . . . . . .      a tile of 2 x 2 queries (Q) with windows of 3 x 3 reaches a box of 4 x 4 keys (k and Q).
    . k k k k . . . .      Square tiles share most of their boxes: one of 1 x 4 would reach 3 x 6 keys.
    . k Q Q k . . . .
    . k Q Q k . . . .
    . k k k k . . . .

Tiles are powers of two, as Triton's shapes are. Among those of one size, the one whose programs walk over the fewest
keys in all is taken; at ends of an axis that a tile does not divide, a part of it idles.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

from eyetoy.sizes import ceil_div

Axis = tuple[int, int, int, int]
"""Length, window, dilation and stride of an axis, as the kernels take them."""

NARROWEST = 16
"""The fewest channels and tokens of a matrix product in Triton."""


class Tiles(NamedTuple):
    """The work of a program: tokens per axis, tokens of the box at a time, and what Triton compiles it with."""

    tile: tuple[int, int, int]
    block: int
    num_warps: int
    num_stages: int


@lru_cache(maxsize=512)
def choose_tiles(axes: tuple[Axis, Axis, Axis], width: int, num_bytes: int) -> Tiles:
    """Return the tiles for a grid.

    Args:
        axes: length, window, dilation and stride per axis.
        width: the wider of the channels of keys and values, filled up to a power of two.
        num_bytes: of a number.
    """
    # With these, all kernels keep everything in registers on sm_90; see `benchmarks/kernels.py`. Products in float32
    # need more of them. How fast which size is, only a GPU can tell.
    tokens, block = (64, 32) if num_bytes == 2 else (32, 16)
    members = math.prod(ceil_div(length, dilation) for length, _, dilation, _ in axes)
    tokens = min(tokens, filled_up(members))  # a smaller grid needs no more
    tile = min(_tiles_of(tokens), key=lambda tile: _num_keys(axes, tile, block))
    return Tiles(tile, block, num_warps=4 if width <= 64 else 8, num_stages=2)


def num_programs(axes: tuple[Axis, Axis, Axis], tile: tuple[int, int, int]) -> int:
    """Return the number of tiles of a sample's head."""
    return math.prod(
        dilation * ceil_div(ceil_div(length, dilation), size)
        for (length, _, dilation, _), size in zip(axes, tile, strict=True)
    )


def filled_up(count: int) -> int:
    """Return the next power of two that Triton's products take, for channels or tokens."""
    return max(1 << (count - 1).bit_length(), NARROWEST)


def _num_keys(axes: tuple[Axis, Axis, Axis], tile: tuple[int, int, int], block: int) -> int:
    """Return how many keys all programs of a sample's head walk over, each in whole blocks."""
    box = 1
    for (length, window, dilation, stride), size in zip(axes, tile, strict=True):
        # A window beyond that of the first query for every further leader; ends of the axis have smaller boxes.
        box *= min(window + ceil_div(size - 1, stride) * stride, ceil_div(length, dilation))
    return num_programs(axes, tile) * ceil_div(box, block) * block


def _tiles_of(tokens: int) -> list[tuple[int, int, int]]:
    """Return all tiles of so many tokens; the longest last axis, whose tokens are neighbors in memory, first."""
    sizes = [2**power for power in range(tokens.bit_length())]
    shapes = [shape for shape in itertools.product(sizes, repeat=3) if math.prod(shape) == tokens]
    return sorted(shapes, key=lambda shape: shape[::-1], reverse=True)
