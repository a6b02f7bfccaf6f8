"""Variants of a named model, for ablations: the same network with one thing changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from eyetoy.params import ConvParams, EncoderParams, GlobalAttentionParams, HeadParams, Norm, Pool, TransformerParams
from eyetoy.presets import head_groups, overlapping
from eyetoy.sizes import Size, per_axis

Merging = Literal["patches", "overlapping", "none", "coarse"]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Changes to a model; None leaves a thing as it is."""

    widths: Sequence[int] | None = None
    """Channels of each stage. Head groups share them in the same parts, and heads keep their width where it fits. Fewer
    widths than the model has stages keep the first stages."""
    depths: Sequence[int] | None = None
    """Blocks of each stage, as many numbers as there are widths."""
    window: Size | Sequence[int] | None = None
    """Window of every head group."""
    scales: Sequence[Size | Sequence[int]] | None = None
    """Strides of the head groups of every block, the finest first; a single one is single-scale attention. The finest
    has half of a block's width, the others share the rest. None at all, `[]`, leaves attention out of the blocks, whose
    tokens then see each other by `local_kernel`."""
    merging: Merging | None = None
    """How tokens are merged. "patches": a kernel equal to the stride. "overlapping": a kernel of `2 * stride - 1`, at
    least 3. "none": no tokenizer, for a single scale of stride 1 (NAT). "coarse": patches for the coarser groups and no
    tokenizer for a stride of 1. New `scales` are patches by default."""
    kernel_size: Size | Sequence[int] | None = None
    """Kernel of every tokenizer, at least the largest stride; it replaces that of `merging`."""
    local_kernel: Size | Sequence[int] | None = None
    """Kernel of a depthwise convolution before the attention of every block; see `TransformerParams`."""
    global_depth: int | None = None
    """Layers of the global stack; 0 removes it, and the context is then the mean of all tokens."""
    num_register_tokens: int | None = None
    """Registers of the global stack."""
    residual: Literal["input", "norm"] | None = None
    """The residual of the global stack's attention; see `GlobalAttentionParams`."""
    context_init: Literal["learned", "mean"] | None = None
    """The context token before the global stack; see `GlobalAttentionParams`."""
    global_pool: Pool | None = None
    """The context that the global stack returns, the context token or a mean; see `GlobalAttentionParams`."""
    positional_embedding: bool | None = None
    """Whether to add positions."""
    stem_norm: bool | None = None
    """Whether a norm follows each convolution of the stem; see `EncoderParams`."""
    norm: Norm | None = None
    """Norm of the stem, the blocks and the features; see `EncoderParams`."""


def changed(params: EncoderParams, changes: Changes) -> EncoderParams:
    """Return the parameters of a variant.

    Raises:
        ValueError: a change does not fit the model, or its value is out of range.
    """
    params = _shaped(params, changes.widths, changes.depths)
    blocks = tuple(_block(block, changes) for block in params.transformer)
    has_tokenizers = any(group.conv_params is not None for block in blocks for group in block.heads)
    if changes.kernel_size is not None and not has_tokenizers:
        raise ValueError("no head group of this model has a tokenizer, of which to change kernel_size")
    positions, stem_norm = changes.positional_embedding, changes.stem_norm
    return replace(
        params,
        transformer=blocks,
        global_attention=_stack(params.global_attention, changes),
        positional_embedding=params.positional_embedding if positions is None else positions,
        stem_norm=params.stem_norm if stem_norm is None else stem_norm,
        norm=params.norm if changes.norm is None else changes.norm,
    )


def _shaped(params: EncoderParams, widths: Sequence[int] | None, depths: Sequence[int] | None) -> EncoderParams:
    """Return the parameters with stages of other widths and depths."""
    if widths is None and depths is None:
        return params
    stages: list[list[TransformerParams]] = []
    for block in params.transformer:
        if not stages or block.scale_factor != 1.0:
            stages.append([])
        stages[-1].append(block)
    widths = _counts([stage[0].out_channels for stage in stages] if widths is None else widths, "widths")
    depths = _counts([len(stage) for stage in stages] if depths is None else depths, "depths")
    if len(widths) != len(depths) or not 1 <= len(widths) <= len(stages):
        raise ValueError(
            f"this model has {len(stages)} stages, so widths and depths are lists of one length from 1 to "
            f"{len(stages)}; got widths {widths}, depths {depths}"
        )
    blocks: list[TransformerParams] = []
    for stage, width, depth in zip(stages, widths, depths, strict=False):
        first = _widened(stage[0], width)
        blocks += [first, *[replace(first, scale_factor=1.0)] * (depth - 1)]
    stack = params.global_attention
    if stack is not None:
        head_dim = params.transformer[-1].out_channels // stack.num_heads
        stack = replace(stack, num_heads=max(widths[-1] // head_dim, 1))
    return replace(params, stem_channels=widths[0], transformer=tuple(blocks), global_attention=stack)


def _counts(given: Sequence[int], name: str) -> list[int]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"{name} must be a list with one integer for each stage; got {given!r}")
    return list(per_axis(given, len(given), name))


def _widened(block: TransformerParams, width: int) -> TransformerParams:
    """Return a block of another width, whose head groups have the same parts of it."""
    heads = []
    for group in block.heads:
        channels, rest = divmod(group.intermediate_channels * width, block.out_channels)
        head_dim = group.intermediate_channels // group.num_heads
        num_heads = max(channels // head_dim, 1)
        if rest or channels < 1 or channels % num_heads:
            safe = math.lcm(*(block.out_channels // other.num_heads for other in block.heads))
            raise ValueError(f"the head groups cannot share a width of {width}; a multiple of {safe} would do")
        heads.append(replace(group, intermediate_channels=channels, num_heads=num_heads))
    return replace(block, heads=tuple(heads), out_channels=width)


def _block(block: TransformerParams, changes: Changes) -> TransformerParams:
    local = block.local_kernel if changes.local_kernel is None else _size(changes.local_kernel)
    heads = _heads(block.heads, block.out_channels, changes)
    norm = block.norm if changes.norm is None else changes.norm
    return replace(block, heads=heads, local_kernel=local, norm=norm)


def _heads(heads: tuple[HeadParams, ...], width: int, changes: Changes) -> tuple[HeadParams, ...]:
    if changes.scales is not None and not changes.scales:
        heads = ()
    names = ("scales", "merging", "kernel_size", "window")
    asked = [name for name in names if getattr(changes, name) not in (None, [], ())]
    if asked and not heads:
        raise ValueError(f"blocks without attention have no {', '.join(asked)} to change")
    if changes.scales:
        first = heads[0]
        tokenizers = tuple(_tokenizer(_size(stride), changes.merging or "patches") for stride in changes.scales)
        head_dim = first.intermediate_channels // first.num_heads
        heads = head_groups(tokenizers, first.attn_params.attention_window, width, head_dim)
    elif changes.merging is not None:
        heads = tuple(replace(group, conv_params=_tokenizer(_stride(group), changes.merging)) for group in heads)
    if changes.kernel_size is not None:
        heads = tuple(_with_kernel(group, _size(changes.kernel_size)) for group in heads)
    if changes.window is not None:
        attention = [replace(group.attn_params, attention_window=_size(changes.window)) for group in heads]
        heads = tuple(replace(group, attn_params=params) for group, params in zip(heads, attention, strict=True))
    return heads


def _size(size: Size | Sequence[int]) -> Size:
    """Return a size with a tuple for the list that YAML gives."""
    return size if isinstance(size, int) else tuple(size)


def _stride(group: HeadParams) -> Size:
    return 1 if group.conv_params is None else group.conv_params.stride


def _with_kernel(group: HeadParams, kernel_size: Size) -> HeadParams:
    """Return a head group with another kernel; one without a tokenizer stays."""
    if group.conv_params is None:
        return group
    return replace(group, conv_params=replace(group.conv_params, kernel_size=kernel_size))


def _tokenizer(stride: Size, merging: Merging) -> ConvParams | None:
    if merging not in get_args(Merging):
        raise ValueError(f"merging must be one of {', '.join(get_args(Merging))}; got {merging!r}")
    if merging == "overlapping":
        return overlapping(stride)
    is_finest = set(stride if isinstance(stride, tuple) else (stride,)) == {1}
    if merging == "none" and not is_finest:
        raise ValueError(f"merging 'none' is for a stride of 1; got {stride}")
    if is_finest and merging in ("none", "coarse"):
        return None
    return ConvParams(kernel_size=stride, stride=stride)


def _stack(stack: GlobalAttentionParams | None, changes: Changes) -> GlobalAttentionParams | None:
    asked = {
        "num_register_tokens": changes.num_register_tokens,
        "residual": changes.residual,
        "context_init": changes.context_init,
        "global_pool": changes.global_pool,
    }
    asked = {name: value for name, value in asked.items() if value is not None}  # 0 registers are a change, too
    if changes.global_depth == 0:
        if asked:
            raise ValueError(f"global_depth 0 removes the global stack, of which to change {', '.join(asked)}")
        return None
    if changes.global_depth is not None:
        asked["depth"] = changes.global_depth
    if not asked:
        return stack
    if stack is None:
        raise ValueError(f"this model has no global stack, of which to change {', '.join(asked)}")
    return replace(stack, **asked)  # type: ignore[arg-type]
