"""AdamW with weight decay where it belongs, and the learning rate at every step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from eyetoy_train.recipe import Recipe

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split parameters into those that decay (matrices, kernels) and those that do not.

    Biases, norms, embeddings, scales and learned tokens do not: a parameter decays if it is called `weight`, has two
    axes or more, and its module is no norm.
    """
    decayed = {
        parameter
        for module in model.modules()
        if not isinstance(module, _NORMS)
        for name, parameter in module.named_parameters(recurse=False)
        if name == "weight" and parameter.ndim >= 2
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p in decayed], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p not in decayed], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter, 2019), fused."""
    return torch.optim.AdamW(parameter_groups(model, recipe.weight_decay), lr=recipe.lr, betas=recipe.betas, fused=True)


def learning_rate(step: int, recipe: Recipe, *, steps_per_epoch: int, num_steps: int) -> float:
    """Return the learning rate of optimizer step `step`, counted from 0: linear warm-up, then half a cosine."""
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), num_steps - 1)
    if step < warmup:
        return recipe.lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(groups: Iterable[dict[str, object]], lr: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in groups:
        group["lr"] = lr
