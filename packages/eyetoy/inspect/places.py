"""Where tokens lie on the input: at the middle of their patch, through all convolutions before them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eyetoy.conv import StridedConv
from eyetoy.encoder import Encoder
from eyetoy.filterbank import Filterbank
from eyetoy.msnat import MSNATTransformer, MultiScaleMultiHeadNA, SharedScaleNA

Strided = StridedConv | Filterbank


@dataclass(frozen=True)
class TokenPlaces:
    """Where the tokens of a grid lie on the input, per axis, in its samples or pixels.

    Token `t` is centered at `first + step * t`, and stands for the places that are nearer to it than to any other
    token. A kernel larger than its stride reaches beyond the patch, so `first` need not be the middle of one.
    """

    step: tuple[int, ...]
    """From one token to the next."""
    first: tuple[float, ...]
    """Center of the first token."""

    def nearest(self, point: Sequence[int], grid: Sequence[int]) -> tuple[int, ...]:
        """Return the token of a grid that is nearest to a point of the input."""
        places = zip(point, self.step, self.first, grid, strict=True)
        return tuple(min(max(round((at - first) / step), 0), n - 1) for at, step, first, n in places)

    def spread(self, maps: Tensor, grid: Sequence[int], *, linear: bool = False) -> Tensor:
        """Lay values of tokens over the input.

        Args:
            maps: `[..., *tokens]`, a value for each token.
            grid: sizes of the input.
            linear: interpolate between the tokens' centers; by default every place has the value of the nearest token.

        Returns:
            `[..., *grid]`.
        """
        for axis, (size, step, first) in enumerate(zip(grid, self.step, self.first, strict=True), -len(self.step)):
            last = maps.shape[axis] - 1
            at = ((torch.arange(size, device=maps.device) - first) / step).clamp(0, last)
            if not linear:
                maps = maps.index_select(axis, at.round().long())
                continue
            low = at.floor().long()
            part = (at - low).to(maps.dtype).view(-1, *[1] * (-1 - axis))
            maps = maps.index_select(axis, low).lerp(maps.index_select(axis, (low + 1).clamp(max=last)), part)
        return maps


def feature_places(encoder: Encoder, stage: int = -1) -> TokenPlaces:
    """Return where the tokens of a stage lie on the input; by default those of the encoder's features."""
    return _compose(encoder.params.num_spatial_dims, _convs_before(encoder, encoder.stages[stage][-1]))


def group_places(encoder: Encoder, block: int, group: int) -> TokenPlaces:
    """Return where the tokens of a head group lie on the input, after its tokenizer."""
    tokenizer = head_groups(encoder, block)[group].tokenizer
    convs = [*_convs_before(encoder, block), *([] if tokenizer is None else _convs([tokenizer]))]
    return _compose(encoder.params.num_spatial_dims, convs)


def find_block(encoder: Encoder, block: int) -> MSNATTransformer:
    """Return a block, compiled or not."""
    found = unwrapped(encoder.transformer[block])
    assert isinstance(found, MSNATTransformer)
    return found


def head_groups(encoder: Encoder, block: int) -> list[SharedScaleNA]:
    """Return the head groups of a block."""
    found = find_block(encoder, block).attention
    if found is None:
        return []
    attention = unwrapped(found)
    assert isinstance(attention, MultiScaleMultiHeadNA)
    return [group for group in map(unwrapped, attention.groups) if isinstance(group, SharedScaleNA)]


def unwrapped(module: nn.Module) -> nn.Module:
    """Return what is inside the wrappers that `torch.compile` and PyTorch's activation checkpointing put around it."""
    for name in ("_orig_mod", "_checkpoint_wrapped_module"):
        inside = module._modules.get(name)
        if inside is not None:
            return unwrapped(inside)
    return module


def check_point(point: Sequence[int], x: Tensor, lengths: Tensor | None) -> None:
    """Refuse a point that is not on the input `[batch, channels, *grid]`, or after the end of a clip.

    Raises:
        ValueError: it is not.
    """
    grid = tuple(x.shape[2:])
    if len(point) != len(grid) or any(not 0 <= at < size for at, size in zip(point, grid, strict=True)):
        raise ValueError(f"point must have a place from 0 for each axis of the input, {grid}; got {tuple(point)}")
    if lengths is not None and bool((lengths <= point[0]).any()):
        raise ValueError(f"point must be before the end of every clip, {lengths.tolist()}; got {tuple(point)}")


def _convs_before(encoder: Encoder, block: int) -> list[Strided]:
    """Return the convolutions between the input and the attention of a block."""
    rescaling = (unwrapped(find_block(encoder, index).rescale) for index in range(block + 1))
    parts = (part for part in rescaling if isinstance(part, nn.Sequential))
    stem = encoder.initial_proj
    bank = [] if stem.filterbank is None else [stem.filterbank]
    return _convs(itertools.chain(bank, stem.convs, *parts))


def _convs(parts: Iterable[nn.Module]) -> list[Strided]:
    return [conv for conv in map(unwrapped, parts) if isinstance(conv, Strided)]


def _compose(num_spatial_dims: int, convs: Iterable[Strided]) -> TokenPlaces:
    step, first = (1,) * num_spatial_dims, (0.0,) * num_spatial_dims
    # A convolution in tokens that are `step` apart: its kernel's middle is `off` tokens after the first token of a
    # patch, and its own tokens are `step * stride` apart.
    for conv in convs:
        middle = [(k - 1) / 2 - before for k, before in zip(conv.kernel_size, conv.padding_before, strict=True)]
        first = tuple(at + wide * off for at, wide, off in zip(first, step, middle, strict=True))
        step = tuple(wide * s for wide, s in zip(step, conv.stride, strict=True))
    return TokenPlaces(step, first)
