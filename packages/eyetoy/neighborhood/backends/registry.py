"""Which backend does a call: what each of them cannot do, and the choice among those that can."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from eyetoy.neighborhood.backends import natten
from eyetoy.neighborhood.backends.flex import flex_backend
from eyetoy.neighborhood.backends.reference import reference_attention
from eyetoy.neighborhood.backends.tiled.attention import tiled_attention
from eyetoy.neighborhood.problem import Problem, needs_gradients
from eyetoy.neighborhood.window import AxisRule

VARIABLE = "EYETOY_NEIGHBORHOOD_BACKEND"
"""Environment variable that names the backend of calls with `backend="auto"`."""

BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, Problem], Tensor]] = {
    "tiled": tiled_attention,
    "flex": flex_backend,
    "natten": natten.natten_attention,
    "reference": reference_attention,
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the choice depends on. `rules` is None while they are not known."""

    device: str
    dtype: torch.dtype
    head_dim: int
    value_dim: int
    requires_grad: bool
    has_key_mask: bool
    rules: tuple[AxisRule, ...] | None = None


def available_backends(
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    head_dim: int = 32,
    requires_grad: bool = False,
    has_key_mask: bool = False,
) -> dict[str, str | None]:
    """Return every backend of `neighborhood_attention` with the reason why it cannot do such a call, or None if it can.

    Windows matter too to NATTEN; `neighborhood_attention` says so where they do.
    """
    call = Call(
        device=torch.device(device).type,
        dtype=dtype,
        head_dim=head_dim,
        value_dim=head_dim,
        requires_grad=requires_grad,
        has_key_mask=has_key_mask,
    )
    return {name: why_not(name, call) for name in BACKENDS}


def why_not(backend: str, call: Call) -> str | None:
    """Return why a backend cannot do a call, or None if it can."""
    if backend == "flex":
        return _why_not_flex(call)
    if backend == "natten":
        return _why_not_natten(call)
    return None


def _why_not_flex(call: Call) -> str | None:
    if call.device not in ("cpu", "cuda"):
        return f"FlexAttention does not run on {call.device}"
    if call.device == "cpu":
        return "FlexAttention cannot train on a CPU" if call.requires_grad else None
    if call.dtype == torch.float64:
        return "FlexAttention's kernels do not take float64"
    if call.head_dim < 16 or call.value_dim < 16:
        return f"FlexAttention's kernels need a head_dim of at least 16; got {call.head_dim} and {call.value_dim}"
    return None


def _why_not_natten(call: Call) -> str | None:
    if not natten.is_installed():
        return 'NATTEN is not installed: pip install --no-build-isolation "eyetoy[natten]"'
    if call.device not in ("cpu", "cuda"):
        return f"NATTEN does not run on {call.device}"
    if call.device == "cpu" and call.requires_grad:
        return "NATTEN cannot train on a CPU"
    if call.dtype == torch.float64:
        return "NATTEN does not take float64"
    if call.has_key_mask:
        return "NATTEN has no key mask"
    return _why_not_natten_shape(call)


def _why_not_natten_shape(call: Call) -> str | None:
    head_dim = call.head_dim
    if call.value_dim != head_dim:
        return f"NATTEN needs one head_dim for query and value; got {head_dim} and {call.value_dim}"
    if call.device == "cuda" and natten.has_kernels():
        if head_dim % 8:
            return f"NATTEN's kernels need a head_dim divisible by 8; got {head_dim}"
    elif head_dim not in (8, 16, 32, 64, 128, 256, 512):
        return f"NATTEN without libnatten needs a head_dim that is a power of two from 8 to 512; got {head_dim}"
    elif call.rules is not None and len(call.rules) == 1 and _is_causal_over_all(call.rules[0]):
        return "NATTEN without libnatten has no causal window over the whole of one axis"
    for rule in call.rules or ():
        if rule.window < 2:
            return "NATTEN needs windows of at least 2"
        if rule.window * rule.dilation > rule.length:
            return (
                f"NATTEN needs window * dilation within the axis; got {rule.window} * {rule.dilation} "
                f"on an axis of {rule.length}"
            )
    return None


def _is_causal_over_all(rule: AxisRule) -> bool:
    return rule.is_causal and rule.window == rule.length


def choose_backend(requested: str, call: Call) -> str:
    """Return the backend of a call.

    Raises:
        ValueError: the name is unknown, or the requested backend cannot do the call; the message says why.
    """
    source = "backend"
    if requested == "auto":
        requested, source = os.environ.get(VARIABLE, "auto") or "auto", VARIABLE
    if requested != "auto" and requested not in BACKENDS:
        raise ValueError(f"{source} must be 'auto' or one of {', '.join(map(repr, BACKENDS))}; got {requested!r}")
    if requested == "auto":
        return _automatic(call)
    reason = why_not(requested, call)
    if reason is None:
        return requested
    if source == "backend":
        raise ValueError(f"backend {requested!r} cannot do this call: {reason}")
    chosen = _automatic(call)
    _log_message_once(logging.WARNING, f"{VARIABLE}={requested}: {reason}; using {chosen!r} there")
    return chosen


def _automatic(call: Call) -> str:
    """Prefer NATTEN's compiled kernels, then FlexAttention, on CUDA; tiles everywhere else."""
    if call.device != "cuda":
        return "tiled"
    if call.rules and not call.has_key_mask and all(rule.sees_all for rule in call.rules):
        _log_message_once(
            logging.INFO, "neighborhood attention by 'tiled' where windows span the grid: plain attention"
        )
        return "tiled"
    reasons = {name: why_not(name, call) for name in ("natten", "flex")}
    if reasons["natten"] is None and not natten.has_kernels():
        reasons["natten"] = "NATTEN is installed without its compiled kernels, libnatten"
    chosen = next((name for name, reason in reasons.items() if reason is None), "tiled")
    passed_over = [f"not {name!r}: {reason}" for name, reason in reasons.items() if reason is not None]
    _log_message_once(logging.INFO, "; ".join([f"neighborhood attention by {chosen!r}", *passed_over]))
    return chosen


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _log_message_once(level: int, message: str) -> None:
    """Log a message the first time; a compiler, which cannot follow a logger, calls this as it traces."""
    _log_once(level, message)


@lru_cache(maxsize=256)
def _log_once(level: int, message: str) -> None:
    _logger.log(level, message)


def describe_call(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Call:
    """Return what the choice of a backend depends on."""
    return Call(
        device=query.device.type,
        dtype=query.dtype,
        head_dim=query.shape[-1],
        value_dim=value.shape[-1],
        requires_grad=needs_gradients((query, key, value)),
        has_key_mask=problem.key_mask is not None,
        rules=problem.rules,
    )
