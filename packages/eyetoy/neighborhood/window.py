"""The rule: which keys each query attends, along one axis.

The rule is NATTEN's (Hassani et al., Neighborhood Attention Transformer, CVPR 2023; dilation from Dilated
Neighborhood Attention, 2022; stride from Generalized Neighborhood Attention, 2025). A neighborhood in N dimensions
is the product of the neighborhoods along its axes, so that one axis says it all. On an axis of 8, query q sees x:

        window 3            window 4            window 3, causal    window 3, dilation 2
    q   0 1 2 3 4 5 6 7     0 1 2 3 4 5 6 7     0 1 2 3 4 5 6 7     0 1 2 3 4 5 6 7
    0   x x x . . . . .     x x x x . . . .     x . . . . . . .     x . x . x . . .
    1   x x x . . . . .     x x x x . . . .     x x . . . . . .     . x . x . x . .
    4   . . . x x x . .     . . x x x x . .     . . x x x . . .     . . x . x . x .
    7   . . . . . x x x     . . . . x x x x     . . . . . x x x     . . . x . x . x
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class AxisRule:
    """Neighborhoods along one axis.

    Tokens `i` with the same `i % dilation` form a dilation group; a window lies inside its group and counts its
    members. At a border a window is shifted, not cut, so that every query has `window` keys; if a group is shorter than
    the window, its queries see all of it. With `is_causal` a window ends at its query and is cut at the start.
    `stride` neighboring queries share the window of one of them, their leader.
    """

    length: int
    window: int
    dilation: int = 1
    stride: int = 1
    is_causal: bool = False

    @property
    def num_queries(self) -> int:
        """Number of queries."""
        return self.length

    @property
    def num_keys(self) -> int:
        """Number of keys."""
        return self.length

    @property
    def sees_all(self) -> bool:
        """Whether every query attends every key."""
        return self.window >= self.length and self.dilation == 1 and not self.is_causal

    def bounds(self) -> tuple[Positions, Positions]:
        """Return for every query the first key and one past the last, counted in members of its dilation group.

        Query `i` attends the tokens `i % dilation + dilation * x` for `first <= x < past`. Both are `[length]`. For
        example with length 10, window 3 and dilation 3, query 5 is member 1 of group 2, whose tokens are 2, 5 and 8; it
        has the bounds 0 and 3 and attends all of them.
        """
        query = np.arange(self.length)
        group, place = query % self.dilation, query // self.dilation
        members = self.length // self.dilation + (group < self.length % self.dilation)
        window = np.minimum(members, self.window)
        leader = self._leader(place, window, members)
        if self.is_causal:
            return np.maximum(leader - (window - 1), 0), place + 1
        # `window // 2` keys before the query, so an even window has one more key before it than after it.
        first = np.minimum(np.maximum(leader - window // 2, 0), members - window)
        return first, first + window

    def _leader(self, place: Positions, window: Positions, members: Positions) -> Positions:
        stride = np.minimum(window, self.stride)  # a stride beyond the window would leave queries without their own key
        offset = stride - 1 if self.is_causal else stride // 2
        leader: Positions = np.minimum(place // stride * stride + offset, members - 1)
        return leader

    def key_indices(self) -> tuple[Positions, NDArray[np.bool_]]:
        """Return the keys of every query and which of them count, `[length, at most window]`; others are 0."""
        first, past = self.bounds()
        places = first[:, None] + np.arange(max(int((past - first).max()), 1))
        valid = places < past[:, None]
        tokens = np.arange(self.length)[:, None] % self.dilation + self.dilation * places
        return np.where(valid, tokens, 0), valid


@dataclass(frozen=True, kw_only=True)
class AxisPart:
    """The queries from `start` to `stop` of an axis without dilation, and the keys that they see.

    It looks to a kernel like an axis of its own, whose keys are counted from `first_key` on.
    """

    rule: AxisRule
    start: int
    stop: int

    @property
    def num_queries(self) -> int:
        """Number of queries."""
        return self.stop - self.start

    @property
    def num_keys(self) -> int:
        """Number of keys."""
        return int(self.bounds()[1].max())

    @property
    def window(self) -> int:
        """Largest number of keys of a query."""
        return self.rule.window

    @cached_property
    def first_key(self) -> int:
        """The first key that any of the queries sees."""
        return int(self.rule.bounds()[0][self.start : self.stop].min())

    def bounds(self) -> tuple[Positions, Positions]:
        """Return for every query the first key and one past the last, counted from `first_key`."""
        first, past = (bound[self.start : self.stop] - self.first_key for bound in self.rule.bounds())
        return first, past


Axis = AxisRule | AxisPart
