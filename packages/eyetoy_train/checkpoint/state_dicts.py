"""The state of models and optimizers as full, named tensors on the CPU, whatever the number of processes.

The gathering is that of `torch.distributed.checkpoint.state_dict`. Optimizers are loaded here, because PyTorch's
function takes a trial step to create their state, refuses parameters without one, and ignores memory layouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
)

from eyetoy_train.types import CheckpointError
from eyetoy_train.utils.sharding import reshard, shard_like

# Tensors are gathered one by one. Only the first process keeps them, on the CPU; the others get an empty dict.
_GATHERED = StateDictOptions(full_state_dict=True, cpu_offload=True)


def full_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a sharded model on the first process. All processes must call this."""
    reshard(model)
    return cast("dict[str, Tensor]", get_model_state_dict(model, options=_GATHERED))


def load_full_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a sharded model full weights, which every process must have."""
    reshard(model)
    set_model_state_dict(model, dict(weights), options=StateDictOptions(full_state_dict=True))


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as `PARAMETER/ENTRY`, such as `head.weight/exp_avg`, on the first process.

    All processes must call this. Groups are left out: the recipe decides them.
    """
    reshard(model)
    gathered = get_optimizer_state_dict(model, optimizer, options=_GATHERED)
    states = cast("Mapping[str, Mapping[str, Any]]", gathered.get("state", {}))
    return {
        f"{name}/{entry}": value
        for name, state in states.items()
        for entry, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Restore what `optimizer_tensors` returned, on any number of processes.

    Raises:
        CheckpointError: the file is damaged, or of another model.
    """
    reshard(model)
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in read_tensors(path).items():
        name, _, entry = key.rpartition("/")
        states.setdefault(name, {})[entry] = value
    names = {parameter: name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    unknown = states.keys() - {names[parameter] for parameter in parameters}
    if unknown:
        raise CheckpointError(f"{path} is of another model: it has {min(unknown)}, which this one has not")
    # PyTorch numbers parameters by their place in the groups. One that has never had a gradient has no state.
    state = {
        index: {
            # Moments look like their parameter. The number of steps is a scalar that every process has.
            entry: shard_like(value, parameter) if value.shape == parameter.shape else value
            for entry, value in states[names[parameter]].items()
        }
        for index, parameter in enumerate(parameters)
        if names[parameter] in states
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


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
    """Load weights that were saved from the same model, which is not sharded yet.

    Raises:
        CheckpointError: they are damaged, or of another model; the message names the differences.
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


def _shape(tensor: Tensor | None) -> object:
    return "missing" if tensor is None else list(tensor.shape)
