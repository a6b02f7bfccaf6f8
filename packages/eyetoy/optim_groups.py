"""Parameter groups for optimizers: which parameters decay, and which layer each belongs to."""

from __future__ import annotations

from typing import Any

from torch import nn

from eyetoy.encoder import Encoder

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding)


def param_groups(model: nn.Module, *, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Return the trainable parameters of a model in groups for an optimizer.

    A parameter decays if it is called `weight`, has two axes or more, and its module is no norm or embedding. So
    biases, norms, scales and learned tokens do not decay. With a `layer_decay` below 1, every layer has a group of its
    own. Multiply the learning rate with the group's `lr_scale`: `layer_decay` to the power of the number of layers
    above it (Clark et al., ELECTRA, 2020). The stem is the first layer, then come the blocks, the global stack and a
    head.

    Args:
        model: an encoder, or any module that holds one, wrapped or not.
        weight_decay: for the parameters that decay; the others get 0.
        layer_decay: 1 for one learning rate; 0.65 to 0.9 is common for fine-tuning.

    Returns:
        dicts with `params`, `weight_decay` and `lr_scale`.

    Raises:
        ValueError: `layer_decay` is not above 0 and at most 1, or below 1 for a model that holds no encoder.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be above 0 and at most 1; got {layer_decay}")
    layers = parameter_layers(model) if layer_decay < 1 else {}
    last, decayed = max(layers.values(), default=0), matrices(model)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layer, decays = layers.get(name, last), parameter in decayed
            group = {"weight_decay": weight_decay * decays, "lr_scale": layer_decay ** (last - layer), "params": []}
            groups.setdefault((layer, decays), group)["params"].append(parameter)
    return list(groups.values())


def parameter_layers(model: nn.Module) -> dict[str, int]:
    """Return the layer of every parameter by name: 0 in the stem, 1 in the first block, and so on.

    Raises:
        ValueError: the model holds no encoder.
    """
    found = next(((name, module) for name, module in model.named_modules() if isinstance(module, Encoder)), None)
    if found is None:
        raise ValueError(f"layers are counted in an encoder, and {type(model).__name__} holds none")
    # Wrappers put something before the encoder's names, such as "module.encoder."; names outside of it are the head's.
    prefix, above = f"{found[0]}." if found[0] else "", len(found[1].transformer) + 1

    def layer(name: str) -> int:
        if not name.startswith(prefix):
            return above + 1
        part, index = name.removeprefix(prefix).split(".")[:2]
        if part == "transformer":
            return int(index) + 1
        return 0 if part == "initial_proj" else above

    return {name: layer(name) for name, _ in model.named_parameters()}


def matrices(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that decay: the weights of linear layers and convolutions."""
    return {
        parameter
        for module in model.modules()
        if not isinstance(module, _NORMS)
        for name, parameter in module.named_parameters(recurse=False)
        if name == "weight" and parameter.ndim >= 2
    }
