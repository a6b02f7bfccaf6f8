"""Large grids in slabs along one axis, one after the other, so that working memory stays bounded and in the caches.

    axis     0 ............................................ length
    queries  |---- slab 0 ----|---- slab 1 ----|---- slab 2 ----|
    keys     |---- slab 0 -------|
                          |---- slab 1 -----------|               a slab also reads the keys that its windows reach
                                           |---- slab 2 --------|

Output and gradients of queries are written once. Gradients of keys are added up, since neighboring slabs share keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from eyetoy.neighborhood.backends.tiled.kernel import TiledKernel
from eyetoy.neighborhood.problem import QKV
from eyetoy.neighborhood.window import Axis, AxisPart, AxisRule
from eyetoy.sizes import ceil_div, volume

# Smaller slabs compute more of the shared keys twice; larger ones take working memory that no cache holds.
TOKENS_PER_SLAB = 1 << 15


def is_large(rules: tuple[AxisRule, ...]) -> bool:
    """Whether a grid is large enough for slabs: with fewer than four, shared keys would cost more than they save."""
    return volume([rule.length for rule in rules]) > 4 * TOKENS_PER_SLAB


class Slab(NamedTuple):
    """A range of queries along the axis, the range of keys that they see, and the rules among these.

    Ranges are `(first, count)`.
    """

    queries: tuple[int, int]
    keys: tuple[int, int]
    rules: tuple[Axis, ...]


class SlabKernel:
    """`TiledKernel` slab by slab. Nothing is saved for the backward pass: large grids compute weights again."""

    def __init__(self, rules: tuple[AxisRule, ...], make: Callable[[tuple[Axis, ...]], TiledKernel]) -> None:
        self.axis, slabs = cut_slabs(rules)
        self.slabs = [(slab, make(slab.rules)) for slab in slabs]

    def forward(self, tokens: QKV, key_mask: Tensor | None, *, save: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `TiledKernel.forward` returns; `save` has no effect."""
        query, _, value = tokens
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        for slab, kernel in self.slabs:
            part, _, _ = kernel.forward(self._tokens(slab, tokens), self._mask(slab, key_mask))
            self._narrow(out, slab.queries).copy_(part)
        return out, query.new_empty(0), query.new_empty(0)

    def backward(self, grad: Tensor, tokens: QKV, key_mask: Tensor | None, saved: tuple[Tensor, Tensor]) -> QKV:
        """Return the gradients of query, key and value."""
        query, key, value = tokens
        dq, dk, dv = query.new_empty(query.shape), torch.zeros_like(key), torch.zeros_like(value)
        for slab, kernel in self.slabs:
            part = self._narrow(grad, slab.queries)
            grads = kernel.backward(part, self._tokens(slab, tokens), self._mask(slab, key_mask), saved)
            self._narrow(dq, slab.queries).copy_(grads[0])
            self._narrow(dk, slab.keys).add_(grads[1])
            self._narrow(dv, slab.keys).add_(grads[2])
        return dq, dk, dv

    def _tokens(self, slab: Slab, tokens: QKV) -> QKV:
        query, key, value = tokens
        return self._narrow(query, slab.queries), self._narrow(key, slab.keys), self._narrow(value, slab.keys)

    def _mask(self, slab: Slab, key_mask: Tensor | None) -> Tensor | None:
        return None if key_mask is None else self._narrow(key_mask, slab.keys)

    def _narrow(self, x: Tensor, part: tuple[int, int]) -> Tensor:
        return x.narrow(1 + self.axis, *part)


def cut_slabs(rules: tuple[AxisRule, ...]) -> tuple[int, list[Slab]]:
    """Return the axis along which slabs share the fewest keys, and the slabs."""
    axis = max(range(len(rules)), key=lambda i: rules[i].length / rules[i].window)
    rule = rules[axis]
    others = volume([other.length for other in rules]) // rule.length
    # A multiple of the stride: queries that share a window stay in one slab.
    length = ceil_div(max(TOKENS_PER_SLAB // others, 1), rule.stride) * rule.stride
    slabs = []
    for start in range(0, rule.length, length):
        part, shift = _part(rule, start, min(start + length, rule.length))
        keys = shift + part.first_key, part.num_keys
        slabs.append(Slab((start, part.num_queries), keys, (*rules[:axis], part, *rules[axis + 1 :])))
    return axis, slabs


def _part(rule: AxisRule, start: int, stop: int) -> tuple[AxisPart, int]:
    """Return the queries from `start` to `stop` as a part of a shorter axis, and by how much they were moved.

    All parts away from the borders become equal, and share one plan and one kernel from the caches.
    """
    # Far enough from both ends of the shorter axis that no window of the part is shifted unless it is on the long one.
    margin = ceil_div(rule.window + rule.stride, rule.stride) * rule.stride
    shift = max(start - margin, 0) // rule.stride * rule.stride
    short = AxisRule(
        length=min(rule.length - shift, stop - shift + margin),
        window=rule.window,
        stride=rule.stride,
        is_causal=rule.is_causal,
    )
    return AxisPart(rule=short, start=start - shift, stop=stop - shift), shift
