"""Dilation as a matter of layout: the tokens of a dilation group form a smaller grid without dilation.

    axis of 10, dilation 3      0 1 2 3 4 5 6 7 8 9  ->  0 3 6 9 | 1 4 7 | 2 5 8

The groups become samples of a larger batch, so that no kernel needs to know about dilation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from eyetoy.neighborhood.problem import QKV, Problem

Attend = Callable[[QKV, Problem], Tensor]


def attend_groups(attend: Attend, tokens: QKV, problem: Problem, axis: int = 0) -> Tensor:
    """Call `attend` on all dilation groups as samples of a larger batch, and put the results back in place.

    The groups of an axis have at most two lengths, so there are at most two calls per dilated axis.

    Args:
        attend: attends among tokens without dilation.
        tokens: query, key and value, `[batch, *grid, heads, dim]`.
        problem: rules that may have dilation.
        axis: the axis to divide; those before it have no dilation any more.

    Returns:
        `[batch, *grid, heads, value_dim]`.
    """
    if axis == len(problem.rules):
        return attend(tokens, problem)
    rule = problem.rules[axis]
    if rule.dilation == 1:
        return attend_groups(attend, tokens, problem, axis + 1)
    members, longer = rule.length // rule.dilation, rule.length % rule.dilation
    lengths = [members + 1] * (longer > 0) + [members] * (members > 0)
    query, key, value = (_split(x, axis + 1, rule.dilation) for x in tokens)
    masks = [None] * 2 if problem.key_mask is None else _split(problem.key_mask, axis + 1, rule.dilation)
    parts = []
    for index, length in enumerate(lengths):
        rules = list(problem.rules)
        rules[axis] = replace(rule, length=length, dilation=1)
        part = replace(problem, rules=tuple(rules), key_mask=masks[index])
        parts.append(attend_groups(attend, (query[index], key[index], value[index]), part, axis + 1))
    return _join(parts, axis + 1, rule.dilation, longer)


def _split(x: Tensor, axis: int, dilation: int) -> list[Tensor]:
    """Return the longer groups, if there are any, and the shorter ones, each as `[batch * groups, ..., members, ...]`.

    With 10 tokens and dilation 3: `[[0, 3, 6, 9]]` and `[[1, 4, 7], [2, 5, 8]]`.
    """
    # Views as far as possible. The 9 tokens that the dilation divides are [[0, 1, 2], [3, 4, 5], [6, 7, 8]]: the groups
    # are its columns, and the first `longer` columns get one more member each from the rest, here [9].
    members, longer = x.shape[axis] // dilation, x.shape[axis] % dilation
    even, rest = torch.split(x, [members * dilation, longer], dim=axis)
    even = torch.unflatten(even, axis, (members, dilation))
    first, others = torch.split(even, [longer, dilation - longer], dim=axis + 1)
    first = torch.cat([first, rest.unsqueeze(axis)], dim=axis)
    groups = [first] * (longer > 0) + [others] * (members > 0)
    return [group.movedim(axis + 1, 1).flatten(0, 1) for group in groups]


def _join(parts: list[Tensor], axis: int, dilation: int, longer: int) -> Tensor:
    """Undo `_split`."""
    counts = [longer, dilation - longer] if len(parts) == 2 else [longer or dilation]
    groups = [
        torch.unflatten(x, 0, (x.shape[0] // count, count)).movedim(1, axis + 1)
        for x, count in zip(parts, counts, strict=True)
    ]
    if len(groups) == 1:
        return groups[0].flatten(axis, axis + 1)
    members = groups[1].shape[axis]
    first, rest = torch.split(groups[0], [members, 1], dim=axis)
    even = torch.cat([first, groups[1]], dim=axis + 1).flatten(axis, axis + 1)
    return torch.cat([even, rest.squeeze(axis)], dim=axis)
