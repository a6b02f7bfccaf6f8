"""Models whose parameters are sharded over processes by FSDP2: from full tensors to shards and back.

A sharded parameter is a `DTensor`: every process stores a slice, and all of them must take part to get the whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded(model: nn.Module) -> bool:
    """Whether every process stores only a part of the parameters."""
    return isinstance(model, FSDPModule)


def reshard(model: nn.Module) -> None:
    """Free the full parameters that a forward pass has gathered, so that `parameters()` gives the shards again."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def shard_like(tensor: Tensor, example: Tensor) -> Tensor:
    """Return a full tensor on the device of `example`, with its sharding and its memory layout."""
    if isinstance(example, DTensor):
        return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)
    # The layout counts: fused AdamW walks through a parameter and its moments in the order of memory, whatever their
    # strides. Contiguous moments of a channels-last kernel would be applied to the wrong weights.
    return torch.empty_like(example, dtype=tensor.dtype).copy_(tensor)


def full_tensors(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Gather sharded tensors on the CPU. All processes must call this.

    PyTorch's functions gather the state of modules and optimizers; this is for other tensors, such as averages.

    Args:
        tensors: sharded or not.
        keep: whether this process wants the result. Without, it takes part and returns nothing, so that only one
            process needs the memory for all tensors at once.
    """
    kept = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            kept[name] = full.detach().cpu()
    return kept
