"""Sizes per axis: one integer for all axes, or a tuple with one per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Size = int | tuple[int, ...]


def per_axis(value: Size | Sequence[int], num_spatial_dims: int, name: str, *, minimum: int = 1) -> tuple[int, ...]:
    """Return `value` as a tuple with one integer per spatial axis.

    Raises:
        ValueError: the number of entries is not `num_spatial_dims`, or an entry is no integer of at least `minimum`.
    """
    given = value.tolist() if isinstance(value, (np.integer, np.ndarray)) else value
    if not isinstance(given, int | Sequence):
        raise ValueError(f"{name} must be one integer or {num_spatial_dims} of them, one per axis; got {value!r}")
    sizes = (given,) * num_spatial_dims if isinstance(given, int) else tuple(given)
    sizes = tuple(int(size) if isinstance(size, np.integer) else size for size in sizes)
    if len(sizes) != num_spatial_dims:
        raise ValueError(f"{name} must be one integer or {num_spatial_dims} of them, one per axis; got {value!r}")
    if any(isinstance(size, bool) or not isinstance(size, int) or size < minimum for size in sizes):
        raise ValueError(f"{name} must hold integers of at least {minimum}; got {value!r}")
    return sizes


def ceil_div(numerator: int, denominator: int) -> int:
    """Return `numerator / denominator`, rounded up."""
    # Not -(-numerator // denominator): compiled programs get divisions of negative symbolic sizes wrong.
    return (numerator + denominator - 1) // denominator


def check_count(value: int, name: str, *, most: int | None = None) -> None:
    """Check that a count is at least 1 and at most `most`.

    Raises:
        ValueError: it is not.
    """
    if value < 1:
        raise ValueError(f"{name} must be at least 1; got {value}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be {most} at most; got {value}")


def check_rates(*, dropout: float, drop_path: float = 0.0) -> None:
    """Check that rates are at least 0 and below 1, where something is left.

    Raises:
        ValueError: a rate is not.
    """
    for name, rate in (("dropout", dropout), ("drop_path", drop_path)):
        if not 0 <= rate < 1:
            raise ValueError(f"{name} must be at least 0 and below 1; got {rate}")


def check_divisible(value: int, divisor: int, value_name: str, divisor_name: str) -> int:
    """Return `value // divisor`.

    Raises:
        ValueError: `divisor` does not divide `value`.
    """
    if value % divisor:
        raise ValueError(f"{value_name} must be a multiple of {divisor_name}; got {value} and {divisor}")
    return value // divisor


def channels_for(num_spatial_dims: int, pairs_per_axis: int = 1) -> int:
    """Return how many channels hold `pairs_per_axis` sine and cosine pairs for each axis."""
    return 2 * num_spatial_dims * pairs_per_axis


def volume(grid: Sequence[int]) -> int:
    """Return the number of tokens of a grid."""
    return math.prod(grid)
