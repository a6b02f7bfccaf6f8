"""Attention weights, receptive fields and features of an encoder as maps over one input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eyetoy import Encoder
from eyetoy.inspect import (
    NeighborhoodWeights,
    context_maps,
    effective_receptive_field,
    feature_components,
    feature_places,
    neighborhood_weights,
)

Map = NDArray[np.float32]
"""A value for every position of the input, `[*grid]`."""


@dataclass(frozen=True)
class GroupMap:
    """The attention of a head group from the chosen point."""

    title: str
    weights: Map
    """Mean over its heads."""
    seen: NDArray[np.bool_]
    """`[*grid]`: its neighborhood."""


@dataclass(frozen=True)
class StageMaps:
    """The maps of a stage from the chosen point."""

    title: str
    groups: Sequence[GroupMap]
    """Of its last block, fine to coarse."""
    field: Map
    """Effective receptive field of its features."""


@dataclass(frozen=True)
class InputMaps:
    """All maps of one input."""

    point: tuple[int, ...]
    """The chosen position of the input."""
    context: Map | None
    """Attention of the context token in the last layer; None if the model reads no such token."""
    components: Map
    """`[*grid, 3]` from 0 to 1: principal components of the features."""
    field: Map
    """Effective receptive field of the features, after the global stack if the model uses it."""
    stages: Sequence[StageMaps]
    """Fine to coarse."""

    @property
    def has_attention(self) -> bool:
        """Whether a block has head groups, and so neighborhoods."""
        return any(stage.groups for stage in self.stages)


def collect_maps(
    encoder: Encoder,
    x: Tensor,
    at: Sequence[float],
    unit: str,
    *,
    num_stages: int | None = None,
    with_context: bool = True,
) -> InputMaps:
    """Return all maps of one input.

    Args:
        encoder: of any number of dimensions.
        x: `[1, channels, *grid]`, without padding.
        at: the chosen position, as a fraction from 0 to 1 of every axis.
        unit: unit of the input's positions for titles, such as pixels.
        num_stages: how many stages the model uses, the finest first; all by default. The others are not trained.
        with_context: whether the model reads the context. If it does not, nothing trained the attention of its token.
    """
    total = len(encoder.params.stages)
    used = total if num_stages is None else num_stages
    last = None if used == total else used - 1  # None: the features after the global stack
    grid = tuple(x.shape[2:])
    # A fraction of exactly 1 means the last position.
    point = tuple(min(int(fraction * size), size - 1) for fraction, size in zip(at, grid, strict=True))
    places, stack = feature_places(encoder, used - 1), encoder.global_attention
    context = None
    if with_context and last is None and stack is not None and stack.has_context_token:
        context = _array(places.spread(context_maps(encoder, x)[0, -1], grid, linear=True))  # [0, -1]: last layer
    components = places.spread(feature_components(encoder, x, stage=last)[0], grid, linear=True)
    field = effective_receptive_field(encoder, x, point, stage=last)[0]
    stages = [_stage(encoder, x, point, stage, unit) for stage in range(used)]
    return InputMaps(point, context, _colors(_array(components)), _array(field), stages)


def _stage(encoder: Encoder, x: Tensor, point: tuple[int, ...], stage: int, unit: str) -> StageMaps:
    block, grid = encoder.params.stages[stage][-1], tuple(x.shape[2:])
    groups = [
        GroupMap(
            _group_title(encoder, one, unit),
            _array(one.over_input(grid)[0].mean(0)),  # mean over heads
            one.places.spread(one.seen, grid)[0].cpu().numpy(),
        )
        for one in neighborhood_weights(encoder, x, point, blocks=[block])
    ]
    field = effective_receptive_field(encoder, x, point, stage=stage)[0]
    return StageMaps(f"stage {stage + 1}", groups, _array(field))


def _group_title(encoder: Encoder, one: NeighborhoodWeights, unit: str) -> str:
    heads: Any = encoder.params.transformer[one.block].heads[one.group]
    window = heads.attn_params.attention_window
    sizes = [window] * len(one.places.step) if isinstance(window, int) else window
    return f"{' x '.join(map(str, sizes))} tokens of {' x '.join(map(str, one.places.step))} {unit}"


def _colors(components: NDArray[np.float32]) -> Map:
    """Scale `[3, *grid]` to `[*grid, 3]` from 0 to 1; outliers are cut off."""
    flat = components.reshape(len(components), -1)
    # Percentiles instead of minimum and maximum: a few tokens with large norms would leave everything else grey.
    low, high = np.percentile(flat, 2, axis=1), np.percentile(flat, 98, axis=1)
    scaled = (flat - low[:, None]) / np.maximum(high - low, 1e-12)[:, None]
    colors: Map = np.moveaxis(scaled.clip(0, 1).reshape(components.shape), 0, -1).astype(np.float32)
    return colors


def _array(x: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = x.detach().float().cpu().numpy()
    return array
