"""The backend in plain PyTorch: tiles of queries, each against the halo of keys that its windows reach.

    . . . . . . . .        a tile of 2 x 2 queries (Q) in a grid, windows of 3 x 3:
    . k k k k . . .        all four windows lie in the halo of 4 x 4 keys (k and Q),
    . k Q Q k . . .        so a tile is one small dense attention under a mask,
    . k Q Q k . . .        and all tiles together are one batched matrix product
    . k k k k . . .
    . . . . . . . .

Time and memory are linear in tokens, and it runs and trains wherever PyTorch does. There are three ways through:

- on a CPU, the kernel in `kernel.py`, and for large grids `slabs.py` around it. Compiled programs see it as the
  operators `eyetoy::tiled_attention` and `eyetoy::tiled_attention_backward`;
- on other devices, in exported programs, under `torch.func`, in forward mode and for second derivatives, one call of
  `scaled_dot_product_attention` for all tiles, in `sdpa.py`;
- windows that span the whole grid are plain attention, and one such call without tiles, on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from eyetoy.neighborhood.backends.dilation import attend_groups
from eyetoy.neighborhood.backends.tiled.kernel import TiledKernel
from eyetoy.neighborhood.backends.tiled.sdpa import attend_dense, attend_tiles
from eyetoy.neighborhood.backends.tiled.slabs import SlabKernel, is_large
from eyetoy.neighborhood.backends.tiled.tiling import choose_tiling
from eyetoy.neighborhood.problem import QKV, Problem, needs_gradients
from eyetoy.neighborhood.window import Axis, AxisRule
from eyetoy.second_order import gradients_again
from eyetoy.tracing import is_jit_tracing, is_transformed, needs_operator, one_by_one


def attend(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
    """Neighborhood attention by tiles; see `registry.Backend`."""
    _refuse_dynamic_sizes(problem)
    # Transforms cannot follow the kernel's autograd function. A trace must not hold our operators either: it is loaded
    # where this package is not.
    is_traced = is_jit_tracing() or torch.compiler.is_exporting() or is_transformed()
    use_kernel = query.device.type == "cpu" and not is_traced
    return attend_groups(_attend_kernel if use_kernel else _attend_sdpa, (query, key, value), problem)


def _refuse_dynamic_sizes(problem: Problem) -> None:
    if not torch.compiler.is_exporting() or problem.is_dense:  # plain attention needs no plan
        return
    from torch.fx.experimental.symbolic_shapes import has_static_value  # slow to import

    dynamic = [axis for axis, size in enumerate(problem.grid) if not has_static_value(size)]
    if dynamic:
        raise ValueError(
            f"attention is planned for one grid when it is exported, so its sizes cannot be dynamic; those of grid "
            f"axes {dynamic} of {len(problem.grid)} are. Keep all axes but the batch out of dynamic_shapes, and "
            f"export a program for each size"
        )


def attend_plain(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
    """Return what `attend` does in operations that have derivatives of any order."""
    return attend_groups(partial(attend_tiles, plain=True), (query, key, value), problem)


def _attend_sdpa(tokens: QKV, problem: Problem) -> Tensor:
    return attend_dense(tokens, problem) if problem.is_dense else attend_tiles(tokens, problem)


def _attend_kernel(tokens: QKV, problem: Problem) -> Tensor:
    if problem.is_dense:
        return attend_dense(tokens, problem)
    if needs_gradients(tokens):
        trained: Tensor = _TiledAttention.apply(*tokens, problem.key_mask, problem.rules, problem.scale)
        return trained
    return _run_forward(tokens, problem.key_mask, problem.rules, problem.scale, save=False)[0]


class _TiledAttention(torch.autograd.Function):
    """The two passes of the kernel, and plain operations if gradients are differentiated again."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_mask: Tensor | None,
        rules: tuple[AxisRule, ...],
        scale: float,
    ) -> Tensor:
        save = not torch.compiler.is_compiling()  # a compiled graph has to know all sizes in advance
        out, *saved = _run_forward((query, key, value), key_mask, rules, scale, save=save)
        ctx.rules, ctx.scale = rules, scale
        ctx.save_for_backward(query, key, value, key_mask, *saved)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, key_mask, tiles, weights = ctx.saved_tensors
        tokens = query, key, value
        if torch.is_grad_enabled():
            # `create_graph=True` runs this backward pass with gradients enabled.
            problem = Problem(rules=ctx.rules, scale=ctx.scale, key_mask=key_mask)
            grads = gradients_again(lambda *x: attend_tiles(x, problem, plain=True), tokens, grad)
        else:
            grads = _run_backward(grad, tokens, key_mask, (tiles, weights), ctx.rules, ctx.scale)
        return *grads, None, None, None


def _run_forward(
    tokens: QKV, key_mask: Tensor | None, rules: tuple[AxisRule, ...], scale: float, *, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and the tiles and weights saved for the backward pass."""
    if needs_operator(tokens[0]):
        result: tuple[Tensor, Tensor, Tensor] = _forward(*tokens, key_mask, *_options(rules), scale, save)
        return result
    kernel = _kernel(rules, tokens[0].shape[-1], scale, tokens[0].dtype)
    return kernel.forward(tokens, key_mask, save=save)


def _run_backward(
    grad: Tensor,
    tokens: QKV,
    key_mask: Tensor | None,
    saved: tuple[Tensor, Tensor],
    rules: tuple[AxisRule, ...],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    if needs_operator(grad):
        result: tuple[Tensor, Tensor, Tensor] = _backward(grad, *tokens, key_mask, *saved, *_options(rules), scale)
        return result
    kernel = _kernel(rules, tokens[0].shape[-1], scale, grad.dtype)
    return kernel.backward(grad, tokens, key_mask, saved)


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
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    kernel = _kernel(_rules(query, windows, strides, causal), query.shape[-1], scale, query.dtype)
    return kernel.forward((query, key, value), key_mask, save=save)


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
    kernel = _kernel(_rules(query, windows, strides, causal), query.shape[-1], scale, query.dtype)
    return kernel.backward(grad, (query, key, value), key_mask, (tiles, weights))


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), value.new_empty(0), value.new_empty(0)


@_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


@_backward.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    # For gradients of one output. The `vmap` from before `torch.func` does the same for any operator.
    return one_by_one(_backward, info.batch_size, in_dims, args)


@lru_cache(maxsize=128)
def _kernel(rules: tuple[AxisRule, ...], head_dim: int, scale: float, dtype: torch.dtype) -> TiledKernel | SlabKernel:
    if is_large(rules):
        return SlabKernel(rules, lambda part: _tiled_kernel(part, head_dim, scale, dtype))
    return _tiled_kernel(rules, head_dim, scale, dtype)


@lru_cache(maxsize=256)
def _tiled_kernel(rules: tuple[Axis, ...], head_dim: int, scale: float, dtype: torch.dtype) -> TiledKernel:
    return TiledKernel(choose_tiling(rules, head_dim), scale, dtype)


def _options(rules: tuple[AxisRule, ...]) -> tuple[list[int], list[int], list[bool]]:
    """Return rules in types that an operator may take: windows, strides, and whether they are causal."""
    return [rule.window for rule in rules], [rule.stride for rule in rules], [rule.is_causal for rule in rules]


def _rules(
    query: Tensor, windows: Sequence[int], strides: Sequence[int], causal: Sequence[bool]
) -> tuple[AxisRule, ...]:
    """Undo `_options`."""
    return tuple(
        AxisRule(length=length, window=window, stride=stride, is_causal=is_causal)
        for length, window, stride, is_causal in zip(query.shape[1:-2], windows, strides, causal, strict=True)
    )
