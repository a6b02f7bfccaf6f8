"""A neighborhood attention call after its arguments were checked: what backends receive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eyetoy.neighborhood.window import AxisRule
from eyetoy.sizes import Size, per_axis
from eyetoy.tracing import fixed_sizes

NUMPY = (np.generic, np.ndarray)  # a tuple: a compiler knows no unions of NumPy's types

QKV = tuple[Tensor, Tensor, Tensor]
"""Query, key and value, `[batch, *grid, heads, dim]`."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Everything about a call but its query, key and value.

    `rules` has one entry per grid axis. `key_mask` is bool `[batch, *grid]`, true where a token is valid, or None if
    all are; keys and values of invalid tokens are zero already, except for backends that never read them. `lengths`,
    int64 `[batch]`, is for backends that know of rows of several lengths, padded at their ends; None if all are full.
    """

    rules: tuple[AxisRule, ...]
    scale: float
    key_mask: Tensor | None
    lengths: Tensor | None = None

    @property
    def grid(self) -> tuple[int, ...]:
        """The spatial sizes."""
        return tuple(rule.length for rule in self.rules)

    @property
    def is_dense(self) -> bool:
        """Whether every token attends every valid one, so that this is plain attention."""
        return all(rule.sees_all for rule in self.rules)


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the choice of a backend depends on. `rules` is None if they are not known yet."""

    device: str
    dtype: torch.dtype
    head_dim: int
    value_dim: int
    requires_grad: bool
    has_key_mask: bool
    rules: tuple[AxisRule, ...] | None = None


def describe_call(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Call:
    """Return what the choice of a backend depends on."""
    return Call(
        device=query.device.type,
        dtype=query.dtype,
        head_dim=fixed_sizes(query.shape)[-1],
        value_dim=fixed_sizes(value.shape)[-1],
        requires_grad=needs_gradients((query, key, value)),
        has_key_mask=problem.key_mask is not None,
        rules=problem.rules,
    )


def needs_gradients(tokens: QKV) -> bool:
    """Whether a backward pass may follow."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in tokens)


def check_problem(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    kernel_size: Size | Sequence[int] | None,
    dilation: Size | Sequence[int] | None,
    stride: Size | Sequence[int] | None,
    is_causal: bool | Sequence[bool] | None,
    key_mask: Tensor | None,
    scale: float | None,
    kernel_size_name: str = "kernel_size",
) -> Problem:
    """Check the arguments of a call and return them in the form that backends take.

    Args:
        query: `[batch, *grid, heads, head_dim]`, and so on as in `neighborhood_attention`.
        key: the shape of `query`.
        value: the shape of `query`, except for `head_dim`.
        kernel_size: keys per axis.
        dilation: distance between neighboring keys; None is 1.
        stride: queries that share one window; None is 1.
        is_causal: for all axes or per axis; None is False.
        key_mask: bool `[batch, *grid]`.
        scale: factor of the logits.
        kernel_size_name: how the caller spelled `kernel_size`, for error messages.

    Raises:
        ValueError: an argument does not fit; the message names it, its value and what would fit.
    """
    _check_tensors(query, key, value)
    if isinstance(scale, Tensor):
        raise ValueError(
            f"scale must be a number, as it is part of the plan; got a tensor of shape {tuple(scale.shape)}. For a "
            f"learned scale, multiply the query by it and pass scale=1"
        )
    # A compiler follows the plain function; it cannot look into a cache.
    plan = _axis_rules if torch.compiler.is_compiling() else _cached_axis_rules
    *grid, _, head_dim = fixed_sizes(query.shape[1:])
    rules = plan(
        tuple(grid),
        _hashable(kernel_size),
        _hashable(1 if dilation is None else dilation),
        _hashable(1 if stride is None else stride),
        _hashable(False if is_causal is None else is_causal),
        kernel_size_name,
    )
    if key_mask is not None:
        _check_key_mask(key_mask, query)
    return Problem(rules=rules, scale=head_dim**-0.5 if scale is None else float(scale), key_mask=key_mask)


def _hashable(value: Any) -> Any:
    """Return an argument as the cache of rules takes it: NumPy's numbers as Python's, arrays and lists as tuples."""
    plain = value.tolist() if isinstance(value, NUMPY) else value
    return tuple(map(_hashable, plain)) if isinstance(plain, list | tuple) else plain


def _axis_rules(
    grid: tuple[int, ...],
    kernel_size: Size,
    dilation: Size,
    stride: Size,
    is_causal: bool | tuple[bool, ...],
    name: str,
) -> tuple[AxisRule, ...]:
    dim = len(grid)
    causal = is_causal if isinstance(is_causal, tuple) else (is_causal,) * dim
    if len(causal) != dim or not all(isinstance(flag, bool) for flag in causal):
        raise ValueError(f"is_causal must be one bool or {dim} of them, one per axis; got {is_causal!r}")
    windows, strides = per_axis(kernel_size, dim, name), per_axis(stride, dim, "stride")
    if any(s > w for s, w in zip(strides, windows, strict=True)):
        raise ValueError(f"stride must not exceed the window; got stride={stride!r}, {name}={kernel_size!r}")
    axes = zip(grid, windows, per_axis(dilation, dim, "dilation"), strides, causal, strict=True)
    return tuple(AxisRule(length=n, window=w, dilation=d, stride=s, is_causal=c) for n, w, d, s, c in axes)


_cached_axis_rules = lru_cache(maxsize=512, typed=True)(_axis_rules)


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
