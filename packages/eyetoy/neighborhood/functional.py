"""The public operator and the choice of its backend."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from torch import Tensor

from eyetoy.neighborhood.backends.registry import BACKENDS, choose_backend, describe_call
from eyetoy.neighborhood.problem import check_problem
from eyetoy.sizes import Size, volume

P = ParamSpec("P")


def neighborhood_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    window: Size,
    dilation: Size = 1,
    stride: Size = 1,
    is_causal: bool | tuple[bool, ...] = False,
    key_mask: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Attend, from every token, to the tokens in a window around it (Hassani et al., CVPR 2023).

    The window is shifted at the borders so that every query has `window` keys per axis; an axis that is shorter than
    the window is seen whole. Cost is linear in the number of tokens, and gradients flow on every device that PyTorch
    runs on; in float64 of any order. (In float32 second derivatives of windows that span the whole grid need
    `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)` around the call: PyTorch's fused attention has none.)

    Args:
        query: `[batch, *grid, heads, head_dim]` with 1 to 3 grid axes and any `head_dim`.
        key: the shape of `query`.
        value: the shape of `query`, but for a `head_dim` of its own if need be.
        window: keys per axis; an even window has one more key before the query than after it.
        dilation: distance between neighboring keys of a window.
        stride: how many neighboring queries share one window (Generalized Neighborhood Attention, 2025).
        is_causal: let windows end at their query, for all axes or per axis.
        key_mask: bool `[batch, *grid]`, true where a token is valid; a query without a valid key gives zeros.
        scale: factor of the logits; `head_dim ** -0.5` by default.
        backend: "tiled", "flex", "natten", "reference", or "auto": what the environment variable
            EYETOY_NEIGHBORHOOD_BACKEND names, else "tiled", except on CUDA, where it is the first of "natten" with
            its compiled kernels, "flex" and "tiled" that can do the call, or "tiled" at once where windows span
            the grid. `available_backends` gives reasons.

    Returns:
        `[batch, *grid, heads, head_dim of value]`.

    Raises:
        ValueError: an argument does not fit; the message names it, what it was and what it may be.
    """
    problem = check_problem(
        query,
        key,
        value,
        window=window,
        dilation=dilation,
        stride=stride,
        is_causal=is_causal,
        key_mask=key_mask,
        scale=scale,
    )
    chosen = choose_backend(backend, describe_call(query, key, value, problem))
    if not volume(query.shape):
        return value + 0 * (query.sum() + key.sum())  # empty, but a training step goes through it
    if key_mask is not None:  # whatever an invalid token holds, even NaN, stays where it is
        invalid = ~key_mask[..., None, None]
        key, value = key.masked_fill(invalid, 0), value.masked_fill(invalid, 0)
    return BACKENDS[chosen](query, key, value, problem)


def _fixed_rank(operator: Callable[P, Tensor], num_spatial_dims: int, name: str) -> Callable[P, Tensor]:
    @functools.wraps(operator)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        query: Any = args[0] if args else kwargs["query"]
        if query.ndim != num_spatial_dims + 3:
            raise ValueError(
                f"{name} takes [batch, *grid, heads, head_dim] with {num_spatial_dims} grid axes, so "
                f"{num_spatial_dims + 3} axes in all; got shape {tuple(query.shape)}"
            )
        return operator(*args, **kwargs)

    checked.__name__ = checked.__qualname__ = name
    checked.__doc__ = f"Neighborhood attention over {num_spatial_dims} grid axes; see `neighborhood_attention`."
    return checked


na1d = _fixed_rank(neighborhood_attention, 1, "na1d")
na2d = _fixed_rank(neighborhood_attention, 2, "na2d")
na3d = _fixed_rank(neighborhood_attention, 3, "na3d")
