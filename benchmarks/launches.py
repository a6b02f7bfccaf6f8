"""Count the operations of a model that are no views: on a GPU each is at least one launch.

`python benchmarks/launches.py` counts a forward pass and a training step (forward and backward) of the named models and
of timm's, on the meta device, so that it takes seconds and no GPU. A result that shares storage with an argument is a
view. Convolutions count their result's change to channels-last as an operation; on a GPU they return it so.

Attention counts as one operation in each direction, in all models: that is what fused kernels make of it. On the meta
device neighborhood attention would be cut into tiles and products, and PyTorch's `scaled_dot_product_attention` into
products and a softmax. So both are replaced by a custom operator that computes nothing. The column `plain` counts
without this, as the meta device does it. The second pass counts, when plans and positions are there.

`--graph-breaks` adds how often `torch.compile` leaves its graph, in a forward pass with gradients on the CPU. It takes
up to a minute for a model. `--by-module` prints which module calls what, and how often; `--output` writes the results.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from measuring import conditions, output_folder
from peers import TIMM, build
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eyetoy.neighborhood.backends.registry import BACKENDS, VARIABLE, Backend
from eyetoy.presets import IN_CHANNELS

GRIDS = {"1d": (16_000,), "2d": (224, 224), "3d": (16, 224, 224)}
SIZES = ("pico", "nano", "tiny", "small", "base")
MODELS = {f"eyetoy{rank}_{size}": grid for rank, grid in GRIDS.items() for size in SIZES}
MODELS |= dict.fromkeys(("nat_tiny", *TIMM), GRIDS["2d"])


@torch.library.custom_op("benchmark::attention", mutates_args=())
def one_attention(query: Tensor, key: Tensor, value: Tensor, heads_first: bool) -> Tensor:
    """Stand for a fused kernel; tokens `[batch, *grid, heads, dim]`, or `[..., heads, tokens, dim]` if heads first."""
    raise NotImplementedError("this operator is for counting on the meta device")


@torch.library.custom_op("benchmark::attention_backward", mutates_args=())
def one_attention_backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    raise NotImplementedError("this operator is for counting on the meta device")


@one_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, heads_first: bool) -> Tensor:
    if not heads_first:
        return query.new_empty(*query.shape[:-1], value.shape[-1])
    # Fused kernels return the layout [..., tokens, heads, dim], seen with the heads first.
    *outer, heads, tokens, _ = query.shape
    return query.new_empty(*outer, tokens, heads, value.shape[-1]).transpose(-3, -2)


@one_attention_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *one_attention_backward(grad, *ctx.saved_tensors), None


one_attention.register_autograd(_backward, setup_context=_save)


class FusedAttention(TorchFunctionMode):
    """Makes `scaled_dot_product_attention` one operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return one_attention(*args[:3], heads_first=True)
        return func(*args, **(kwargs or {}))


@contextmanager
def attention_as_one_operation() -> Iterator[None]:
    """Make every attention one operation for a while."""
    BACKENDS["one"] = Backend(attend=lambda query, key, value, problem: one_attention(query, key, value, False))
    os.environ[VARIABLE] = "one"
    try:
        with FusedAttention():
            yield
    finally:
        del BACKENDS["one"], os.environ[VARIABLE]


class Operations(TorchDispatchMode):
    """Counts operations that are no views, by the class of the module that calls them; the backward pass has none."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: Counter[tuple[str, str]] = Counter()
        self._callers = ["(backward or outside)"]
        for module in model.modules():
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._callers.append(type(module).__name__)

    def _leave(self, *_: Any) -> None:
        self._callers.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        results = _storages(out)
        if func._schema.is_mutable or not results or not results <= _storages((args, kwargs)):
            self.found[self._callers[-1], str(func)] += 1
        return out


def _storages(tree: Any) -> set[int]:
    return {leaf.untyped_storage()._cdata for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}


def count(name: str, *, step: bool = False, fused: bool = True) -> Counter[tuple[str, str]]:
    """Return how often each module calls each operation.

    Args:
        name: a model of `MODELS`.
        step: count a training step instead of a forward pass without gradients.
        fused: attention is one operation.
    """
    grid = MODELS[name]
    with ExitStack() as stack:
        if fused:
            stack.enter_context(attention_as_one_operation())
        with torch.device("meta"):
            model = build(name, grid).train(step)
            x = torch.empty(2, IN_CHANNELS[len(grid)], *grid)
        stack.enter_context(torch.set_grad_enabled(step))
        run: Callable[[], object] = (lambda: model(x).sum().backward()) if step else (lambda: model(x))
        run()
        model.zero_grad()  # a step begins without gradients, which it writes and does not add to
        with Operations(model) as operations:
            run()
    return operations.found


def graph_breaks(name: str) -> int:
    """Return how often `torch.compile` would leave a model's graph for Python, forward, with gradients, on the CPU."""
    grid = MODELS[name]
    torch.compiler.reset()
    explain: Callable[..., Any] = torch._dynamo.explain
    number: int = explain(build(name, grid))(torch.empty(2, IN_CHANNELS[len(grid)], *grid)).graph_break_count
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MODELS, help="count one model")
    parser.add_argument("--graph-breaks", action="store_true", help="count graph breaks too")
    parser.add_argument("--by-module", action="store_true", help="print which module calls what in a forward pass")
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON")
    options = parser.parse_args()
    rows = {}
    columns = ["forward", "step", "plain", *(["graph_breaks"] if options.graph_breaks else [])]
    print(f"{'model':16s} " + " ".join(f"{column:>7s}" for column in columns))
    for name in [options.only] if options.only else MODELS:
        found = count(name)
        rows[name] = row = {
            "input": [2, IN_CHANNELS[len(MODELS[name])], *MODELS[name]],
            "forward": found.total(),
            "step": count(name, step=True).total(),
            "plain": count(name, fused=False).total(),
        }
        if options.graph_breaks:
            row["graph_breaks"] = graph_breaks(name)
        print(f"{name:16s} " + " ".join(f"{row[column]:7d}" for column in columns), flush=True)
        if options.by_module:
            for (module, operation), number in sorted(found.items()):
                print(f"{number:8d}  {module}: {operation}")
    if options.output:
        about = conditions("cpu")
        kept = {key: about[key] for key in ("command", "date", "torch", "timm", "python")}
        path = options.output / "launches.json"
        path.write_text(json.dumps({"about": kept, "models": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
