"""Reference results by plain loops and small dense matrices; nothing here imports the package.

Tensors are channels-last, on the CPU, in float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Neighborhoods along one axis."""

    window: int
    dilation: int = 1
    stride: int = 1
    is_causal: bool = False

    def keys(self, query: int, length: int) -> list[int]:
        """Return the keys of one query on an axis of this length."""
        group, place = query % self.dilation, query // self.dilation
        members = length // self.dilation + (1 if group < length % self.dilation else 0)
        window = min(self.window, members)
        offset = place // self.stride * self.stride  # queries from here on, `stride` of them, have one neighborhood
        if self.is_causal:
            leader = min(offset + self.stride - 1, members - 1)
            first, last = max(leader - (window - 1), 0), place
        else:
            leader = min(offset + self.stride // 2, members - 1)
            first = max(0, min(leader - window // 2, members - window))
            last = first + window - 1
        return [group + self.dilation * member for member in range(first, last + 1)]


def tokens(grid: Sequence[int]) -> list[tuple[int, ...]]:
    """Return all places of a grid, in the order of `Tensor.flatten`."""
    return list(itertools.product(*map(range, grid)))


def neighbors(grid: Sequence[int], axes: Sequence[Axis]) -> list[list[int]]:
    """Return the flat keys of every query: the product of its neighborhoods along the axes."""
    number = {place: index for index, place in enumerate(tokens(grid))}
    return [
        [
            number[key]
            for key in itertools.product(
                *(axis.keys(at, length) for axis, at, length in zip(axes, place, grid, strict=True))
            )
        ]
        for place in number
    ]


def neighbor_mask(grid: Sequence[int], axes: Sequence[Axis]) -> Tensor:
    """Return the same as booleans `[tokens, tokens]`: query by key."""
    mask = torch.zeros(math.prod(grid), math.prod(grid), dtype=torch.bool)
    for query, keys in enumerate(neighbors(grid, axes)):
        mask[query, keys] = True
    return mask


def neighborhood_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    axes: Sequence[Axis],
    scale: float | None = None,
    key_mask: Tensor | None = None,
) -> Tensor:
    """Return neighborhood attention by loops over single numbers, `[batch, *grid, heads, head_dim]`."""
    batch, *grid, heads, head_dim = query.shape
    scale = head_dim**-0.5 if scale is None else scale
    q, k, v = (x.reshape(batch, math.prod(grid), heads, x.shape[-1]).tolist() for x in (query, key, value))
    valid = torch.ones(batch, math.prod(grid), dtype=torch.bool) if key_mask is None else key_mask.reshape(batch, -1)
    seen = neighbors(grid, axes)
    out = torch.zeros(batch, math.prod(grid), heads, value.shape[-1], dtype=torch.float64)
    for b, at, h in itertools.product(range(batch), range(math.prod(grid)), range(heads)):
        keys = [index for index in seen[at] if valid[b, index]]
        if keys:
            logits = [scale * _dot(q[b][at][h], k[b][index][h]) for index in keys]
            rows = [v[b][index][h] for index in keys]
            out[b, at, h] = torch.tensor(_mix(logits, rows), dtype=torch.float64)
    return out.reshape(batch, *grid, heads, value.shape[-1])


def _dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def _mix(logits: list[float], rows: list[list[float]]) -> list[float]:
    """Average `rows` with the softmax of `logits`."""
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    total = math.fsum(weights)
    return [_dot(weights, list(column)) / total for column in zip(*rows, strict=True)]


def dense_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Return attention `[batch, heads, tokens, head_dim]` with a boolean mask `[tokens, tokens]`, query by key."""
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return logits.masked_fill(~mask, -math.inf).softmax(-1) @ value


def global_mask(num_global_tokens: int, num_tokens: int) -> Tensor:
    """Return the mask of global attention.

    Global tokens come first and attend to all; a spatial token attends to the global ones and itself.
    """
    mask = torch.eye(num_tokens, dtype=torch.bool)
    mask[:num_global_tokens] = True
    mask[:, :num_global_tokens] = True
    return mask


def strided_conv(x: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int], before: Sequence[int]) -> Tensor:
    """Convolve `[batch, *grid, in]` with `weight` `[out, *kernel, in]` by loops, in `ceil(grid / stride)` steps.

    `before` is the padding at the start of each axis; there, and past the end, are zeros.
    """
    batch, *grid, _ = x.shape
    out_grid = [-(-length // step) for length, step in zip(grid, stride, strict=True)]
    out = bias.expand(batch, *out_grid, -1).clone()
    for token in tokens(out_grid):
        for offset in tokens(weight.shape[1:-1]):
            at = [s * t - b + o for s, t, b, o in zip(stride, token, before, offset, strict=True)]
            if all(0 <= place < length for place, length in zip(at, grid, strict=True)):
                out[:, *token] += x[:, *at] @ weight[:, *offset].T
    return out


def upsampling_matrix(length: int, stride: int) -> Tensor:
    """Return the weights `[length, ceil(length / stride)]` of a linear interpolation between coarse tokens' centers."""
    coarse = -(-length // stride)
    matrix = torch.zeros(length, coarse, dtype=torch.float64)
    for place in range(length):
        position = min(max((place + 0.5) / stride - 0.5, 0.0), coarse - 1.0)
        lower = math.floor(position)
        matrix[place, lower] += 1 - (position - lower)
        matrix[place, min(lower + 1, coarse - 1)] += position - lower
    return matrix


def upsample(x: Tensor, stride: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Interpolate `[batch, *ceil(grid / stride), channels]` to `[batch, *grid, channels]`, axis by axis."""
    for axis, (length, step) in enumerate(zip(grid, stride, strict=True), start=1):
        x = torch.tensordot(upsampling_matrix(length, step), x, dims=([1], [axis])).movedim(0, axis)
    return x


def sinusoids(grid: Sequence[int], channels: int, max_wavelength: float = 10000.0) -> Tensor:
    """Return positions `[*grid, channels]`: a block per axis, in it the sines and then the cosines, zeros at the end.

    Pair `i` of `n` turns by `max_wavelength ** (-i / n)` per token.
    """
    pairs = channels // (2 * len(grid))
    out = torch.zeros(*grid, channels, dtype=torch.float64)
    for place in tokens(grid):
        for axis, at in enumerate(place):
            for pair in range(pairs):
                angle = at * max_wavelength ** (-pair / pairs)
                out[*place, 2 * pairs * axis + pair] = math.sin(angle)
                out[*place, 2 * pairs * axis + pairs + pair] = math.cos(angle)
    return out
