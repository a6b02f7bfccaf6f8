"""AdamW, and the learning rate at every step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from eyetoy.param_groups import param_groups
from eyetoy_train.recipe import Recipe


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter, 2019), fused."""
    return torch.optim.AdamW(
        param_groups(model, weight_decay=recipe.weight_decay), lr=recipe.lr, betas=recipe.betas, fused=True
    )


def learning_rate(step: int, recipe: Recipe, *, steps_per_epoch: int, num_steps: int) -> float:
    """Return the learning rate of optimizer step `step`, counted from 0: linear warm-up, then half a cosine."""
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), num_steps - 1)
    if step < warmup:
        return recipe.lr * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(groups: Iterable[dict[str, Any]], lr: float) -> None:
    """Set the learning rate of all parameter groups, times their `lr_scale`."""
    for group in groups:
        group["lr"] = lr * group["lr_scale"]
