"""Parameter groups for optimizers: which parameters decay, and which layer each belongs to."""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import is_parametrized

from eyetoy.encoder import Encoder

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding)


def param_groups(
    model: nn.Module, *, weight_decay: float, layer_decay: float = 1.0, lr: float | None = None
) -> list[dict[str, Any]]:
    """Return the trainable parameters of a model in groups for an optimizer.

    A parameter decays if it is a `weight`, has two axes or more, and its module is no norm or embedding. So
    biases, norms, scales and learned tokens do not decay. With a `layer_decay` below 1, every layer has a group of its
    own. Its `lr_scale` is `layer_decay` to the power of the number of layers above it (Clark et al., ELECTRA, 2020).
    PyTorch's optimizers and schedulers read no `lr_scale`: give `lr` for groups with rates of their own, or multiply
    the rate with it yourself. The stem is the first layer, then come the blocks, the global stack and a head; so it is
    in each of several encoders.

    Args:
        model: an encoder, or any module that holds one or several, wrapped or not.
        weight_decay: for the parameters that decay; the others get 0.
        layer_decay: 1 for one learning rate; 0.65 to 0.9 is common for fine-tuning.
        lr: the learning rate of the last layer; None for groups without a rate.

    Returns:
        dicts with `params`, `weight_decay`, `lr_scale` and, if `lr` is given, `lr`: that rate times `lr_scale`.

    Raises:
        ValueError: `layer_decay` is not above 0 and at most 1, or below 1 for a model that holds no encoder; or `lr` is
            not positive and finite.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be above 0 and at most 1; got {layer_decay}")
    if lr is not None and not 0 < lr < math.inf:
        raise ValueError(f"lr must be positive and finite; got {lr}")
    layers = parameter_layers(model) if layer_decay < 1 else {}
    last, decayed = max(layers.values(), default=0), matrices(model)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layer, decays = layers.get(name, last), parameter in decayed
            scale = layer_decay ** (last - layer)
            group = {"weight_decay": weight_decay * decays, "lr_scale": scale, "params": []}
            if lr is not None:
                group["lr"] = lr * scale
            groups.setdefault((layer, decays), group)["params"].append(parameter)
    return list(groups.values())


def parameter_layers(model: nn.Module) -> dict[str, int]:
    """Return the layer of every parameter by name: 0 in the stem, 1 in the first block, and so on.

    Of several encoders, the last layers have the same number, so that the stem of a shallower one is not 0.

    Raises:
        ValueError: the model holds no encoder.
    """
    # Wrappers put something before the encoder's names, such as "module.encoder."; names outside of it are the head's.
    prefixes = {
        f"{name}." if name else "": len(module.transformer) + 1
        for name, module in model.named_modules()
        if isinstance(module, Encoder)
    }
    if not prefixes:
        raise ValueError(f"layers are counted in an encoder, and {type(model).__name__} holds none")
    deepest = max(prefixes.values())

    def layer(name: str) -> int:
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is None:
            return deepest + 1
        part, index = name.removeprefix(prefix).split(".")[:2]
        own = int(index) + 1 if part == "transformer" else 0 if part == "initial_proj" else prefixes[prefix]
        return own + deepest - prefixes[prefix]

    return {name: layer(name) for name, _ in model.named_parameters()}


def matrices(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that decay: the weights of linear layers and convolutions.

    Weight norm, spectral norm, pruning and PyTorch's parametrizations keep a weight under another name.
    """
    return {
        parameter
        for module in model.modules()
        if not isinstance(module, _NORMS)
        for name, parameter in [*module.named_parameters(recurse=False), *_parametrized(module)]
        if name in ("weight", "weight_v", "weight_orig") and parameter.ndim >= 2
    }


def _parametrized(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the originals of a weight that is parametrized, as `weight` each."""
    if not is_parametrized(module, "weight"):
        return []
    # For example weight norm's `original0` is the length of every row, [out, 1], and `original1` the rows, [out, in]:
    # a length is a scale, and does not decay. Other parametrizations of two parts are products of matrices.
    steps: Any = module.get_submodule("parametrizations.weight")
    originals = dict(steps.named_parameters(recurse=False))
    if any(isinstance(step, _WeightNorm) for step in steps):
        originals.pop("original0", None)
    return [("weight", parameter) for parameter in originals.values()]
