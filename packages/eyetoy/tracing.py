"""What PyTorch's tools need that look at a model from outside: older tracers, scripting, transforms of functions.

`torch.jit.trace`, and `torch.fx` as in torchvision's feature extractor, run `forward` once. The first gives tensors for
sizes and records operators; the second gives stand-ins for everything, of which nobody knows even the number of axes.
Compiling and exporting need nothing from here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad

M = TypeVar("M", bound=nn.Module)
F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
T = TypeVar("T")


def is_jit_tracing() -> bool:
    """Whether `torch.jit.trace` is running."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing


def is_transformed() -> bool:
    """Whether `torch.func` or forward-mode differentiation follows every operation.

    They know neither fused attention nor autograd functions, and PyTorch has no public test for being inside of them.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_plain_call(x: Any) -> bool:
    """Whether a model computes here and now on a CPU, so that values of its input may be looked at.

    On a GPU a look would wait for all work before it. What compiles, traces, transforms or counts has no values.
    """
    return (
        not torch.compiler.is_compiling()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and not is_jit_tracing()
        and not is_transformed()
        and not torch._C._len_torch_dispatch_stack()
    )


def needs_operator(x: Tensor) -> bool:
    """Whether a kernel must go through the dispatcher: for a compiler, subclasses such as fake tensors, or `vmap`.

    A plain call goes to the kernel directly, since a custom operator adds to the time of a small call.
    """
    if torch.compiler.is_compiling() or type(x) is not Tensor or x.is_meta:
        return True
    # `is_grads_batched` and `jacobian(vectorize=True)` still use the `vmap` from before `torch.func`.
    return torch._C._are_functorch_transforms_active() or torch._C._functorch.is_legacy_batchedtensor(x)


def one_by_one(
    operator: Callable[..., tuple[Tensor, ...]], batch_size: int, in_dims: Sequence[int | None], args: Sequence[Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Return what an operator gives under `torch.vmap`, one after the other, and the dimensions that were mapped.

    Calls share what is not mapped, such as what a forward pass has saved, and memory stays that of one.
    """
    rows = [
        operator(*(x.select(dim, row) if isinstance(dim, int) else x for x, dim in zip(args, in_dims, strict=True)))
        for row in range(batch_size)
    ]
    stacked = tuple(map(torch.stack, zip(*rows, strict=True)))
    return stacked, (0,) * len(stacked)


class Unscriptable:
    """A module that `torch.jit.script` refuses by name, alone and inside of other modules."""

    def __prepare_scriptable__(self) -> NoReturn:
        """Raise: `torch.jit.script` calls this before it compiles.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"torch.jit.script cannot compile {type(self).__name__}, whose attention is planned in Python; use "
            f"torch.export, torch.compile or torch.jit.trace"
        )


def constant_in_graphs(function: F) -> F:
    """Mark a function that a compiler, which cannot follow it, calls as it traces and whose answer it keeps.

    This does what `torch.compiler.assume_constant_result` does, which imports the compiler: a second for every program
    that imports this package, also for those that compile nothing.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def fixed_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return sizes of a tensor as numbers to plan with.

    Under `torch.jit.trace` they are tensors. The trace then holds for these sizes alone; PyTorch warns that it does.
    """
    return tuple(map(int, sizes)) if is_jit_tracing() else tuple(sizes)


def one_fx_node(forward: Callable[Concatenate[M, Tensor, P], Tensor]) -> Callable[Concatenate[M, Tensor, P], Tensor]:
    """Let `torch.fx` record a module whole, as it does with PyTorch's own, because its `forward` looks at sizes."""

    @functools.wraps(forward)
    def recorded(self: M, x: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if isinstance(x, fx.Proxy):
            tracer: Any = x.tracer
            node: Tensor = tracer.create_proxy("call_module", tracer.path_of_module(self), (x, *args), kwargs)
            return node
        return forward(self, x, *args, **kwargs)

    return cast(Callable[Concatenate[M, Tensor, P], Tensor], recorded)


def keep_default(x: Tensor, argument: T, default: T, name: str) -> tuple[Tensor, T]:
    """Return `x` and an argument; where `torch.fx` traces, its default, and the program refuses any other value."""
    # torch.fx has a stand-in for every argument of a model, also for one that is not given.
    return (_require(x, argument, default, name), default) if isinstance(argument, fx.Proxy) else (x, argument)


@fx.wrap
def _require(x: Tensor, argument: Any, default: Any, name: str) -> Tensor:
    # It passes `x` on, or the tracer would drop it as a call without a result.
    if argument is not default:
        raise ValueError(f"a model traced by torch.fx takes no {name}; call the model itself")
    return x
