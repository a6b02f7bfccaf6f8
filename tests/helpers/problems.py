"""Random neighborhood attention calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

HEAD_DIMS = (1, 3, 5, 8, 16)
SMALL = {1: 20, 2: 6, 3: 4}
"""Longest axis for comparisons with loops in Python."""
LARGE = {1: 300, 2: 26, 3: 10}
"""Longest axis for comparisons between backends: long enough for many tiles."""
WIDEST = {1: 40, 2: 11, 3: 5}
"""Widest window on a large grid; wider ones are tried on small grids."""


@dataclass(frozen=True, kw_only=True)
class AttentionProblem:
    """One call: shapes, the neighborhood per axis, and a seed for the numbers."""

    grid: tuple[int, ...]
    window: tuple[int, ...]
    dilation: tuple[int, ...]
    stride: tuple[int, ...]
    is_causal: tuple[bool, ...]
    batch: int
    heads: int
    head_dim: int
    value_dim: int
    scale: float | None
    valid_fraction: float | None
    """Fraction of the keys that the mask keeps; None for a call without a mask."""
    seed: int

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `neighborhood_attention`, without the mask."""
        names = ("window", "dilation", "stride", "is_causal", "scale")
        return {name: getattr(self, name) for name in names}

    def axes(self, make: Callable[..., Any]) -> list[Any]:
        """Build the oracle's axes."""
        names = ("window", "dilation", "stride", "is_causal")
        return [
            make(**dict(zip(names, values, strict=True)))
            for values in zip(*(getattr(self, name) for name in names), strict=True)
        ]

    def tensors(self, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return query, key, value and key mask."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.batch, *self.grid, self.heads)
        qkv = [
            torch.randn(*shape, dim, generator=generator, dtype=torch.float64)
            for dim in (self.head_dim, self.head_dim, self.value_dim)
        ]
        query, key, value = (x.to(device=device, dtype=dtype) for x in qkv)
        if self.valid_fraction is None:
            return query, key, value, None
        mask = torch.rand(self.batch, *self.grid, generator=generator) < self.valid_fraction
        return query, key, value, mask.to(device)


@st.composite
def attention_problems(
    draw: st.DrawFn, dimension: int, *, large: bool = False, with_mask: bool | None = None
) -> AttentionProblem:
    """Draw a call in this many dimensions; windows may exceed the axis, and dilations may too."""
    longest = (LARGE if large else SMALL)[dimension]
    grid = draw(_per_axis(dimension, st.integers(1, longest)))
    window = tuple(draw(st.integers(1, min(length + 3, WIDEST[dimension]) if large else length + 3)) for length in grid)
    dilation = draw(st.just((1,) * dimension) | _per_axis(dimension, st.integers(1, 4)))
    stride = tuple(draw(st.just(1) | st.integers(1, width)) for width in window)
    is_causal = draw(st.just((False,) * dimension) | _per_axis(dimension, st.booleans()))
    fractions = st.sampled_from((0.0, 0.1, 0.5, 0.9))
    return AttentionProblem(
        grid=grid,
        window=window,
        dilation=dilation,
        stride=stride,
        is_causal=is_causal,
        batch=draw(st.integers(1, 2)),
        heads=draw(st.integers(1, 3)),
        head_dim=draw(st.sampled_from(HEAD_DIMS)),
        value_dim=draw(st.sampled_from(HEAD_DIMS)),
        scale=draw(st.none() | st.floats(0.1, 2.0)),
        valid_fraction=draw({None: st.none() | fractions, True: fractions, False: st.none()}[with_mask]),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _per_axis(dimension: int, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(*[values] * dimension)
