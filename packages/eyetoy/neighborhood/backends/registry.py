"""The backends, and which one does a call.

To add one: write a file with a function `attend(query, key, value, problem)` and, if there are calls it cannot do,
`why_not(call)`; then add a line to `BACKENDS`. Everything else follows from there: `backend="name"`, the environment
variable, `available_backends` with its reasons, the order in which "auto" tries them on CUDA, and error messages.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from eyetoy.neighborhood.backends import flex, natten, reference
from eyetoy.neighborhood.backends.tiled import attention as tiled
from eyetoy.neighborhood.backends.triton import attention as triton
from eyetoy.neighborhood.problem import Call, Problem
from eyetoy.second_order import differentiable_again
from eyetoy.tracing import constant_in_graphs, is_transformed

VARIABLE = "EYETOY_NEIGHBORHOOD_BACKEND"
"""Environment variable that names the backend of calls with `backend="auto"`."""


def _never(call: Call) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to compute neighborhood attention.

    Attributes:
        attend: takes query, key and value, `[batch, *grid, heads, dim]` and not empty, and the problem, whose rules may
            have dilation, stride and causality and whose mask may hide any key; returns `[batch, *grid, heads,
            value_dim]`. All backends follow `window.AxisRule` to the letter, so that models can change backends.
        why_not: returns why it cannot do a call, or None if it can.
        why_not_first: returns why "auto" passes it over for a call that it can do, or None if it need not.
        has_one_derivative: its backward pass cannot be differentiated; derivatives of gradients are then those of
            `tiled`.
        skips_masked_keys: it never reads keys and values that the mask hides; others get copies where they are zero.
        takes_lengths: it takes rows of several lengths, `Problem.lengths`; `varlen.py` does them with the others.
    """

    attend: Callable[[Tensor, Tensor, Tensor, Problem], Tensor]
    why_not: Callable[[Call], str | None] = _never
    why_not_first: Callable[[Call], str | None] = _never
    has_one_derivative: bool = False
    skips_masked_keys: bool = False
    takes_lengths: bool = False

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        problem: Problem,
        *,
        plain: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Call `attend`, with derivatives of any order; those after the first are of `plain`, if it is given."""
        if not self.skips_masked_keys:
            key, value = _clear_masked(key, value, problem)
        out = self.attend(query, key, value, problem)
        if not self.has_one_derivative:
            return out
        return differentiable_again(out, plain or partial(_attend_plain, problem=problem), (query, key, value))


def _attend_plain(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
    return tiled.attend_plain(query, *_clear_masked(key, value, problem), problem)


def _clear_masked(key: Tensor, value: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    """Return key and value with zeros where the mask hides them: 0 * NaN is NaN, and padding may hold anything."""
    if problem.key_mask is None:
        return key, value
    invalid = ~problem.key_mask[..., None, None]
    return key.masked_fill(invalid, 0), value.masked_fill(invalid, 0)


# In the order in which "auto" tries them on CUDA and ROCm; everywhere else it takes "tiled". No figure of "triton" on a
# GPU exists yet, so it does what the others cannot do: without NATTEN, small head dimensions. Whether it should come
# before them is for `benchmarks/gpu.py` to decide: move its line.
BACKENDS: dict[str, Backend] = {
    "natten": Backend(
        attend=natten.attend, why_not=natten.why_not, why_not_first=natten.why_not_first, has_one_derivative=True
    ),
    "flex": Backend(attend=flex.attend, why_not=flex.why_not, has_one_derivative=True),
    "triton": Backend(
        attend=triton.attend,
        why_not=triton.why_not,
        why_not_first=triton.why_not_first,
        has_one_derivative=True,
        skips_masked_keys=True,
        takes_lengths=True,
    ),
    "tiled": Backend(attend=tiled.attend),
    "reference": Backend(attend=reference.attend),
}

_logger = logging.getLogger(__name__)


def available_backends(
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    head_dim: int = 32,
    requires_grad: bool = False,
    has_key_mask: bool = False,
) -> dict[str, str | None]:
    """Return for every backend of `neighborhood_attention` why it cannot do such a call, or None if it can.

    NATTEN also has limits on windows. `neighborhood_attention`, which knows the window, names them in its error.

    Args:
        device: where the tensors are.
        dtype: of query, key and value.
        head_dim: of query and value.
        requires_grad: whether a backward pass follows.
        has_key_mask: whether `key_mask` is given.
    """
    call = Call(
        device=torch.device(device).type,
        dtype=dtype,
        head_dim=head_dim,
        value_dim=head_dim,
        requires_grad=requires_grad,
        has_key_mask=has_key_mask,
    )
    return {name: backend.why_not(call) for name, backend in BACKENDS.items()}


def choose_backend(requested: str, call: Call) -> str:
    """Return the name of the backend that does a call.

    Raises:
        ValueError: the name is unknown, or the requested backend cannot do the call; the message says why.
    """
    source = "backend"
    if requested == "auto":
        requested, source = os.environ.get(VARIABLE, "auto") or "auto", VARIABLE
    if requested == "auto":
        return _automatic(call)
    if requested not in BACKENDS:
        names = ", ".join(map(repr, BACKENDS))
        hint = "; 'natten' leaves the choice among its kernels to NATTEN" if requested.endswith("-fna") else ""
        raise ValueError(f"{source} must be 'auto' or one of {names}; got {requested!r}{hint}")
    reason = BACKENDS[requested].why_not(call)
    if reason is None:
        return requested
    if source == "backend":
        raise ValueError(f"backend {requested!r} cannot do this call: {reason}")
    # The variable is meant for a whole program, in which a few calls may be beyond a backend: it gives way.
    chosen = _automatic(call)
    _log_message_once(logging.WARNING, f"{VARIABLE}={requested}: {reason}; using {chosen!r} there")
    return chosen


def _automatic(call: Call) -> str:
    if call.device != "cuda" or is_transformed():  # of the fast ones, only "tiled" is operations that transforms follow
        return "tiled"
    if call.rules and not call.has_key_mask and all(rule.sees_all for rule in call.rules):
        # "tiled" makes it one call of PyTorch's fused attention, and no kernel with a mask is as fast as one without.
        _log_message_once(
            logging.INFO, "neighborhood attention by 'tiled' where windows span the grid: plain attention"
        )
        return "tiled"
    passed_over: list[str] = []
    for name, backend in BACKENDS.items():
        reason = backend.why_not(call) or backend.why_not_first(call)
        if reason is None:
            message = "; ".join([f"neighborhood attention by {name!r}", *passed_over])
            _log_message_once(logging.INFO, message)
            return name
        passed_over.append(f"not {name!r}: {reason}")
    raise AssertionError("'tiled' can do every call")


@constant_in_graphs
def _log_message_once(level: int, message: str) -> None:
    """Log a message the first time; a compiler, which cannot follow a logger, calls this as it traces."""
    _log_once(level, message)


@lru_cache(maxsize=256)
def _log_once(level: int, message: str) -> None:
    _logger.log(level, message)
