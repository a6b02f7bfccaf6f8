"""The optimizer."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from eyetoy.param_groups import param_groups
from eyetoy_train.models import TimmClassifier
from eyetoy_train.recipe import Recipe


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter, 2019), fused.

    Raises:
        ValueError: `layer_decay` is below 1 for a model whose layers are not known.
    """
    return torch.optim.AdamW(_groups(model, recipe), lr=recipe.lr, betas=recipe.betas, fused=True)


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    if recipe.layer_decay == 1 or not isinstance(model, TimmClassifier):
        return param_groups(model, weight_decay=recipe.weight_decay, layer_decay=recipe.layer_decay)
    groups: list[dict[str, Any]] = importlib.import_module("timm.optim").param_groups_layer_decay(
        model.model,
        weight_decay=recipe.weight_decay,
        layer_decay=recipe.layer_decay,
        no_weight_decay_list=getattr(model.model, "no_weight_decay", set)(),
    )
    return groups
