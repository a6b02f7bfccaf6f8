"""The backend on NATTEN (Hassani et al.), if it is installed and can do the call."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

from eyetoy.neighborhood.problem import Call, Problem
from eyetoy.neighborhood.window import AxisRule
from eyetoy.tracing import constant_in_graphs


def attend(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
    """Neighborhood attention by NATTEN; see `registry.Backend`."""
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


def why_not(call: Call) -> str | None:
    """Return why NATTEN 0.21 cannot do a call, or None if it can.

    NATTEN refuses most of this itself, but with errors that do not name the backend, or only in the backward pass.
    """
    problem = import_problem()
    if problem is not None:
        return problem
    if call.device not in ("cpu", "cuda"):
        return f"NATTEN does not run on {call.device}"
    if call.device == "cpu" and call.requires_grad:
        return "NATTEN cannot train on a CPU"
    if call.dtype == torch.float64:
        return "NATTEN does not take float64"
    if call.has_key_mask:
        return "NATTEN has no key mask"
    if call.value_dim != call.head_dim:
        return f"NATTEN needs one head_dim for query and value; got {call.head_dim} and {call.value_dim}"
    return _why_not_engine(call) or _why_not_windows(call.rules or ())


def _why_not_engine(call: Call) -> str | None:
    if call.device == "cuda" and has_kernels():
        if call.head_dim % 8:
            return f"NATTEN's kernels need a head_dim divisible by 8; got {call.head_dim}"
    elif call.head_dim not in (8, 16, 32, 64, 128, 256, 512):
        return f"NATTEN without libnatten needs a head_dim that is a power of two from 8 to 512; got {call.head_dim}"
    elif call.rules is not None and len(call.rules) == 1 and _is_causal_over_all(call.rules[0]):
        return "NATTEN without libnatten has no causal window over the whole of one axis"
    return None


def _why_not_windows(rules: tuple[AxisRule, ...]) -> str | None:
    for rule in rules:
        if rule.window < 2:
            return "NATTEN needs windows of at least 2"
        if rule.window * rule.dilation > rule.length:
            return (
                f"NATTEN needs window * dilation within the axis; got {rule.window} * {rule.dilation} "
                f"on an axis of {rule.length}"
            )
    return None


def why_not_first(call: Call) -> str | None:
    """Return why another backend is faster although NATTEN can do the call: without libnatten it is FlexAttention."""
    return None if has_kernels() else "NATTEN is installed without its compiled kernels, libnatten"


# A compiler cannot follow a search for packages; it runs these as it traces and keeps the answer.
@constant_in_graphs
def is_installed() -> bool:
    """Whether NATTEN is there; `import_problem` tells whether it can be imported."""
    return find_spec("natten") is not None


@constant_in_graphs
def import_problem() -> str | None:
    """Return why NATTEN cannot be imported, or None if it can."""
    if not is_installed():
        return 'NATTEN is not installed: pip install --no-build-isolation "eyetoy[natten]"'
    return _import_error()


@lru_cache(maxsize=1)
def _import_error() -> str | None:
    try:
        import_module("natten")
    except Exception as error:  # of whatever a build for another PyTorch or CUDA fails with
        reason = str(error).partition("\n")[0]
        return f"NATTEN is installed and cannot be imported ({type(error).__name__}: {reason})"
    return None


@constant_in_graphs
def has_kernels() -> bool:
    """Whether NATTEN comes with its compiled CUDA kernels, libnatten."""
    return import_problem() is None and bool(getattr(import_module("natten"), "HAS_LIBNATTEN", False))


def _is_causal_over_all(rule: AxisRule) -> bool:
    return rule.is_causal and rule.window == rule.length
