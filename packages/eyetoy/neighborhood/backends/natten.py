"""The backend on NATTEN (Hassani et al.), where it is installed and can do the call."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from eyetoy.neighborhood.problem import Problem


def natten_attention(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
    """Neighborhood attention by NATTEN; shapes as in `neighborhood_attention`."""
    operator: Callable[..., Tensor] = getattr(import_module("natten"), f"na{len(problem.rules)}d")
    rules = problem.rules
    return operator(
        query,
        key,
        value,
        kernel_size=tuple(rule.window for rule in rules),
        stride=tuple(rule.stride for rule in rules),
        dilation=tuple(rule.dilation for rule in rules),
        is_causal=tuple(rule.is_causal for rule in rules),
        scale=problem.scale,
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_installed() -> bool:
    """Whether NATTEN can be imported."""
    return find_spec("natten") is not None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def has_kernels() -> bool:
    """Whether NATTEN comes with its compiled CUDA kernels, libnatten."""
    return is_installed() and bool(getattr(import_module("natten"), "HAS_LIBNATTEN", False))
