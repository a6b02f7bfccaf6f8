"""Large grids, one slab after the other along one axis: working memory stays bounded, and near the processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from eyetoy.neighborhood.backends.tiled.kernel import TiledKernel
from eyetoy.neighborhood.problem import Three
from eyetoy.neighborhood.window import Axis, AxisPart, AxisRule
from eyetoy.sizes import ceil_div, volume

TOKENS_AT_ONCE = 1 << 15
"""Tokens of a slab: fewer repeat more of the keys that two slabs share, more take memory that no cache holds."""


def is_large(rules: tuple[AxisRule, ...]) -> bool:
    """Whether a grid is worth cutting."""
    return volume([rule.length for rule in rules]) > 4 * TOKENS_AT_ONCE


class Slab(NamedTuple):
    """Some queries along the axis and the keys that they see, both `(first, how many)`, and the rule among them."""

    queries: tuple[int, int]
    keys: tuple[int, int]
    rules: tuple[Axis, ...]


class SlabKernel:
    """`TiledKernel` slab by slab; nothing is kept for the backward pass."""

    def __init__(self, rules: tuple[AxisRule, ...], make: Callable[[tuple[Axis, ...]], TiledKernel]) -> None:
        self.axis, slabs = cut_slabs(rules)
        self.slabs = [(slab, make(slab.rules)) for slab in slabs]

    def forward(self, tokens: Three, key_mask: Tensor | None, *, keep: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `TiledKernel.forward` returns; `keep` is of no avail."""
        query, _, value = tokens
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        for slab, kernel in self.slabs:
            part, _, _ = kernel.forward(self._tokens(slab, tokens), self._mask(slab, key_mask))
            self._narrow(out, slab.queries).copy_(part)
        return out, query.new_empty(0), query.new_empty(0)

    def backward(self, grad: Tensor, tokens: Three, key_mask: Tensor | None, kept: tuple[Tensor, Tensor]) -> Three:
        """Return the gradients of query, key and value."""
        query, key, value = tokens
        dq, dk, dv = query.new_empty(query.shape), torch.zeros_like(key), torch.zeros_like(value)
        for slab, kernel in self.slabs:
            part = self._narrow(grad, slab.queries)
            grads = kernel.backward(part, self._tokens(slab, tokens), self._mask(slab, key_mask), kept)
            self._narrow(dq, slab.queries).copy_(grads[0])
            self._narrow(dk, slab.keys).add_(grads[1])
            self._narrow(dv, slab.keys).add_(grads[2])
        return dq, dk, dv

    def _tokens(self, slab: Slab, tokens: Three) -> Three:
        query, key, value = tokens
        return self._narrow(query, slab.queries), self._narrow(key, slab.keys), self._narrow(value, slab.keys)

    def _mask(self, slab: Slab, key_mask: Tensor | None) -> Tensor | None:
        return None if key_mask is None else self._narrow(key_mask, slab.keys)

    def _narrow(self, x: Tensor, part: tuple[int, int]) -> Tensor:
        return x.narrow(1 + self.axis, *part)


def cut_slabs(rules: tuple[AxisRule, ...]) -> tuple[int, list[Slab]]:
    """Return the axis along which slabs repeat the fewest keys, and the slabs."""
    axis = max(range(len(rules)), key=lambda i: rules[i].length / rules[i].window)
    rule = rules[axis]
    others = volume([other.length for other in rules]) // rule.length
    length = ceil_div(max(TOKENS_AT_ONCE // others, 1), rule.stride) * rule.stride
    slabs = []
    for start in range(0, rule.length, length):
        part, shift = _part(rule, start, min(start + length, rule.length))
        keys = shift + part.first_key, part.num_keys
        slabs.append(Slab((start, part.num_queries), keys, (*rules[:axis], part, *rules[axis + 1 :])))
    return axis, slabs


def _part(rule: AxisRule, start: int, stop: int) -> tuple[AxisPart, int]:
    """Return the part as one of a shorter axis, and by how much it was moved: parts far from borders become equal."""
    margin = ceil_div(rule.window + rule.stride, rule.stride) * rule.stride
    shift = max(start - margin, 0) // rule.stride * rule.stride
    short = AxisRule(
        length=min(rule.length - shift, stop - shift + margin),
        window=rule.window,
        stride=rule.stride,
        is_causal=rule.is_causal,
    )
    return AxisPart(rule=short, start=start - shift, stop=stop - shift), shift
