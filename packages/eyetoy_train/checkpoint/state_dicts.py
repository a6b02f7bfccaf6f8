"""The state of a training as named tensors on the CPU, whole even where it is spread over processes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from eyetoy_train.checkpoint.atomic import CheckpointError


def whole(tensors: Mapping[str, Tensor], *, keep: bool = True) -> dict[str, Tensor]:
    """Return tensors on the CPU, gathered if processes hold parts of them; then all of them must call this.

    A process that does not `keep` them takes part, and gets nothing.
    """
    kept = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            tensor = tensor.full_tensor()
        if keep:
            kept[name] = tensor.detach().cpu().contiguous()
    return kept


def spread_like(tensor: Tensor, example: Tensor) -> Tensor:
    """Return a whole tensor on the device of `example`, spread over processes and laid out in memory as it is.

    PyTorch's fused AdamW goes through a parameter and its moments in the order of memory, whatever their strides.
    """
    if isinstance(example, DTensor):
        return distribute_tensor(tensor.to(example.device), example.device_mesh, example.placements)
    return torch.empty_like(example, dtype=tensor.dtype).copy_(tensor)


def is_spread(model: nn.Module) -> bool:
    """Whether processes hold parts of the parameters, as in FSDP2."""
    return isinstance(model, FSDPModule)


def let_go(model: nn.Module) -> None:
    """Let every process keep its own parts of a spread model alone, whatever a forward pass has gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def load_spread(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a spread model whole weights."""
    let_go(model)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(spread_like(weights[name], value))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights that were saved from the same model.

    Raises:
        CheckpointError: they are damaged, or of another model; the message names what differs.
    """
    weights, own = read_tensors(path), model.state_dict()
    differing = [
        f"{name} is {_shape(weights.get(name))} there and {_shape(own.get(name))} here"
        for name in sorted(weights.keys() | own.keys())
        if _shape(weights.get(name)) != _shape(own.get(name))
    ]
    if differing:
        more = f", and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise CheckpointError(f"{path} is of another model: {'; '.join(differing[:3])}{more}")
    model.load_state_dict(weights)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors of an optimizer by the name of the parameter that each belongs to."""
    let_go(model)
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Restore what `optimizer_tensors` gave, on any number of processes.

    Raises:
        CheckpointError: the file is damaged, or of another model.
    """
    let_go(model)
    tensors, names = read_tensors(path), {parameter: name for name, parameter in model.named_parameters()}
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        found.setdefault(name, {})[entry] = value
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    missing = found.keys() - {names[parameter] for parameter in parameters}
    if missing:
        raise CheckpointError(f"{path} is of another model: it has {sorted(missing)[0]}, which this one has not")
    state = {
        index: _spread(found[names[parameter]], parameter)
        for index, parameter in enumerate(parameters)
        if names[parameter] in found
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _spread(values: Mapping[str, Tensor], parameter: Tensor) -> dict[str, Any]:
    return {
        key: spread_like(value, parameter) if value.shape == parameter.shape else value for key, value in values.items()
    }


def _shape(tensor: Tensor | None) -> object:
    return "missing" if tensor is None else list(tensor.shape)
