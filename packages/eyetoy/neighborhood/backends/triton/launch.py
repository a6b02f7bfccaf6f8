"""The launches: which kernel, with which arguments, in how many programs. Nothing here needs a GPU, nor Triton."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eyetoy.neighborhood.backends.triton.tiles import Axis, choose_tiles, filled_up, num_programs
from eyetoy.neighborhood.problem import QKV, Problem

KERNELS = "eyetoy.neighborhood.backends.triton.kernels"
"""Imported at the first launch, since it needs Triton."""


class Launch(NamedTuple):
    """A kernel's name and arguments, how many programs run it, and what Triton compiles it with."""

    kernel: str
    arguments: dict[str, Any]
    num_programs: int
    num_warps: int
    num_stages: int

    def run(self) -> None:
        """Start it on the current device."""
        kernel: Any = getattr(import_module(KERNELS), self.kernel)
        kernel[(self.num_programs,)](**self.arguments, num_warps=self.num_warps, num_stages=self.num_stages)


class Outputs(NamedTuple):
    """What a launch writes, and the launch."""

    written: tuple[Tensor, ...]
    launch: Launch


def forward(tokens: QKV, problem: Problem) -> Outputs:
    """Return the launch that writes the output, and the logarithms of the sums of its softmax.

    Args:
        tokens: query, key and value, `[batch, *grid, heads, dim]`.
        problem: the rules, the mask and the lengths.
    """
    query, key, value = map(_with_adjacent_channels, tokens)
    out = value.new_empty(value.shape)
    sums = _per_query(query)
    tensors = {"query": query, "key": key, "value": value, "out": out, "sums": sums}
    return Outputs((out, sums), _launch("forward", tensors, problem))


def query_gradient(grad: Tensor, tokens: QKV, saved: tuple[Tensor, Tensor], problem: Problem) -> Outputs:
    """Return the launch that writes the gradient of the queries, and the sums of output times gradient.

    Args:
        grad: the gradient of the output.
        tokens: query, key and value.
        saved: what `forward` has written.
        problem: that of `forward`.
    """
    grad, query, key, value = map(_with_adjacent_channels, (grad, *tokens))
    out, sums = saved
    query_grad, products = query.new_empty(query.shape), _per_query(query)
    tensors = {"query": query, "key": key, "value": value, "out": out, "grad": grad, "sums": sums}
    tensors |= {"products": products, "query_grad": query_grad}
    return Outputs((query_grad, products), _launch("query_gradient", tensors, problem))


def key_value_gradient(grad: Tensor, tokens: QKV, saved: tuple[Tensor, Tensor], problem: Problem) -> Outputs:
    """Return the launch that writes the gradients of the keys and the values.

    Args:
        grad: the gradient of the output.
        tokens: query, key and value.
        saved: the sums that `forward` has written, and the products that `query_gradient` has.
        problem: that of `forward`.
    """
    grad, query, key, value = map(_with_adjacent_channels, (grad, *tokens))
    sums, products = saved
    key_grad, value_grad = key.new_empty(key.shape), value.new_empty(value.shape)
    tensors = {"query": query, "key": key, "value": value, "grad": grad, "sums": sums, "products": products}
    tensors |= {"key_grad": key_grad, "value_grad": value_grad}
    return Outputs((key_grad, value_grad), _launch("key_value_gradient", tensors, problem))


def _launch(kernel: str, tensors: dict[str, Tensor], problem: Problem) -> Launch:
    query, value = tensors["query"], tensors["value"]
    batch, heads, channels, value_channels = query.shape[0], query.shape[-2], query.shape[-1], value.shape[-1]
    axes = _axes(problem)
    width, value_width = filled_up(channels), filled_up(value_channels)
    tiles = choose_tiles(axes, max(width, value_width), query.element_size())
    mask = None if problem.key_mask is None else problem.key_mask.view(torch.uint8)
    strides = {f"{name}_strides": _strides(x) for name, x in tensors.items() if name not in ("sums", "products")}
    missing = 3 - len(problem.rules)
    tiles_per_row = num_programs(axes, tiles.tile)
    arguments = {
        **tensors,
        "key_mask": mask,
        "lengths": problem.lengths,
        **strides,
        "mask_strides": (0,) * 4 if mask is None else _strides(mask[..., None, None])[:-1],
        "axes": axes,
        "heads": heads,
        "tiles": tiles_per_row,
        "scale": problem.scale,
        "CAUSAL": (False,) * missing + tuple(rule.is_causal for rule in problem.rules),
        "DIM": len(problem.rules),
        "HAS_MASK": mask is not None,
        "HAS_LENGTHS": problem.lengths is not None,
        "CHANNELS": channels,
        "VALUE_CHANNELS": value_channels,
        "WIDTH": width,
        "VALUE_WIDTH": value_width,
        "TILE": tiles.tile,
        "BLOCK": tiles.block,
        "PRECISION": _precision(query.dtype),
    }
    return Launch(kernel, arguments, batch * heads * tiles_per_row, tiles.num_warps, tiles.num_stages)


def _axes(problem: Problem) -> tuple[Axis, Axis, Axis]:
    """Return length, window, dilation and stride per axis, with axes of length 1 in front up to three."""
    axes = [
        # More than the axis has changes nothing, and each new number would be compiled once more.
        (rule.length, min(rule.window, rule.length), min(rule.dilation, rule.length), rule.stride)
        for rule in problem.rules
    ]
    first, second, third = [(1, 1, 1, 1)] * (3 - len(axes)) + axes
    return first, second, third


def _strides(x: Tensor) -> tuple[int, ...]:
    """Return the strides of batch, three axes and heads of `[batch, *grid, heads, dim]`."""
    batch, *grid, heads, _ = x.stride()
    return (batch, *(0,) * (3 - len(grid)), *grid, heads)


def _with_adjacent_channels(x: Tensor) -> Tensor:
    """Return tokens as the kernels read them; all but the gradient of a sum, say, are that already."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _per_query(query: Tensor) -> Tensor:
    """Return room for a number per query, float32 `[batch * heads, tokens]`."""
    return query.new_empty(per_query_shape(query.shape), dtype=torch.float32)


def per_query_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return `[batch * heads, tokens]` for tokens `[batch, *grid, heads, dim]`."""
    batch, *grid, heads, _ = shape
    return batch * heads, math.prod(grid)


def _precision(dtype: torch.dtype) -> str:
    """Return how Triton multiplies float32: as PyTorch's own products do, in TF32 if the program allows it."""
    if dtype != torch.float32 or torch.version.hip is not None:
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"
