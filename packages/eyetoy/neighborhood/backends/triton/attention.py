"""The backend on Triton, which comes with PyTorch for NVIDIA and AMD GPUs: one launch forward and two backward.

    forward     query, key, value                  -> output, sums of the softmax
    backward    1. the same, output, its gradient  -> gradient of the query, products
                2. the same, sums, products        -> gradients of key and value

Compiled and exported programs see the operators `eyetoy::triton_attention` and `eyetoy::triton_attention_backward`.
Kernels and arguments are explained in `kernels.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from eyetoy.neighborhood.backends.triton import launch
from eyetoy.neighborhood.problem import QKV, Call, Problem, needs_gradients
from eyetoy.neighborhood.window import AxisRule
from eyetoy.tracing import constant_in_graphs, is_jit_tracing, is_transformed, needs_operator, one_by_one

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST = 128
"""The largest head dimension: a tile of wider ones would leave the registers."""

OLDEST = (8, 0)
"""The first compute capability of NVIDIA that Triton supports."""


def attend(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
    """Neighborhood attention by Triton; see `registry.Backend`."""
    tokens = query, key, value
    if needs_gradients(tokens):
        trained: Tensor = _TritonAttention.apply(
            *tokens, problem.key_mask, problem.lengths, problem.rules, problem.scale
        )
        return trained
    return _run_forward(tokens, problem)[0]


def why_not(call: Call) -> str | None:
    """Return why the kernels cannot do a call, or None if they can."""
    if is_transformed():
        return "torch.func cannot transform Triton's kernels"
    if is_jit_tracing():
        return "torch.jit.trace cannot record Triton's kernels"
    if call.dtype not in DTYPES:
        return f"Triton's kernels take float32, bfloat16 and float16; got {str(call.dtype).removeprefix('torch.')}"
    if max(call.head_dim, call.value_dim) > WIDEST:
        return f"Triton's kernels need a head_dim of at most {WIDEST}; got {call.head_dim} and {call.value_dim}"
    return None if call.device == "meta" else _why_not_device(call.device)


def why_not_first(call: Call) -> str | None:
    """Return why another backend is better although Triton can do the call."""
    return "a program exported with Triton's kernels needs EyeToy to run" if torch.compiler.is_exporting() else None


# A compiler cannot follow a search for packages; it runs this as it traces and keeps the answer.
@constant_in_graphs
def _why_not_device(device: str) -> str | None:
    if find_spec("triton") is None:
        return "Triton is not installed; PyTorch for CUDA and ROCm brings it"
    if device == "cpu":
        return _why_not_interpreted()
    if device != "cuda":
        return f"Triton does not run on {device}"
    if torch.version.hip is None and torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        if capability < OLDEST:
            return (
                f"Triton needs compute capability {OLDEST[0]}.{OLDEST[1]}; this GPU has {capability[0]}.{capability[1]}"
            )
    return None


def _why_not_interpreted() -> str | None:
    if os.environ.get("TRITON_INTERPRET", "0").lower() not in ("1", "true", "yes", "on", "y"):
        return "Triton runs on CUDA and ROCm; on a CPU only in its interpreter, for tests, with TRITON_INTERPRET=1"
    # Triton looks at the variable as it is imported: its own functions are compiled or interpreted from then on.
    language: Any = sys.modules.get("triton.language")
    if language is not None and type(language.zeros).__name__ != "InterpretedFunction":
        return "TRITON_INTERPRET=1 was set after Triton was imported; set it before Python starts"
    return None


class _TritonAttention(torch.autograd.Function):
    """The three launches. Gradients that are differentiated again never get here: see `eyetoy.second_order`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_mask: Tensor | None,
        lengths: Tensor | None,
        rules: tuple[AxisRule, ...],
        scale: float,
    ) -> Tensor:
        problem = Problem(rules=rules, scale=scale, key_mask=key_mask, lengths=lengths)
        out, sums = _run_forward((query, key, value), problem)
        ctx.rules, ctx.scale = rules, scale
        ctx.save_for_backward(query, key, value, key_mask, lengths, out, sums)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, key_mask, lengths, *saved = ctx.saved_tensors
        problem = Problem(rules=ctx.rules, scale=ctx.scale, key_mask=key_mask, lengths=lengths)
        return *_run_backward(grad, (query, key, value), saved, problem), None, None, None, None


def _run_forward(tokens: QKV, problem: Problem) -> tuple[Tensor, Tensor]:
    """Return the output and the sums."""
    if needs_operator(tokens[0]):
        result: tuple[Tensor, Tensor] = _forward(*tokens, *_options(problem))
        return result
    return _launch_forward(tokens, problem)


def _run_backward(grad: Tensor, tokens: QKV, saved: Sequence[Tensor], problem: Problem) -> QKV:
    """Return the gradients of query, key and value."""
    if needs_operator(grad):
        result: QKV = _backward(grad, *tokens, *saved, *_options(problem))
        return result
    return _launch_backward(grad, tokens, saved, problem)


def _on_device_of(x: Tensor) -> AbstractContextManager[Any]:
    """Make the GPU of `x` the current one, where Triton launches; on a CPU do nothing."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _launch_forward(tokens: QKV, problem: Problem) -> tuple[Tensor, Tensor]:
    with _on_device_of(tokens[0]):
        (out, sums), forward = launch.forward(tokens, problem)
        forward.run()
    return out, sums


def _launch_backward(grad: Tensor, tokens: QKV, saved: Sequence[Tensor], problem: Problem) -> QKV:
    out, sums = saved
    with _on_device_of(grad):
        (query_grad, products), first = launch.query_gradient(grad, tokens, (out, sums), problem)
        first.run()
        (key_grad, value_grad), second = launch.key_value_gradient(grad, tokens, (sums, products), problem)
        second.run()
    return query_grad, key_grad, value_grad


@torch.library.custom_op("eyetoy::triton_attention", mutates_args=())
def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor | None,
    lengths: Tensor | None,
    windows: Sequence[int],
    dilations: Sequence[int],
    strides: Sequence[int],
    causal: Sequence[bool],
    scale: float,
) -> tuple[Tensor, Tensor]:
    problem = _problem(query, key_mask, lengths, windows, dilations, strides, causal, scale)
    return _launch_forward((query, key, value), problem)


@torch.library.custom_op("eyetoy::triton_attention_backward", mutates_args=())
def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    sums: Tensor,
    key_mask: Tensor | None,
    lengths: Tensor | None,
    windows: Sequence[int],
    dilations: Sequence[int],
    strides: Sequence[int],
    causal: Sequence[bool],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    problem = _problem(query, key_mask, lengths, windows, dilations, strides, causal, scale)
    return _launch_backward(grad, (query, key, value), (out, sums), problem)


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return value.new_empty(value.shape), query.new_empty(launch.per_query_shape(query.shape), dtype=torch.float32)


@_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


@_backward.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    return one_by_one(_backward, info.batch_size, in_dims, args)


def _options(
    problem: Problem,
) -> tuple[Tensor | None, Tensor | None, list[int], list[int], list[int], list[bool], float]:
    """Return a problem in types that an operator may take."""
    rules = problem.rules
    return (
        problem.key_mask,
        problem.lengths,
        [rule.window for rule in rules],
        [rule.dilation for rule in rules],
        [rule.stride for rule in rules],
        [rule.is_causal for rule in rules],
        problem.scale,
    )


def _problem(
    query: Tensor,
    key_mask: Tensor | None,
    lengths: Tensor | None,
    windows: Sequence[int],
    dilations: Sequence[int],
    strides: Sequence[int],
    causal: Sequence[bool],
    scale: float,
) -> Problem:
    """Return the problem that `_options` has taken apart."""
    axes = zip(query.shape[1:-2], windows, dilations, strides, causal, strict=True)
    rules = tuple(AxisRule(length=n, window=w, dilation=d, stride=s, is_causal=c) for n, w, d, s, c in axes)
    return Problem(rules=rules, scale=scale, key_mask=key_mask, lengths=lengths)
