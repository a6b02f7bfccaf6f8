"""Attention weights: of the head groups from one place of the input, and of the context token.

Fused attention never has these weights in memory. They are computed again for the chosen queries alone, from the
queries, keys and values that a usual forward pass projects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from eyetoy.encoder import Encoder
from eyetoy.global_stack import GlobalAttentionTransformer
from eyetoy.inspect.features import stage_lengths
from eyetoy.inspect.places import TokenPlaces, check_point, find_block, group_places, head_groups, unwrapped
from eyetoy.layers import normalized
from eyetoy.lengths import shrink, valid_tokens
from eyetoy.msnat import SharedScaleNA
from eyetoy.neighborhood.window import AxisRule


@dataclass(frozen=True)
class NeighborhoodWeights:
    """The neighborhood and the attention of one head group at one place."""

    block: int
    group: int
    queries: tuple[tuple[int, ...], ...]
    """The token of the query, for each of the batch."""
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
    """Return the attention of every head group of some blocks, for the token nearest to a point of the input.

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
    count = len(encoder.transformer)
    wanted = range(count) if blocks is None else blocks
    if any(not -count <= block < count for block in wanted):
        raise ValueError(f"blocks must be from {-count} to {count - 1}; got {list(wanted)}")
    chosen = [block % count for block in wanted]
    found = {}
    # Recording with hooks would be shorter. But hooks belong to the module: they would see the passes of other threads,
    # and compiled blocks would not call them. So the blocks run one by one, without those after the last chosen one.
    tokens, real = encoder.forward_stem(x, lengths), reduce(shrink, encoder.initial_proj.strides, lengths)
    for index in range(max(chosen, default=-1) + 1):
        block = find_block(encoder, index)
        strides = encoder.transformer.strides[index]
        if index in chosen:
            groups, within = range(len(head_groups(encoder, index))), shrink(real, strides)
            normed = normalized(block.norm1, block.tokens(tokens, real), within) if groups else tokens
            found[index] = [_group_weights(encoder, index, group, normed, within, point) for group in groups]
        if index < max(chosen):
            tokens, real = encoder.transformer[index](tokens, real), shrink(real, strides)
    return [one for index in chosen for one in found[index]]


@torch.no_grad()
def context_maps(encoder: Encoder, x: Tensor, lengths: Tensor | None = None, *, average_heads: bool = True) -> Tensor:
    """Return how much attention the context token gives to every place, in every layer of the global stack.

    The rest of each sum of 1 goes to the context token itself and to the registers. `feature_places` tells where the
    places lie on the input.

    Args:
        encoder: of any number of dimensions, with a context token.
        x: `[batch, in_channels, *grid]`.
        lengths: in one dimension, int64 `[batch]`: how many samples are real.
        average_heads: return the mean over the heads.

    Returns:
        `[batch, layers, *tokens]`, or `[batch, layers, heads, *tokens]`.

    Raises:
        ValueError: the encoder has no context token, or as `Encoder.forward`.
    """
    stack = encoder.global_attention
    if stack is None or not stack.has_context_token:
        raise ValueError("the encoder has no context token: its context is the mean of its features")
    features, real = encoder.forward_stages(x, lengths)[-1], stage_lengths(encoder, None, lengths)
    tokens, key_mask = stack.tokens(normalized(encoder.norm, features, real), real)
    rows = []
    for number, wrapped in enumerate(stack.layers, start=1):
        layer = unwrapped(wrapped)
        assert isinstance(layer, GlobalAttentionTransformer)
        rows.append(_context_row(layer, layer.qkv_proj(layer.norm1(tokens)), real))
        if number < len(stack.layers):
            tokens = wrapped(tokens, key_mask)
    weights = torch.unflatten(torch.stack(rows, dim=1), -1, features.shape[1:-1])
    return weights.mean(2) if average_heads else weights


def _group_weights(
    encoder: Encoder, block: int, number: int, x: Tensor, lengths: Tensor | None, point: Sequence[int]
) -> NeighborhoodWeights:
    """Return the attention of one head group.

    Args:
        encoder: of any number of dimensions.
        block: which block.
        number: which of its groups.
        x: what the group is given, `[batch, *grid, channels]`.
        lengths: int64 `[batch]`: how many of these tokens are real.
        point: a place on the encoder's input.
    """
    group, places = head_groups(encoder, block)[number], group_places(encoder, block, number)
    qkv, real = group.project(x, lengths), shrink(lengths, group.stride)
    # Every clip of a padded batch has its own grid, and so its own query and neighborhood.
    shared = [tuple(qkv.shape[1:-1])] * len(qkv)
    grids = shared if real is None else [(length,) for length in real.tolist()]
    queries = tuple(places.nearest(point, grid) for grid in grids)
    rows = [_neighborhood_row(group, *row) for row in zip(qkv, queries, grids, strict=True)]
    weights, seen = map(torch.stack, zip(*rows, strict=True))
    return NeighborhoodWeights(block, number, queries, seen, weights, places)


def _neighborhood_row(
    group: SharedScaleNA, qkv: Tensor, query: tuple[int, ...], grid: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return the weights of one query, `[heads, *tokens]`, and its neighborhood, bool `[*tokens]`.

    Args:
        group: which heads.
        qkv: `[*tokens, 3 * width]`.
        query: the token of the query.
        grid: sizes of the real part of the tokens.
    """
    q, key, _ = torch.unflatten(qkv, -1, (3, group.num_heads, -1)).unbind(-3)  # [*tokens, heads, head_dim]
    axes = []
    for at, length, window, dilation in zip(query, grid, group.window, group.dilation, strict=True):
        rule = AxisRule(length=length, window=window, dilation=dilation, is_causal=group.is_causal)
        # The rule counts in steps of the dilation; `at % dilation` is the offset of the query's own lattice.
        first, past = (int(bound[at]) for bound in rule.bounds())
        axes.append(torch.arange(first, past, device=qkv.device) * dilation + at % dilation)
    keys = torch.meshgrid(*axes, indexing="ij")  # an index for each axis; together they index [*tokens] to [*window]
    logits = (q[query] * key[keys]).sum(-1).movedim(-1, 0) * q.shape[-1] ** -0.5  # [heads, *window]
    weights = qkv.new_zeros(group.num_heads, *qkv.shape[:-1])
    weights.movedim(0, -1)[keys] = logits.flatten(1).softmax(-1).view(logits.shape).movedim(0, -1)
    seen = torch.zeros(qkv.shape[:-1], dtype=torch.bool, device=qkv.device)
    seen[keys] = True
    return weights, seen


def _context_row(layer: GlobalAttentionTransformer, qkv: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the attention of the first token to the spatial ones, `[batch, heads, tokens]`.

    Args:
        layer: a layer of the global stack.
        qkv: `[batch, tokens, 3 * channels]`, of all tokens.
        lengths: int64 `[batch]`: how many spatial tokens are real.
    """
    query, key, _ = torch.unflatten(qkv, -1, (3, layer.num_heads, -1)).unbind(-3)
    logits: Tensor = torch.einsum("bhd,bthd->bht", query[:, 0], key) * query.shape[-1] ** -0.5
    if lengths is not None:
        seen = valid_tokens(lengths + layer.num_global_tokens, key.shape[1])
        logits = logits.masked_fill(~seen[:, None], float("-inf"))
    return logits.softmax(-1)[..., layer.num_global_tokens :]
