"""Floating-point operations of a model: counted, not measured."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.module_tracker import ModuleTracker

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
    from torch.utils.flop_counter import FlopCounterMode  # imports triton

    counted = copy.deepcopy(model).to("meta").eval()
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()
    projected: list[int] = []
    corrections: list[int] = []

    def begin(*_: Any) -> None:
        projected.append(counter.get_total_flops())

    def correct(group: nn.Module, _: Any, out: Tensor) -> None:
        # After its projection a group only attends, in the way of whatever backend: this count gives way to the rule's.
        corrections.append(_useful(group, out) - (counter.get_total_flops() - projected.pop()))

    for group in counted.modules():
        if isinstance(group, SharedScaleNA):
            group.qkv_proj.register_forward_hook(begin)
            group.register_forward_hook(correct)
    dtype = next((parameter.dtype for parameter in counted.parameters() if parameter.is_floating_point()), None)
    # On the meta device, attention is two matrix products.
    with torch.no_grad(), counter:
        counted(torch.empty(*shape, device="meta", dtype=dtype))
    return int(counter.get_total_flops() + sum(corrections))


class _NoModules(ModuleTracker):
    """Follows no module. Its base has hooks that the whole process shares: they see the modules of other threads."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _useful(group: nn.Module, out: Tensor) -> int:
    """Return the operations of a group's logits and weighted sums, given its output."""
    assert isinstance(group, SharedScaleNA)
    grid = out.shape[1:-1]
    axes = zip(group.window, grid, group.dilation, strict=True)
    keys = volume([min(window, ceil_div(length, dilation)) for window, length, dilation in axes])
    return 4 * out.numel() * keys  # a multiply-add for the logit, and one for the sum, per channel and key
