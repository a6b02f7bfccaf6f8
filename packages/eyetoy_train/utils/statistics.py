"""How sure a score is, and which samples stand for all."""

from __future__ import annotations

import math

SHARES = ("accuracy", "top5")
"""Scores that are shares of samples, and have a confidence interval."""


def even_places(length: int, count: int) -> list[int]:
    """Return `count` places of `length`, or all if there are fewer, evenly spaced from the first one on."""
    count = min(count, length)
    return [length * place // count for place in range(count)]


def interval(share: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """Return the confidence interval of a share of samples (Wilson, JASA 22, 1927).

    Args:
        share: from 0 to 1.
        count: how many samples the share is of.
        z: quantile of the normal distribution; 1.96 gives the 95 % interval.
    """
    # The usual interval, share ± z * sqrt(share * (1 - share) / count), has no width at a share of 1, which small sets
    # often reach.
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(middle - half, 0.0), min(middle + half, 1.0)
