"""What the head groups see from one place of the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from eyetoy.encoder import Encoder
from eyetoy.inspect.places import TokenPlaces, check_point, group_places, head_groups
from eyetoy.inspect.recording import recorded
from eyetoy.lengths import shrink
from eyetoy.msnat import SharedScaleNA
from eyetoy.neighborhood.window import AxisRule


@dataclass(frozen=True)
class NeighborhoodWeights:
    """What one head group sees from one place."""

    block: int
    group: int
    queries: tuple[tuple[int, ...], ...]
    """The token that asks, for each of the batch."""
    seen: Tensor
    """Bool `[batch, *tokens]`: its neighborhood, of each clip its own."""
    weights: Tensor
    """`[batch, heads, *tokens]`: its attention, which sums to 1; zeros outside of the neighborhood."""
    places: TokenPlaces
    """Where the group's tokens lie on the input."""

    def over_input(self, grid: Sequence[int], *, linear: bool = False) -> Tensor:
        """Return the weights laid over the input, `[batch, heads, *grid]`; see `TokenPlaces.spread`."""
        return self.places.spread(self.weights, grid, linear=linear)


@torch.no_grad()
def neighborhood_weights(
    encoder: Encoder,
    x: Tensor,
    point: Sequence[int],
    *,
    blocks: Sequence[int] | None = None,
    lengths: Tensor | None = None,
) -> list[NeighborhoodWeights]:
    """Return what every head group of some blocks sees from the token that is nearest to a point of the input.

    Args:
        encoder: of any number of dimensions.
        x: `[batch, in_channels, *grid]`.
        point: a place on the grid, such as row and column.
        blocks: which of `encoder.transformer`, negative ones counted from the end; all by default.
        lengths: in one dimension, int64 `[batch]`: how many samples are real.

    Returns:
        the groups of each block, fine to coarse, block by block.

    Raises:
        ValueError: the point is not on the input, or after the end of a clip, there is no such block, or as
            `Encoder.forward`.
    """
    check_point(point, x, lengths)
    chosen = _checked_blocks(len(encoder.transformer), blocks)
    named = [(block, number) for block in chosen for number in range(len(head_groups(encoder, block)))]
    groups = [head_groups(encoder, block)[number] for block, number in named]

    def look(place: int, qkv: Tensor) -> NeighborhoodWeights:
        (block, number), group = named[place], groups[place]
        places = group_places(encoder, block, number)
        strides = [*encoder.initial_proj.strides, *encoder.transformer.strides[: block + 1], group.stride]
        grids = _clip_grids(qkv, reduce(shrink, strides, lengths))
        queries = tuple(places.nearest(point, grid) for grid in grids)
        rows = [_row(group, one, query, grid) for one, query, grid in zip(qkv, queries, grids, strict=True)]
        weights, seen = map(torch.stack, zip(*rows, strict=True))
        return NeighborhoodWeights(block, number, queries, seen, weights, places)

    return recorded(encoder, x, lengths, [group.qkv_proj for group in groups], look)


def _clip_grids(qkv: Tensor, lengths: Tensor | None) -> list[tuple[int, ...]]:
    """Return the grid of each of a batch."""
    if lengths is None:
        return [tuple(qkv.shape[1:-1])] * len(qkv)
    return [(length,) for length in lengths.tolist()]


def _row(group: SharedScaleNA, qkv: Tensor, query: tuple[int, ...], grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the weights of one query, `[heads, *tokens]`, and its neighborhood, bool `[*tokens]`.

    Args:
        group: which heads.
        qkv: `[*tokens, 3 * width]`.
        query: the token that asks.
        grid: sizes of what is real of the tokens.
    """
    q, key, _ = torch.unflatten(qkv, -1, (3, group.num_heads, -1)).unbind(-3)  # [*tokens, heads, head_dim]
    keys = _neighbors(group, query, grid, qkv.device)
    logits = (q[query] * key[keys]).sum(-1).movedim(-1, 0) * q.shape[-1] ** -0.5  # [heads, *window]
    weights = qkv.new_zeros(group.num_heads, *qkv.shape[:-1])
    weights.movedim(0, -1)[keys] = logits.flatten(1).softmax(-1).view(logits.shape).movedim(0, -1)
    seen = torch.zeros(qkv.shape[:-1], dtype=torch.bool, device=qkv.device)
    seen[keys] = True
    return weights, seen


def _neighbors(
    group: SharedScaleNA, query: tuple[int, ...], grid: tuple[int, ...], device: torch.device
) -> tuple[Tensor, ...]:
    """Return the keys of a query, an index for each axis that together index `[*tokens]` to `[*window]`."""
    axes = []
    for at, length, window, dilation in zip(query, grid, group.window, group.dilation, strict=True):
        rule = AxisRule(length=length, window=window, dilation=dilation, is_causal=group.is_causal)
        first, past = (int(bound[at]) for bound in rule.bounds())
        axes.append(torch.arange(first, past, device=device) * dilation + at % dilation)
    return torch.meshgrid(*axes, indexing="ij")


def _checked_blocks(count: int, blocks: Sequence[int] | None) -> list[int]:
    wanted = range(count) if blocks is None else blocks
    if any(not -count <= block < count for block in wanted):
        raise ValueError(f"blocks must be from {-count} to {count - 1}; got {list(wanted)}")
    return [block % count for block in wanted]
