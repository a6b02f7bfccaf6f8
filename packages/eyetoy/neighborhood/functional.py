"""The public operators: `neighborhood_attention`, and NATTEN's `na1d`, `na2d` and `na3d`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from torch import Tensor

from eyetoy.neighborhood.backends.registry import BACKENDS, choose_backend
from eyetoy.neighborhood.problem import check_problem, describe_call
from eyetoy.second_order import in_autocast_dtype
from eyetoy.sizes import Size, volume

P = ParamSpec("P")


def neighborhood_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kernel_size: Size | Sequence[int] | None = None,
    stride: Size | Sequence[int] | None = 1,
    dilation: Size | Sequence[int] | None = 1,
    is_causal: bool | Sequence[bool] | None = False,
    scale: float | None = None,
    *,
    window: Size | Sequence[int] | None = None,
    key_mask: Tensor | None = None,
    backend: str | None = "auto",
) -> Tensor:
    """Attend from every token to the tokens in a window around it (Hassani et al., CVPR 2023).

    At the borders of the grid windows are shifted, not cut, so that every query has `kernel_size` keys per axis. On an
    axis shorter than the window a query sees all keys. Cost is linear in the number of tokens. Gradients flow on every
    device that PyTorch runs on, and so do derivatives of any order, also many at once (`is_grads_batched`, `vmap`).

    Args:
        query: `[batch, *grid, heads, head_dim]` with 1 to 3 grid axes and any `head_dim`.
        key: the shape and dtype of `query`. It may have fewer heads, which then divide those of the query: each key
            head serves as many consecutive query heads (grouped-query attention). Under autocast the dtypes of query,
            key and value may differ; all become that of autocast, as in PyTorch's own attention.
        value: the shape of `key`, except that it may have another `head_dim`.
        kernel_size: keys per axis, one integer or one per axis. An even window has one more key before the query than
            after it.
        stride: how many neighboring queries share one window (Generalized Neighborhood Attention, 2025).
        dilation: distance between neighboring keys of a window.
        is_causal: end windows at their query, for all axes or per axis.
        scale: factor of the logits; `head_dim ** -0.5` by default.
        window: synonym of `kernel_size`; give one of the two.
        key_mask: bool `[batch, *grid]`, true where a token is valid. A query without any valid key gives zeros.
        backend: "tiled", "triton", "flex", "natten", "reference", or "auto" (also None). "auto" takes the backend that
            the environment variable EYETOY_NEIGHBORHOOD_BACKEND names. If it is not set, "auto" is "tiled", except on
            CUDA: there it is the first of "natten" with its compiled kernels, "flex", "triton" and "tiled" that can do
            the call, and "tiled" where windows span the grid. `available_backends` gives the reasons.

    Returns:
        `[batch, *grid, heads, head_dim of value]`.

    Raises:
        ValueError: an argument does not fit; the message names it, its value and what would fit.
    """
    if (kernel_size is None) == (window is None):
        raise ValueError(
            f"give kernel_size or window (a synonym), not both; got kernel_size={kernel_size!r}, window={window!r}"
        )
    # Under autocast the dtypes may differ, and become one as in PyTorch's own attention.
    query, key, value = in_autocast_dtype(query, key, value)
    key, value = _repeat_heads(query, key, value)
    problem = check_problem(
        query,
        key,
        value,
        kernel_size=window if kernel_size is None else kernel_size,
        stride=stride,
        dilation=dilation,
        is_causal=is_causal,
        scale=scale,
        key_mask=key_mask,
        kernel_size_name="window" if kernel_size is None else "kernel_size",
    )
    chosen = choose_backend(backend or "auto", describe_call(query, key, value, problem))
    if not volume(query.shape):
        # Nothing to compute, but the output must hang on all three inputs so that a training step goes through.
        return value + 0 * (query.sum() + key.sum())
    return BACKENDS[chosen](query, key, value, problem)


def _repeat_heads(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return key and value with as many heads as `query`; what does not fit is left to `check_problem`."""
    if not query.ndim == key.ndim == value.ndim >= 4 or key.shape[-2] != value.shape[-2]:
        return key, value
    heads, kv_heads = query.shape[-2], key.shape[-2]
    if not 0 < kv_heads < heads or heads % kv_heads:
        return key, value
    # Each key head serves consecutive query heads: with 4 and 2 heads, 0 0 1 1, as in NATTEN.
    return key.repeat_interleave(heads // kv_heads, dim=-2), value.repeat_interleave(heads // kv_heads, dim=-2)


def _natten_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kernel_size: Size | Sequence[int] | None = None,
    stride: Size | Sequence[int] | None = 1,
    dilation: Size | Sequence[int] | None = 1,
    is_causal: bool | Sequence[bool] | None = False,
    scale: float | None = None,
    additional_keys: Tensor | None = None,
    additional_values: Tensor | None = None,
    attention_kwargs: dict[str, Any] | None = None,
    backend: str | None = "auto",
    q_tile_shape: tuple[int, ...] | None = None,
    kv_tile_shape: tuple[int, ...] | None = None,
    backward_q_tile_shape: tuple[int, ...] | None = None,
    backward_kv_tile_shape: tuple[int, ...] | None = None,
    backward_kv_splits: tuple[int, ...] | None = None,
    backward_use_pt_reduction: bool = False,
    run_persistent_kernel: bool = True,
    kernel_schedule: str | None = None,
    torch_compile: bool = False,
    return_lse: bool = False,
    *,
    window: Size | Sequence[int] | None = None,
    key_mask: Tensor | None = None,
) -> Tensor:
    # The parameters of NATTEN 0.21 in its order, then ours. `run_persistent_kernel` is the one that changes nothing
    # here whatever its value: it schedules a kernel for Blackwell GPUs.
    refused = {
        "additional_keys": additional_keys,
        "additional_values": additional_values,
        "attention_kwargs": attention_kwargs or None,
        "q_tile_shape": q_tile_shape,
        "kv_tile_shape": kv_tile_shape,
        "backward_q_tile_shape": backward_q_tile_shape,
        "backward_kv_tile_shape": backward_kv_tile_shape,
        "backward_kv_splits": backward_kv_splits,
        "backward_use_pt_reduction": backward_use_pt_reduction or None,
        "kernel_schedule": kernel_schedule,
        "torch_compile": torch_compile or None,
        "return_lse": return_lse or None,
    }
    given = [name for name, value in refused.items() if value is not None]
    if given:
        raise ValueError(
            f"{', '.join(given)}: natten has this argument, eyetoy has not; leave it out, or call natten's own operator"
        )
    return neighborhood_attention(
        query,
        key,
        value,
        kernel_size,
        stride,
        dilation,
        is_causal,
        scale,
        window=window,
        key_mask=key_mask,
        backend=backend,
    )


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
    checked.__doc__ = f"""Neighborhood attention over {num_spatial_dims} grid axes, called like NATTEN's `{name}`.

    For example `{name}(query, key, value, 7)`. See `neighborhood_attention` for the arguments and the result. The other
    arguments of NATTEN 0.21 are accepted with their default values, and refused by name if they ask for something that
    is not there: additional keys and values, the logsumexp, and the tuning of NATTEN's own kernels.
    """
    return checked


na1d = _fixed_rank(_natten_call, 1, "na1d")
na2d = _fixed_rank(_natten_call, 2, "na2d")
na3d = _fixed_rank(_natten_call, 3, "na3d")
