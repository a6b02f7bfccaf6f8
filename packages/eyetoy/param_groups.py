"""Which parameters decay, and which layer each belongs to: what an optimizer is told about a model."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding)
_STEM = re.compile(r"(^|\.)initial_proj\.")
_BLOCK = re.compile(r"(^|\.)transformer\.(\d+)\.")
_GLOBAL = re.compile(r"^(encoder\.)?(norm|global_attention)\.")


def param_groups(model: nn.Module, *, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Return the trainable parameters of a model in groups, as optimizers take them.

    A parameter decays if it is called `weight`, has two axes or more, and its module is no norm or embedding: biases,
    norms, scales and learned tokens do not. With a `layer_decay` below 1 every layer has a group of its own, whose
    `lr_scale` is to be multiplied with the learning rate: `layer_decay` to the power of the layers above it (Clark et
    al., ELECTRA, 2020). The stem is the first layer, then come the blocks, the global stack, and a head.

    Args:
        model: an encoder, or any module that holds one.
        weight_decay: of the parameters that decay; 0 for the others.
        layer_decay: 1 for one learning rate; fine-tuning often takes 0.65 to 0.9.

    Raises:
        ValueError: `layer_decay` is not above 0 and at most 1.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be above 0 and at most 1; got {layer_decay}")
    layers, decayed = parameter_layers(model), _decayed(model)
    last = max(layers.values(), default=0)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layer, decays = layers[name] if layer_decay < 1 else last, parameter in decayed
            group = {"weight_decay": weight_decay * decays, "lr_scale": layer_decay ** (last - layer), "params": []}
            groups.setdefault((layer, decays), group)["params"].append(parameter)
    return list(groups.values())


def parameter_layers(model: nn.Module) -> dict[str, int]:
    """Return the layer of every parameter by name: 0 in the stem, 1 in the first block, and so on."""
    names = [name for name, _ in model.named_parameters()]
    blocks = {name: int(match[2]) for name in names if (match := _BLOCK.search(name))}
    above = max(blocks.values(), default=-1) + 2

    def layer(name: str) -> int:
        if name in blocks:
            return blocks[name] + 1
        return 0 if _STEM.search(name) else above if _GLOBAL.search(name) else above + 1

    return {name: layer(name) for name in names}


def _decayed(model: nn.Module) -> set[nn.Parameter]:
    return {
        parameter
        for module in model.modules()
        if not isinstance(module, _NORMS)
        for name, parameter in module.named_parameters(recurse=False)
        if name == "weight" and parameter.ndim >= 2
    }
