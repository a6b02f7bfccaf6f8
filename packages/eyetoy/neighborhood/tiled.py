"""The fast backend in plain PyTorch: tiles of queries against the halo of keys that their windows reach.

Every tile is one small dense attention under a mask. It runs and trains wherever PyTorch does, in time and memory
linear in tokens. On a CPU it is a kernel (see `kernel.py`), which compiled programs hold as the operators
`eyetoy::tiled_attention` and `eyetoy::tiled_attention_backward`; elsewhere, in an exported program, under `torch.func`
and for second derivatives, it is one call of `scaled_dot_product_attention` (see `whole.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from eyetoy.neighborhood.choice import choose_tiling
from eyetoy.neighborhood.dilation import attend_groups
from eyetoy.neighborhood.kernel import TiledKernel
from eyetoy.neighborhood.problem import Problem
from eyetoy.neighborhood.whole import attend_whole
from eyetoy.neighborhood.window import AxisRule


def tiled_attention(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
    """Neighborhood attention by tiles; shapes as in `neighborhood_attention`."""
    is_traced = torch.compiler.is_exporting() or torch._C._are_functorch_transforms_active()
    use_kernel = query.device.type == "cpu" and not is_traced
    return attend_groups(_attend_kernel if use_kernel else attend_whole, (query, key, value), problem)


def _attend_kernel(tokens: Sequence[Tensor], problem: Problem) -> Tensor:
    rules = problem.rules
    windows, strides = [rule.window for rule in rules], [rule.stride for rule in rules]
    causal = [rule.is_causal for rule in rules]
    options = windows, strides, causal, problem.scale
    if torch.is_grad_enabled() and any(x.requires_grad for x in tokens):
        trained: Tensor = _TiledAttention.apply(*tokens, problem.key_mask, *options)
        return trained
    out: Tensor = _pick(_forward, tokens[0])(*tokens, problem.key_mask, *options, False)[0]
    return out


class _TiledAttention(torch.autograd.Function):
    """The kernel's two passes, and plain operations where gradients are differentiated again."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None, *options: Any
    ) -> Tensor:
        keep = not torch.compiler.is_compiling()  # a compiled graph is told all sizes in advance
        out, *kept = _pick(_forward, query)(query, key, value, key_mask, *options, keep)
        ctx.options = options
        ctx.save_for_backward(query, key, value, key_mask, *kept)
        result: Tensor = out
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, key_mask, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():
            grads = _differentiable_gradients(grad, (query, key, value), key_mask, ctx.options)
        else:
            grads = _pick(_backward, grad)(grad, query, key, value, key_mask, *kept, *ctx.options)
        return *grads, None, None, None, None, None


def _differentiable_gradients(
    grad: Tensor, tokens: Sequence[Tensor], key_mask: Tensor | None, options: Sequence[Any]
) -> tuple[Tensor, ...]:
    """Return gradients that can be differentiated again: those of the same attention in plain operations."""
    windows, strides, causal, scale = options
    problem = Problem(rules=_rules(tokens[0], windows, strides, causal), scale=scale, key_mask=key_mask)
    leaves = [x if x.requires_grad else x.detach().requires_grad_() for x in tokens]
    out = attend_whole(leaves, problem, plain=True)
    return torch.autograd.grad(out, leaves, grad, create_graph=True)


@torch.library.custom_op("eyetoy::tiled_attention", mutates_args=(), device_types="cpu")
def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor | None,
    windows: Sequence[int],
    strides: Sequence[int],
    causal: Sequence[bool],
    scale: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    kernel = _kernel(query, windows, strides, causal, scale)
    return kernel.forward(query, key, value, key_mask, keep=keep)


@torch.library.custom_op("eyetoy::tiled_attention_backward", mutates_args=(), device_types="cpu")
def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor | None,
    tiles: Tensor,
    weights: Tensor,
    windows: Sequence[int],
    strides: Sequence[int],
    causal: Sequence[bool],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    kernel = _kernel(query, windows, strides, causal, scale)
    return kernel.backward(grad, query, key, value, key_mask, tiles, weights)


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), value.new_empty(0), value.new_empty(0)


@_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _pick(operator: Any, x: Tensor) -> Any:
    """Return the operator for compilers and other tensors than plain ones, else its function, which costs less."""
    return operator if torch.compiler.is_compiling() or type(x) is not Tensor else operator._init_fn


def _kernel(
    query: Tensor, windows: Sequence[int], strides: Sequence[int], causal: Sequence[bool], scale: float
) -> TiledKernel:
    return _cached_kernel(_rules(query, windows, strides, causal), query.shape[-1], scale, query.dtype)


@lru_cache(maxsize=128)
def _cached_kernel(rules: tuple[AxisRule, ...], head_dim: int, scale: float, dtype: torch.dtype) -> TiledKernel:
    return TiledKernel(choose_tiling(rules, head_dim), scale, dtype)


def _rules(
    query: Tensor, windows: Sequence[int], strides: Sequence[int], causal: Sequence[bool]
) -> tuple[AxisRule, ...]:
    return tuple(
        AxisRule(length=length, window=window, stride=stride, is_causal=is_causal)
        for length, window, stride, is_causal in zip(query.shape[1:-2], windows, strides, causal, strict=True)
    )
