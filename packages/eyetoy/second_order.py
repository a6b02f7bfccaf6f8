"""Derivatives of derivatives where the fast attention has none.

Fused attention has a first derivative only. It stays in use: a node behind its output, which costs one Python call,
looks at the backward pass. With `create_graph=True`, for gradient penalties and Hessians, it takes the gradient out of
the fused operator's way and gives that of the same attention in plain operations.

    create_graph=False    q, k, v <- fused backward <- node <- gradient
    create_graph=True     q, k, v <-------- plain <--- node <- gradient
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eyetoy.tracing import is_jit_tracing, is_transformed


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Return `scaled_dot_product_attention`, with derivatives of any order.

    Args:
        query: `[batch, heads, queries, head_dim]`.
        key: `[batch, heads, keys, head_dim]`.
        value: `[batch, heads, keys, value_dim]`.
        mask: bool, broadcast to `[batch, heads, queries, keys]`, true where a query sees a key.
        scale: factor of the logits; `head_dim ** -0.5` by default.
    """

    query, key, value = in_autocast_dtype(query, key, value)
    if is_transformed():
        # `torch.func` cannot transform the node, and on CUDA `vmap` refuses the masks of fused attention.
        return plain_attention(query, key, value, mask=mask, scale=scale)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return differentiable_again(out, partial(plain_attention, mask=mask, scale=scale), (query, key, value))


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Return what `fused_attention` does, by matrix products and a softmax, for queries that see at least one key."""
    # PyTorch's own, by `sdpa_kernel(SDPBackend.MATH)`, needs flags of the whole process: two threads would change them
    # under each other, and the last to leave would put back the wrong ones for good.
    wide = torch.promote_types(query.dtype, torch.float32)  # float16 has no room for large logits
    scaled = query.to(wide) * (query.shape[-1] ** -0.5 if scale is None else scale)
    logits = scaled @ key.to(wide).transpose(-2, -1)  # [batch, heads, queries, keys]
    weights = (logits if mask is None else logits.masked_fill(~mask, float("-inf"))).softmax(-1)
    return (weights @ value.to(wide)).to(value.dtype)


def in_autocast_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors as autocast gives them to `scaled_dot_product_attention`; the same ones where it is off."""
    kind = tensors[0].device.type
    # Devices without autocast, such as meta, refuse the question whether it is enabled.
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    narrow = torch.float32, torch.bfloat16, torch.float16  # float64 stays: whoever asks for it wants the digits
    return tuple(x.to(dtype) if x.dtype in narrow else x for x in tensors)


def differentiable_again(out: Tensor, attend: Callable[..., Tensor], tokens: Sequence[Tensor]) -> Tensor:
    """Return `out` with derivatives of any order.

    Args:
        out: `attend(*tokens)`, computed in a way that has a first derivative only.
        attend: the same in operations that have derivatives of any order.
        tokens: what gradients flow to.
    """
    # Programs that are traced keep one graph for one derivative.
    if torch.compiler.is_compiling() or is_jit_tracing() or type(out) is not Tensor or not out.requires_grad:
        return out
    again: Tensor = _DifferentiableAgain.apply(out, attend, *tokens)
    return again


class _DifferentiableAgain(torch.autograd.Function):
    """The identity on `out`; the gradient of its backward pass goes through `attend` if it is differentiated again."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, attend: Callable[..., Tensor], *tokens: Tensor) -> Tensor:
        ctx.attend = attend
        ctx.save_for_backward(*tokens)
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return None, None, *gradients_again(ctx.attend, ctx.saved_tensors, grad)
        return grad, None, *[None] * (len(ctx.needs_input_grad) - 2)


def gradients_again(attend: Callable[..., Tensor], tokens: Sequence[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of `attend(*tokens)` as part of a graph, to be differentiated again.

    Args:
        attend: operations that have derivatives of any order.
        tokens: its arguments, as an autograd function saved them.
        grad: the gradient of its output.
    """
    # Each argument becomes a tensor of its own. They may be one tensor, or follow from each other (k = 2 * q), and
    # `autograd.grad` would count what reaches q through k as well. A view keeps the way back to q for the derivative
    # after this one; what needs no gradient becomes a leaf, as `autograd.grad` refuses inputs outside of the graph.
    leaves = [x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in tokens]
    return torch.autograd.grad(attend(*leaves), leaves, grad, create_graph=True)
