"""What an encoder is made of: frozen dataclasses that go to JSON and come back equal.

Names follow the proposal (section 4). A size is one integer for every axis or a tuple with one per axis.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from eyetoy.sizes import Size, ceil_div, check_count, check_divisible, check_rates, per_axis

T = TypeVar("T")
Pool = Literal["token", "avg"]

DEEPEST = 1024
"""Layers of a global stack."""


@dataclass(frozen=True, kw_only=True)
class ConvParams:
    """A strided convolution; the stride divides the grid, rounding up.

    With `spread_bias` biases begin spread evenly over the range that weights are drawn from, in place of zeros.
    """

    kernel_size: Size = 1
    stride: Size = 1
    spread_bias: bool = False

    def __post_init__(self) -> None:
        """Refuse a kernel that would skip inputs."""
        kernel, stride = _same_length(self.kernel_size, self.stride)
        if any(k < s for k, s in zip(kernel, stride, strict=True)):
            raise ValueError(
                f"kernel_size must be at least the stride, or inputs are skipped; got kernel_size="
                f"{self.kernel_size!r}, stride={self.stride!r}"
            )


@dataclass(frozen=True, kw_only=True)
class AttentionParams:
    """The neighborhood of one head group, in tokens of that group's own scale."""

    attention_window: Size
    dilation: Size = 1
    is_causal: bool = False


@dataclass(frozen=True, kw_only=True)
class HeadParams:
    """One head group of `MultiScaleMultiHeadNA`: its tokenizer, its window, its width.

    `intermediate_channels` is the group's width over all its heads. Without `conv_params` there is no tokenizer:
    queries, keys and values are projected from the block's channels, as in NAT (Hassani et al., CVPR 2023).
    """

    conv_params: ConvParams | None
    attn_params: AttentionParams
    num_heads: int
    intermediate_channels: int

    def __post_init__(self) -> None:
        """Refuse a width that the heads cannot share."""
        check_count(self.num_heads, "num_heads")
        check_count(self.intermediate_channels, "intermediate_channels")
        check_divisible(self.intermediate_channels, self.num_heads, "intermediate_channels", "num_heads")


@dataclass(frozen=True, kw_only=True)
class TransformerParams:
    """One `MSNATTransformer` block.

    `scale_factor` scales the grid before attention: 1 keeps it, 0.5 halves it (any 1/n, per axis if a tuple).
    `layer_scale` is the initial value of a learned scale per channel on both residual branches, or none.
    """

    heads: tuple[HeadParams, ...]
    out_channels: int
    scale_factor: float | tuple[float, ...] = 1.0
    mlp_ratio: float = 3.0
    dropout: float = 0.0
    drop_path: float = 0.0
    layer_scale: float | None = None

    def __post_init__(self) -> None:
        """Refuse a block without heads, without width, or with rates out of range."""
        check_count(self.out_channels, "out_channels")
        check_rates(dropout=self.dropout, drop_path=self.drop_path)
        if not self.heads:
            raise ValueError("heads must hold at least one HeadParams; got none")


@dataclass(frozen=True, kw_only=True)
class GlobalAttentionParams:
    """The global stack: `depth` layers in which register and context tokens exchange with every spatial token.

    `residual` says where the residual of a layer's attention comes from: its input (the usual pre-norm block), or the
    normalised tokens as the proposal's second diagram (section 4.5) draws it.

    `context_init` says what the context token is before the first layer: learned alone, as in the proposal, or that
    plus the mean of the spatial tokens, so that the encoder learns from the first step on what it does with a mean.

    `global_pool` says what the stack gives as context: "token" is what the context token became, "avg" the mean of the
    spatial tokens, refined with a context token in sight; without one, it is "avg" in any case.
    """

    depth: int
    num_heads: int
    num_register_tokens: int = 4
    context_token: bool = True
    mlp_ratio: float = 3.0
    dropout: float = 0.0
    drop_path: float = 0.0
    layer_scale: float | None = None
    residual: Literal["input", "norm"] = "input"
    context_init: Literal["learned", "mean"] = "learned"
    global_pool: Pool = "token"

    def __post_init__(self) -> None:
        """Refuse a stack without layers, heads or a global token, rates out of range, or an unknown choice."""
        check_count(self.depth, "depth", most=DEEPEST)
        check_count(self.num_heads, "num_heads")
        check_rates(dropout=self.dropout, drop_path=self.drop_path)
        if self.num_register_tokens < 0 or self.num_global_tokens == 0:
            raise ValueError(
                "a global stack needs at least one global token: num_register_tokens >= 1, or context_token=True; "
                f"got num_register_tokens={self.num_register_tokens}, context_token={self.context_token}"
            )
        if self.residual not in ("input", "norm"):
            raise ValueError(f"residual must be 'input' or 'norm'; got {self.residual!r}")
        if self.context_init not in ("learned", "mean"):
            raise ValueError(f"context_init must be 'learned' or 'mean'; got {self.context_init!r}")
        if self.global_pool not in ("token", "avg"):
            raise ValueError(f"global_pool must be 'token' or 'avg'; got {self.global_pool!r}")

    @property
    def num_global_tokens(self) -> int:
        """Registers and context together."""
        return self.num_register_tokens + self.context_token


@dataclass(frozen=True, kw_only=True)
class EncoderParams:
    """An encoder (proposal, section 4.3): stem, positions, MSNAT blocks, global stack.

    `initial_proj` is the stem: convolutions in a row, doubling the width up to `stem_channels`. With
    `positional_embedding="space"` positions in a clip tell the place in a frame alone.
    """

    num_spatial_dims: int
    in_channels: int
    stem_channels: int
    initial_proj: tuple[ConvParams, ...]
    transformer: tuple[TransformerParams, ...]
    global_attention: GlobalAttentionParams | None = None
    positional_embedding: bool | Literal["space"] = True

    def __post_init__(self) -> None:
        """Refuse what no encoder can be built from."""
        if self.num_spatial_dims not in (1, 2, 3):
            raise ValueError(f"num_spatial_dims must be 1, 2 or 3; got {self.num_spatial_dims!r}")
        if not self.initial_proj or not self.transformer:
            raise ValueError("an encoder needs at least one convolution in initial_proj and one transformer block")
        check_count(self.in_channels, "in_channels")
        if self.positional_embedding not in (True, False, *(["space"] if self.num_spatial_dims == 3 else [])):
            raise ValueError(
                "positional_embedding must be True or False, or, in 3 dimensions, 'space'; got "
                f"{self.positional_embedding!r}"
            )

    @property
    def stem_widths(self) -> tuple[int, ...]:
        """Channels after each convolution of the stem."""
        last = len(self.initial_proj) - 1
        return tuple(self.stem_channels >> (last - i) for i in range(last + 1))

    @property
    def out_channels(self) -> int:
        """Channels of the features and of the context token."""
        return self.transformer[-1].out_channels

    @property
    def stages(self) -> tuple[range, ...]:
        """The blocks of every stage: a block that changes the grid begins one, and so does the first."""
        starts = [i for i, stride in enumerate(self._block_strides) if i == 0 or any(s > 1 for s in stride)]
        return tuple(map(range, starts, [*starts[1:], len(self.transformer)]))

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels that every stage gives."""
        return tuple(self.transformer[stage[-1]].out_channels for stage in self.stages)

    @property
    def stage_reductions(self) -> tuple[tuple[int, ...], ...]:
        """By how much the grid of every stage is smaller than the input's, per axis."""
        stem, blocks = self._stem_strides, self._block_strides
        ends = [stage[-1] + 1 for stage in self.stages]
        return tuple(tuple(map(math.prod, zip(*stem, *blocks[:end], strict=True))) for end in ends)

    @property
    def _stem_strides(self) -> list[tuple[int, ...]]:
        return [per_axis(conv.stride, self.num_spatial_dims, "stride") for conv in self.initial_proj]

    @property
    def _block_strides(self) -> list[tuple[int, ...]]:
        return [downsampling(block.scale_factor, self.num_spatial_dims) for block in self.transformer]

    def out_grid(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Return the grid of the features of an input with this grid."""
        for stride in (*self._stem_strides, *self._block_strides):
            grid = tuple(ceil_div(n, s) for n, s in zip(grid, stride, strict=True))
        return grid


def downsampling(scale_factor: float | tuple[float, ...], num_spatial_dims: int) -> tuple[int, ...]:
    """Return the stride per axis that a `scale_factor` stands for: 0.5 is a stride of 2.

    Raises:
        ValueError: a factor is not 1/n for a positive integer n, or there is not one per axis.
    """
    factors = (scale_factor,) * num_spatial_dims if isinstance(scale_factor, int | float) else tuple(scale_factor)
    if len(factors) != num_spatial_dims:
        raise ValueError(
            f"scale_factor must be one number or {num_spatial_dims} of them, one per axis; got {scale_factor!r}"
        )
    strides = tuple(round(1 / factor) if factor > 0 else 0 for factor in factors)
    if any(stride < 1 or abs(stride * factor - 1) > 1e-6 for stride, factor in zip(strides, factors, strict=True)):
        raise ValueError(f"scale_factor must be 1/n for a whole n, such as 1, 0.5 or 0.25; got {scale_factor!r}")
    return strides


def as_encoder_params(params: EncoderParams | dict[str, Any]) -> EncoderParams:
    """Return `params`, rebuilt if they are a dict as a JSON config holds it."""
    return params if isinstance(params, EncoderParams) else from_dict(EncoderParams, params)


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """Rebuild parameters of type `cls` from what `dataclasses.asdict`, or JSON, gave.

    Raises:
        ValueError: a key is not a field of `cls`.
    """
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(hints)}")
    return cls(**{key: _decode(hints[key], value) for key, value in values.items()})


def _decode(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return from_dict(typing.cast("type[Any]", hint), value)
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        dataclass_type = next((option for option in arguments if dataclasses.is_dataclass(option)), None)
        return _decode(dataclass_type, value) if dataclass_type else _tuples(value)
    if typing.get_origin(hint) is tuple:
        return tuple(_decode(arguments[0], item) for item in value)
    return value


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _same_length(first: Size, second: Size) -> tuple[tuple[int, ...], tuple[int, ...]]:
    length = max(len(size) if isinstance(size, tuple) else 1 for size in (first, second))
    return per_axis(first, length, "kernel_size"), per_axis(second, length, "stride")
