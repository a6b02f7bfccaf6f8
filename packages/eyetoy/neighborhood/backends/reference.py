"""The backend to check others against: gather the keys of every query, then softmax. Slow, and hungry for memory."""

from __future__ import annotations

import torch
from torch import Tensor

from eyetoy.neighborhood.problem import Problem
from eyetoy.sizes import volume


def attend(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
    """Neighborhood attention by the letter of the rule; see `registry.Backend`."""
    index, valid = _neighbors(problem, query.device)  # [tokens, keys]
    batch, *_, heads, head_dim = query.shape
    tokens = volume(problem.grid)
    q = query.reshape(batch, tokens, 1, heads, head_dim)
    k = key.reshape(batch, tokens, heads, head_dim)[:, index]  # [batch, tokens, keys, heads, head_dim]
    v = value.reshape(batch, tokens, heads, -1)[:, index]
    allowed = valid[None] if problem.key_mask is None else valid & problem.key_mask.reshape(batch, tokens)[:, index]
    logits = (q * problem.scale * k).sum(-1)
    weights = _masked_softmax(logits, allowed[..., None])
    return (weights[..., None] * v).sum(2).reshape(*query.shape[:-1], value.shape[-1])


def _masked_softmax(logits: Tensor, allowed: Tensor) -> Tensor:
    # A query without any valid key gets weights of zero. Its logits stay finite: the softmax of a row of -inf is NaN,
    # which `where` would keep out of the output but not out of the gradients.
    some = allowed.any(dim=2, keepdim=True)
    logits = logits.masked_fill(~(allowed | ~some), float("-inf"))
    return torch.where(some, logits.softmax(dim=2), 0.0)


def _neighbors(problem: Problem, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the flat indices of the keys of every query and which of them count, both `[tokens, keys]`."""
    index, valid = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool)
    for rule in problem.rules:
        axis_index, axis_valid = map(torch.from_numpy, rule.key_indices())  # [length, window]
        queries, keys = len(index) * rule.length, index.shape[1] * axis_index.shape[1]
        index = (index[:, None, :, None] * rule.length + axis_index[None, :, None, :]).reshape(queries, keys)
        valid = (valid[:, None, :, None] & axis_valid[None, :, None, :]).reshape(queries, keys)
    return index.to(device), valid.to(device)
