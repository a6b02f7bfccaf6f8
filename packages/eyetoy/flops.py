"""How much arithmetic a model does: counted, not measured."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from eyetoy.msnat import SharedScaleNA
from eyetoy.sizes import ceil_div, volume


def count_flops(model: nn.Module, shape: Sequence[int]) -> int:
    """Return the floating-point operations of a forward pass: two for each multiply-add of products and convolutions.

    Neighborhood attention counts what the rule asks for, `window` keys for each query, whatever a backend computes
    besides. Norms, activations and interpolation do not count, as is usual. Nothing is computed, so that any size is
    counted at once.

    Args:
        model: any module that takes one tensor.
        shape: the input's, `[batch, channels, *grid]`.
    """
    model = copy.deepcopy(model).to("meta").eval()
    attended: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, SharedScaleNA):
            module.register_forward_hook(lambda group, _, out, name=name: attended.update({name: _useful(group, out)}))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(torch.empty(*shape, device="meta"))
    counts = {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}
    total = counts["Global"]
    for name, useful in attended.items():
        own = f"{type(model).__name__}.{name}"
        total += useful - (counts[own] - sum(counts.get(f"{own}.{part}", 0) for part in ("tokenizer", "qkv_proj")))
    return int(total)


def _useful(group: nn.Module, out: torch.Tensor) -> int:
    """Return the operations of a group's logits and of its weighted sums."""
    assert isinstance(group, SharedScaleNA)
    grid = out.shape[1:-1]
    axes = zip(group.window, grid, group.dilation, strict=True)
    keys = volume([min(window, ceil_div(length, dilation)) for window, length, dilation in axes])
    return 4 * out.numel() * keys
