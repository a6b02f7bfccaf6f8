"""The optimizer."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from eyetoy.optim_groups import matrices, param_groups
from eyetoy_train.optim.muon import Muon
from eyetoy_train.recipe import Recipe


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter, 2019), fused, or Muon for matrices and kernels and AdamW for the rest.

    Raises:
        ValueError: `layer_decay` is below 1 for a model whose layers are not known.
    """
    groups = _groups(model, recipe)
    if recipe.optimizer == "muon":
        return Muon(_split(groups, matrices(model)), lr=recipe.lr, momentum=recipe.momentum, betas=recipe.betas)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def _split(groups: list[dict[str, Any]], matrices: set[nn.Parameter]) -> list[dict[str, Any]]:
    """Divide every group in two, matrices and others; a group keeps its learning rate and weight decay."""
    divided = [
        group | {"is_matrix": wanted, "params": [p for p in group["params"] if (p in matrices) == wanted]}
        for group in groups
        for wanted in (True, False)
    ]
    return [group for group in divided if group["params"]]


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return groups by weight decay and layer; the layers of timm's models are known to timm."""
    if recipe.layer_decay == 1 or getattr(model, "kind", None) != "timm":
        return param_groups(model, weight_decay=recipe.weight_decay, layer_decay=recipe.layer_decay)
    groups: list[dict[str, Any]] = importlib.import_module("timm.optim").param_groups_layer_decay(
        model.model,
        weight_decay=recipe.weight_decay,
        layer_decay=recipe.layer_decay,
        no_weight_decay_list=getattr(model.model, "no_weight_decay", set)(),
    )
    return groups
