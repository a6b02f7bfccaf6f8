"""A neighborhood attention call after its arguments were checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from eyetoy.neighborhood.window import AxisRule
from eyetoy.sizes import Size, per_axis

QKV = tuple[Tensor, Tensor, Tensor]
"""Query, key and value, `[batch, *grid, heads, dim]`."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What every backend is handed: one rule per axis, the scale, and the tokens that count.

    `key_mask` is `[batch, *grid]`, true where a token is valid, or None where all are.
    """

    rules: tuple[AxisRule, ...]
    scale: float
    key_mask: Tensor | None

    @property
    def grid(self) -> tuple[int, ...]:
        """The spatial sizes."""
        return tuple(rule.length for rule in self.rules)

    @property
    def is_dense(self) -> bool:
        """Whether every token attends every valid one, so that this is plain attention."""
        return all(rule.sees_all for rule in self.rules)


def needs_gradients(tokens: QKV) -> bool:
    """Whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in tokens)


def check_problem(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    window: Size,
    dilation: Size,
    stride: Size,
    is_causal: bool | tuple[bool, ...],
    key_mask: Tensor | None,
    scale: float | None,
) -> Problem:
    """Check the arguments of a call and return them in the form the backends take.

    Raises:
        ValueError: an argument does not fit; the message names it, what it was and what it may be.
    """
    _check_tensors(query, key, value)
    plan = _axis_rules if torch.compiler.is_compiling() else _cached_axis_rules
    rules = plan(tuple(query.shape[1:-2]), _hashable(window), _hashable(dilation), _hashable(stride), is_causal)
    if key_mask is not None:
        _check_key_mask(key_mask, query)
    return Problem(rules=rules, scale=query.shape[-1] ** -0.5 if scale is None else scale, key_mask=key_mask)


def _hashable(size: Size) -> Size:
    return tuple(size) if isinstance(size, list) else size


def _axis_rules(
    grid: tuple[int, ...], window: Size, dilation: Size, stride: Size, is_causal: bool | tuple[bool, ...]
) -> tuple[AxisRule, ...]:
    dim = len(grid)
    causal = is_causal if isinstance(is_causal, tuple) else (is_causal,) * dim
    if len(causal) != dim or not all(isinstance(flag, bool) for flag in causal):
        raise ValueError(f"is_causal must be one bool or {dim} of them, one per axis; got {is_causal!r}")
    windows, strides = per_axis(window, dim, "window"), per_axis(stride, dim, "stride")
    if any(s > w for s, w in zip(strides, windows, strict=True)):
        raise ValueError(f"stride must not exceed the window; got stride={stride!r}, window={window!r}")
    axes = zip(grid, windows, per_axis(dilation, dim, "dilation"), strides, causal, strict=True)
    return tuple(AxisRule(length=n, window=w, dilation=d, stride=s, is_causal=c) for n, w, d, s, c in axes)


_cached_axis_rules = lru_cache(maxsize=512, typed=True)(_axis_rules)  # compilers follow the plain function, no cache


def _check_tensors(query: Tensor, key: Tensor, value: Tensor) -> None:
    if not 4 <= query.ndim <= 6:
        raise ValueError(
            "query must be [batch, *grid, heads, head_dim] with 1 to 3 grid axes, so 4 to 6 in all; "
            f"got shape {tuple(query.shape)}"
        )
    if query.shape[:-1] != value.shape[:-1] or query.shape != key.shape:
        raise ValueError(
            "query and key must have one shape, and value the same but for its head_dim; got "
            f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
        )
    if not query.is_floating_point() or not query.dtype == key.dtype == value.dtype:
        raise ValueError(
            f"query, key and value must share one floating-point dtype; got {query.dtype}, {key.dtype}, {value.dtype}"
        )


def _check_key_mask(key_mask: Tensor, query: Tensor) -> None:
    expected = tuple(query.shape[:-2])
    if key_mask.dtype != torch.bool or tuple(key_mask.shape) != expected:
        raise ValueError(
            f"key_mask must be bool, true where a token is valid, of shape [batch, *grid] = {expected}; "
            f"got {key_mask.dtype} of shape {tuple(key_mask.shape)}"
        )
