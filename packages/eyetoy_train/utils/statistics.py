"""How sure a score is."""

from __future__ import annotations

import math

SHARES = ("accuracy", "top5")
"""Scores that are shares of samples, and have a confidence interval."""


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
