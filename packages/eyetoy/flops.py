"""Floating-point operations of a model: counted, not measured."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from eyetoy.msnat import SharedScaleNA
from eyetoy.sizes import ceil_div, volume


def count_flops(model: nn.Module, shape: Sequence[int]) -> int:
    """Return the floating-point operations of a forward pass: two for each multiply-add of products and convolutions.

    Neighborhood attention counts by its rule, `window` keys for each query, whatever a backend computes on top; causal
    windows count in full. Norms, activations and interpolation do not count, as is usual. The model runs on the meta
    device, so any size takes little time and memory.

    Args:
        model: any module that takes one tensor.
        shape: the input's, `[batch, channels, *grid]`.
    """
    counted = copy.deepcopy(model).to("meta").eval()
    useful: Counter[str] = Counter()
    for name, module in counted.named_modules():
        if isinstance(module, SharedScaleNA):
            module.register_forward_hook(lambda group, _, out, name=name: useful.update({name: _useful(group, out)}))
    dtype = next((parameter.dtype for parameter in counted.parameters() if parameter.is_floating_point()), None)
    counter = FlopCounterMode(display=False)
    # Plain attention is two matrix products, which the counter knows whatever the device.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        counted(torch.empty(*shape, device="meta", dtype=dtype))
    counts = {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}
    total = counts["Global"]
    # A group's count holds tokenizer, projection, and the attention of whatever backend ran: this last one gives way to
    # the rule's.
    for name, amount in useful.items():
        own = f"{type(model).__name__}.{name}".removesuffix(".")
        total += amount - (counts[own] - sum(counts.get(f"{own}.{part}", 0) for part in ("tokenizer", "qkv_proj")))
    return int(total)


def _useful(group: nn.Module, out: torch.Tensor) -> int:
    """Return the operations of a group's logits and weighted sums, given its output."""
    assert isinstance(group, SharedScaleNA)
    grid = out.shape[1:-1]
    axes = zip(group.window, grid, group.dilation, strict=True)
    keys = volume([min(window, ceil_div(length, dilation)) for window, length, dilation in axes])
    return 4 * out.numel() * keys  # a multiply-add for the logit, and one for the sum, per channel and key
